"""How the values that guided a run's searches order verified ends."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from sqlalchemy import case, func, select

from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.reads.queries import ENDED_PHASES
from restmcts.adapters.sql.rows import JsonObject
from restmcts.adapters.sql.state import archived_trees
from restmcts.adapters.sql.state.runs import phases_of
from restmcts.adapters.sql.state.trees import NODES, TREES
from restmcts.domain.problems import Verdict
from restmcts.domain.stats.estimates import Estimate, Figure

NUM_VALUE_BINS = 1000


@dataclass(frozen=True, slots=True)
class EndQuality:
    """How a value model's scores of verified ends order them: the AUC, with its error over trees,
    and of how many ends.
    """

    auc: Estimate
    num_right: int
    num_wrong: int


def value_quality(transaction: Transaction, run_id: int, known: dict[int, EndQuality | None]) -> dict[str, EndQuality]:
    """Return, by search phase that has ended, the chance that the value model scored a right end
    above a wrong one (AUC).

    Values are compared to a thousandth; ties count half. Phases without a value model, or without
    both kinds of end, are left out. What has ended does not change: `known` keeps it, by the
    phase's id.
    """
    names = {
        row.id: row.name for row in phases_of(transaction, run_id) if row.kind == "search" and row.state in ENDED_PHASES
    }
    asked = [phase_id for phase_id in names if phase_id not in known]
    archived = archived_trees.numbers_of(transaction, run_id) if asked else None
    if archived is not None:
        known |= {phase_id: _of_fields(archived.ends.get(str(phase_id))) for phase_id in asked}
    elif asked:
        known |= {**dict.fromkeys(asked), **_areas(transaction, asked)}
    return {name: found for phase_id, name in names.items() if (found := known[phase_id]) is not None}


def _of_fields(fields: JsonObject | None) -> EndQuality | None:
    return EndQuality(**{**fields, "auc": Estimate(**fields["auc"])}) if fields is not None else None


def _areas(transaction: Transaction, phase_ids: Sequence[int]) -> dict[int, EndQuality | None]:
    bin_ = func.round(NODES.c.model_value * NUM_VALUE_BINS)
    statement = (
        select(
            TREES.c.phase_id,
            TREES.c.id,
            bin_,
            func.sum(case((NODES.c.verdict == Verdict.RIGHT.value, 1), else_=0)),
            func.sum(case((NODES.c.verdict == Verdict.WRONG.value, 1), else_=0)),
        )
        .join(NODES, NODES.c.tree_id == TREES.c.id)
        .where(TREES.c.phase_id.in_(list(phase_ids)), NODES.c.verdict.is_not(None), NODES.c.model_value.is_not(None))
        .group_by(TREES.c.phase_id, TREES.c.id, bin_)
    )
    ends: dict[int, list[EndCounts]] = defaultdict(list)
    for phase_id, tree_id, place, num_right, num_wrong in transaction.execute(statement):
        ends[phase_id].append(EndCounts(tree_id, place, int(num_right), int(num_wrong)))
    return {phase_id: area_of(counts) for phase_id, counts in ends.items()}


class EndCounts(NamedTuple):
    """How many right and wrong ends of a tree have values in one bin."""

    tree: int
    bin: float
    num_right: int
    num_wrong: int


def area_of(counts: Sequence[EndCounts]) -> EndQuality | None:
    """Return the AUC of ends; None if one kind is missing. Its error is that of
    `restmcts.domain.runs.promotion.auc`: each tree moves the figure by its influence.
    """
    by_bin: dict[float, list[int]] = defaultdict(lambda: [0, 0])
    for one in counts:
        by_bin[one.bin][0] += one.num_right
        by_bin[one.bin][1] += one.num_wrong
    num_right, num_wrong = (sum(kind) for kind in zip(*by_bin.values(), strict=True))
    if not num_right or not num_wrong:
        return None
    wrong_below: dict[float, float] = {}
    right_below: dict[float, float] = {}
    right, wrong = 0, 0
    for place in sorted(by_bin):
        here_right, here_wrong = by_bin[place]
        right_below[place], wrong_below[place] = right + here_right / 2, wrong + here_wrong / 2
        right, wrong = right + here_right, wrong + here_wrong
    value = sum(here * wrong_below[place] for place, (here, _) in by_bin.items()) / (num_right * num_wrong)
    influences: dict[int, float] = defaultdict(float)
    for one in counts:
        influences[one.tree] += one.num_right * (wrong_below[one.bin] / num_wrong - value) / num_right
        influences[one.tree] += one.num_wrong * (1.0 - right_below[one.bin] / num_right - value) / num_wrong
    contributions = [value + len(influences) * influence for influence in influences.values()]
    return EndQuality(replace(Figure.of(contributions).estimate, value=value), num_right, num_wrong)
