"""The rows of training data, from labelled trees and given solutions.

Rows come in order of tree and node, so the same trees give the same bytes.
"""

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
from restmcts.adapters.files.dataset_shards import POLICY_SCHEMA, PREFERENCE_SCHEMA, VALUE_SCHEMA, write_shards
from restmcts.adapters.sql.database import Database, Transaction
from restmcts.adapters.sql.rows import JsonObject
from restmcts.adapters.sql.state import runs, trees, truth_ledger
from restmcts.domain.labels.corruption import corrupted_values
from restmcts.domain.labels.filtering import (
    PairFilter,
    StepPair,
    right_traces,
    select_traces,
    solution_pairs,
    step_pairs,
    value_paths,
)
from restmcts.domain.labels.inferred import StepLabel
from restmcts.domain.learning.learner import LearnableTree, LearningPath
from restmcts.domain.learning.losses import PreferenceLoss
from restmcts.domain.requests import derive_seed
from restmcts.domain.runs.phases import SEARCH_PHASE, TRAINING_PHASE, TrainPolicyPhase, TrainValuePhase
from restmcts.domain.search.tool_calls import observed_places
from restmcts.domain.tasks.task import TASKS
from restmcts.domain.tree import Tree
from restmcts.domain.truth.ledger import quarantined_by
from restmcts.ports import Artifact, ArtifactStore


def write_dataset(
    database: Database, artifacts: ArtifactStore, run_id: int, phase: TrainPolicyPhase | TrainValuePhase
) -> tuple[Artifact, JsonObject]:
    """Write a phase's data; return the artifact and its card (counts, label histogram, filter,
    sources).
    """
    card: JsonObject = {
        "kind": phase.kind,
        "objective": phase.objective,
        "phase": phase.name,
        "sources": list(phase.sources),
    }
    spec = TRAINING_PHASE.dump_python(phase, mode="json")
    if isinstance(phase, TrainPolicyPhase) and phase.objective == "dpo":
        card |= {"filter": spec["pairs"]}
    elif isinstance(phase, TrainPolicyPhase):
        card |= {"filter": spec["traces"], "learner": spec["learner"], "solutions_of": phase.solutions_of}
    rows, schema = phase_rows(database, run_id, phase)
    with tempfile.TemporaryDirectory() as folder:
        card = write_shards(rows, schema, card, Path(folder))
        return artifacts.put(Path(folder), "datasets", {"run_id": run_id, "phase": phase.name}), card


def phase_rows(
    database: Database, run_id: int, phase: TrainPolicyPhase | TrainValuePhase
) -> tuple[Iterator[JsonObject], pa.Schema]:
    """Return the rows of a phase's data, made of a run's trees as they are labelled now, with their
    schema.
    """
    if isinstance(phase, TrainValuePhase):
        return _value_rows(database, run_id, phase), VALUE_SCHEMA
    if phase.objective == "dpo":
        return _preference_rows(database, run_id, phase), PREFERENCE_SCHEMA
    return _policy_rows(database, run_id, phase), POLICY_SCHEMA


