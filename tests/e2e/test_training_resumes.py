"""A trainer killed at random steps ends with the weights of one that was not; a cancelled one
ends at once.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from restmcts.adapters.files.dataset_shards import POLICY_SCHEMA, VALUE_SCHEMA, write_shards
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import runs
from restmcts.adapters.sql.tables import PhaseState, RunState
from restmcts.adapters.storage.folder_store import FolderArtifactStore
from restmcts.domain.learning.decisive import DecisiveLearner
from restmcts.domain.runs.phases import Phase, TrainPolicyPhase, TrainValuePhase
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.domain.tasks.number_paths import SetSizes, make_problem_sets
from restmcts.modeling.policy.number_paths_tokenizer import make_number_paths_tokenizer
from restmcts.modeling.training.training import initialise_policy
from safetensors.torch import load_file
from transformers import LlamaConfig

SEED = 11
NUM_STEPS = 40
NUM_LONG_STEPS = 5000
SETTINGS = TrainingSettings(
    num_steps=NUM_STEPS,
    batch_size=8,
    gradient_accumulation=2,
    learning_rate=3e-3,
    optimizer="muon",
    save_seconds=0.0,
    seed=SEED,
)
POLICY = TrainPolicyPhase("policy-1", 1, "base", SETTINGS)
DECISIVE = TrainPolicyPhase("policy-2", 1, "base", SETTINGS, learner=DecisiveLearner())
VALUE = TrainValuePhase(
    "value-1", 1, None, "base", replace(SETTINGS, validation_share=0.3, evaluate_steps=5, patience=8), objective="soft"
)
NUM_KILLS = {"policy": 3, "decisive": 1, "value": 1}
PHASES: dict[str, TrainPolicyPhase | TrainValuePhase] = {"policy": POLICY, "decisive": DECISIVE, "value": VALUE}


def base(folder: Path) -> Path:
    """Make a tiny Llama with dropout, so that the state of the random numbers matters."""
    tokenizer = make_number_paths_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=64,
        attention_dropout=0.1,
        max_position_embeddings=128,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    initialise_policy(config, tokenizer, folder, SEED, template="raw")
    return folder


def rows(phase: Phase) -> Iterator[dict[str, Any]]:
    sets = make_problem_sets(
        random.Random(SEED), SetSizes(demonstrations=120, iterations=1, searched=1, test=1, validation=0)
    )
    for number, problem in enumerate(sets.demonstrations):
        steps = list(problem.solution or ())
        row = {"question": problem.question, "steps": steps, "problem_id": number, "tree_id": None, "node_id": None}
        if phase.kind == "train-policy":
            weights = [1.0] * len(steps) if number % 3 else [*[None] * (len(steps) - 1), -0.3]
            yield {**row, "model_value": 0.0, "weights": weights, "finished": number % 3 > 0}
        else:
            yield {
                **row,
                "targets": [(k + 1) / len(steps) for k in range(len(steps))],
                "leads_to_right": [(number + k) % 3 > 0 for k in range(len(steps))],
                "finished": True,
            }


def prepare(folder: Path, *phases: TrainPolicyPhase | TrainValuePhase) -> Database:
    """Make a run whose phases wait for a trainer; their ids are 1, 2, ..."""
    folder.mkdir()
    artifacts = FolderArtifactStore(folder / "artifacts")
    database = Database(f"sqlite:///{folder / 'run.db'}")
    database.create_tables()
    model = artifacts.put(base(folder / "base"), "checkpoints", {})
    with database.transaction() as transaction:
        run_id = runs.create_run(transaction, "run", "rest-mcts", SEED, {})
        runs.add_checkpoint(transaction, run_id, "base", "policy", model.uri, model.digest)
        runs.add_phases(transaction, run_id, phases)
        for phase_id, phase in enumerate(phases, start=1):
            made = folder / f"data-{phase_id}"
            made.mkdir()
            schema = POLICY_SCHEMA if phase.kind == "train-policy" else VALUE_SCHEMA
            card = write_shards(rows(phase), schema, {}, made)
            data = artifacts.put(made, "datasets", {})
            runs.add_dataset(transaction, phase_id, phase.kind, data.uri, data.digest, card)
            runs.set_phase(transaction, phase_id, PhaseState.TRAINING)
    return database


def start(folder: Path, num_phases: int = 1) -> "subprocess.Popen[str]":
    """Start a trainer that ends with the last of so many phases."""
    program, ids = Path(__file__).with_name("trainer_process.py"), map(str, range(1, num_phases + 1))
    return subprocess.Popen([sys.executable, str(program), str(folder), *ids], stdout=subprocess.PIPE, text=True)


def wait_for_step(trainer: "subprocess.Popen[str]", step: int) -> tuple[int, int]:
    """Return the first step of all that the trainer reports, and the first that is at least
    `step`.
    """
    assert trainer.stdout is not None
    first = None
    for line in trainer.stdout:
        if line.strip().isdigit():
            first = first or int(line)
            if int(line) >= step:
                return first, int(line)
    raise AssertionError(f"the trainer ended before step {step}")


def saved(database: Database) -> tuple[str, int]:
    """Return the state that the job's row names, and its step."""
    with database.transaction() as transaction:
        row: Any = runs.phase_by_id(transaction, 1)
    return row.result["saved"], row.result["saved_step"]


