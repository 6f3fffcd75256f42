"""A value model whose values are no better than chance is not promoted in silence: `runs show`, its
JSON, the report's notes and the run's page say so in a sentence.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import runs
from restmcts.adapters.sql.state.trees import NODES, TREES
from restmcts.domain.runs.phases import PromotionPhase
from restmcts.domain.runs.promotion import HeldOutStep, auc, sibling_accuracy
from restmcts.domain.stats.estimates import Estimate
from restmcts.reporting.value_warnings import end_warnings, value_warnings
from restmcts.usecases import promote
from restmcts_cli.reports.run_results import warnings_of
from restmcts_dashboard.app import create_app
from restmcts_dashboard.runs.run_reads import read_run
from restmcts_dashboard.serving import folder_source
from sqlalchemy import delete, func, select
from starlette.testclient import TestClient

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
    warnings = document("runs", "show", "mine", "--workdir", workdir)["warnings"]
    told = [warning for warning in warnings if not warning.startswith("The value model")]
    with database.transaction() as transaction:
        page = read_run(transaction, 1).warnings
    assert page == told and warnings_of(database, 1) == tuple(f"{sentence}." for sentence in warnings)
    database.close()
    text = " ".join(shown("runs", "show", "mine", "--workdir", workdir).split())
    if said is None:
        assert told == []
    else:
        assert len(told) == 1 and told[0].startswith("value-0 ") and said in told[0]
        assert "warning (1)" in text and said in text


def end(tree_id: int, node_id: int, verdict: str, value: float) -> dict[str, object]:
    """Return a verified end below the root."""
    place = {"tree_id": tree_id, "node_id": node_id, "parent_id": 0, "depth": 1, "step": "7", "final": True}
    return {**place, "verdict": verdict, "model_value": value}


@pytest.mark.parametrize(("num_right", "by_chance"), [(6, False), (3, True), (1, True)])
def test_values_that_order_ends_by_chance_are_said_without_a_gate(
    workdir: Path,
    document: Callable[..., Any],
    shown: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    num_right: int,
    by_chance: bool,
) -> None:
    """Of six pairs of a right and a wrong end, the right one has the higher value in some."""
    monkeypatch.setattr("restmcts.reporting.value_warnings.FEW", 6)
    database = Database(f"sqlite:///{workdir / 'run.db'}")
    with database.transaction() as transaction:
        (phase,) = [one for one in runs.phases_of(transaction, 1) if one.name == "collect-1"]
        problems = runs.problems_of(transaction, 1, "train")
        transaction.execute(delete(NODES))
        transaction.execute(delete(TREES).where(TREES.c.phase_id == phase.id))
        for number, problem in enumerate(problems):
            tree = {
                "run_id": 1,
                "phase_id": phase.id,
                "problem_id": problem.id,
                "seed": number,
                "state": "labelled",
            }
            transaction.insert(TREES, [tree])
            (tree_id,) = transaction.execute(select(func.max(TREES.c.id))).one()
            for node_id, verdict in enumerate(("right", "wrong"), start=1):
                value = 0.9 if (verdict == "right") == (number < num_right) else 0.1
                transaction.insert(NODES, [end(tree_id, node_id, verdict, value)])
    warnings = document("runs", "show", "mine", "--workdir", workdir)["warnings"]
    found = next((one for one in warnings if one.startswith("The value model")), "")
    assert found.startswith("The value model is not better than chance") == by_chance
    assert ("in collect-1 (AUC; 0.50 is a guess; ± is one standard error over trees)" in found) == by_chance
    assert (f"{found}." in warnings_of(database, 1)) == by_chance
    text = " ".join(shown("runs", "show", "mine", "--workdir", workdir).split())
    assert ("not better than chance" in text) == by_chance
    with TestClient(create_app(folder_source(workdir / "run.db")), base_url="http://127.0.0.1") as client:
        assert ("not better than chance" in client.get("/runs/1/quality").text) == by_chance
    database.close()


def test_a_few_trees_do_not_show_that_values_are_no_better_than_chance() -> None:
    assert [bool(end_warnings({"collect-1": Estimate(0.5, 0.1, number)})) for number in (19, 20)] == [False, True]


@dataclass(frozen=True)
class Ended:
    """A phase that has ended."""

    name: str
    kind: str
    result: dict[str, Any]
    iteration: int = 1


TRAINED = Ended("policy-1", "train-policy", {"trained": True})


def gate(number: int, figure: str = "accuracy") -> Ended:
    found = {"value": 0.9, "standard_error": 0.01, "n": number}
    return Ended(
        "gate-1", "gate", {"promoted": True, "candidate": "policy-1", "figures": {figure: {"candidate": found}}}
    )


def test_promotions_that_few_problems_or_nothing_decided_are_said() -> None:
    assert value_warnings([TRAINED, gate(20)]) == []
    (few,) = value_warnings([TRAINED, gate(5)])
    assert few.startswith("Promotions were decided on few problems: gate-1 on 5 held-out problems; only large")
    (one,) = value_warnings([TRAINED, gate(1, "auc")])
    assert "gate-1 on 1 held-out tree;" in one
    (none,) = value_warnings([TRAINED])
    assert none.startswith("No new checkpoint is compared with the one before it, as no problem is held out for that")
    assert value_warnings([replace(TRAINED, iteration=0)]) == [], "the first policy replaces nothing"
    assert value_warnings([replace(TRAINED, result={"trained": False})]) == []
