"""Help that teaches: every command and option says in whole sentences what it does."""

import io
import logging
import re
import sys
from collections.abc import Iterator

import pytest
import typer
from restmcts.domain.runs.option_groups import option_groups
from restmcts_cli.main import app, run
from typer.testing import CliRunner

PREPOSITIONS = ("of", "for", "in", "on", "at", "by", "to", "from", "with", "without", "as", "under", "beside")
OF_THE_LIBRARY = (" help", " install_completion", " show_completion")


def texts() -> Iterator[tuple[str, str]]:
    """Yield every help text with the command, and the option, that it is of."""

    def walk(command: object, path: str) -> Iterator[tuple[str, str]]:
        for parameter in getattr(command, "params", ()):
            yield f"{path} {parameter.name}", getattr(parameter, "help", None) or ""
        yield path, str(getattr(command, "help", "") or "")
        for name, child in getattr(command, "commands", {}).items():
            yield from walk(child, f"{path} {name}")

    yield from walk(typer.main.get_command(app), "restmcts")


def fault_of(text: str) -> str | None:
    plain = re.sub(r"\\?\[default: .*\](?=\[/dim\])|\[/?\w+\]|\\?\[default: [^]]*\]", "", text).strip()
    if not plain:
        return "no help"
    first = re.match(r"[\w'-]+", plain)
    if first is not None and first.group().lower() in PREPOSITIONS:
        return f"begins with a preposition: {plain}"
    return None if plain.split("\n\n")[0].rstrip().endswith((".", ":", "?")) else f"no sentence: {plain}"


def test_help_is_a_sentence_and_begins_with_no_preposition() -> None:
    found = {place: text for place, text in texts() if not place.endswith(OF_THE_LIBRARY)}
    assert len(found) > 300
    assert {place: fault for place, text in found.items() if (fault := fault_of(text))} == {}


def test_a_default_is_shown_once_and_without_brackets_of_its_own() -> None:
    shown = {place: text for place, text in texts() if "default: " in text}
    assert len(shown) > 50
    assert {place: text for place, text in shown.items() if text.count("default: ") > 1 or "default: (" in text} == {}


def test_no_brackets_of_a_help_are_lost_as_markup() -> None:
    """Rich takes [words] out that are no style unless a backslash precedes them."""
    lost = re.compile(r"(?<!\\)\[(?!/?(?:bold|dim|/)?\])[a-z#/@][^[]*?\]")
    assert lost.search("Port.  [default: 8600]") and not lost.search(r"[bold]words[/bold] \[default: 1]")
    assert {place: text for place, text in texts() if lost.search(text)} == {}


def test_kinds_of_settings_that_a_help_names_are_there() -> None:
    """`restmcts options KIND`, as each help writes it."""
    named = {kind for _, text in texts() for kind in re.findall(r"restmcts options (\w+)", text)}
    known = {group.kind for group in option_groups()} | {"method"}
    assert {"training", "search"} <= named <= known


def test_a_help_that_is_no_sentence_is_found() -> None:
    for text in ("", "[bold][/bold]", "For a run.", "The run"):
        assert fault_of(text), text
    assert fault_of("The [bold]run[/bold].") is None


def test_no_paragraph_of_a_help_keeps_the_line_breaks_of_the_source() -> None:
    helps = {place: text for place, text in texts() if not place.endswith(OF_THE_LIBRARY)}
    assert [place for place, text in helps.items() if "\n" in text.replace("\n\n", "")] == []


def test_an_unknown_command_is_answered_with_the_nearest() -> None:
    result = CliRunner().invoke(app, ["selftrian"])
    assert result.exit_code == 2
    assert "Did you mean 'selftrain'" in result.stderr


def test_libraries_with_handlers_of_their_own_print_a_warning_once() -> None:
    """Without a network each warning of the hub came twice."""
    assert CliRunner().invoke(app, ["options"]).exit_code == 0
    assert not any(logging.getLogger(name).propagate for name in ("huggingface_hub", "datasets"))


def test_the_version_is_told() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0
    assert re.fullmatch(r"restmcts \d+\.\d+\.\d+(\.dev\d+)?\n", result.stdout)


def test_what_the_locale_cannot_write_ends_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), encoding="latin-1"))
    monkeypatch.setattr(sys, "argv", ["restmcts", "--version"])
    with pytest.raises(SystemExit):
        run()
    for stream in (sys.stdout, sys.stderr):
        stream.write("└── 3 + 4 \ud800")
    sys.stdout.flush()
    assert written.getvalue().endswith(b"??? 3 + 4 ?")
