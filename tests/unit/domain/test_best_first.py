"""Best-first branching under a policy whose every token is known, so that what must come out
can be worked out by hand.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from restmcts.domain.answers.extraction import states_answer
from restmcts.domain.labels.filtering import right_traces, value_paths
from restmcts.domain.labels.inferred import end_leaves, infer_labels
from restmcts.domain.problems import Verdict
from restmcts.domain.requests import (
    Alternative,
    ProposedStep,
    ProposeSteps,
    Request,
    Response,
    Sample,
    ScoreSteps,
    StepsProposed,
    StepsScored,
)
from restmcts.domain.search.best_first import BestFirst, BestFirstSettings
from restmcts.domain.search.protocol import Budget, StopReason
from restmcts.errors import InputError
from restmcts.testing.scripted import run_search
from restmcts.testing.trees import RIGHT_ANSWER, RandomModels

# A solution is one letter a step for two steps, then the answer made of both letters.
LETTERS = {"a": 0.6, "b": 0.3, "c": 0.1}
VALUES = {"aa": 0.1, "ab": 0.2, "ac": 0.2, "ba": 0.95, "bb": 0.3, "bc": 0.3, "ca": 0.0, "cb": 0.0, "cc": 0.0}


class LetterPolicy:
    """Each step is the likeliest letter, or the one it is begun with; a partial solution is
    worth 0.5 unless its value is given.
    """

    def __init__(self, partial_values: Mapping[str, float] | None = None) -> None:
        self.begun: list[tuple[tuple[str, ...], str]] = []
        self._partial_values = partial_values or {}

    def answer(self, request: Request) -> Response:
        if isinstance(request, ScoreSteps):
            values = tuple(
                self._value("".join(request.steps + branch[: place + 1]))
                for branch in request.branches
                for place in range(len(branch))
            )
            return StepsScored(request.number, (values,), len(values))
        self.begun.append((request.steps, request.begun))
        steps: list[ProposedStep] = []
        written = list(request.steps)
        while not steps or not states_answer(steps[-1].text):
            steps.append(self._step(written, request.begun if not steps else "", request.num_alternatives))
            written.append(steps[-1].text)
        return StepsProposed(request.number, (Sample(tuple(steps), len(steps), True),), 1)

    def _step(self, written: list[str], begun: str, num_alternatives: int) -> ProposedStep:
        if len(written) == 2:
            return ProposedStep(f"The answer is {written[0].strip()}{written[1].strip()}\n", 1, 0.0)
        if begun:
            return ProposedStep(f"{begun}\n", 0, 0.0)
        others = tuple(Alternative(letter, 0.0, math.log(LETTERS[letter]), 0) for letter in "bc")[:num_alternatives]
        return ProposedStep("a\n", 1, math.log(LETTERS["a"]), others)

    def _value(self, text: str) -> float:
        letters = text.replace("The answer is ", "").split()
        return VALUES[letters[-1]] if len(letters) == 3 else self._partial_values.get("".join(letters), 0.5)


def search(
    budget: Budget | None = None, partial_values: Mapping[str, float] | None = None, **options: object
) -> tuple[BestFirst, LetterPolicy]:
    policy = LetterPolicy(partial_values)
    machine = BestFirst(BestFirstSettings(**options), budget or Budget(iterations=50), 0, states_answer)  # type: ignore[arg-type]
    run_search(machine, policy.answer)
    return machine, policy


def test_branches_are_taken_by_probability_and_nothing_twice() -> None:
    machine, policy = search(stop_threshold=None, value_weight=0.0, log_prob_weight=0.0)
    assert policy.begun[0] == ((), "")
    taken = ["".join(steps).replace("\n", "") + begun for steps, begun in policy.begun[1:]]
    assert taken == ["b", "ab", "c", "bb", "ac", "bc", "cb", "cc"], "0.3, 0.18, 0.1, 0.09, 0.06, 0.03, 0.03, 0.01"
    assert machine.stop_reason == StopReason.COMPLETE
    assert len(machine.tree.final_nodes()) == 9
    assert machine.chosen is not None and machine.tree.steps_to(machine.chosen) == ("b\n", "a\n", "The answer is ba\n")


def test_branches_below_what_the_value_model_likes_come_first() -> None:
    """By log p + 5 V: b -1.20; below b, of value 0.9, 2.1 and 1.0; ab -1.21; c -2.30; below c, of
    value 0.5, -1.0 and -2.1; ac -2.31.
    """
    _, policy = search(partial_values={"a": 0.1, "b": 0.9, "c": 0.5}, stop_threshold=None, value_weight=5.0)
    branches = ["".join(steps).replace("\n", "") + begun for steps, begun in policy.begun[1:]]
    assert branches == ["b", "bb", "bc", "ab", "c", "cb", "cc", "ac"]


def test_without_a_value_model_the_policys_probabilities_lead_and_no_value_is_asked() -> None:
    alone, policy = search(stop_threshold=None, score=False)
    weightless, asked = search(stop_threshold=None, value_weight=0.0)
    assert policy.begun == asked.begun
    assert not alone.settings.needs_values and weightless.settings.needs_values
    assert alone.spent.scored_tokens == 0 and {node.model_value for node in alone.tree.nodes} == {None}
    assert alone.spent.tokens == weightless.spent.tokens
    assert alone.chosen is not None and alone.tree.steps_to(alone.chosen)[0] == "a\n", "the likeliest solution"


def test_log_probabilities_of_branches_are_those_of_the_whole_solution() -> None:
    machine, _ = search(stop_threshold=None)
    for node in machine.tree.final_nodes():
        first, second = (step.strip() for step in machine.tree.steps_to(node)[:2])
        assert machine.tree.log_prob_of(node) == pytest.approx(math.log(LETTERS[first] * LETTERS[second]))


def test_it_stops_at_the_gate_with_the_score_that_holds_both_parts() -> None:
    machine, policy = search(stop_threshold=0.6, value_weight=0.0, log_prob_weight=0.1)
    assert machine.stop_reason == StopReason.THRESHOLD
    assert machine.chosen is not None and machine.tree.steps_to(machine.chosen)[-1] == "The answer is ba\n"
    assert len(policy.begun) == machine.spent.iterations == 2
    exactly, _ = search(stop_threshold=VALUES["ba"], value_weight=0.0, log_prob_weight=0.0)
    assert exactly.stop_reason == StopReason.THRESHOLD
    never, _ = search(stop_threshold=0.6, log_prob_weight=1.0)
    assert never.stop_reason == StopReason.COMPLETE, "0.95 + log(0.18) lies below the gate"


def test_improbable_tokens_are_left_alone() -> None:
    machine, policy = search(stop_threshold=None, min_log_prob=math.log(0.2))
    assert {begun for _, begun in policy.begun} == {"", "b"}
    assert len(machine.tree.final_nodes()) == 4


def test_budget_and_several_branches_in_flight() -> None:
    machine, _ = search(Budget(iterations=3), stop_threshold=None)
    assert (machine.spent.iterations, machine.stop_reason) == (3, StopReason.BUDGET)
    wide = BestFirst(
        BestFirstSettings(stop_threshold=None, branches_in_flight=4), Budget(iterations=50), 0, states_answer
    )
    policy = LetterPolicy()
    requests = wide.begin()
    assert len(requests) == 1, "there is nothing to branch from yet"
    most = 0
    while requests:
        most = max(most, len(wide.awaited))
        request, *requests = requests
        requests += wide.receive(policy.answer(request))
    assert most == 4
    assert {node.step for node in wide.tree.nodes} == {node.step for node in search(stop_threshold=None)[0].tree.nodes}


def test_a_policy_without_alternatives_or_without_words_gives_what_it_has() -> None:
    policy = LetterPolicy()

    def plain(request: Request) -> Response:
        return policy.answer(replace(request, num_alternatives=0) if isinstance(request, ProposeSteps) else request)

    machine = run_search(
        BestFirst(BestFirstSettings(stop_threshold=None), Budget(iterations=9), 0, states_answer), plain
    )
    assert len(machine.tree.final_nodes()) == 1
    silent = BestFirst(BestFirstSettings(), Budget(iterations=9), 0, states_answer)
    run_search(silent, lambda request: StepsProposed(request.number, (Sample((), 1, True),), 1))
    assert (silent.finished, silent.chosen) == (True, None)


SAID = {
    "": "so x is 2\n",
    "Now": "Now, X is 2.\n",
    "so y": "so y is 2\n",
    "so z": "so z is 2\n",
    "so x was": "so x was 2\n",
}


class ClausePolicy:
    """One step of three tokens, each likely but the second; what it says may be a paraphrase of
    "so x is 2".
    """

    FIRST = (Alternative("Now", 0.0, math.log(0.1), 0),)
    SECOND = (Alternative("so y", -0.1, math.log(0.4), 1), Alternative("so z", -0.1, math.log(0.3), 1))
    THIRD = (Alternative("so x was", -1.3, math.log(0.6), 2),)

    def __init__(self) -> None:
        self.asked: list[ProposeSteps] = []

    def answer(self, request: Request) -> Response:
        if isinstance(request, ScoreSteps):
            return StepsScored(request.number, tuple((0.5,) * len(branch) for branch in request.branches), 1)
        self.asked.append(request)
        steps = [] if request.steps else [self._step(request)]
        if len(steps) != request.max_steps:
            steps.append(ProposedStep("The answer is 2\n", 4, 0.0))
        return StepsProposed(request.number, (Sample(tuple(steps), 4 * len(steps), True),), 1)

    def _step(self, request: ProposeSteps) -> ProposedStep:
        untried = (*self.FIRST, *self.SECOND, *self.THIRD) if not request.begun else ()
        return ProposedStep(SAID[request.begun], 4, -1.5, untried)


@pytest.mark.parametrize(
    ("branch_at", "begun"),
    [
        ("tokens", ["so y", "so z", "so x was", "Now"]),
        ("step-start", ["Now"]),
        ("untried-mass", ["so y", "so z"]),
        ("entropy", ["so y", "so z"]),
    ],
)
def test_where_a_step_is_branched_at(branch_at: str, begun: list[str]) -> None:
    policy = ClausePolicy()
    settings = BestFirstSettings(branch_at=branch_at, stop_threshold=None, value_weight=0.0)  # type: ignore[arg-type]
    run_search(BestFirst(settings, Budget(iterations=20), 0, states_answer), policy.answer)
    assert [request.begun for request in policy.asked[1:]] == begun


# What a step did not take: at its first position, then at its second.
@pytest.mark.parametrize(
    ("untried", "branch_at", "begun"),
    [
        (({"a": 0.9}, {"b": 0.25, "c": 0.25, "d": 0.25}), "untried-mass", "a"),
        (({"a": 0.9}, {"b": 0.25, "c": 0.25, "d": 0.25}), "entropy", "b"),
        (({"a": 0.5}, {"b": 0.1, "c": 0.1}), "entropy", "a"),
    ],
    ids=["greater mass", "an even choice", "an even choice between one token and all the rest"],
)
def test_the_position_is_that_of_the_greatest_mass_or_entropy(
    untried: Sequence[Mapping[str, float]], branch_at: str, begun: str
) -> None:
    step = ProposedStep(
        "x\n",
        2,
        0.0,
        tuple(
            Alternative(letter, 0.0, math.log(share), position)
            for position, letters in enumerate(untried)
            for letter, share in letters.items()
        ),
    )
    machine = BestFirst(BestFirstSettings(branch_at=branch_at), Budget(iterations=9), 0, states_answer)  # type: ignore[arg-type]
    (request,) = machine.begin()
    (scoring,) = machine.receive(StepsProposed(request.number, (Sample((step,), 2, True),), 1))
    (branch,) = machine.receive(StepsScored(scoring.number, ((0.0,),), 1))
    assert isinstance(branch, ProposeSteps) and branch.begun == begun


def test_a_paraphrase_costs_one_step_and_is_not_in_the_tree() -> None:
    policy = ClausePolicy()
    merging = BestFirstSettings(merge="normalised", stop_threshold=None)
    machine = run_search(BestFirst(merging, Budget(iterations=20), 0, states_answer), policy.answer)
    steps = [machine.tree[child].step for child in machine.tree.root.children]
    assert sorted(steps) == ["so x is 2\n", "so x was 2\n", "so y is 2\n", "so z is 2\n"]
    paraphrase = [request for request in policy.asked if request.begun == "Now"]
    assert [request.max_steps for request in paraphrase] == [1]
    assert machine.tree[machine.tree.root.children[0]].visits == 2
    assert len(machine.tree.final_nodes()) == 4
    exact = run_search(
        BestFirst(BestFirstSettings(stop_threshold=None), Budget(iterations=20), 0, states_answer),
        ClausePolicy().answer,
    )
    assert len(exact.tree.final_nodes()) == 5


@pytest.mark.parametrize("seed", range(20))
def test_its_trees_are_labelled_like_any_other(seed: int) -> None:
    """What is branched at a token stands in the tree as a step of its own, so that labels,
    paths and traces hold.
    """
    settings = BestFirstSettings(stop_threshold=None, branch_at="tokens" if seed % 2 else "untried-mass")
    tree = run_search(BestFirst(settings, Budget(iterations=12), seed, states_answer), RandomModels(seed).answer).tree
    leaves = end_leaves(tree)
    verdicts = {leaf.node_id: Verdict.RIGHT if RIGHT_ANSWER in leaf.step else Verdict.WRONG for leaf in leaves}
    labels = infer_labels(tree, verdicts)
    traces = right_traces(tree, verdicts)
    assert bool(labels) == bool(traces) == (Verdict.RIGHT in verdicts.values())
    for trace in traces:
        assert labels[trace.node_id].quality_value == pytest.approx(1.0) or len(trace.steps) > len(traces[0].steps)
        assert labels[trace.node_id].reasoning_distance == 0 and labels[trace.node_id].step_is_right
    targets = [target for path in value_paths(tree, labels) for target in path.targets if target is not None]
    assert sorted(targets) == sorted(label.quality_value for node_id, label in labels.items() if node_id != 0)
    assert all(node.model_value is not None for node in tree.nodes[1:]), (
        "every step has the value that a filter asks for"
    )


def test_bad_settings_are_refused() -> None:
    with pytest.raises(InputError, match="branches_in_flight"):
        BestFirstSettings(branches_in_flight=0)
