"""Problems as a later phase asks them: those that earlier phases left open, with a hint, as they
are and under a larger budget, or beginning with part of a solution.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from sqlalchemy import func, insert, literal, select, update

from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.reads.sample_counts import SampleCount, sample_counts
from restmcts.adapters.sql.rows import Columns, StoredProblem, StoredRun
from restmcts.adapters.sql.state import runs, trees
from restmcts.adapters.sql.state.requests import PROBLEMS
from restmcts.adapters.sql.state.trees import PHASES, TREES
from restmcts.domain.labels.rollouts import next_prefix, wrong_solution
from restmcts.domain.learning.learner import LearnableTree
from restmcts.domain.learning.restarts import restart_steps
from restmcts.domain.requests import derive_seed
from restmcts.domain.runs.allocation import ProbedProblem, budget_of_open
from restmcts.domain.runs.phases import PHASE, SEARCH_PHASE, SearchPhase

COPIED = ("run_id", "answer", "solution", "kind", "digest")


def derive_problems(transaction: Transaction, run: StoredRun, phase: SearchPhase) -> list[StoredProblem]:
    """Store the problems of a phase that follows others, as a set named for it; return their
    rows, in order.
    """
    if phase.allocates:
        _allocated(transaction, run, phase)
    elif phase.hint is not None:
        _hinted(transaction, run.id, phase, phase.hint)
    else:
        transaction.execute(insert(PROBLEMS), list(_started(transaction, run.id, phase)))
    return runs.problems_of(transaction, run.id, phase.name)


def _hinted(transaction: Transaction, run_id: int, phase: SearchPhase, hint: str) -> None:
    """Write the answers into the questions where they are: this process does not read them."""
    searched = (
        select(PROBLEMS.c.position)
        .join(TREES, TREES.c.problem_id == PROBLEMS.c.id)
        .join(PHASES, PHASES.c.id == TREES.c.phase_id)
        .where(PHASES.c.run_id == run_id)
    )
    asked_first = searched.where(PHASES.c.name == phase.follows[0])
    solved = searched.where(PHASES.c.name.in_(phase.follows), TREES.c.solved.is_(True))
    asked = func.replace(
        func.replace(literal(hint), "{answer}", func.coalesce(PROBLEMS.c.answer, "")), "{question}", PROBLEMS.c.question
    )
    columns = [PROBLEMS.c[name] for name in COPIED]
    unsolved = (
        select(*columns, PROBLEMS.c.position, literal(phase.name), asked, PROBLEMS.c.id)
        .where(
            PROBLEMS.c.run_id == run_id,
            PROBLEMS.c.set_name == phase.problem_set,
            PROBLEMS.c.position.in_(asked_first),
            PROBLEMS.c.position.not_in(solved),
        )
        .order_by(PROBLEMS.c.position)
    )
    transaction.execute(
        insert(PROBLEMS).from_select([*COPIED, "position", "set_name", "question", "derived_from"], unsolved)
    )


def _started(transaction: Transaction, run_id: int, phase: SearchPhase) -> Iterator[Columns]:
    """Yield the problems whose first wrong step is not found yet, each beginning with the steps to
    go on from next.
    """
    known: dict[int, dict[int, bool]] = defaultdict(dict)
    wrong: dict[int, Sequence[str]] = {}
    for name in phase.follows:
        for batch in runs.labelled_trees(transaction, run_id, (name,)):
            loaded = trees.load_trees(transaction, [row.tree_id for row in batch])
            labels = trees.load_labels(transaction, loaded)
            for row in batch:
                if name == phase.follows[0]:
                    wrong[row.id] = wrong_solution(loaded[row.tree_id], labels[row.tree_id][0])
                elif row.begins_with:
                    known[row.id][len(row.begins_with)] = bool(row.solved)
    for problem in runs.problems_of(transaction, run_id, phase.problem_set):
        steps = wrong.get(problem.id, ())
        length = next_prefix(len(steps), known[problem.id]) if steps else None
        if length is not None:
            yield {
                **{name: getattr(problem, name) for name in (*COPIED, "position", "question")},
                "set_name": phase.name,
                "derived_from": problem.id,
                "begins_with": list(steps[:length]),
            }


def _allocated(transaction: Transaction, run: StoredRun, phase: SearchPhase) -> None:
    """Store the problems that are worth a tree, and the budget of each in the phase itself, from
    which trees are searched and played again.
    """
    samples = {one.problem_id: one for one in sample_counts(transaction, run.id, phase.follows[0])}
    problems = [one for one in runs.problems_of(transaction, run.id, phase.problem_set) if one.id in samples]
    begins = _restarts(transaction, run, phase) if phase.restarts else _open(transaction, run.id, phase, samples)
    kept = [
        {
            **{name: getattr(problem, name) for name in (*COPIED, "position", "question")},
            "set_name": phase.name,
            "derived_from": problem.id,
            "begins_with": begins[problem.id] or problem.begins_with,
        }
        for problem in problems
        if problem.id in begins
    ]
    if not kept:
        return
    transaction.execute(insert(PROBLEMS), kept)
    tokens = sum(sample.tokens for sample in samples.values())
    num_samples = sum(sample.num_samples for sample in samples.values())
    budget = budget_of_open(phase.budget, len(problems), len(kept), tokens, num_samples)
    transaction.execute(
        update(PHASES)
        .where(PHASES.c.run_id == run.id, PHASES.c.name == phase.name)
        .values(spec=PHASE.dump_python(replace(phase, budget=budget), mode="json"))
    )


def _open(
    transaction: Transaction, run_id: int, phase: SearchPhase, samples: Mapping[int, SampleCount]
) -> dict[int, list[str]]:
    """Return the problems that are neither settled nor hopeless, none of which begins with further
    steps.
    """
    in_vain = _searched_in_vain(transaction, run_id, phase.follows[1:])
    probed = {
        problem_id: ProbedProblem(sample.num_samples, sample.num_right, problem_id in in_vain)
        for problem_id, sample in samples.items()
    }
    return {problem_id: [] for problem_id, problem in probed.items() if problem.is_open}


def _restarts(transaction: Transaction, run: StoredRun, phase: SearchPhase) -> dict[int, list[str]]:
    """Return the problems with solutions of both kinds, and the steps that each begins with."""
    specs = {row.name: row.spec for row in runs.phases_of(transaction, run.id) if row.name == phase.follows[0]}
    sampled = SEARCH_PHASE.validate_python(specs[phase.follows[0]]).search.samples_branches
    begins = {}
    for batch in runs.labelled_trees(transaction, run.id, phase.follows[:1]):
        loaded = trees.load_trees(transaction, [row.tree_id for row in batch])
        labels = trees.load_labels(transaction, loaded)
        for row in batch:
            found = LearnableTree.of(loaded[row.tree_id], labels[row.tree_id][0], (), samples_branches=sampled)
            steps = restart_steps(found, derive_seed(run.seed, phase.name, row.position))
            if steps:
                begins[row.id] = list(steps)
    return begins


def _searched_in_vain(transaction: Transaction, run_id: int, names: Sequence[str]) -> set[int]:
    """Return the problems that some of the phases searched and none of them solved."""
    searched, solved = set(), set()
    for name in names:
        for batch in runs.labelled_trees(transaction, run_id, (name,)):
            searched |= {row.id for row in batch}
            solved |= {row.id for row in batch if row.solved}
    return searched - solved
