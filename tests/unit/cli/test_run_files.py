"""Run files and flags on the command line: what overrides what, what is stored, and what comes back
as a file.
"""

import copy
import functools
import json
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import runs
from restmcts.domain.runs.phases import PHASE, Phase, TrainPolicyPhase
from restmcts.domain.runs.spec import RunSpec, flattened
from restmcts.domain.runs.spec_plan import spec_plan
from restmcts.errors import InputError
from restmcts.usecases.requested.runs import run_config
from restmcts.usecases.same_settings import changed_settings
from restmcts_cli.arguments.run_requests import requested_run
from restmcts_cli.experiments.demo_plan import QUICK, demo_spec
from typer.testing import Result

ROOT = Path(__file__).parents[3]
Shown = Callable[..., str]
Document = Callable[..., Any]
Command = Callable[..., Result]

RUN_FILE = """
policy = "someone/model"
problems = "problems.jsonl"
iterations = 2
seed = 7

[search]
algorithm = "mcts-star"
branch = 4

[policy_training]
lora_rank = 8
"""


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    rows = [{"question": f"What is {number} + 1?", "answer": number + 1} for number in range(12)]
    (tmp_path / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "run.toml"
    path.write_text(RUN_FILE)
    return path


def phases_of(workdir: Path) -> dict[str, Phase]:
    database = Database(f"sqlite:///{workdir / 'run.db'}")
    with database.transaction() as transaction:
        found = {row.name: PHASE.validate_python(row.spec) for row in runs.phases_of(transaction, 1)}
    database.close()
    return found


def message(result: Result) -> str:
    assert isinstance(result.exception, InputError), (result.output, result.exception)
    return str(result.exception)


def test_flags_override_the_file_and_set_overrides_all(run_file: Path, tmp_path: Path, document: Document) -> None:
    typed = ("--seed", 3, "-o", "roll_branch=2", "--policy-option", "lora-rank=16", "--set", "search.branch=5")
    made = document("runs", "create", "new", run_file, *typed, "--workdir", tmp_path / "w")
    assert made["problems"] == {"train": 11, "bootstrap": 11, "held-out": 1}
    phases = phases_of(tmp_path / "w")
    collect, train = phases["collect-2"], phases["policy-2"]
    assert (collect.search.branch, collect.search.roll_branch) == (5, 2)  # type: ignore[union-attr]
    assert isinstance(train, TrainPolicyPhase)
    assert (train.training.lora_rank, train.training.seed) == (16, 3)


def test_another_search_takes_none_of_the_files_options(run_file: Path, tmp_path: Path, document: Document) -> None:
    document("runs", "create", "new", run_file, "--algorithm", "step-beam", "--workdir", tmp_path / "w")
    assert phases_of(tmp_path / "w")["collect-1"].search.algorithm == "step-beam"  # type: ignore[union-attr]


def test_the_spec_of_a_run_makes_the_same_run(run_file: Path, tmp_path: Path, document: Document, shown: Shown) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    document("runs", "create", "new", run_file, "--value", "someone/values", "--max-tokens", 99, "--workdir", first)
    text = shown("runs", "spec", "new", "--workdir", first)
    again = tmp_path / "elsewhere" / "again.toml"
    again.parent.mkdir()
    again.write_text(text)
    document("runs", "create", "new", again, "--workdir", second)
    assert phases_of(first) == phases_of(second)
    assert shown("runs", "spec", "new", "--workdir", second) == text


def test_the_spec_of_the_demo_makes_the_demo(tmp_path: Path, document: Document, shown: Shown) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    document("runs", "create", "demo", "--demo", "--quick", "--seed", 3, "--workdir", first)
    path = tmp_path / "demo.toml"
    path.write_text(shown("runs", "spec", "demo", "--workdir", first))
    document("runs", "create", "demo", path, "--workdir", second)
    assert phases_of(first) == phases_of(second) == {phase.name: phase for phase in spec_plan(demo_spec(3, QUICK))}

    def stored(workdir: Path) -> Any:
        sets = document("problems", "list", "demo", "--workdir", workdir)
        questions = document("problems", "list", "demo", "--set", "search-2", "--limit", 9, "--workdir", workdir)
        return sets, questions, document("checkpoints", "list", "demo", "--workdir", workdir)[0]["uri"]

    assert stored(first) == stored(second)
    assert stored(first)[2] == "number-paths:3"


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (("--set", "search.brnch=4"), "--set: search.brnch: there is no such setting; did you mean 'branch'?"),
        (("-o", "brnch=4"), "--option: search.brnch: there is no such setting; did you mean 'branch'?"),
        (("-o", "branch"), "option 'branch': write it as name=value"),
        (("--policy-option", "lora_rnk=8"), "policy_training.lora_rnk: there is no such setting; did you mean 'lora_"),
        (("--policy-option", "lora_rank=much"), "policy_training.lora_rank is 'much'; give a whole number"),
        (("--value-option", "precision=float8"), "value_training.precision is 'float8'; it should be 'auto'"),
        (("--set", "seed_training.trainable=head"), "trainable = head is for value models"),
        (("--value-option", "lora_rank=-1"), "value_training.lora_rank is -1; give at least 0"),
        (("--algorithm", "mcts"), "--algorithm: search: no search is called 'mcts'; did you mean 'mcts-star'?"),
        (("--set", "tools.max_calls=-1"), "tools.max_calls is -1; give at least 0"),
        (("--set", "seed.x=3"), "--set: seed is not a table of settings"),
        (("--method", "sarsa"), "There are: math-shepherd"),
    ],
)
def test_what_is_typed_wrongly_is_one_line(
    typed: tuple[str, ...], expected: str, run_file: Path, call: Command
) -> None:
    refused = message(call("runs", "create", "new", run_file, *typed, "--workdir", run_file.parent / "w"))
    assert expected in refused
    assert "\n" not in refused


