"""Self-training under a judge given as the value model: in one process, and in the prm-scorer
service.
"""

import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from restmcts.adapters.files.dataset_shards import read_rows
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import blocks, runs, trees
from restmcts.adapters.sql.tables import PhaseState
from restmcts.domain.problems import Problem
from restmcts.domain.requests import GenerationSettings
from restmcts.domain.runs.plans import self_training_plan
from restmcts.domain.runs.self_training import SelfTraining
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.domain.search.protocol import Budget
from restmcts.domain.tasks import number_paths
from restmcts.domain.tasks.number_paths import SetSizes, make_problem_sets
from restmcts.testing.policy_servers import PolicyServer, judge_log_probs
from restmcts.testing.prm_models import build_judge
from restmcts.testing.runs import await_end
from restmcts.usecases.create import NewCheckpoint, NewRun, create_run
from restmcts_cli.arguments.model_sources import checkpoint_argument
from restmcts_cli.processes.stack_processes import Stack
from restmcts_local.local_run import LocalRun, ModelOptions

POLICY = f"{number_paths.KIND}:0"
TRAINING = TrainingSettings(num_steps=2, batch_size=4, learning_rate=1e-4)
LOOP = SelfTraining(
    num_iterations=1,
    train_sets=("train",),
    bootstrap_set="train",
    method="self-rewarding",
    budget=Budget(tokens=400),
    generation=GenerationSettings(temperature=1.0, max_step_tokens=12, max_solution_tokens=64),
    given_value=True,
    policy_training=TRAINING,
)


@pytest.fixture
def server() -> Iterator[PolicyServer]:
    with PolicyServer(
        model="judge", log_probs_of=partial(judge_log_probs, vocabulary=("yes.", "Yes,", "no.", "maybe "))
    ) as server:
        yield server


def problems() -> list[Problem]:
    sizes = SetSizes(demonstrations=1, iterations=1, searched=8, test=1, validation=1)
    return list(make_problem_sets(random.Random(0), sizes).searched[0])


def check_collected(database: Database, run_id: int) -> None:
    """See that the run is done, and that every step of what it collected has the judge's value."""
    with database.transaction() as transaction:
        assert {row.state for row in runs.phases_of(transaction, run_id)} == {PhaseState.DONE}
        ids = [row.tree_id for batch in runs.labelled_trees(transaction, run_id, ("collect-1",)) for row in batch]
        nodes = [node for tree in trees.load_trees(transaction, ids).values() for node in tree.nodes[1:]]
    assert len(ids) == len(problems()) and nodes
    assert all(node.model_value is not None for node in nodes)
    assert len({node.model_value for node in nodes}) > 1


@pytest.mark.parametrize("kind", ["here", "behind HTTP"])
def test_a_policy_learns_what_a_judge_prefers_in_one_process(
    kind: str, server: PolicyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "MAX_PAUSE_SECONDS", 0.05)
    monkeypatch.setenv("RESTMCTS_POLICY_RETRY_SECONDS", "0.1")
    # A server that is down for a while: the queue waits.
    server.faults = ["503"] * 40
    build_judge(tmp_path / "judge")
    judge = f"{tmp_path / 'judge'}?format=judge" if kind == "here" else server.uri("openai", "&format=judge")
    models = {"base": ("policy", POLICY), "value-0": ("value", checkpoint_argument(judge, "value", False))}
    with LocalRun(tmp_path / "work", ModelOptions(num_training_threads=1, keep_training_logs=False)) as run:
        run_id = run.create("judged", "self-rewarding", 0, {}, {"train": problems()}, models, self_training_plan(LOOP))
        run.run(run_id)
        check_collected(run.database, run_id)
        with run.database.transaction() as transaction:
            phase = next(row for row in runs.phases_of(transaction, run_id) if row.name == "policy-1")
            rows = read_rows(run.artifacts.fetch(runs.dataset_of(transaction, phase.id).uri))
    assert rows and phase.result["trained"]
    assert kind == "here" or not server.faults


def test_the_prm_scorer_service_asks_a_judge(server: PolicyServer, stack: Stack, database: Database) -> None:
    judge = server.uri("chat", "&format=judge")
    with database.transaction() as transaction:
        models = {"base": NewCheckpoint("policy", POLICY), "value-0": NewCheckpoint("value", judge)}
        plan, sets = self_training_plan(LOOP), {"train": problems()}
        new = NewRun("judged", "self-rewarding", 0, plan, problems=sets, checkpoints=models)
        run_id = create_run(transaction, new).run_id
    assert await_end(database, run_id, 150) == "done"
    check_collected(database, run_id)
    assert server.bodies
