"""What is refused is refused in words that name what was typed."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import promotions, runs
from restmcts.errors import InputError
from typer.testing import Result

Command = Callable[..., Result]
NOT_UTF8 = b'\xffquestion,answer\n\xfe,"1"\n'
SMALL = ("--set", "puzzles.demonstrations=6", "--set", "puzzles.searched=3", "--set", "puzzles.test=4")


def refusal(result: Result) -> str:
    assert isinstance(result.exception, InputError), (result.output, result.exception)
    return str(result.exception)


@pytest.mark.parametrize("name", ["run.toml", "problems.csv", "problems.jsonl", "problems.json", "notes.jsonl"])
def test_a_file_that_is_no_text_is_refused_without_words_of_python(name: str, call: Command, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(NOT_UTF8 if name != "problems.json" else b"[" + NOT_UTF8)
    workdir = ("--workdir", tmp_path / "w")
    if name == "notes.jsonl":
        assert call("runs", "create", "mine", "--demo", *SMALL, *workdir).exit_code == 0
        found = call("annotations", "import", file, *workdir)
    else:
        found = call("selftrain", file, "--policy", "number-paths", *workdir)
    assert "UTF-8" in refusal(found) and str(file) in refusal(found)
    assert "codec" not in refusal(found) and "0xff" not in refusal(found)


def test_a_folder_is_named_as_it_was_typed(call: Command, tmp_path: Path) -> None:
    deep = tmp_path / "deep" / "er"
    deep.mkdir(parents=True)
    (deep / "a.json").write_text("[1")
    refused = refusal(call("selftrain", tmp_path, "--policy", "number-paths", "--workdir", tmp_path / "w"))
    assert refused.startswith(f"{tmp_path} is a folder, and one of its files cannot be used: {deep / 'a.json'}")


@pytest.mark.parametrize("option", ["=4", " = 4", "4"])
def test_a_setting_without_a_name_is_refused_as_it_was_typed(option: str, call: Command, tmp_path: Path) -> None:
    typed = ("runs", "create", "mine", "--demo", "--set", option, "--workdir", tmp_path / "w")
    assert refusal(call(*typed)) == f"option {option!r}: write it as name=value"


def test_a_check_counts_what_is_repeated_with_another_answer(call: Command, tmp_path: Path) -> None:
    file = tmp_path / "problems.jsonl"
    rows = [("dup", 2), ("dup", 3), ("one", 1), ("one", 1)]
    file.write_text("".join(f'{{"question": "{question}", "answer": "{answer}"}}\n' for question, answer in rows))
    shown = call("problems", "check", file).output
    assert re.search(r"repeated, same answer +1\s", shown) and re.search(r"repeated, other answer +1\s", shown)


def test_more_iterations_than_there_can_be_are_refused_at_once(call: Command, tmp_path: Path) -> None:
    place = ("--workdir", tmp_path)
    typed = ("runs", "create", "mine", "--demo", "--quick", *SMALL)
    for flag in ("--iterations", "--rounds"):
        assert "give at most 10000" in refusal(call(*typed, flag, 99_999_999_999, *place))
    assert call(*typed, *place).exit_code == 0
    extend = ("runs", "extend", "mine", "--iterations")
    assert refusal(call(*extend, 99_999_999_999, *place)) == "--iterations is 99999999999; give at most 10000"
    assert "give more in all" in refusal(call(*extend, 0, *place))
    used_up = refusal(call(*extend, 9_999, *place))
    assert used_up.startswith("run mine cannot be extended to 9999 iterations: there are ")
    assert "number paths of distance" in used_up and "more are asked for" in used_up and "in use" not in used_up


def test_a_list_of_checkpoints_says_which_were_promoted_before(
    workdir: Path, call: Command, document: Callable[..., Any]
) -> None:
    database = Database(f"sqlite:///{workdir / 'run.db'}")
    with database.transaction() as transaction:
        known = runs.checkpoints_of(transaction, 1)
        later = runs.add_checkpoint(transaction, 1, "policy-9", "policy", "nowhere", "0")
        promotions.promote(transaction, known["base"])
        promotions.promote(transaction, runs.checkpoint_by_id(transaction, later))  # type: ignore[arg-type]
    database.close()
    rows = {one["name"]: one for one in document("checkpoints", "list", "mine", "--workdir", workdir)}
    assert (rows["base"]["promoted"], rows["base"]["was_promoted"]) == (False, True)
    assert (rows["policy-9"]["promoted"], rows["value-0"]["was_promoted"]) == (True, False)
    lines = call("checkpoints", "list", "mine", "--workdir", workdir).output.splitlines()
    said = {
        line.split()[1]: "was promoted" if "was promoted" in line else "promoted" in line
        for line in lines[1:]
        if line.split()[1:]
    }
    assert (said["base"], said["policy-9"], said["value-0"]) == ("was promoted", True, False)
