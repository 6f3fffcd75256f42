"""The map of where a method pays, made of what comparisons printed."""

import json
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest
from restmcts.domain.stats.gains import MeasuredAccuracy, MethodGain, method_gains
from restmcts.errors import RestMctsError
from restmcts.reporting.gain_maps import gain_picture
from restmcts_cli.main import app
from typer.testing import CliRunner


def compared(path: Path, title: str, seeds: Sequence[int], first: float, gain: float) -> Path:
    """Write what `compare --json` prints, after other lines; each seed gains a point more."""
    rows = []
    for place, seed in enumerate(seeds):
        rows.append({"method": "control", "seed": seed, "iteration": 0, "accuracy": first, "tokens": 0.0})
        for method, ahead in (("rest-mcts", gain + 0.01 * place), ("rest-em", 0.0)):
            for iteration, accuracy in enumerate((first, 0.4, 0.5 + ahead)):
                row = {"method": method, "seed": seed, "iteration": iteration, "accuracy": accuracy, "repeat": 0}
                rows.append(row)
    path.write_text("a table\n" + json.dumps({"title": title, "accuracies": rows}) + "\n", encoding="utf-8")
    return path


def test_comparisons_of_one_title_are_put_together_and_the_hardest_comes_first(tmp_path: Path) -> None:
    files = [
        compared(tmp_path / "easy.json", "easy", (0, 1), 0.4, 0.0),
        compared(tmp_path / "a.json", "hard", (0, 1), 0.2, 0.05),
        compared(tmp_path / "b.json", "hard", (2,), 0.2, 0.12),
    ]
    picture, table = tmp_path / "map.svg", tmp_path / "map.md"
    result = CliRunner().invoke(app, ["gains", *map(str, files), "--svg", str(picture), "--markdown", str(table)])
    assert result.exit_code == 0, result.exception
    assert table.read_text().splitlines()[2:4] == [
        "| hard | rest-mcts | 20.0 % ± 0.0 | +7.7 ± 2.2 | 3 of 3 seeds |",
        "| easy | rest-mcts | 40.0 % ± 0.0 | +0.5 ± 0.5 | 1 of 2 seeds |",
    ]
    drawn = ElementTree.fromstring(picture.read_text())
    texts = {element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")}
    assert {"rest-mcts", "Accuracy of the first policy", "Gain over rest-em, points"} <= texts


def test_comparisons_with_names_are_kept_apart_whatever_their_title(tmp_path: Path) -> None:
    strong = compared(tmp_path / "strong.json", "hard", (0, 1), 0.6, 0.01)
    weak = compared(tmp_path / "a=b.json", "hard", (0, 1), 0.2, 0.05)
    result = CliRunner().invoke(app, ["gains", f"rate=0.1={strong}", str(weak), "--json"])
    assert result.exit_code == 0, result.exception
    found = json.loads(result.stdout)
    assert [(row["setting"], row["gain"]["value"]) for row in found] == [
        ("hard", pytest.approx(0.055)),
        ("rate=0.1", pytest.approx(0.015)),
    ]


def test_repeats_of_a_seed_count_as_one_training() -> None:
    rows = [
        MeasuredAccuracy("puzzle", "control", 0, 0, 0.2),
        *(MeasuredAccuracy("puzzle", "rest-mcts", 0, 1, 0.5 + 0.1 * repeat, repeat) for repeat in (0, 1)),
        MeasuredAccuracy("puzzle", "rest-em", 0, 1, 0.5),
    ]
    (found,) = method_gains(rows, "rest-em")
    assert found.gain.value == pytest.approx(0.05)
    assert (found.num_seeds, found.num_ahead, found.gain.standard_error) == (1, 1, 0.0)


def test_a_hostile_title_stays_text() -> None:
    rows = [
        MeasuredAccuracy("x", "control", 0, 0, 0.2),
        *(MeasuredAccuracy("x", method, 0, 1, 0.5) for method in ("</svg><script>", "rest-em")),
    ]
    found: list[MethodGain] = method_gains(rows, "rest-em")
    assert "<script>" not in gain_picture(found, "rest-em")


def test_what_cannot_be_put_together_is_said_in_one_line(tmp_path: Path) -> None:
    good = compared(tmp_path / "a.json", "hard", (0, 1), 0.2, 0.05)
    bad = tmp_path / "bad.json"
    bad.write_text("no numbers\n")
    empty = tmp_path / "empty.json"
    empty.write_text("")
    for arguments, expected in (
        ([good, good], "two files hold seed 0 of"),
        ([good, "--over", "star"], "the comparison has no star; choose another --over: rest-em, rest-mcts"),
        ([bad], "its last line is not what `restmcts compare --json` prints"),
        ([empty], "its last line is not what `restmcts compare --json` prints"),
        ([tmp_path / "gone.json"], "gone.json cannot be read"),
        ([f"weak={tmp_path / 'gone.json'}"], "gone.json: there is no such file, and none behind a name"),
        ([f"={good}"], "give FILE or NAME=FILE"),
        (["weak="], "give FILE or NAME=FILE"),
        ([good, "--svg", tmp_path / "gone" / "map.svg"], "cannot write"),
    ):
        error = CliRunner().invoke(app, ["gains", *map(str, arguments)]).exception
        assert isinstance(error, RestMctsError) and expected in str(error), str(error)
