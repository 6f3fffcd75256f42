"""What `probe` says of its figures, and how it refuses what it cannot use."""

import json
from pathlib import Path

import pytest
from restmcts.domain.stats.spread import ProbedOutcome, spread_of
from restmcts_cli.main import app
from restmcts_cli.reports.probe_report import Probe, json_line, probe_table, sentences
from typer.testing import CliRunner


def probe(*counts: tuple[int, int, bool]) -> Probe:
    """Return a probe of (problems, right samples of four, solved by the search)."""
    outcomes = [ProbedOutcome(num_right, solved) for count, num_right, solved in counts for _ in range(count)]
    return Probe(spread_of(outcomes, 4), "best-first", 160, 160.2, 171.9)


def test_the_table_has_a_row_for_each_number_of_right_samples() -> None:
    rows = probe_table(probe((60, 0, True), (40, 0, False), (100, 3, True))).rows
    assert [row[:2] for row in rows] == [("0 of 4", 100), ("1 of 4", 0), ("2 of 4", 0), ("3 of 4", 100), ("4 of 4", 0)]
    assert rows[0][2:] == ("50.0 % ± 3.5", "60.0 % ± 4.9")
    assert rows[1][3] == "–"


@pytest.mark.parametrize(
    ("counts", "expected", "not_said"),
    [
        ([(60, 0, True), (40, 0, False), (100, 3, True)], "--method rest-mcts to teach more than rest-em", "settled"),
        ([(60, 1, False), (100, 3, True), (40, 0, False)], "--method rest-em to teach more than rest-mcts", "settled"),
        ([(50, 0, False), (50, 3, True)], "find about as much", "settled"),
        ([(20, 0, False), (80, 4, True)], "80.0 % ± 4.0 of the problems are settled", "seed_training"),
        ([(199, 0, False), (1, 1, False)], "no method has much to learn from", "rest-mcts"),
    ],
)
def test_what_to_expect_follows_from_the_figures(
    counts: list[tuple[int, int, bool]], expected: str, not_said: str
) -> None:
    text = " ".join(sentences(probe(*counts)))
    assert expected in text
    assert not_said not in text


def test_the_json_line_holds_every_figure() -> None:
    document = json.loads(json_line(probe((3, 0, True), (1, 4, True))))
    assert document["num_problems"] == 4
    assert document["search_is_ahead"]["value"] == 0.75
    assert [band["num_problems"] for band in document["bands"]] == [3, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "name the model that is to be probed"),
        (("--policy", "m", "--algorithm", "mcts-star"), "mcts-star asks a value model, which a probe has not"),
        (("--policy", "m", "--set", "puzzles.searched=3"), "leave out problems"),
        (("--policy", "m", "-o", "branching=3"), "branching"),
    ],
)
def test_what_cannot_be_probed_is_one_line(tmp_path: Path, arguments: tuple[str, ...], expected: str) -> None:
    problems = tmp_path / "problems.jsonl"
    problems.write_text('{"question": "1 + 1", "answer": "2"}\n')
    workdir = ("--workdir", str(tmp_path / "out"))
    assert expected in str(CliRunner().invoke(app, ["probe", str(problems), *arguments, *workdir]).exception)
