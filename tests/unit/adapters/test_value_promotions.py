"""Promotions of value models that must be better, by a figure that is chosen."""

from collections.abc import Sequence
from typing import Any

import pytest
from restmcts.domain.labels.labelled_solutions import LabelledSolution, as_problem
from restmcts.domain.problems import Problem
from restmcts.domain.requests import ScoreSteps, StepsScored
from restmcts.domain.runs.phases import Phase, PromotionPhase, SearchPhase
from restmcts.domain.search.best_of_n import SelfConsistencySettings
from restmcts.errors import ModelError
from restmcts.testing.trees import RIGHT_ANSWER, RandomModels, answer_step

SAMPLES = SelfConsistencySettings(num_samples=6)
PROBLEMS = {"held-out": [Problem(str(number), RIGHT_ANSWER) for number in range(20)]}


class Values:
    """The value of a step that states the right answer, that of any other, and what each step of a
    solution adds.
    """

    def __init__(self, right: float, wrong: float, slope: float = 0.0) -> None:
        self._values, self._slope = {True: right, False: wrong}, slope

    def score(self, questions: Sequence[str], requests: Sequence[ScoreSteps]) -> list[StepsScored]:
        if any("too long" in step for one in requests for branch in one.branches for step in branch):
            raise ModelError("too long for this model")
        return [StepsScored(one.number, tuple(map(self._branch, one.branches)), 1) for one in requests]

    def _branch(self, steps: Sequence[str]) -> tuple[float, ...]:
        right = answer_step(RIGHT_ANSWER)
        return tuple(self._values[step == right] + self._slope * place for place, step in enumerate(steps))


MODELS = {
    "sampler": RandomModels(answer_rate=0.7),
    "value-0": Values(0.1, 0.9),
    "value-1": Values(0.9, 0.1),
    "value-2": Values(0.2, 0.8),
}


@pytest.fixture
def run(handled_run: Any) -> Any:
    return handled_run(MODELS, PROBLEMS)


def value_promotions(*candidates: str, **settings: Any) -> list[Phase]:
    phases: list[Phase] = [SearchPhase("trees", 0, "held-out", "held-out", "sampler", None, SAMPLES)]
    for number, candidate in enumerate(candidates):
        previous = f"gate-{number - 1}" if number else None
        phases.append(PromotionPhase(f"gate-{number}", number, "value", candidate, "trees", previous, **settings))
    return phases


def test_a_value_model_that_must_be_better_is_rejected_where_it_is_only_as_good(run: Any) -> None:
    """As good as the one before it, and then better; each comes with the words of the rule."""
    gates = run.do(value_promotions("value-0", "value-2", "value-1", value_gain=1.0))
    assert [gate["promoted"] for gate in gates.values()] == [True, False, True]
    assert run.promoted("value") == "value-1"
    rejected = gates["gate-1"]
    assert rejected["figures"]["auc"]["difference"]["value"] == 0.0
    assert rejected["reason"].startswith("not promoted: AUC ") and "sibling accuracy" in rejected["reason"]
    assert rejected["reason"].endswith("; it must be better by 1 standard errors of the difference")
    assert "must be better" not in gates["gate-0"]["reason"]


def test_the_rule_without_a_gain_promotes_what_is_as_good(run: Any) -> None:
    gates = run.do(value_promotions("value-0", "value-2"))
    assert [gate["promoted"] for gate in gates.values()] == [True, True]


@pytest.mark.parametrize("gain", [None, 0.0])
@pytest.mark.parametrize("metric", ["auc", "siblings", "both"])
def test_what_nobody_measured_is_rejected_where_a_gain_is_asked_for(run: Any, metric: str, gain: float | None) -> None:
    """One sample a problem: solved trees have right steps alone, and no siblings."""
    phases = value_promotions("value-0", "value-1", value_metric=metric, value_gain=gain)
    samples = SelfConsistencySettings(num_samples=1)
    phases[0] = SearchPhase("trees", 0, "held-out", "held-out", "sampler", None, samples)
    gates = run.do(phases)
    assert gates["gate-0"]["promoted"] is True, "nothing is compared with"
    assert gates["gate-1"]["promoted"] is (gain is None)
    assert "AUC not measured, sibling accuracy not measured" in gates["gate-1"]["reason"]


@pytest.mark.parametrize(("metric", "promoted"), [("auc", True), ("siblings", False), ("both", False)])
def test_the_chosen_figure_alone_decides(handled_run: Any, metric: str, promoted: bool) -> None:
    models = {**MODELS, "value-0": Values(0.5, 0.5, -0.02), "value-1": Values(0.5, 0.5, 0.02)}
    run = handled_run(models, PROBLEMS)
    gates = run.do(value_promotions("value-0", "value-1", value_metric=metric, value_gain=0.0))
    figures = gates["gate-1"]["figures"]
    assert figures["auc"]["difference"]["value"] > 0.0 == figures["sibling accuracy"]["difference"]["value"]
    assert gates["gate-1"]["promoted"] is promoted
    decides = {"auc": "auc decides", "siblings": "sibling accuracy decides", "both": ""}[metric]
    assert decides in gates["gate-1"]["reason"]
    assert ("decides" in gates["gate-1"]["reason"]) is (metric != "both")


def labelled(question: str, *steps: tuple[str, bool | None]) -> Problem:
    texts, labels = zip(*steps, strict=True)
    return as_problem(LabelledSolution(question, "", question, texts, labels, None))


def bench() -> list[Problem]:
    """Solutions on which `Values` with a high value for the right answer are wrong: it is labelled
    as wrong in all but the one that no model scores, whose question has another solution.
    """
    right, wrong = answer_step(RIGHT_ANSWER), answer_step("99")
    inverted = [labelled(str(number), (wrong, True), (right, False), ("unknown", None)) for number in range(9)]
    return [*inverted, labelled("0", ("too long", False), (right, True))]


@pytest.mark.parametrize("has_bench", [True, False])
@pytest.mark.parametrize(("metric", "said"), [("both", ""), ("auc", "; auc and auc on labelled steps decide")])
def test_a_value_model_that_is_worse_on_labelled_solutions_is_rejected(
    handled_run: Any, has_bench: bool, metric: str, said: str
) -> None:
    """The same model is promoted where they are not asked for."""
    run = handled_run(MODELS, {**PROBLEMS, "value-bench": bench()})
    settings = {"bench_set": "value-bench"} if has_bench else {}
    gate = run.do(value_promotions("value-0", "value-1", value_metric=metric, **settings))["gate-1"]
    assert gate["promoted"] is not has_bench, gate["reason"]
    assert gate["figures"]["auc"]["difference"]["value"] > 0.0
    assert ("auc on labelled steps" in gate["figures"]) is has_bench
    if has_bench:
        figure = gate["figures"]["auc on labelled steps"]
        assert (figure["incumbent"]["value"], figure["candidate"]["value"]) == (1.0, 0.0)
        shown, _, rule = gate["reason"].rpartition(")")
        assert "AUC on labelled steps 0.00 [" in shown and "(was 1.00 [" in shown and rule == said


def test_solutions_that_no_model_scores_decide_nothing(handled_run: Any) -> None:
    run = handled_run(MODELS, {**PROBLEMS, "value-bench": bench()[-1:]})
    gate = run.do(value_promotions("value-0", "value-1", bench_set="value-bench"))["gate-1"]
    assert gate["promoted"] is True and "AUC on labelled steps not measured" in gate["reason"]
