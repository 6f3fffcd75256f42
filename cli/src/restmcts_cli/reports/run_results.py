"""What a stored run came to, as a `Report`: read from the database, computed nowhere else."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from restmcts.adapters.sql.database import Database, Transaction
from restmcts.adapters.sql.reads import queries
from restmcts.adapters.sql.reads.end_quality import value_quality
from restmcts.adapters.sql.reads.run_times import run_times
from restmcts.adapters.sql.reads.tree_counts import share_solved, tree_counts
from restmcts.adapters.sql.reads.truth import read_truth, unchecked_runs
from restmcts.adapters.sql.rows import StoredPhase
from restmcts.adapters.sql.state import archived_trees, runs, trees, truth_ledger
from restmcts.adapters.sql.state.requests import PROBLEMS
from restmcts.adapters.sql.state.trees import PHASES, TREES
from restmcts.adapters.sql.tables import NodeOrigin, PhaseState, RunState, TreeState
from restmcts.domain.learning.estimates import VerifiedStep, decisive_steps
from restmcts.domain.problems import Verdict
from restmcts.domain.provenance import Start, with_start
from restmcts.domain.runs.phases import SEARCH_PHASE
from restmcts.domain.stats.estimates import Estimate, Figure
from restmcts.domain.truth.ledger import summarise_truth, why_stop
from restmcts.domain.truth.truth_settings import TruthSettings
from restmcts.reporting.run_origins import RunOrigin
from restmcts.reporting.tree_pictures import DrawnNode, DrawnTree
from restmcts.reporting.truth import MARK, mark_of, truth_in_words
from restmcts.reporting.value_warnings import EndedPhase, end_warnings, value_warnings
from sqlalchemy import Column, select

from restmcts_cli.reports.run_report_data import AnsweredProblem, GivenAnswer, IterationResult, SearchResult


def iteration_results(database: Database, run_id: int) -> tuple[IterationResult, ...]:
    """Return what each iteration that took place did and reached, from 0."""
    with database.transaction() as transaction:
        phases = {row.name: row for row in runs.phases_of(transaction, run_id)}
        last = max((row.iteration for row in phases.values() if row.state == PhaseState.DONE), default=0)
        return tuple(_iteration(transaction, phases, iteration) for iteration in range(last + 1))


def _iteration(transaction: Transaction, phases: dict[str, StoredPhase], iteration: int) -> IterationResult:
    collected = _collected(phases, iteration)
    trained = {kind: _of_rounds(phases, f"{kind}-{iteration}") for kind in ("policy", "value")}
    untrained = {"the policy": _why_untrained(trained["policy"]), "the value model": _why_untrained(trained["value"])}
    graded = phases.get(f"grade-policy-{iteration}") or (phases.get("grade-base") if iteration == 0 else None)
    return IterationResult(
        iteration=iteration,
        num_trees=sum(row.result["trees"] for row in collected),
        num_solved=sum(row.result["solved"] for row in collected),
        num_tokens=sum(row.result.get("tokens", 0) for row in phases.values() if _collects(row, iteration)),
        num_policy_samples=sum(row.result.get("num_examples", 0) for row in trained["policy"]),
        num_value_samples=sum(row.result.get("num_targets", 0) for row in trained["value"]),
        untrained={model: why for model, why in untrained.items() if why is not None},
        greedy=outcome(transaction, graded),
        control=outcome(transaction, phases.get(f"grade-control-{iteration}")),
    )


def _of_rounds(phases: dict[str, StoredPhase], name: str) -> list[StoredPhase]:
    """Return an iteration's phase of a name, or that of each of its rounds."""
    return [row for row in phases.values() if row.name == name or row.name.startswith(f"{name}.")]


def _collected(phases: dict[str, StoredPhase], iteration: int) -> list[StoredPhase]:
    return [row for row in _of_rounds(phases, f"collect-{iteration}") if row.state == PhaseState.DONE]


