"""Rows that are read or written: a bar on a terminal, a line a minute elsewhere."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from restmcts_cli import row_progress
from restmcts_cli.row_progress import with_progress
from rich.console import Console
from typer.testing import Result


class Clock:
    """Time that passes when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(row_progress, "time", self)

    def monotonic(self) -> float:
        return self.now

    def rows(self, seconds: float, count: int) -> Iterator[int]:
        """Yield numbers, one each so many seconds."""
        for number in range(count):
            self.now += seconds
            yield number


def test_where_there_is_no_terminal_a_line_comes_each_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = Clock(monkeypatch).rows(25.0, 8)
    assert list(with_progress(rows, "reading big.csv")) == list(range(8))
    assert capsys.readouterr().err.splitlines() == ["reading big.csv: 3 rows", "reading big.csv: 6 rows"]


@pytest.mark.parametrize(("seconds", "is_shown"), [(0.01, False), (0.6, True)])
def test_a_terminal_has_a_bar_once_it_takes_more_than_a_moment(
    monkeypatch: pytest.MonkeyPatch, seconds: float, is_shown: bool
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(row_progress, "console", lambda stderr: Console(file=screen, force_terminal=True, width=100))
    clock = Clock(monkeypatch)
    assert sum(with_progress(clock.rows(seconds, 5), "grading a.jsonl", 50, lambda _: 10)) == 10
    assert ("grading a.jsonl" in screen.getvalue()) == is_shown
    assert ("5 rows" in screen.getvalue()) == is_shown


def test_what_is_read_no_further_leaves_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(row_progress, "console", lambda stderr: Console(file=screen, force_terminal=True, width=100))
    clock = Clock(monkeypatch)
    rows = with_progress(clock.rows(2.0, 5), "reading big.csv")
    assert [next(rows), next(rows)] == [0, 1]
    rows.close()
    assert screen.getvalue().rfind("\x1b[?25h") > screen.getvalue().rfind("\x1b[?25l"), "the cursor is shown again"


@pytest.mark.parametrize(
    "typed", ["problems check FILE", "problems import FILE OUT", "grade FILE --out OUT", "datasets import FILE OUT"]
)
def test_commands_that_read_many_rows_say_how_far_they_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, call: Callable[..., Result], typed: str
) -> None:
    monkeypatch.setattr(row_progress, "SECONDS_BETWEEN_LINES", 0.0)
    file, row = tmp_path / "rows.jsonl", '{"question": "1 + 1?", "answer": 2, "prediction": "2"}\n'
    if typed.startswith("datasets"):
        row = '{"prompt": "1 + 1?", "completions": ["It is 2."], "labels": [true]}\n'
    file.write_text(3 * row)
    done = call(*typed.replace("FILE", str(file)).replace("OUT", str(tmp_path / "out")).split())
    assert done.exit_code == 0, done.output
    assert f"ing {file}: 2 rows" in done.stderr
