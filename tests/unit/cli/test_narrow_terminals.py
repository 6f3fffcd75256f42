"""Tables of commands on a terminal of 80 columns: nothing is wider, and no figure is cut."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import runs
from restmcts.adapters.sql.tables import PhaseState

Shown = Callable[..., str]
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
FIGURE = re.compile(r"\d[\d,]*(\.\d+)?")
LARGE = {"trees": 12_345, "solved": 11_143, "tokens": 130_569_123}


@pytest.fixture(params=[80, 100])
def narrow(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, shown: Shown) -> Shown:
    """Call a command on a terminal of some columns; return what it printed."""

    def run(*arguments: object) -> str:
        with monkeypatch.context() as patched:
            for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": str(request.param)}.items():
                patched.setenv(name, value)
            text = COLOURS.sub("", shown(*arguments))
        assert text and max(map(len, text.splitlines())) <= request.param, text
        return text

    return run


def test_the_iterations_of_a_run_keep_their_accuracy_and_whole_numbers(workdir: Path, narrow: Shown) -> None:
    database = Database(f"sqlite:///{workdir / 'run.db'}")
    with database.transaction() as transaction:
        row = next(one for one in runs.phases_of(transaction, 1) if one.name == "collect-1")
        runs.set_phase(transaction, row.id, PhaseState.DONE, result={**row.result, **LARGE})
    database.close()
    text = narrow("runs", "show", "mine", "--workdir", workdir)
    words = " ".join(text.split())
    assert "greedy" in words and "accuracy" in words and "iteration" in words and "…" not in text
    assert all(f"{number:,}" in text for number in LARGE.values())


@pytest.mark.parametrize(
    "command",
    ["runs show mine", "runs list", "trees list mine", "problems list mine"],
)
def test_no_table_cuts_a_figure(workdir: Path, shown: Shown, narrow: Shown, command: str) -> None:
    wide, text = (call(*command.split(), "--workdir", workdir) for call in (shown, narrow))
    figures = {word for word in wide.split() if FIGURE.fullmatch(word)}
    assert figures and figures <= set(text.split())


def test_tables_of_words_fit_as_well(narrow: Shown) -> None:
    assert "…" not in narrow("plugins", "list") and "…" not in narrow("options")