def state_name(uri: str) -> str:
    return uri.rpartition("/")[2]


def states(folder: Path) -> set[str]:
    return {path.name for path in (folder / "artifacts" / "training-states").glob("[!.]*")}


def finish(trainer: "subprocess.Popen[str]") -> list[int]:
    """Wait for a trainer's end; return the steps it told."""
    out, _ = trainer.communicate(timeout=240)
    assert trainer.returncode == 0
    return [int(line) for line in out.splitlines() if line.isdigit()]


def outcome(database: Database, folder: Path, phase_id: int = 1) -> tuple[dict[str, torch.Tensor], Any]:
    with database.transaction() as transaction:
        row = runs.phase_by_id(transaction, phase_id)
        assert row is not None and row.state == PhaseState.DONE, row
        checkpoint = runs.checkpoints_of(transaction, 1)[row.name]
    return load_file(FolderArtifactStore(folder / "artifacts").fetch(checkpoint.uri) / "model.safetensors"), row.result


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict[str, torch.Tensor], Any]]:
    """The weights and the report of every training that nobody kills, one after the other."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    database = prepare(folder, *PHASES.values())
    assert finish(start(folder, len(PHASES))).count(1) == len(PHASES)
    assert states(folder) == set(), "a finished job needs no saved state"
    return {name: outcome(database, folder, phase_id) for phase_id, name in enumerate(PHASES, start=1)}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", PHASES)
def test_a_trainer_killed_at_random_steps_ends_with_the_same_weights(
    name: str, undisturbed: dict[str, tuple[dict[str, torch.Tensor], Any]], tmp_path: Path
) -> None:
    wanted, report = undisturbed[name]
    killed = prepare(tmp_path / "killed", PHASES[name])
    generator = random.Random(SEED)
    saved_step, cut_off = 0, set[str]()
    for _ in range(NUM_KILLS[name]):
        trainer = start(tmp_path / "killed")
        first, reached = wait_for_step(trainer, saved_step + generator.randint(2, 9))
        assert first == saved_step + 1, "it goes on from what was saved last"
        os.kill(trainer.pid, signal.SIGKILL)
        trainer.communicate()
        saved_uri, saved_step = saved(killed)
        assert saved_step >= reached - 1, "every step is saved before the next one is told of"
        found = states(tmp_path / "killed")
        assert state_name(saved_uri) in found
        cut_off |= found - {state_name(saved_uri)}
    steps = finish(start(tmp_path / "killed"))
    assert steps[0] == saved_step + 1, "it goes on from what was saved last"
    got, killed_report = outcome(killed, tmp_path / "killed")
    assert got.keys() == wanted.keys()
    assert max(float((got[name] - wanted[name]).abs().max()) for name in wanted) <= 1e-6
    assert killed_report["num_steps"] == report["num_steps"]
    # A kill between a state's storing and its row leaves a state that nobody knows.
    assert states(tmp_path / "killed") <= cut_off, "what a row named is removed"
    assert list(FolderArtifactStore(tmp_path / "killed" / "artifacts").fetch(killed_report["log"]).glob("events*"))


def test_a_cancelled_run_ends_its_training_at_once_and_keeps_what_was_saved(tmp_path: Path) -> None:
    database = prepare(tmp_path / "run", replace(POLICY, training=replace(SETTINGS, num_steps=NUM_LONG_STEPS)))
    trainer = start(tmp_path / "run")
    wait_for_step(trainer, 100)
    with database.transaction() as transaction:
        runs.finish_run(transaction, 1, RunState.CANCELLED)
    deadline = time.monotonic() + 30.0
    while lease_of(database) is not None:
        assert time.monotonic() < deadline, "the training goes on"
        time.sleep(0.1)
    uri, step = saved(database)
    assert 99 <= step < NUM_LONG_STEPS - 1
    time.sleep(1.0)
    assert saved(database) == (uri, step), "nothing is trained after the job was left"
    trainer.kill()
    trainer.communicate()
    assert state_name(uri) in states(tmp_path / "run")


def lease_of(database: Database) -> object:
    with database.transaction() as transaction:
        row: Any = runs.phase_by_id(transaction, 1)
    assert row.state == PhaseState.TRAINING
    return row.lease_until