def _why_untrained(planned: Sequence[StoredPhase]) -> str | None:
    """Return why none of an iteration's trainings of a model took place; None if one did, or none
    was planned.
    """
    if not planned or any(row.result.get("trained") for row in planned):
        return None
    return str(planned[-1].result.get("reason") or f"{planned[-1].name} is still {planned[-1].state}")


def _collects(row: StoredPhase, iteration: int) -> bool:
    is_of = row.iteration == iteration and row.spec.get("purpose") == "collect"
    return is_of and row.state == PhaseState.DONE


def run_origin(database: Database, run_id: int) -> RunOrigin:
    """Return where a run comes from."""
    with database.transaction() as transaction:
        row = queries.run_by_id(transaction, run_id)
        return RunOrigin(row, run_times(transaction, [run_id])[run_id].started, database.place)


def run_seconds(database: Database, run_id: int) -> float:
    """Return how long a run took from its start to its end, or to its last change if it has not
    ended; 0 if it has not started.
    """
    with database.transaction() as transaction:
        return run_times(transaction, [run_id])[run_id].seconds() or 0.0


def common_origin(database: Database, run_ids: Sequence[int]) -> RunOrigin:
    """Return where runs that were made together come from: the settings of the first one, what any
    of them was started with, and the time from the first start to the last end.
    """
    with database.transaction() as transaction:
        rows = [queries.run_by_id(transaction, run_id) for run_id in run_ids]
        started = [run_times(transaction, [run_id])[run_id].started for run_id in run_ids]
    ends = [row.finished_at for row in rows if row.finished_at is not None]
    found: list[dict[str, Any]] = []
    for one in sorted((one for row in rows for one in row.provenance or ()), key=lambda one: str(one["when"])):
        found = with_start(found, Start(one["command"], one["versions"], one["machine"]), one["when"])
    whole = replace(rows[0], provenance=found or None, finished_at=max(ends) if len(ends) == len(rows) else None)
    return RunOrigin(whole, min((one for one in started if one is not None), default=None))


def outcome(transaction: Transaction, phase: StoredPhase | None) -> Figure | None:
    """Return the accuracy of an evaluation phase, problem by problem in their order; None if it is
    not done, or no tree of it was searched without a failure.
    """
    return _of_trees(transaction, phase, TREES.c.verdict, Verdict.RIGHT)


def _of_trees(transaction: Transaction, phase: StoredPhase | None, column: Column[Any], right: object) -> Figure | None:
    if phase is None or phase.state != PhaseState.DONE:
        return None
    statement = (
        select(column)
        .join(PROBLEMS, PROBLEMS.c.id == TREES.c.problem_id)
        .where(TREES.c.phase_id == phase.id)
        .order_by(PROBLEMS.c.position)
    )
    found = list(transaction.execute(statement).scalars())
    return Figure.of([one == right for one in found]) if any(one is not None for one in found) else None


def phase_solved(database: Database, run_id: int, name: str) -> Figure | None:
    """Return for how many problems of a phase any leaf is right, problem by problem in their order;
    None if there is no such phase, or it is not done.
    """
    with database.transaction() as transaction:
        phase = next((row for row in runs.phases_of(transaction, run_id) if row.name == name), None)
        return _of_trees(transaction, phase, TREES.c.solved, True)


def collected_solved(database: Database, run_id: int) -> Estimate | None:
    """Return the share of the trees of all iterations (`IterationResult.num_trees`) that have a
    right end, its error over problems; None if there is none.
    """
    with database.transaction() as transaction:
        phases = {row.name: row for row in runs.phases_of(transaction, run_id)}
        last = max((row.iteration for row in phases.values()), default=0)
        rows = [row for iteration in range(last + 1) for row in _collected(phases, iteration)]
        return share_solved(transaction, TREES.c.phase_id.in_([row.id for row in rows]))


