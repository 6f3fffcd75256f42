"""Calls of tools: what a search asks for them, what its tree holds, and that nobody learns it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from restmcts.domain.labels.corruption import corrupted_values
from restmcts.domain.labels.filtering import PairFilter, right_traces, solution_pairs, step_pairs, value_paths
from restmcts.domain.labels.inferred import infer_labels
from restmcts.domain.labels.rollouts import label_steps
from restmcts.domain.learning.learner import LEARNERS, LearnableTree
from restmcts.domain.problems import Verdict
from restmcts.domain.requests import (
    CallTool,
    Observation,
    ProposedStep,
    ProposeSteps,
    Request,
    Response,
    Sample,
    ScoreSteps,
    StepsProposed,
    StepsScored,
    ToolAnswered,
)
from restmcts.domain.search.best_first import BestFirstSettings
from restmcts.domain.search.best_of_n import BestOfNSettings
from restmcts.domain.search.forked import ForkedSettings
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.search.protocol import Budget, Search
from restmcts.domain.search.settings import SearchSettings
from restmcts.domain.search.step_rollouts import StepRolloutsSettings
from restmcts.domain.search.tool_calls import ToolSettings, ToolUse, observed_places
from restmcts.domain.search.tree_of_thoughts import StepBeamSettings, TotBfsSettings, TotDfsSettings
from restmcts.domain.tasks.task import TASKS, ProgramOutput
from restmcts.domain.tasks.tool_lines import calculate, called_tool, tool_result
from restmcts.domain.tree import Node, Tree
from restmcts.testing.scripted import run_search
from restmcts.testing.trees import RandomModels, answer_step

MATH = TASKS.get("math")
CALLS = ("calc: 2*3\n", "calc: 10-4\n", "calc: 1/0\n")
SEARCHED: tuple[SearchSettings, ...] = (
    MctsStarSettings(mode="collect", stop_threshold=2.0, max_depth=8),
    MctsStarSettings(mode="collect", stop_threshold=2.0, max_depth=8, keep_rollouts=True, widening=1.0),
    MctsStarSettings(max_depth=8, leaves_in_flight=3),
    BestOfNSettings(num_samples=6),
    BestFirstSettings(stop_threshold=None),
    BestFirstSettings(stop_threshold=None, merge="normalised", branches_in_flight=2),
    ForkedSettings(max_samples=8),
    StepRolloutsSettings(num_rollouts=2),
    StepBeamSettings(),
    TotBfsSettings(),
    TotDfsSettings(),
)
each_search = pytest.mark.parametrize("settings", SEARCHED, ids=lambda one: one.algorithm)


class CallingModels(RandomModels):
    """Random models whose policy calls the calculator now and then, and goes on as if it knew the
    answer. Python cannot be run.
    """

    def answer(self, request: Request) -> Response:
        if not isinstance(request, CallTool):
            return super().answer(request)
        found = tool_result(request.steps[-1], lambda _: ProgramOutput("", "no sandbox", is_known=False))
        return ToolAnswered(request.number, found.text, found.is_known)

    def _text(self, number: int) -> str:
        return CALLS[number] if number < len(CALLS) else f"python: {number}\n" if number == 3 else f"move {number}\n"


def made(settings: SearchSettings, seed: int = 0, max_calls: int = 3) -> Search:
    search = settings.build(Budget(iterations=8, nodes=200), seed, MATH.ends)
    search.use_tools(ToolUse("math", MATH.calls, ToolSettings(max_calls=max_calls)))
    return search


def facts(tree: Tree) -> list[tuple[object, ...]]:
    return [(one.parent_id, one.step, one.visits, one.search_value, one.observed, one.final) for one in tree.nodes]


@each_search
def test_every_call_is_answered_by_one_observation_that_costs_nothing(settings: SearchSettings) -> None:
    models = CallingModels(num_words=6, answer_rate=0.2)
    trees = [run_search(made(settings, seed), models.answer).tree for seed in range(6)]
    assert sum(node.observed for tree in trees for node in tree.nodes) > 1
    for tree, node in [(searched, node) for searched in trees for node in searched.nodes[1:]]:
        before = tree[node.parent_id or 0]
        assert node.observed == (MATH.calls(before.step) and not before.observed)
        if node.observed:
            assert [tree[child] for child in before.children] == [node]
            assert (node.num_tokens, node.log_prob) == (0, 0.0)
            failed = before.step.startswith("python")
            assert node.step == ("not answered: no sandbox\n" if failed else f"result: {calculate(before.step[6:])}\n")
            assert node.final == failed, "what nobody could answer is not gone on from"


@each_search
def test_the_same_seed_gives_the_same_tree_and_a_replay_gives_it_again(settings: SearchSettings) -> None:
    models = CallingModels(seed=1, num_words=6, answer_rate=0.2)
    received: list[Response] = []

    def answer(request: Request) -> Response:
        received.append(models.answer(request))
        return received[-1]

    first = run_search(made(settings), answer)
    assert any(isinstance(one, ToolAnswered) for one in received)
    for length in (len(received) // 2, len(received)):
        replayed = made(settings)
        requests = replayed.begin()
        for response in received[:length]:
            requests = [one for one in requests if one.number != response.number] + replayed.receive(response)
        while requests:
            request, *requests = requests
            requests += replayed.receive(models.answer(request))
        assert length < len(received) or facts(replayed.tree) == facts(first.tree)
        assert replayed.finished


@each_search
def test_a_run_without_tools_has_the_tree_that_it_had(settings: SearchSettings) -> None:
    models = CallingModels(seed=3, num_words=5, answer_rate=0.1)
    plain = run_search(settings.build(Budget(iterations=8, nodes=200), 0, MATH.ends), models.answer)
    assert not any(node.observed for node in plain.tree.nodes)
    assert any(MATH.calls(node.step) for node in plain.tree.nodes), "calls are text"
    words = RandomModels(seed=2, num_words=6, answer_rate=0.2)
    built = settings.build(Budget(iterations=8, nodes=200), 0, MATH.ends)
    built.use_tools(ToolUse("math", MATH.calls, ToolSettings(max_calls=3)))
    never_called = run_search(built, words.answer).tree
    assert facts(never_called) == facts(
        run_search(settings.build(Budget(iterations=8, nodes=200), 0, MATH.ends), words.answer).tree
    )


@each_search
@pytest.mark.parametrize("max_calls", [1, 2])
def test_a_solution_that_calls_too_often_ends_there(settings: SearchSettings, max_calls: int) -> None:
    models = CallingModels(seed=3, num_words=3, answer_rate=0.1, silence_rate=0.0, end_rate=0.0)
    tree = run_search(made(settings, max_calls=max_calls), models.answer).tree
    ends = [node for node in tree.nodes if node.final and MATH.calls(node.step) and not node.observed]
    for node in tree.nodes:
        assert sum(one.observed for one in tree.lineage(node)) <= max_calls
    for node in ends:
        assert sum(one.observed for one in tree.lineage(node)) == max_calls
        assert not node.children


class Written:
    """A policy that always writes the same lines."""

    def __init__(self, *lines: str, ended: bool = False) -> None:
        self.lines, self.ended, self.asked = lines, ended, list[Request]()

    def answer(self, request: Request) -> Response:
        self.asked.append(request)
        match request:
            case ProposeSteps():
                steps = tuple(ProposedStep(line, 5, -1.0) for line in self.lines[: request.max_steps])
                if request.steps:
                    steps = (ProposedStep(answer_step("27"), 4, -1.0),)
                return StepsProposed(request.number, (Sample(steps, 9, self.ended),) * request.num_samples, 3)
            case ScoreSteps():
                return StepsScored(request.number, tuple((0.5,) * len(one) for one in request.branches), 1)
            case CallTool():
                return ToolAnswered(request.number, tool_result(request.steps[-1], lambda _: ProgramOutput("")).text)


def test_what_the_policy_wrote_behind_a_call_is_dropped_and_its_tokens_are_counted() -> None:
    policy = Written("calc: 3*(4+5)\n", "result: 28\n", answer_step("28"))
    search = run_search(made(BestOfNSettings(num_samples=1, score=False)), policy.answer)
    assert [node.step for node in search.tree.nodes[1:]] == ["calc: 3*(4+5)\n", "result: 27\n", answer_step("27")]
    assert search.spent.tokens == 18
    assert search.spent.model_calls == 3


def test_a_call_that_ends_what_the_policy_wrote_is_answered_on_a_line_of_its_own() -> None:
    policy = Written("calc: 2+2", ended=True)
    search = run_search(made(BestOfNSettings(num_samples=1, score=False)), policy.answer)
    assert [node.step for node in search.tree.nodes[1:]] == ["calc: 2+2", "\nresult: 4\n", answer_step("27")]


def test_equal_calls_of_a_tree_are_asked_once() -> None:
    policy = Written("calc: 2+2\n")
    run_search(made(BestOfNSettings(num_samples=4, score=False)), policy.answer)
    assert sum(isinstance(one, CallTool) for one in policy.asked) == 1


def test_the_calls_of_given_steps_are_counted_and_their_answers_are_observations() -> None:
    given = ("calc: 1+1\n", "result: 2\n", "so\n", "calc: 2+2\n")
    assert observed_places(given, MATH.calls) == {1, 4}
    search = StepRolloutsSettings(num_rollouts=1).build(Budget(), 0, MATH.ends, given)
    search.use_tools(ToolUse("math", MATH.calls, ToolSettings(max_calls=2)))
    tree = run_search(search, Written("never\n").answer).tree
    assert [node.step for node in tree.nodes if node.observed] == ["result: 2\n", "result: 4\n"]


@pytest.fixture
def solved() -> Iterator[tuple[Tree, dict[int, Verdict]]]:
    """Return a tree with a right and a wrong solution, both through one call, and one that nobody
    could answer.
    """
    tree = Tree()

    def add(parent: Node, step: ProposedStep, *, final: bool = False) -> Node:
        return tree.add_child(parent, step, final=final)[0]

    call = add(tree.root, ProposedStep("calc: 3*9\n", 4, -0.5))
    observed = add(call, Observation("result: 27\n", 0, 0.0))
    right = add(observed, ProposedStep(answer_step("27"), 3, -0.1), final=True)
    wrong = add(observed, ProposedStep(answer_step("28"), 3, -2.0), final=True)
    other = add(tree.root, ProposedStep("python: x\n", 4, -1.0))
    unknown = add(other, Observation("not answered: no sandbox\n", 0, 0.0), final=True)
    verdicts = {right.node_id: Verdict.RIGHT, wrong.node_id: Verdict.WRONG, unknown.node_id: Verdict.UNDECIDED}
    yield tree, verdicts


@pytest.mark.parametrize("name", [entry.name for entry in LEARNERS.entries()])
@pytest.mark.parametrize("samples_branches", [True, False])
def test_no_learner_learns_an_observation(
    solved: tuple[Tree, dict[int, Verdict]], name: str, samples_branches: bool
) -> None:
    tree, verdicts = solved
    found = LearnableTree.of(tree, verdicts, right_traces(tree, verdicts), samples_branches=samples_branches)
    learner = LEARNERS.get(name)()
    if name == "sibling-dpo":
        learner = replace(learner, min_probability=0.0)
    paths = learner.paths(found)
    assert paths
    for path in paths:
        assert any(weight is not None for weight in path.weights)
        for step, weight, log_prob in zip(path.steps, path.weights, path.log_probs, strict=True):
            if step.startswith(("result:", "not answered:")):
                assert weight is log_prob is None


@pytest.mark.parametrize("source", ["values", "hard-rollouts", "soft-rollouts"])
def test_no_value_is_learned_for_an_observation(solved: tuple[Tree, dict[int, Verdict]], source: str) -> None:
    tree, verdicts = solved
    for node in tree.final_nodes():
        node.multiplicity = 1
    labels = label_steps(tree, verdicts, source)  # type: ignore[arg-type]
    assert not any(tree[node_id].observed for node_id in labels)
    for path in value_paths(tree, labels):
        for step, target, right in zip(path.steps, path.targets, path.leads_to_right, strict=True):
            if step.startswith("result:"):
                assert target is right is None
    assert not any(pair.chosen.observed for pair in step_pairs(tree, labels, PairFilter()))


def test_an_observation_is_no_step_of_the_distance_to_the_answer(solved: tuple[Tree, dict[int, Verdict]]) -> None:
    tree, verdicts = solved
    plain = Tree()
    call, _ = plain.add_child(plain.root, ProposedStep("calc: 3*9\n", 4, -0.5), final=False)
    for answer in ("27", "28"):
        plain.add_child(call, ProposedStep(answer_step(answer), 3, -0.1), final=True)
    without = infer_labels(plain, {2: Verdict.RIGHT, 3: Verdict.WRONG})
    labels = infer_labels(tree, verdicts)
    assert [labels[0], labels[1], labels[3], labels[4]] == [without[0], without[1], without[2], without[3]]
    assert labels[2] == labels[1]


def test_whole_solutions_with_observations_are_no_pairs(solved: tuple[Tree, dict[int, Verdict]]) -> None:
    tree, _ = solved
    assert solution_pairs(tree, PairFilter(between="solutions")) == []


def test_a_given_solution_is_neither_valued_nor_corrupted_where_it_was_answered() -> None:
    steps: Sequence[str] = ("calc: 3*9\n", "result: 27\n", answer_step("27"))
    whole, *wrong = corrupted_values(steps, 0, {1})
    assert (whole.targets, whole.leads_to_right) == ((0.5, None, 1.0), (True, None, True))
    assert [len(one.steps) for one in wrong] == [1, 3]
    assert list(corrupted_values(steps, 0)) == list(corrupted_values(steps, 0, frozenset()))


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("3*(4+5)", "27"),
        ("7/2", "3.5"),
        ("-1/8", "-0.125"),
        ("1/3", "1/3"),
        ("0.1+0.2", "0.3"),
        ("2^10", "1024"),
        ("2**-1", "0.5"),
        ("7//2 + 7%2", "4"),
        ("1e3", "1000"),
        ("1/0", "error: division by zero"),
        ("9**9**9", "error: the result is too large"),
        ("2**0.5", "error: an exponent must be a whole number"),
        ("0.12345678901234567890*10", "1.234567890123456789"),
        ("1e-999999999", "error: the result is too large"),
        ("1e999999999", "error: the result is too large"),
        ("__import__('os')", "error: only numbers, + - * / // % ** and parentheses are known"),
        ("True + 1", "error: only numbers, + - * / // % ** and parentheses are known"),
        ("3 +", "error: this is no arithmetic expression"),
        ("(" * 399, "error: this is no arithmetic expression"),
        ("1+" * 300 + "1", "error: longer than 400 characters"),
    ],
)
def test_the_calculator_is_exact_and_bounded(expression: str, value: str) -> None:
    assert calculate(expression) == value


@pytest.mark.parametrize(
    ("step", "tool"),
    [("calc: 1\n", "calc"), ("  python: print(1)\n", "python"), ("calc:\n", None), ("so calc: 1\n", None), ("", None)],
)
def test_a_call_is_a_line_that_begins_with_the_name_of_a_tool(step: str, tool: str | None) -> None:
    assert called_tool(step) == tool
