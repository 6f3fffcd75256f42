"""What is given from Python and cannot be used: one sentence that names the argument."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import restmcts
from restmcts.domain.problems import Problem
from restmcts.domain.requests import GenerationSettings
from restmcts.errors import InputError
from restmcts.notebook.arguments import checks_arguments
from restmcts_cli.arguments.model_sources import check_model_name

PUZZLES = "demo:number-paths:2-3:3"
SELFTRAIN: tuple[tuple[object, object, str], ...] = (
    (None, "run", "spec is None; give a RunSpec or a dictionary or a text or a path"),
    (3, "run", "spec is 3"),
    ([], "run", "spec is []"),
    ({1: 2}, "run", "spec is {1: 2}"),
    ({"iterations": "many"}, "run", "iterations is 'many'; give a whole number"),
    ({"iteration": 2}, "run", "there is no such setting; did you mean 'iterations'?"),
    ({"plugins": "mine.py"}, "run", "plugins is 'mine.py'; give a list of files"),
    ({"plugins": 3}, "run", "plugins is 3; give a list of files"),
    ({"truth": {"source": "judge", "judges": ["nobody"]}}, "run", "nobody: no policy server"),
    ({"problems": Path("nothing.jsonl"), "policy": "number-paths"}, "run", "nothing.jsonl does not exist"),
    ({"problems": PUZZLES}, "run", "name the model that is to learn: policy FOLDER"),
    ({"problems": PUZZLES, "truth": {"source": "tests"}}, "run", "have no tests; give truth.source answers"),
    ("nothing.toml", "run", "nothing.toml does not exist"),
    ("README.md", "run", "spec is 'README.md'; give a run file (.toml), or settings"),
    (Path("README.md"), None, "workdir is None"),
    ({}, None, "workdir is None; give a text or a path"),
)
EVALUATE: tuple[tuple[dict[str, object], str], ...] = (
    ({"problems": None}, "problems is None; give a text or a path"),
    ({"policy": None}, "name either the model with policy, or a run with iterations_of"),
    ({"policy": 3}, "policy is 3; give a text or a path or None"),
    ({"budgets": 60}, "budgets is 60; give a list of whole numbers"),
    ({"budgets": "60"}, "budgets is '60'; give a list of whole numbers"),
    ({"budgets": [1.5]}, "budgets is [1.5]; give a list of whole numbers"),
    ({"budgets": []}, "budgets is empty; give at least one"),
    ({"seeds": 0}, "seeds is 0; give a list of whole numbers"),
    ({"methods": "greedy"}, "methods is 'greedy'; give a list of texts or None"),
    ({"methods": ()}, "methods is empty"),
    ({"value": 3}, "value is 3; give a text or a path or a dictionary or None"),
    ({"out": 3}, "out is 3"),
    ({"lmit": 3}, "evaluate has no setting 'lmit'; it has device, iterations_of, limit"),
    ({"limit": "3"}, "limit is '3'; give a whole number or None"),
    ({"limit": 0}, "limit is 0; give at least 1"),
    ({"trees_in_flight": 0}, "trees_in_flight is 0; give at least 1"),
    ({"option": "mcts-star.branch=4"}, "give a list of texts"),
    ({"device": 3}, "device is 3; give a text"),
    ({"iterations_of": "run"}, "name either the model with policy, or a run with iterations_of"),
    ({"policy": "someone/model", "tool_calls": 2}, "no tools to call; leave out tool_calls"),
)
SEARCH: tuple[tuple[dict[str, object], str], ...] = (
    ({"policy": None}, "policy is None"),
    ({"budget": 60}, "search: got an unexpected keyword argument 'budget'; it has policy, value, problem, algorithm,"),
    ({"problem": None}, "problem is missing"),
    ({"problem": " "}, "problem is missing"),
    ({"problem": Problem("1 + 1?", "2", kind="sums")}, "no kind of problem is called 'sums'"),
    ({"algorithm": None}, "algorithm is None; give a text"),
    ({"algorithm": "gredy"}, "no answering method is called 'gredy'"),
    ({"algorithm": "best-first"}, "value=…, or algorithm=… with one that asks none: greedy, self-consistency"),
    ({"tokens": "60"}, "tokens is '60'; give a whole number"),
    ({"tokens": 0}, "tokens is 0; give at least 1"),
    ({"seed": -1}, "seed is -1; give at least 0"),
    ({"options": ["num_retries=3"]}, "give a dictionary or None"),
    ({"options": {"breadth": 3}}, "has no option 'breadth'"),
    ({"options": {"num_retries": object()}}, "give a number, a text, True, False or a list"),
    ({"generation": {"temperature": 1.0}}, "give a GenerationSettings or None"),
    ({"policy": "no/model/here"}, "no/model/here: no such folder, and no id of the hub"),
    (
        {"policy": "someone/model", "value": "no/model/here", "algorithm": "best-first"},
        "no/model/here: no such folder, and no id of the hub",
    ),
    ({"policy": "someone/model", "value": "a/prm?format=none", "algorithm": "best-first"}, "is called 'none'"),
)
DATABASES: tuple[tuple[dict[str, object], str], ...] = (
    ({}, "give either workdir, a work folder, or url, the URL of a database"),
    ({"workdir": 3}, "workdir is 3; give a text or a path or None"),
    ({"workdir": "nowhere"}, "nowhere contains no run.db"),
    ({"url": 3}, "url is 3; give a text or None"),
    ({"url": "nowhere"}, "write it as postgresql+psycopg://USER:PASSWORD@HOST:5432/NAME"),
    ({"url": "postgresql://me:secret@host:port/db"}, "write it as postgresql+psycopg://"),
    ({"url": "other://me:secret@host/db"}, "write it as postgresql+psycopg://"),
    ({"url": "sqlite:///nothing.db"}, "nothing.db does not exist"),
)


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refused(call: Callable[[], object], expected: str) -> None:
    with pytest.raises(InputError, match=re.escape(expected)) as raised:
        call()
    assert "\n" not in str(raised.value) and "--" not in str(raised.value) and "secret" not in str(raised.value)
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize(("spec", "workdir", "expected"), SELFTRAIN)
def test_selftrain_says_which_argument_or_setting_cannot_be_used(spec: Any, workdir: Any, expected: str) -> None:
    refused(lambda: restmcts.selftrain(spec, workdir), expected)


@pytest.mark.parametrize(("given", "expected"), EVALUATE)
def test_evaluate_says_which_argument_cannot_be_used(given: dict[str, Any], expected: str) -> None:
    asked = {"problems": PUZZLES, "policy": "no/model/here", **given}
    refused(lambda: restmcts.evaluate(**asked), expected)


@pytest.mark.parametrize(("given", "expected"), SEARCH)
def test_search_says_which_argument_cannot_be_used(given: dict[str, Any], expected: str) -> None:
    asked = {"policy": "no/model/here", "problem": "1 + 1?", "algorithm": "greedy", **given}
    refused(lambda: restmcts.search(**asked), expected)


@pytest.mark.parametrize(("given", "expected"), DATABASES)
def test_runs_and_load_run_say_which_argument_cannot_be_used(given: dict[str, Any], expected: str) -> None:
    refused(lambda: restmcts.runs(**given), expected)
    refused(lambda: restmcts.load_run("demo", **given), expected)


def test_a_context_that_is_too_small_names_the_argument_that_search_has(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("policy")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "max_position_embeddings": 128}))
    refused(
        lambda: restmcts.search(folder, problem="1 + 1?", algorithm="greedy"),
        "give fewer, e.g. generation.max_step_tokens 8 generation.max_solution_tokens 64",
    )


def test_a_policy_is_not_advised_to_be_a_judge() -> None:
    for kind, advised in (("policy", False), ("value", True)):
        with pytest.raises(InputError) as raised:
            check_model_name("no/model/here", kind)
        assert ("format=judge" in str(raised.value)) == advised


def test_a_run_is_named_by_a_text() -> None:
    refused(lambda: restmcts.load_run(None, "folder"), "name is None; give a text")  # type: ignore[arg-type]


def test_settings_that_are_no_numbers_are_refused_where_numbers_have_ranges() -> None:
    refused(lambda: GenerationSettings(temperature="hot"), "temperature is 'hot'; give above 0")  # type: ignore[arg-type]


def test_whole_numbers_of_numpy_and_ranges_are_taken() -> None:
    @checks_arguments
    def given(number: int, numbers: list[int]) -> tuple[int, list[int]]:
        return number, numbers

    number, numbers = given(numpy.int64(3), range(2))  # type: ignore[arg-type]
    assert (type(number), number, numbers) == (int, 3, [0, 1])
    with pytest.raises(InputError, match="given: number is True; give a whole number"):
        given(True, [1])
    with pytest.raises(InputError, match="given: missing a required argument: 'numbers'; it has number, numbers"):
        given(3)  # type: ignore[call-arg]
    with pytest.raises(InputError, match="given: got an unexpected keyword argument 'numbr'; it has number, numbers"):
        given(3, [], numbr=3)  # type: ignore[call-arg]
