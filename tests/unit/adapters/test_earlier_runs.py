"""What runs of a work folder took, and the forecast of another that is made from it."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.reads.measured import bytes_a_node, covered_seconds, run_work
from restmcts.adapters.sql.state import promotions, runs
from restmcts.adapters.sql.state.trees import PHASES, TREES
from restmcts.adapters.sql.tables import PhaseState, RunState
from restmcts.domain.problems import Problem
from restmcts.domain.runs.phases import SearchPhase
from restmcts.domain.runs.spec import RunSpec
from restmcts.domain.runs.spec_plan import spec_plan
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.search.protocol import Budget
from restmcts.testing.trees import RIGHT_ANSWER, RandomModels
from restmcts.usecases.requested.runs import run_config
from restmcts_cli.arguments.run_requests import SELFTRAIN_RUN
from restmcts_cli.experiments.requested_runs import problem_sets
from restmcts_cli.main import app
from sqlalchemy import select, update
from typer.testing import CliRunner, Result

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
ARGUMENTS = ["demo:number-paths:3-4:40", "--policy", "openai+http://here:1/v1?model=m", "--method", "rest-em"]
ARGUMENTS += ["--iterations", "2"]
FIRST_ITERATION = ["held-out-base", "gate-base", "collect-1", "policy-1", "held-out-policy-1", "gate-policy-1"]


def moment(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)


def test_time_in_which_several_searched_counts_once() -> None:
    spans = [(moment(5), moment(8)), (moment(0), moment(4)), (moment(1), moment(2)), (moment(7), moment(9))]
    assert covered_seconds(spans) == 4 + 4
    assert covered_seconds([]) == 0.0


def store_done_run(folder: Path, name: str = "before", num_done: int | None = None) -> int:
    """Store a run of ReST^EM in a work folder whose phases, or the first of them, are done."""
    folder.mkdir()
    database = Database(f"sqlite:///{folder / 'run.db'}")
    database.create_tables()
    run_id = store_run(database, name, num_done)
    database.close()
    return run_id


def store_run(database: Database, name: str, num_done: int | None = None) -> int:
    """Store a run of ReST^EM: 2 tokens and a request a tree and second. Of the phase after those
    that are done 3 trees have ended.
    """
    policy = ARGUMENTS[2]
    spec = RunSpec.model_validate({"policy": policy, "problems": ARGUMENTS[0], "method": "rest-em", "iterations": 2})
    sets, phases = problem_sets(spec), spec_plan(spec)
    num_done = len(phases) if num_done is None else num_done
    with database.transaction() as transaction:
        config = run_config(spec, {"base": ("policy", policy)}, sets)
        run_id = runs.create_run(transaction, name, spec.method, 0, config)
        runs.add_checkpoint(transaction, run_id, "base", "policy", policy, policy)
        for name, members in sets.items():
            runs.add_problems(transaction, run_id, name, members)
        runs.add_phases(transaction, run_id, phases)
        for place, row in enumerate(runs.phases_of(transaction, run_id)):
            result: dict[str, object] = {"num_steps": 10, "num_examples": 30, "seconds": 5.0}
            if place > num_done:
                break
            if row.kind == "search":
                problems = runs.problems_of(transaction, run_id, row.spec["problem_set"])
                problems = problems[:3] if place == num_done else problems
                tree = {"run_id": run_id, "phase_id": row.id, "seed": 0, "state": "labelled", "seconds": 1.0}
                spent = {"tokens": 2, "model_calls": 1, "nodes": 3}
                transaction.insert(TREES, [{**tree, **spent, "problem_id": problem.id} for problem in problems])
                result = {"trees": len(problems)}
            if place == num_done:
                break
            runs.set_phase(transaction, row.id, PhaseState.DONE, result=result)
            if row.kind == "gate":
                promotions.promote(transaction, runs.checkpoints_of(transaction, run_id)["base"], row.id)
            times = {"started_at": moment(10 * place), "finished_at": moment(10 * place + 10)}
            transaction.execute(update(PHASES).where(PHASES.c.id == row.id).values(**times))
        if num_done == len(phases):
            runs.finish_run(transaction, run_id, RunState.DONE)
    return run_id


def test_a_done_run_says_what_its_phases_took(tmp_path: Path) -> None:
    run_id = store_done_run(tmp_path / "work")
    database = Database(f"sqlite:///{tmp_path / 'work' / 'run.db'}")
    with database.transaction() as transaction:
        work = run_work(transaction, run_id)
        num_trees = len(transaction.execute(select(TREES.c.id)).all())
    database.close()
    assert sum(search.num_trees for search in work.searches) == num_trees
    assert sum(search.seconds for search in work.searches) == pytest.approx(10.0 * len(work.searches))
    training, _ = work.trainings
    assert (training.step_seconds, training.other_seconds) == (0.5, 5.0)
    assert training.step_examples == 8, "as many as its batch holds"


def test_what_a_training_does_before_and_after_its_steps_is_no_step(tmp_path: Path) -> None:
    run_id = store_done_run(tmp_path / "work")
    database = Database(f"sqlite:///{tmp_path / 'work' / 'run.db'}")
    result = {"num_steps": 10, "num_examples": 30, "seconds": 5.0}
    with database.transaction() as transaction:
        trained = PHASES.c.kind == "train-policy"
        transaction.execute(update(PHASES).where(trained).values(result={**result, "step_seconds": 0.2}))
        trainings = run_work(transaction, run_id).trainings
    database.close()
    assert {(one.step_seconds, one.other_seconds) for one in trainings} == {(0.2, 8.0)}


def forecast_in(folder: Path, *more: str) -> dict[str, object]:
    arguments = ["selftrain", *ARGUMENTS, "--workdir", str(folder), "--dry-run", "--json", *more]
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 0, found.exception
    return dict(json.loads(found.stdout))


def test_a_run_like_one_that_is_done_is_forecast_from_it_and_nothing_is_stored(tmp_path: Path) -> None:
    store_done_run(tmp_path / "work")
    before = (tmp_path / "work" / "run.db").read_bytes()
    found = forecast_in(tmp_path / "work")
    assert found["source"] == "earlier runs"
    assert "the run before, done with the same policy" in str(found["basis"])
    assert found["not_measured"] == []
    trees = sum(phase["num_trees"] for phase in found["phases"])  # type: ignore[attr-defined]
    assert found["tokens"] == pytest.approx({"low": 1.8 * trees, "expected": 2.0 * trees, "high": 2.2 * trees})
    assert found["memory_bytes"] is None, "a server has the policy"
    assert (tmp_path / "work" / "run.db").read_bytes() == before
    assert {path.name for path in (tmp_path / "work").iterdir()} <= {"run.db", "artifacts"}


def test_a_forecast_is_a_table_and_sentences_with_source_and_range(tmp_path: Path) -> None:
    store_done_run(tmp_path / "work")
    typed = ["selftrain", *ARGUMENTS, "--workdir", str(tmp_path / "work"), "--dry-run", "--max-tokens", "20"]
    shown = CliRunner().invoke(app, typed).stdout
    assert "tokens generated" in shown
    assert "that of time is a factor of 1.3" in shown
    assert "The run will pause at its 20 tokens" in shown


def asked(*typed: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in typed])


def test_of_a_run_that_has_begun_what_is_left_is_forecast_from_what_it_has_done(tmp_path: Path) -> None:
    """The first iteration is done, and 3 of the 36 trees of the second are: 2 tokens each."""
    work = tmp_path / "work"
    store_done_run(work, SELFTRAIN_RUN, num_done=len(FIRST_ITERATION))
    before = (work / "run.db").read_bytes()
    found = forecast_in(work)
    left = {phase["name"]: phase for phase in found["phases"]}  # type: ignore[attr-defined]
    assert list(left) == ["collect-2", "policy-2", "held-out-policy-2", "gate-policy-2"]
    assert (left["collect-2"]["num_trees"], left["held-out-policy-2"]["num_trees"]) == (36 - 3, 4)
    assert found["tokens"]["expected"] == 2 * (33 + 4)  # type: ignore[index]
    assert found["not_measured"] == []
    assert found["basis"] == f"what run {SELFTRAIN_RUN} has done"
    resumed = asked("runs", "resume", SELFTRAIN_RUN, "--workdir", work, "--dry-run", "--json")
    assert json.loads(resumed.stdout) == found
    assert (work / "run.db").read_bytes() == before


def test_a_run_that_is_extended_is_forecast_from_itself_once(tmp_path: Path) -> None:
    work = tmp_path / "work"
    store_done_run(work, "mine")
    typed = ("runs", "extend", "mine", "--iterations", 3, "--workdir", work, "--dry-run", "--json")
    assert json.loads(asked(*typed).stdout)["basis"] == "what run mine has done"
    database = Database(f"sqlite:///{work / 'run.db'}")
    store_run(database, "other")
    database.close()
    basis = json.loads(asked(*typed).stdout)["basis"]
    assert basis == "what run mine has done and the run other, done with the same policy"


def test_what_is_left_of_a_budget_is_what_was_not_spent(tmp_path: Path) -> None:
    work = tmp_path / "work"
    store_done_run(work, "mine", num_done=len(FIRST_ITERATION))
    spent = 2 * (4 + 36 + 4 + 3)
    typed = ["runs", "resume", "mine", "--workdir", work, "--dry-run", "--max-tokens", spent + 10]
    found = json.loads(asked(*typed, "--json").stdout)
    assert (found["tokens_spent"], found["tokens"]["high"]) == (spent, 10)
    shown = " ".join(asked(*typed).stdout.split())
    assert "Of run mine, 6 of 10 phases and 47 trees are done; the forecast is what is left." in shown
    assert f"pause at its {spent + 10} tokens, of which {spent} are spent: it wants about 74 more" in shown


@pytest.mark.parametrize("typed", [["selftrain", *ARGUMENTS], ["runs", "resume", SELFTRAIN_RUN]])
def test_of_a_run_that_is_finished_nothing_is_left(tmp_path: Path, typed: list[str]) -> None:
    work = tmp_path / "work"
    store_done_run(work, SELFTRAIN_RUN)
    shown = asked(*typed, "--workdir", work, "--dry-run")
    assert " ".join(shown.stdout.split()) == f"• Nothing is left: run {SELFTRAIN_RUN} is finished."
    document = json.loads(asked(*typed, "--workdir", work, "--dry-run", "--json").stdout)
    assert (document["phases"], document["seconds"]["high"]) == ([], 0.0)


def test_a_forecast_refuses_what_the_run_itself_would_refuse(tmp_path: Path) -> None:
    work = tmp_path / "work"
    store_done_run(work, SELFTRAIN_RUN)
    other = asked("selftrain", *ARGUMENTS, "--workdir", work, "--dry-run", "--seed", "5")
    assert "seed (0 -> 5)" in str(other.exception)
    named = asked("runs", "create", SELFTRAIN_RUN, *ARGUMENTS, "--workdir", work, "--dry-run")
    assert f"`restmcts runs resume {SELFTRAIN_RUN} --workdir {work} --dry-run` forecasts" in str(named.exception)


def test_a_node_takes_as_much_of_a_small_database_as_of_a_large_one(
    tmp_path: Path, search_folder: Callable[..., int]
) -> None:
    """A probe has a few problems; tables and indexes without rows take a page each."""
    phase = SearchPhase(
        "collect-1", 1, "collect", "train", "base", "value-0", MctsStarSettings(mode="collect"), Budget(iterations=4)
    )
    sizes = {}
    for number in (2, 60):
        folder = tmp_path / str(number)
        folder.mkdir()
        search_folder(
            folder, "run", [Problem(f"{one}", RIGHT_ANSWER) for one in range(number)], [phase], RandomModels()
        )
        database = Database(f"sqlite:///{folder / 'run.db'}", read_only=True)
        with database.transaction() as transaction:
            sizes[number] = bytes_a_node(transaction) or 0.0
        database.close()
    assert sizes[60] / 2 < sizes[2] < sizes[60] * 2
