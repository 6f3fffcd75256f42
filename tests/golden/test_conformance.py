"""The recorded cases agree, and the command that checks them says plainly when they do not."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from restmcts.testing.conformance import main

CASES = Path(__file__).parent / "mcts_star.jsonl"


def write(path: Path, *cases: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(case) + "\n" for case in cases))
    return str(path)


@pytest.fixture(scope="module")
def cases() -> list[dict[str, Any]]:
    return [json.loads(line) for line in CASES.read_text().splitlines()]


def test_all_recorded_cases_agree(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(CASES)]) == 0
    assert capsys.readouterr().out == "60/60 cases agree\n"


def test_several_files_are_checked_together(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(CASES), str(CASES)]) == 0
    assert capsys.readouterr().out == "120/120 cases agree\n"


@pytest.mark.parametrize(
    ("path", "change"),
    [
        (("tree", "visits"), 1),
        (("tree", "value"), 1e-6),
        (("tree", "children", 0, "value"), 1e-6),
    ],
)
def test_a_changed_number_is_one_line_with_its_place(
    path: tuple[Any, ...],
    change: float,
    cases: list[dict[str, Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tampered = copy.deepcopy(cases[0])
    place: Any = tampered
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] += change
    assert main([write(tmp_path / "cases.jsonl", tampered, cases[1])]) == 1
    first, last = capsys.readouterr().out.splitlines()
    where = "tree" + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path[1:])
    assert first.startswith(f"case-0000: {where}: expected ")
    assert last == "1/2 cases agree"


def test_a_change_below_the_tolerance_agrees(cases: list[dict[str, Any]], tmp_path: Path) -> None:
    nearly = copy.deepcopy(cases[0])
    nearly["tree"]["value"] += 1e-10
    assert main([write(tmp_path / "cases.jsonl", nearly)]) == 0


@pytest.mark.parametrize("key", ["labels", "value_samples", "end_leaves", "solved"])
def test_labels_are_compared_too(
    key: str, cases: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    solved = copy.deepcopy(next(case for case in cases if case.get("solved")))
    if key == "labels":
        solved[key]["distance"] += 1
    elif key == "solved":
        solved[key] = False
    else:
        solved[key].pop()
    assert main([write(tmp_path / "cases.jsonl", solved)]) == 1
    assert capsys.readouterr().out.startswith(f"{solved['id']}: {key}")


def test_a_model_asked_beyond_its_script_is_a_difference(
    cases: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([write(tmp_path / "cases.jsonl", {**cases[0], "values": {}})]) == 1
    assert capsys.readouterr().out.splitlines()[0].startswith("case-0000: KeyError")


@pytest.mark.parametrize(
    ("text", "reason"),
    [("{\n", "not JSON"), ("[]\n", "not a case"), ('{"mode": "solve"}\n', "missing config, proposals, tree, values")],
)
def test_a_file_of_something_else_is_bad_input(
    text: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cases.jsonl"
    path.write_text(text)
    assert main([str(path)]) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"error: {path}, line 1: ") and reason in message and message.count("\n") == 1


def test_a_missing_file_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.jsonl")]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'none.jsonl'}: No such file or directory\n"


def test_no_file_at_all_is_bad_input() -> None:
    assert main([]) == 2


def test_a_file_without_cases_is_no_success(tmp_path: Path) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_text("")
    assert main([str(path)]) != 0