def iteration_tokens(database: Database, run_id: int, iteration: int) -> float:
    """Return the tokens generated for training data in an iteration, a problem of those that it
    searched; in iteration 0 those that the first value model cost.
    """
    with database.transaction() as transaction:
        rows = [
            row
            for row in runs.phases_of(transaction, run_id)
            if row.iteration == iteration and row.state == PhaseState.DONE
        ]
    trained_on = [row for row in rows if row.spec.get("purpose") in ("bootstrap", "collect")]
    num_problems: Counter[str] = Counter()
    for row in trained_on:
        num_problems[row.name.partition(".")[0]] += row.result["trees"]
    return float(sum(row.result["tokens"] for row in trained_on)) / max([1, *num_problems.values()])


def gates_of(database: Database, run_id: int) -> tuple[dict[str, Any], ...]:
    """Return what each decided promotion of a run says, in order, with its "gate", "model" and
    "iteration".
    """
    with database.transaction() as transaction:
        rows = [
            row for row in runs.phases_of(transaction, run_id) if row.kind == "gate" and row.state == PhaseState.DONE
        ]
    return tuple(
        {"gate": row.name, "model": row.spec["model"], "iteration": row.iteration, **row.result} for row in rows
    )


def search_results(database: Database, run_id: int, names: Sequence[tuple[str, str]]) -> tuple[SearchResult, ...]:
    """Return the accuracy and cost of evaluation phases; `names` pairs each phase with the
    method's name for readers.
    """
    results = []
    with database.transaction() as transaction:
        phases = {row.name: row for row in runs.phases_of(transaction, run_id)}
        counts = tree_counts(transaction, run_id)
        for name, method in names:
            row = phases.get(name)
            graded = outcome(transaction, row)
            if row is not None and graded is not None:
                phase = SEARCH_PHASE.validate_python(row.spec)
                mean_tokens = row.result["tokens"] / max(row.result["trees"], 1)
                most_tokens = counts[row.id].most_tokens
                results.append(SearchResult(method, phase.budget.tokens, mean_tokens, most_tokens, graded))
    return tuple(results)


def example_tree(database: Database, run_id: int, phase_name: str) -> DrawnTree | None:
    """Return a tree worth looking at: of the phase's trees with right and wrong leaves, the one
    with most nodes below 40; None if there is none, or they are archived.
    """
    with database.transaction() as transaction:
        phase = next((row for row in runs.phases_of(transaction, run_id) if row.name == phase_name), None)
        if phase is None or archived_trees.numbers_of(transaction, run_id) is not None:
            return None
        statement = (
            select(TREES.c.id, PROBLEMS.c.question)
            .join(PROBLEMS, PROBLEMS.c.id == TREES.c.problem_id)
            .where(TREES.c.phase_id == phase.id, TREES.c.nodes <= 40, TREES.c.state != TreeState.FAILED.value)
            .order_by(TREES.c.solved.desc(), TREES.c.nodes.desc(), TREES.c.id)
            .limit(1)
        )
        row = transaction.execute(statement).first()
        if row is None:
            return None
        return drawn_tree(transaction, row.id, row.question)


def drawn_tree(transaction: Transaction, tree_id: int, question: str) -> DrawnTree:
    """Return a stored tree as it is drawn."""
    rows = queries.tree_with_nodes(transaction, tree_id).nodes
    decisive = decisive_steps([VerifiedStep(row.node_id, row.parent_id, row.final, row.verdict) for row in rows])
    nodes = tuple(
        DrawnNode(
            row.step.strip("\n"),
            row.search_value,
            row.visits,
            row.parent_id,
            row.verdict,
            row.node_id in decisive,
            is_observation=row.origin in (NodeOrigin.OBSERVATION, NodeOrigin.GIVEN_OBSERVATION),
            is_given=row.origin in (NodeOrigin.SOLUTION, NodeOrigin.GIVEN_OBSERVATION),
            quality_value=row.quality_value if row.parent_id is not None else None,
        )
        for row in rows
    )
    return DrawnTree(question, nodes)


