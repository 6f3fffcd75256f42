"""Help that teaches: every command and option says in whole sentences what it does."""

import re
from collections.abc import Iterator

import pytest
import typer
from restmcts_cli.main import app
from typer.testing import CliRunner

PREPOSITIONS = ("of", "for", "in", "on", "at", "by", "to", "from", "with", "without", "as", "under", "beside")


def texts() -> Iterator[tuple[str, str]]:
    """Yield every help text with the command, and the option, that it is of."""

    def walk(command: object, path: str) -> Iterator[tuple[str, str]]:
        for parameter in getattr(command, "params", ()):
            yield f"{path} {parameter.name}", getattr(parameter, "help", None) or ""
        yield path, str(getattr(command, "help", "") or "")
        for name, child in getattr(command, "commands", {}).items():
            yield from walk(child, f"{path} {name}")

    yield from walk(typer.main.get_command(app), "restmcts")


@pytest.mark.parametrize(("place", "text"), list(texts()), ids=lambda value: value if " " in value else "")
def test_help_is_a_sentence_and_begins_with_no_preposition(place: str, text: str) -> None:
    if place.endswith((" help", " install_completion", " show_completion")):
        return
    plain = re.sub(r"\[/?\w+\]|\[default: [^]]*\]", "", text).strip()
    assert plain, f"{place} has no help"
    first = re.match(r"[\w'-]+", plain)
    assert first is None or first.group().lower() not in PREPOSITIONS, f"{place}: {plain}"
    assert plain.split("\n\n")[0].rstrip().endswith((".", ":", "?")), f"{place}: {plain}"


def test_an_unknown_command_is_answered_with_the_nearest() -> None:
    result = CliRunner().invoke(app, ["selftrian"])
    assert result.exit_code == 2
    assert "Did you mean 'selftrain'" in result.stderr


def test_the_version_is_told() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0
    assert re.fullmatch(r"restmcts \d+\.\d+\.\d+\n", result.stdout)