def test_a_bad_run_file_is_refused_with_its_line(run_file: Path, call: Command) -> None:
    run_file.write_text(RUN_FILE.replace("branch =", "brunch ="))
    refused = message(call("selftrain", run_file, "--workdir", run_file.parent / "w"))
    assert refused == f"{run_file}, line 9: search.brunch: there is no such setting; did you mean 'branch'?"
    assert not (run_file.parent / "w").exists()
    for line, reason in (
        ('problems = "\\u0000"', 'line 2: "problems" contains a NUL character'),
        ('plugins = ["a\\u0000b"]', 'line 2: "plugins" contains a NUL character'),
        ("seed = " + "[" * 100_000, "is not a TOML file: maximum recursion depth exceeded"),
    ):
        run_file.write_text(f'policy = "x"\n{line}\n')
        refused = message(call("selftrain", run_file, "--workdir", run_file.parent / "w"))
        assert reason in refused and "\n" not in refused
    assert "does not exist" in message(call("selftrain", "no.toml", "--workdir", run_file.parent / "w"))
    assert "accepts only a run file" in message(call("demo", "problems.jsonl"))


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.toml")), ids=lambda path: path.name)
def test_the_examples_are_runs(path: Path) -> None:
    spec = requested_run(str(path), [])
    phases = spec_plan(spec.model_copy(update={"seed_training": None}))
    assert spec.budget.tokens and spec.policy and [phase for phase in phases if isinstance(phase, TrainPolicyPhase)]


def test_a_changed_setting_is_named_with_both_values() -> None:
    models = {"base": ("policy", "someone/model")}
    old = run_config(RunSpec.model_validate({"policy": "a", "seed": 1}), models, {"train": []})
    new = run_config(RunSpec.model_validate({"policy": "a", "search": {"num_alternatives": 3}}), models, {"train": []})
    assert changed_settings(old, new) == ["seed (1 -> 0)", "search.num_alternatives (4 -> 3)"]
    machine = {"policy": "a", "seed": 1, "models": {"device": "cuda"}, "max_tokens": 5}
    assert changed_settings(old, run_config(RunSpec.model_validate(machine), models, {"train": []})) == []


def test_a_run_stored_without_a_document_is_known_by_what_was_stored() -> None:
    models = {"base": ("policy", "someone/model")}
    config = run_config(RunSpec.model_validate({"policy": "a"}), models, {"train": []})
    old = {name: value for name, value in config.items() if name != "spec"}
    assert changed_settings(old, config) == []
    assert changed_settings({**old, "seed": 5}, config) == ["seed (5 -> 0)"]


def test_settings_that_came_after_a_run_was_stored_have_their_defaults_in_it() -> None:
    models = {"base": ("policy", "someone/model")}

    def asked(**generation: str) -> dict[str, Any]:
        return run_config(RunSpec.model_validate({"policy": "a", "generation": generation}), models, {"train": []})

    old = {name: value for name, value in asked().items() if name != "spec"}
    old["generation"] = {name: value for name, value in old["generation"].items() if name != "step_separator"}
    old["search"] = {name: value for name, value in old["search"].items() if name != "widening"}
    assert changed_settings(old, asked()) == []
    changed = changed_settings(old, asked(step_separator="newline"))
    assert changed == ["generation.step_separator (auto -> newline)"]


def test_a_run_without_a_document_has_no_file(workdir: Path, call: Command) -> None:
    assert "run mine has no run file" in message(call("runs", "spec", "mine", "--workdir", workdir))


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), float("nan")])
def test_no_setting_takes_an_infinite_number(value: float) -> None:
    document = demo_spec(0, QUICK).model_dump(mode="json")
    names = [name for name, found in flattened(document).items() if isinstance(found, float)]
    assert len(names) > 20
    for name in names:
        changed = copy.deepcopy(document)
        *groups, last = name.split(".")
        functools.reduce(operator.getitem, groups, changed)[last] = value
        with pytest.raises((InputError, ValueError), match=f"{last}|finite|at (least|most)|above|below"):
            RunSpec.model_validate(changed)
