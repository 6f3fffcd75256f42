"""An empty text is no path and no name: every command refuses it, and names the argument."""

from collections.abc import Callable, Iterator

import pytest
import typer
from restmcts.errors import InputError
from restmcts_cli.main import app
from typer.testing import Result


def commands() -> Iterator[tuple[str, ...]]:
    """Yield each command that takes an argument, or else an option with a value, as it is typed
    with an empty text there.
    """

    def walk(command: object, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        for name, child in getattr(command, "commands", {}).items():
            yield from walk(child, (*path, name))
        of_text = [one for one in getattr(command, "params", ()) if not getattr(one, "is_flag", False)]
        if path and of_text and not hasattr(command, "commands"):
            first = of_text[0]
            yield (*path, "") if first.param_type_name == "argument" else (*path, f"{first.opts[0]}=")

    yield from walk(typer.main.get_command(app), ())


@pytest.mark.parametrize("typed", list(commands()), ids=" ".join)
def test_an_empty_text_is_refused(typed: tuple[str, ...], call: Callable[..., Result]) -> None:
    error = call(*typed).exception
    assert isinstance(error, InputError) and error.exit_code == 2
    assert f"restmcts {' '.join(typed[:-1])}: " in str(error) and " is empty; give a value" in str(error)


def test_options_may_be_left_out_and_one_of_several_is_found(call: Callable[..., Result]) -> None:
    of_option = call("selftrain", "problems.jsonl", "--set", "budget.nodes=1", "--set", "")
    assert str(of_option.exception) == "restmcts selftrain: --set is empty; give a value, or leave it out"
    assert str(call("problems", "check", "").exception) == "restmcts problems check: source is empty; give a value"
