"""A value model whose values are no better than chance is not promoted in silence: `runs show`, its
JSON, the report's notes and the run's page say so in a sentence.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import runs
from restmcts.domain.runs.phases import PromotionPhase
from restmcts.domain.runs.promotion import HeldOutStep, auc, sibling_accuracy
from restmcts.usecases import promote
from restmcts_cli.reports.run_results import warnings_of
from restmcts_dashboard.runs.run_reads import read_run

Trees = Sequence[Sequence[HeldOutStep]]


def trees(right: float, wrong: float, num_swapped: int = 0) -> Trees:
    """Return twenty trees of a right and a wrong sibling each, in some of which the values are
    swapped.
    """
    values = [(wrong, right) if number < num_swapped else (right, wrong) for number in range(20)]
    return [[HeldOutStep(0, first, True), HeldOutStep(0, second, False)] for first, second in values]


def decide(workdir: Path, held_out: Trees) -> Database:
    """Promote `value-0` on the evidence of held-out trees."""
    database = Database(f"sqlite:///{workdir / 'run.db'}")
    with database.transaction() as transaction:
        phase = PromotionPhase("decide-value-0", 1, "value", "value-0", "collect-1")
        runs.add_phases(transaction, 1, [phase])
        row = next(each for each in runs.phases_of(transaction, 1) if each.name == phase.name)
        candidate = runs.checkpoints_of(transaction, 1)["value-0"]
        figures = {"auc": auc(held_out), "sibling accuracy": sibling_accuracy(held_out)}
        promote.decide(transaction, row, phase, candidate, None, {name: (one, None) for name, one in figures.items()})
    return database


@pytest.mark.parametrize(
    ("held_out", "said"),
    [
        (trees(0.9, 0.1), None),
        (trees(0.1, 0.9), "worse than chance"),
        (trees(0.5, 0.5), "no better than chance"),
        (trees(0.999, 0.998, num_swapped=10), "no better than chance"),
        (trees(0.6, 0.4, num_swapped=9), "no better than chance"),
        ([tree[:1] for tree in trees(0.9, 0.1)], "without being measured"),
        # Trees of easy problems and of hard ones: their steps are distinguished, siblings are not.
        (
            [[HeldOutStep(0, 0.9, True), HeldOutStep(0, 0.9, False), HeldOutStep(1, 0.9, True)] for _ in range(20)]
            + [[HeldOutStep(0, 0.1, False), HeldOutStep(1, 0.1, False)] for _ in range(20)],
            "chooses between siblings by chance",
        ),
    ],
    ids=["perfect", "inverted", "constant", "saturated", "noise", "unmeasured", "siblings"],
)
def test_a_value_model_no_better_than_chance_is_not_promoted_in_silence(
    workdir: Path, document: Callable[..., Any], shown: Callable[..., str], held_out: Trees, said: str | None
) -> None:
    database = decide(workdir, held_out)
    told = document("runs", "show", "mine", "--workdir", workdir)["warnings"]
    with database.transaction() as transaction:
        page = read_run(transaction, 1).warnings
    assert page == told and warnings_of(database, 1) == tuple(f"{sentence}." for sentence in told)
    database.close()
    text = " ".join(shown("runs", "show", "mine", "--workdir", workdir).split())
    if said is None:
        assert told == [] and "warning" not in text
    else:
        assert len(told) == 1 and told[0].startswith("value-0 ") and said in told[0]
        assert "warning (1)" in text and said in text
