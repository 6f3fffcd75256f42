"""The problem sets of a run that is stored: how its problems were divided is never decided anew."""

from collections import Counter
from collections.abc import Mapping, Sequence

from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.state import runs
from restmcts.domain.problems import Problem
from restmcts.domain.runs.spec_plan import BOOTSTRAP, HELD_OUT, SEEDS, TRAIN
from restmcts.domain.runs.splits import MAX_BOOTSTRAP_PROBLEMS


def divided_as_stored(
    transaction: Transaction, run_id: int, sets: Mapping[str, Sequence[Problem]]
) -> dict[str, Sequence[Problem]]:
    """Return the sets of a run that is asked for again, divided as the stored run has them.

    Where the stored sets "train" and "held-out" have together the problems that are asked for, in
    any order, the stored division is kept: another version may divide by another rule. Otherwise
    the sets are returned as they are, to be compared as they are.

    Args:
        run_id: of the stored run.
        sets: as they were read and divided now.
    """
    if TRAIN not in sets:
        return dict(sets)
    train, held_out = (_given(transaction, run_id, name) for name in (TRAIN, HELD_OUT))
    if Counter([*train, *held_out]) != Counter([*sets[TRAIN], *sets.get(HELD_OUT, ())]):
        return dict(sets)
    divided = {
        TRAIN: train,
        HELD_OUT: held_out,
        BOOTSTRAP: train[:MAX_BOOTSTRAP_PROBLEMS],
        SEEDS: [problem for problem in train if problem.solution],
    }
    return {name: divided.get(name, members) for name, members in sets.items()}


def stored_problem_sets(transaction: Transaction, run_id: int) -> dict[str, list[Problem]]:
    """Return the problems that a stored run was given, by set; without those it derived itself."""
    sets = {name: _given(transaction, run_id, name) for name in runs.set_names_of(transaction, run_id)}
    return {name: members for name, members in sets.items() if members}


def _given(transaction: Transaction, run_id: int, set_name: str) -> list[Problem]:
    return [
        Problem(row.question, row.answer, tuple(row.solution) if row.solution is not None else None, row.kind)
        for row in runs.problems_of(transaction, run_id, set_name)
        if row.derived_from is None
    ]