def _policy_rows(database: Database, run_id: int, phase: TrainPolicyPhase) -> Iterator[JsonObject]:
    if phase.solutions_of is not None:
        with database.transaction() as transaction:
            problems = runs.problems_of_round(transaction, run_id, phase.solutions_of, phase.round)
        for problem in problems:
            if problem.solution:
                observed = _observed(phase, problem.kind, problem.solution)
                yield _policy_row(problem.id, problem.question, _given(problem.solution, observed), None)
    in_pairs = isinstance(phase.learner.loss, PreferenceLoss)
    paths = _learning_paths(database, run_id, phase)
    for number, (row, path) in enumerate(paths):
        yield _policy_row(row.id, row.question, path, row.tree_id) | {"pair": number // 2 if in_pairs else None}


def _trees_of(
    transaction: Transaction, run_id: int, phase: TrainPolicyPhase | TrainValuePhase
) -> Iterator[list[runs.LabelledTree]]:
    """Yield the trees that a phase learns from, in batches, without those of quarantined problems:
    whose answer, accepted as true without being known, was another one before.
    """
    entries = truth_ledger.entries_of(transaction, run_id)
    quarantined = quarantined_by(entries, phase.iteration)
    for batch in runs.labelled_trees(transaction, run_id, phase.sources):
        yield [row for row in batch if row.digest not in quarantined] if quarantined else batch


def _learning_paths(
    database: Database, run_id: int, phase: TrainPolicyPhase
) -> Iterator[tuple[runs.LabelledTree, LearningPath]]:
    """Yield what the phase's learner makes of its trees. Where several sources have a tree of one
    problem, the traces that are kept are those of the problem, none of them twice.
    """
    kept: dict[int, set[tuple[str, ...]]] = defaultdict(set)
    with database.transaction() as transaction:
        searches = {row.name: row.spec for row in runs.phases_of(transaction, run_id) if row.name in phase.sources}
        sampled = {name: SEARCH_PHASE.validate_python(spec).search.samples_branches for name, spec in searches.items()}
        for batch in _trees_of(transaction, run_id, phase):
            loaded = trees.load_trees(transaction, [row.tree_id for row in batch])
            labels, scores = trees.load_labels(transaction, loaded), trees.load_scores(transaction, loaded)
            for row in batch:
                tree, verdicts = loaded[row.tree_id], labels[row.tree_id][0]
                fresh = [trace for trace in right_traces(tree, verdicts) if trace.steps not in kept[row.id]]
                most = phase.traces.top_k
                traces = select_traces(fresh, phase.traces)[: None if most is None else most - len(kept[row.id])]
                kept[row.id] |= {trace.steps for trace in traces}
                found = LearnableTree.of(
                    tree, verdicts, traces, samples_branches=sampled[row.phase], scores=scores[row.tree_id]
                )
                for path in phase.learner.paths(found):
                    yield row, path


def _observed(phase: TrainPolicyPhase | TrainValuePhase, kind: str, solution: Sequence[str]) -> Set[int]:
    """Return which places of a given solution hold answers of tools."""
    if not phase.calls_tools:
        return set()
    task = TASKS.get(kind)
    return observed_places(solution, lambda step: task.calls(step) and not task.ends(step))


def _given(solution: Sequence[str], observed: Set[int]) -> LearningPath:
    """Return the path of a given solution, which no policy wrote; observations are not learned."""
    every = (None,) * len(solution)
    weights = tuple(None if place in observed else 1.0 for place in range(len(solution)))
    return LearningPath(0, tuple(solution), weights, every, (0,) * len(solution), every, finished=True)


def _policy_row(problem_id: int, question: str, path: LearningPath, tree_id: int | None) -> JsonObject:
    lineage = {"problem_id": problem_id, "tree_id": tree_id, "node_id": path.node_id if tree_id is not None else None}
    return {"question": question, **asdict(path), **lineage}


def _preference_rows(database: Database, run_id: int, phase: TrainPolicyPhase) -> Iterator[JsonObject]:
    with database.transaction() as transaction:
        for batch in _trees_of(transaction, run_id, phase):
            loaded = trees.load_trees(transaction, [row.tree_id for row in batch])
            labels = trees.load_labels(transaction, loaded)
            for row in batch:
                tree = loaded[row.tree_id]
                for pair in _pairs(tree, labels[row.tree_id][1], phase.pairs):
                    yield {
                        "question": row.question,
                        "steps": list(pair.steps),
                        "chosen": list(tree.steps_to(pair.chosen)[len(pair.steps) :]),
                        "rejected": list(tree.steps_to(pair.rejected)[len(pair.steps) :]),
                        "chosen_finished": pair.chosen.final,
                        "rejected_finished": pair.rejected.final,
                        "chosen_value": pair.chosen_value,
                        "rejected_value": pair.rejected_value,
                        "problem_id": row.id,
                        "tree_id": row.tree_id,
                        "node_id": pair.chosen.node_id,
                        "rejected_node_id": pair.rejected.node_id,
                    }


def _pairs(tree: Tree, labels: Mapping[int, StepLabel], criteria: PairFilter) -> list[StepPair]:
    return solution_pairs(tree, criteria) if criteria.between == "solutions" else step_pairs(tree, labels, criteria)


def _value_rows(database: Database, run_id: int, phase: TrainValuePhase) -> Iterator[JsonObject]:
    """Yield paths with targets; none of trees if the policy itself solved nothing, for then its
    attempts cannot be distinguished.
    """
    if phase.solutions_of is not None:
        yield from _solution_rows(database, run_id, phase, phase.solutions_of)
    with database.transaction() as transaction:
        batches = list(_trees_of(transaction, run_id, phase))
        if not any(row.solved for batch in batches for row in batch):
            return
        for batch in batches:
            loaded = trees.load_trees(transaction, [row.tree_id for row in batch])
            labels = trees.load_labels(transaction, loaded)
            for row in batch:
                for path in value_paths(loaded[row.tree_id], labels[row.tree_id][1]):
                    yield {
                        "question": row.question,
                        "steps": list(path.steps),
                        "targets": list(path.targets),
                        "leads_to_right": list(path.leads_to_right),
                        "finished": path.finished,
                        "problem_id": row.id,
                        "tree_id": row.tree_id,
                        "node_id": path.node_id,
                    }


def _solution_rows(database: Database, run_id: int, phase: TrainValuePhase, problem_set: str) -> Iterator[JsonObject]:
    with database.transaction() as transaction:
        problems = runs.problems_of(transaction, run_id, problem_set)
    for problem in problems:
        solution = problem.solution or ()
        observed = _observed(phase, problem.kind, solution)
        for valued in corrupted_values(solution, derive_seed(phase.training.seed, problem.position), observed):
            yield {
                "question": problem.question,
                "steps": list(valued.steps),
                "targets": list(valued.targets),
                "leads_to_right": list(valued.leads_to_right),
                "finished": len(valued.steps) == len(solution) and valued.leads_to_right[-1] is not None,
                "problem_id": problem.id,
                "tree_id": None,
                "node_id": None,
            }