def answers_beside(
    database: Database, run_id: int, names: Sequence[tuple[str, str]], count: int
) -> tuple[AnsweredProblem, ...]:
    """Return what policies wrote to the same problems, the first `count` in their order.

    Args:
        names: each evaluation phase with the name of its policy for readers.
        count: of problems at most; fewer where a phase has chosen no answer, none where the trees
            are archived.
    """
    with database.transaction() as transaction:
        if archived_trees.numbers_of(transaction, run_id) is not None:
            return ()
        given = {policy: _answers(transaction, run_id, phase, policy, count) for phase, policy in names}
    first = next(iter(given.values()), {})
    questions = [question for question in first if all(question in one for one in given.values())]
    return tuple(AnsweredProblem(question, tuple(one[question] for one in given.values())) for question in questions)


def _answers(transaction: Transaction, run_id: int, phase: str, policy: str, count: int) -> dict[str, GivenAnswer]:
    """Return what a phase wrote by question, in the order of the problems: the chosen solution, or
    as far as one came.
    """
    statement = (
        select(TREES.c.id, TREES.c.chosen_node, TREES.c.verdict, PROBLEMS.c.question)
        .join(PHASES, PHASES.c.id == TREES.c.phase_id)
        .join(PROBLEMS, PROBLEMS.c.id == TREES.c.problem_id)
        .where(PHASES.c.run_id == run_id, PHASES.c.name == phase, TREES.c.state == TreeState.LABELLED.value)
        .order_by(PROBLEMS.c.position)
        .limit(count)
    )
    rows = transaction.execute(statement).all()
    stored = trees.load_trees(transaction, [row.id for row in rows])
    found = {}
    for row in rows:
        tree = stored[row.id]
        last = tree[row.chosen_node] if row.chosen_node is not None else tree.nodes[-1]
        found[row.question] = GivenAnswer(policy, "".join(tree.steps_to(last)).strip(), row.verdict or "undecided")
    return found


def mark_beside(database: Database, run_id: int) -> str:
    """Return the mark beside each figure of a run: "unchecked", or nothing."""
    with database.transaction() as transaction:
        return mark_of_run(transaction, run_id)


def mark_of_run(transaction: Transaction, run_id: int) -> str:
    """Return the mark beside figures that rest on a run's verdicts: "unchecked", or nothing."""
    return MARK if unchecked_runs(transaction, [run_id]) else ""


def warnings_of(database: Database, run_id: int) -> tuple[str, ...]:
    """Return what must be said of a run's verdicts and value models, a sentence each."""
    with database.transaction() as transaction:
        phases = runs.phases_of(transaction, run_id)
        run = runs.lock_run(transaction, run_id)
        truth = read_truth(transaction, run_id, run.config) if run is not None else None
        warnings = checkpoint_warnings(transaction, run_id, phases, mark_of(truth))
    of_truth = (f"{name.capitalize()}: {line}." for name, line in truth_in_words(truth).items())
    archived = run is not None and run.trees_in_store is not None
    of_trees = (
        (f"Archived: {archived_trees.in_words(run.name, database.place)}.",) if run is not None and archived else ()
    )
    return (*of_truth, *(f"{warning}." for warning in warnings), *of_trees)


def checkpoint_warnings(transaction: Transaction, run_id: int, phases: Sequence[EndedPhase], mark: str) -> list[str]:
    """Return what must be said of a run's value models and promotions, a sentence each, without
    their points.
    """
    areas = {name: one.auc for name, one in value_quality(transaction, run_id, {}).items()}
    return value_warnings(phases, mark) + end_warnings(areas, mark)


def why_stopped(database: Database, run_id: int, settings: TruthSettings) -> str | None:
    """Return why a run stopped itself before it learnt from verdicts that it cannot trust; None
    where it did not.
    """
    with database.transaction() as transaction:
        run = runs.lock_run(transaction, run_id)
        iterations = summarise_truth(truth_ledger.entries_of(transaction, run_id))
    return why_stop(iterations, settings) if run is not None and run.state == RunState.PAUSED else None


def failed_trees(database: Database, run_id: int) -> int:
    """Return how many trees of a run failed."""
    with database.transaction() as transaction:
        return sum(int(row.result.get("failed", 0)) for row in runs.phases_of(transaction, run_id))
