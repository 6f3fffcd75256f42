"""Which models an evaluation takes from a run, and an evaluation that others work on."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import runs
from restmcts.adapters.sql.state.trees import NODES, PHASES, TREES
from restmcts.domain.problems import Problem
from restmcts.domain.requests import Observation
from restmcts.domain.runs.evaluation import ANSWERING, PROBLEM_SET, Evaluation, evaluation_plan
from restmcts.domain.runs.phases import SearchPhase
from restmcts.domain.search.tool_calls import ToolSettings
from restmcts.domain.stats.outcomes import OutcomeTable
from restmcts.domain.tasks.number_paths import distance
from restmcts.errors import InputError
from restmcts.testing.services import HandledServices
from restmcts.testing.trees import RIGHT_ANSWER, RandomModels
from restmcts.usecases.same_settings import changed_settings
from restmcts_cli.arguments.benchmarks import benchmark_named
from restmcts_cli.arguments.connection import Connection
from restmcts_cli.arguments.evaluation_request import EvaluationRequest
from restmcts_cli.commands.learning.evaluate import as_its_run_draws, asked_evaluation, asked_sets
from restmcts_cli.experiments.evaluation_models import given_models, models_of_run
from restmcts_cli.experiments.evaluation_run import EvaluationWork, evaluated_on_stack
from restmcts_cli.reports.evaluation_examples import differing_examples
from restmcts_cli.reports.evaluation_results import EvaluationResults
from restmcts_local.services import start
from sqlalchemy import func, select
from typer.testing import Result

NAMES = ("greedy", "self-consistency", "sc-value-own", "mcts-star", "gated-mcts-star")
PROBLEMS = [Problem(f"question {number}", RIGHT_ANSWER) for number in range(8)]


def test_given_models_are_one_pair() -> None:
    models = given_models("p", ["v", "orm=o"], lambda model, kind: f"{kind}:{model}")
    assert models.pairs[0].values == {"value": "value", "orm": "orm"}
    assert models.checkpoints == {
        "policy": ("policy", "policy:p"),
        "value": ("value", "value:v"),
        "orm": ("value", "value:o"),
    }
    with pytest.raises(InputError, match="'value' is used already"):
        given_models("p", ["v", "w"], lambda model, _: model)


def test_a_run_brings_its_iterations(workdir: Path) -> None:
    for where in (f"{workdir}:mine", str(workdir), f"{workdir}:mine@0"):
        models = models_of_run(where, None)
        assert [(pair.name, pair.policy, dict(pair.values)) for pair in models.pairs] == [
            ("iteration 0", "base", {"value": "value-0"})
        ]
        assert models.checkpoints["value-0"] == ("value", "someone/values")
    with pytest.raises(InputError, match="no policy of iteration 7"):
        models_of_run(f"{workdir}:mine@7", None)


@pytest.fixture
def stack(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Connection]:
    """A database on which workers of every kind are at work, in a thread, with models that are
    given.
    """
    models = getattr(request, "param", RandomModels())
    services = HandledServices(tmp_path, start, lambda _: models)
    stopped = threading.Event()

    def work() -> None:
        while not stopped.wait(0.02):
            services.bus.run()

    worker = threading.Thread(target=work)
    worker.start()
    yield Connection(services.database, lambda: services.artifacts)
    stopped.set()
    worker.join()
    services.close()


def test_the_stack_works_on_an_evaluation_and_it_is_read_from_there(stack: Connection) -> None:
    models = given_models("someone/model", ["someone/values"], lambda model, _: model)
    evaluation = Evaluation(tuple(ANSWERING.get(name) for name in NAMES), (20, 60), (0, 1), models.pairs)
    work = EvaluationWork(evaluation, {PROBLEM_SET: PROBLEMS}, models.checkpoints)
    run_id = evaluated_on_stack(stack, "eval", work)
    results = EvaluationResults(stack.database, run_id, evaluation, seen=frozenset({3}))
    outcomes = list(results.outcomes())
    assert len(outcomes) == len(PROBLEMS) * (1 + 4 * 2 * 2)
    assert {outcome.problem for outcome in outcomes if outcome.seen} == {3}
    assert {outcome.verdict for outcome in outcomes} == {"right", "wrong", "undecided"}, "some were cut short"
    looked_at = {(outcome.method, outcome.budget) for outcome in outcomes if outcome.wasted is not None}
    assert looked_at == {(name, None if name == "greedy" else 60) for name in NAMES}
    assert all(
        outcome.tokens_to_right is None or (outcome.any_right and outcome.tokens_to_right <= outcome.tokens)
        for outcome in outcomes
    )
    for example in differing_examples(results, OutcomeTable(outcomes), [problem.question for problem in PROBLEMS]):
        assert sorted((answer.verdict == "right") for answer in example.answers) == [False, True]
    assert evaluated_on_stack(stack, "eval", work) == run_id, "asked for again, it is the same"
    with pytest.raises(InputError, match="other settings: seeds"):
        evaluated_on_stack(stack, "eval", replace(work, evaluation=replace(evaluation, seeds=(5,))))


class Calling(RandomModels):
    """Random models whose policy often calls the calculator."""

    def _text(self, number: int) -> str:
        return ("calc: 2+5\n", "calc: 1/0\n", "so\n", "then\n")[number]


@pytest.mark.parametrize("stack", [Calling(answer_rate=0.2)], indirect=True)
def test_steps_of_an_evaluation_call_tools_in_searches_and_in_the_shared_samples(stack: Connection) -> None:
    models = given_models("someone/model", ["someone/values"], lambda model, _: model)
    methods = tuple(ANSWERING.get(name) for name in ("greedy", "self-consistency", "best-of-n", "mcts-star"))
    evaluation = Evaluation(methods, (20, 60), (0,), models.pairs, tools=ToolSettings(max_calls=2))
    work = EvaluationWork(evaluation, {PROBLEM_SET: PROBLEMS}, models.checkpoints)
    run_id = evaluated_on_stack(stack, "eval", work)
    results = EvaluationResults(stack.database, run_id, evaluation)
    outcomes = list(results.outcomes())
    assert len(outcomes) == len(PROBLEMS) * (1 + 3 * 2)
    assert {outcome.verdict for outcome in outcomes} >= {"right", "wrong"}
    with stack.database.transaction() as transaction:
        origins = select(PHASES.c.name, func.count()).join(TREES, TREES.c.phase_id == PHASES.c.id)
        origins = origins.join(NODES, NODES.c.tree_id == TREES.c.id).where(NODES.c.origin == "observation")
        observed = {name for name, _ in transaction.execute(origins.group_by(PHASES.c.name))}
    assert observed >= {"greedy", "samples, seed 0", "value of samples, seed 0", "mcts-star @ 60, seed 0"}
    (pool, *_) = results.pool("samples, seed 0")
    assert {step.text for sample in pool.pool.samples for step in sample.steps if isinstance(step, Observation)} <= {
        "result: 7\n",
        "result: error: division by zero\n",
    }
    spent = {(one.method, one.budget): one.tokens for one in outcomes if one.problem == 0}
    assert spent["best-of-n", 60] == spent["self-consistency", 60] >= 60 > spent["self-consistency", 20] >= 20
    other = EvaluationWork(replace(evaluation, tools=ToolSettings()), work.problems, work.checkpoints)
    with pytest.raises(InputError, match=r"other settings: tools\.max_calls"):
        evaluated_on_stack(stack, "eval", other)


def test_tools_are_asked_for_where_the_problems_have_some(tmp_path: Path) -> None:
    file = tmp_path / "problems.jsonl"
    file.write_text(json.dumps({"question": "What is 2 + 5?", "answer": "7"}) + "\n")
    for source, refused in ((str(file), False), ("demo:20", True)):
        asked = EvaluationRequest(source, tmp_path / "out", policy="POLICY", tool_calls=3)
        benchmark = benchmark_named(asked.problems)
        if refused:
            with pytest.raises(InputError, match="number-paths problems have no tools to call; leave out --tool-calls"):
                asked_sets(asked, benchmark)
            continue
        assert len(asked_sets(asked, benchmark)[PROBLEM_SET]) == 1
        models = given_models("POLICY", [], lambda model, _: model)
        evaluation = asked_evaluation(asked, benchmark, models, trains=False)
        plan = evaluation_plan(evaluation)
        assert {phase.tools.max_calls for phase in plan if isinstance(phase, SearchPhase)} == {3}
        of_run = replace(models, tool_calls=2)
        for typed, meant in ((None, 2), (0, 0), (3, 3)):
            again = asked_evaluation(replace(asked, tool_calls=typed), benchmark, of_run, trains=False)
            assert again.tools.max_calls == meant


def test_an_evaluation_of_a_run_answers_as_many_calls_as_the_run_does(
    tmp_path: Path, call: Callable[..., Result]
) -> None:
    file = tmp_path / "problems.jsonl"
    file.write_text(
        "".join(json.dumps({"question": f"What is 2 + {n}?", "answer": str(n + 2)}) + "\n" for n in range(9))
    )
    typed = ["--policy", "number-paths", "--set", "tools.max_calls=2", "--workdir", tmp_path / "w"]
    assert call("runs", "create", "mine", file, *typed).exit_code == 0
    assert models_of_run(f"{tmp_path / 'w'}:mine", None).tool_calls == 2


@pytest.mark.parametrize(
    ("typed", "distances", "num_problems", "seed"),
    [
        ({}, {6, 7, 8}, 7, 3),
        ({"problems": "number-paths:4"}, {4}, 1000, 0),
        ({"problem_seed": 5, "limit": 5}, {6, 7, 8}, 5, 5),
        ({"problems": "word-problems"}, None, 1000, 0),
    ],
)
def test_an_evaluation_of_a_run_of_puzzles_answers_those_on_which_the_run_tests_its_policies(
    typed: dict[str, Any], distances: set[int] | None, num_problems: int, seed: int, tmp_path: Path, call: Any
) -> None:
    settings = ("puzzles.difficulty=6-8", "puzzles.test=7", "puzzles.searched=3", "iterations=1")
    flags = [word for setting in settings for word in ("--set", setting)]
    made = call("runs", "create", "mine", "--policy", "number-paths", "--seed", 3, *flags, "--workdir", tmp_path / "w")
    assert made.exit_code == 0, made.output
    given = {"problems": "number-paths", "out": tmp_path / "out", "iterations_of": f"{tmp_path / 'w'}:mine@1", **typed}
    asked, benchmark = as_its_run_draws(EvaluationRequest(**given), benchmark_named(given["problems"]), None)
    problems = asked_sets(asked, benchmark)[PROBLEM_SET]
    assert (len(problems), asked.problem_seed or 0) == (num_problems, seed)
    assert distances is None or distances == {distance(problem.question, ()) for problem in problems}
    if not typed:
        connection = Database(f"sqlite:///{tmp_path / 'w' / 'run.db'}", read_only=True)
        with connection.transaction() as transaction:
            assert [stored.question for stored in runs.problems_of(transaction, 1, "test")] == [
                problem.question for problem in problems
            ]
        connection.close()


def test_an_evaluation_of_an_older_version_is_known_again() -> None:
    """What version 0.1 stored of `evaluate demo:40 --verifiers-from demo:30 --budgets 50,400 …`."""
    stored = json.loads((Path(__file__).parents[2] / "evaluation_of_version_0002.json").read_text(encoding="utf-8"))
    asked = EvaluationRequest(
        "demo:40",
        Path("out"),
        policy="POLICY",
        verifiers_from="demo:30",
        methods="greedy,self-consistency,best-first",
        budgets="50,400",
        temperature=1.0,
        max_step_tokens=8,
        max_solution_tokens=64,
    )
    benchmark = benchmark_named(asked.problems)
    models = given_models("POLICY", [], lambda model, _: model)
    sets = asked_sets(asked, benchmark)
    work = EvaluationWork(asked_evaluation(asked, benchmark, models, trains=True), sets, models.checkpoints)
    assert changed_settings(stored, work.config) == []
    other = replace(work, evaluation=replace(work.evaluation, solution_tokens=30))
    assert changed_settings(stored, other.config) == ["solution_tokens (None -> 30)"]
    calling = replace(work, evaluation=replace(work.evaluation, tools=ToolSettings(max_calls=2)))
    assert changed_settings(stored, calling.config) == ["tools.max_calls (0 -> 2)"]


def test_a_value_model_may_say_its_format_with_and_without_a_name() -> None:
    models = given_models("p", ["m?format=trl", "other=n?format=orm&aggregation=min"], lambda place, kind: place)
    assert models.checkpoints == {
        "policy": ("policy", "p"),
        "value": ("value", "m?format=trl"),
        "other": ("value", "n?format=orm&aggregation=min"),
    }
