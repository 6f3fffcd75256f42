"""Evaluate a value model of a number paths run by the puzzle's exact distances."""

from collections.abc import Sequence

from restmcts.adapters.sql.rows import StoredCheckpoint
from restmcts.adapters.sql.state import archived_trees, runs, trees
from restmcts.adapters.sql.state.requests import PROBLEMS
from restmcts.adapters.sql.state.trees import TREES
from restmcts.adapters.workers.service import WorkerModelSettings
from restmcts.domain.requests import ScoreSteps
from restmcts.domain.tasks.number_paths import distance
from restmcts.settings import load_policy_server_settings
from restmcts_local.local_run import LocalRun
from restmcts_prm_scorer.opening import open_scorer
from sqlalchemy import select

from restmcts_cli.reports.run_report_data import ValueQuality, evaluate_values

Path = tuple[str, tuple[str, ...]]


def evaluate_checkpoints(run: LocalRun, run_id: int, phase_name: str) -> tuple[ValueQuality, ...]:
    """Return how each value model of a run agrees with exact distances, on the partial
    solutions of a phase's trees; nothing where these are archived.
    """
    with run.database.transaction() as transaction:
        if archived_trees.numbers_of(transaction, run_id) is not None:
            return ()
    paths = _paths(run, run_id, phase_name)
    with run.database.transaction() as transaction:
        checkpoints = [row for row in runs.checkpoints_of(transaction, run_id).values() if row.kind == "value"]
    return tuple(_evaluate(run, row, paths) for row in checkpoints)


def _evaluate(run: LocalRun, checkpoint: StoredCheckpoint, paths: Sequence[Path]) -> ValueQuality:
    settings = WorkerModelSettings(max_batch_tokens=65_536, servers=load_policy_server_settings())
    scorer = open_scorer(checkpoint.uri, run.artifacts, settings)
    requests = [ScoreSteps(number, (), (steps,)) for number, (_, steps) in enumerate(paths)]
    answers = scorer.score([question for question, _ in paths], requests)
    values, distances, partial_solutions, problems = [], [], [], []
    for (question, steps), answer in zip(paths, answers, strict=True):
        for num_steps, value in enumerate(answer.values[0], start=1):
            values.append(value)
            distances.append(distance(question, steps[:num_steps]))
            partial_solutions.append(((question, steps[: num_steps - 1]), steps[num_steps - 1]))
            problems.append(question)
    return evaluate_values(
        f"V_{checkpoint.name.removeprefix('value-')}", values, distances, partial_solutions, problems
    )


def _paths(run: LocalRun, run_id: int, phase_name: str) -> list[Path]:
    """Return the moves of every solution in the phase's trees, the step that states the answer
    left out.
    """
    with run.database.transaction() as transaction:
        phase = next(row for row in runs.phases_of(transaction, run_id) if row.name == phase_name)
        statement = (
            select(TREES.c.id, PROBLEMS.c.question)
            .join(PROBLEMS, PROBLEMS.c.id == TREES.c.problem_id)
            .where(TREES.c.phase_id == phase.id)
            .order_by(TREES.c.id)
        )
        questions = {row.id: row.question for row in transaction.execute(statement)}
        loaded = trees.load_trees(transaction, list(questions))
    paths = []
    for tree_id, tree in loaded.items():
        for node in tree.nodes:
            moves = tree.steps_to(node)[: -1 if node.final else None]
            if moves and not node.children:
                paths.append((questions[tree_id], moves))
    return paths
