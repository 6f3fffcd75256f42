"""What the paper says follows from its Eqs. 1 and 2, on trees from a seed."""

import math
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from restmcts.domain.labels.filtering import (
    PairFilter,
    Trace,
    TraceFilter,
    right_traces,
    select_traces,
    step_pairs,
    value_paths,
    value_samples,
)
from restmcts.domain.labels.inferred import StepLabel, end_leaves, infer_labels
from restmcts.domain.problems import Verdict
from restmcts.domain.requests import ProposedStep
from restmcts.domain.tree import ROOT, Node, Tree
from restmcts.domain.values import expected_weighted_reward, quality_value, weighted_reward
from restmcts.errors import InputError
from restmcts.testing.trees import chain, random_tree

unit = st.floats(0.0, 1.0)
distances = st.integers(0, 50)
seeds = st.integers(0, 2**32)
sizes = st.integers(0, 40)
quick = settings(max_examples=60, deadline=None)


@quick
@given(unit, distances, unit)
def test_the_quality_value_stays_in_its_range(parent: float, distance: int, probability: float) -> None:
    assert 0.0 <= quality_value(parent, expected_weighted_reward(parent, distance, probability)) <= 1.0


@quick
@given(unit, distances)
def test_a_right_step_raises_and_a_wrong_one_lowers_by_the_same(parent: float, distance: int) -> None:
    right, wrong = weighted_reward(parent, distance, True), weighted_reward(parent, distance, False)
    assert right == -wrong == pytest.approx((1.0 - parent) / (distance + 1))
    assert quality_value(parent, wrong) <= parent <= quality_value(parent, right)
    if 0.0 < parent < 0.99:
        assert quality_value(parent, wrong) < parent < quality_value(parent, right)


@quick
@given(st.floats(0.0, 0.99), distances, st.booleans())
def test_the_nearer_the_end_the_larger_the_reward(parent: float, distance: int, right: bool) -> None:
    assert abs(weighted_reward(parent, distance, right)) > abs(weighted_reward(parent, distance + 1, right))


@pytest.mark.parametrize("arguments", [(-0.1, 0, True), (1.1, 0, True), (0.5, -1, True)])
def test_arguments_outside_their_range_are_refused(arguments: tuple[float, int, bool]) -> None:
    with pytest.raises(InputError):
        weighted_reward(*arguments)


@pytest.mark.parametrize("num_steps", [1, 2, 3, 7, 30])
def test_a_right_trace_without_a_shorter_way_rises_evenly_to_1(num_steps: int) -> None:
    tree, leaf = chain(num_steps)
    labels = infer_labels(tree, {leaf.node_id: Verdict.RIGHT})
    values = [labels[node.node_id].quality_value for node in tree.lineage(leaf)]
    assert values == pytest.approx([place / num_steps for place in range(num_steps + 1)])
    assert [labels[node.node_id].reasoning_distance for node in tree.lineage(leaf)] == list(range(num_steps, -1, -1))


def branching() -> tuple[Tree, dict[str, Node]]:
    """root - a - right; a - wrong; root - b - open; root - c - undecided."""
    tree = Tree()
    nodes: dict[str, Node] = {}
    for name, parent in (
        ("a", None),
        ("right", "a"),
        ("wrong", "a"),
        ("b", None),
        ("open", "b"),
        ("c", None),
        ("unsure", "c"),
    ):
        above = nodes[parent] if parent else tree.root
        step = ProposedStep(f"{name}\n", 1, -1.0)
        nodes[name], _ = tree.add_child(above, step, final=name in ("right", "wrong", "unsure"))
    return tree, nodes


def verdicts_of(nodes: dict[str, Node]) -> dict[int, Verdict]:
    named = {"right": Verdict.RIGHT, "wrong": Verdict.WRONG, "unsure": Verdict.UNDECIDED}
    return {nodes[name].node_id: verdict for name, verdict in named.items()}


def test_a_wrong_step_takes_the_distance_of_the_nearest_ancestor_on_a_way() -> None:
    tree, nodes = branching()
    labels = infer_labels(tree, verdicts_of(nodes))
    assert labels[nodes["a"].node_id] == StepLabel(1, True, 0.5, 0.5)
    assert labels[nodes["right"].node_id] == StepLabel(0, True, 0.5, 1.0)
    assert labels[nodes["wrong"].node_id] == StepLabel(1, False, -0.25, 0.25)


def test_unfinished_and_undecided_branches_are_pruned() -> None:
    tree, nodes = branching()
    labels = infer_labels(tree, verdicts_of(nodes))
    assert set(labels) == {ROOT, *(nodes[name].node_id for name in ("a", "right", "wrong"))}


def test_a_tree_without_a_right_leaf_has_no_labels() -> None:
    tree, nodes = branching()
    assert infer_labels(tree, {nodes["wrong"].node_id: Verdict.WRONG}) == {}


@quick
@given(seeds, sizes)
def test_labels_of_any_tree_follow_the_definitions(seed: int, num_nodes: int) -> None:
    tree, verdicts = random_tree(seed, num_nodes)
    labels = infer_labels(tree, verdicts)
    assert bool(labels) == (Verdict.RIGHT in verdicts.values())
    for node_id, label in labels.items():
        below = {n.node_id: n.depth - tree[node_id].depth for n in tree.depth_first(node_id)}
        ways = [distance for leaf, distance in below.items() if verdicts.get(leaf) == Verdict.RIGHT]
        known = [verdict for leaf, verdict in verdicts.items() if leaf in below]
        assert 0.0 <= label.quality_value <= 1.0
        assert label.step_is_right == bool(ways)
        if ways:
            assert label.reasoning_distance == min(ways)
        else:
            assert known and Verdict.UNDECIDED not in known
        parent = tree[node_id].parent_id
        if parent is not None:
            above = labels[parent]
            assert label.quality_value == quality_value(above.quality_value, label.weighted_reward)
            assert (label.weighted_reward >= 0) if label.step_is_right else (label.weighted_reward <= 0)
            if not ways:
                assert label.reasoning_distance == above.reasoning_distance
        if verdicts.get(node_id) == Verdict.RIGHT:
            assert math.isclose(label.quality_value, 1.0)


@quick
@given(seeds, sizes)
def test_an_undecided_leaf_is_never_labelled_and_makes_nothing_above_it_wrong(seed: int, num_nodes: int) -> None:
    tree, verdicts = random_tree(seed, num_nodes)
    labels = infer_labels(tree, verdicts)
    for leaf in (node_id for node_id, verdict in verdicts.items() if verdict == Verdict.UNDECIDED):
        assert leaf not in labels
        assert all(labels[n.node_id].step_is_right for n in tree.lineage(tree[leaf]) if n.node_id in labels)


@quick
@given(seeds, sizes)
def test_value_paths_hold_each_labelled_node_exactly_once(seed: int, num_nodes: int) -> None:
    tree, verdicts = random_tree(seed, num_nodes)
    labels = infer_labels(tree, verdicts)
    on_paths: list[tuple[tuple[str, ...], float]] = []
    for path in value_paths(tree, labels):
        assert path.steps == tree.steps_to(tree[path.node_id]) and len(path.steps) == len(path.targets)
        on_paths += [(path.steps[: k + 1], target) for k, target in enumerate(path.targets) if target is not None]
    samples = [(sample.steps, sample.label.quality_value) for sample in value_samples(tree, labels)]
    assert sorted(on_paths) == sorted(samples)
    assert len(samples) == max(len(labels) - 1, 0)


def test_a_gated_leaf_is_verified_only_where_the_search_had_a_gate() -> None:
    tree, nodes = branching()
    nodes["open"].search_value = 0.95
    assert nodes["open"] not in end_leaves(tree)
    assert nodes["open"] in end_leaves(tree, 0.9)
    nodes["open"].from_rollout = True
    assert nodes["open"] not in end_leaves(tree, 0.9), "the search never selects a step of a rollout"
    nodes["open"].from_rollout = False
    nodes["open"].expanded = True
    assert nodes["open"] not in end_leaves(tree, 0.9)


@quick
@given(seeds, sizes)
def test_right_traces_are_the_right_leaves_and_nothing_else(seed: int, num_nodes: int) -> None:
    tree, verdicts = random_tree(seed, num_nodes)
    traces = right_traces(tree, verdicts)
    assert {trace.node_id for trace in traces} == {key for key, verdict in verdicts.items() if verdict == Verdict.RIGHT}
    assert len({trace.steps for trace in traces}) == len(traces)


TRACES = [
    Trace(1, ("a\n", "b\n"), 0.5),
    Trace(2, ("a\n",), 0.2),
    Trace(3, ("a\n", "c\n"), 0.5),
    Trace(4, ("a\n", "b\n", "c\n"), 0.9),
]


@pytest.mark.parametrize(
    ("criteria", "kept"),
    [
        (TraceFilter(), [4, 1, 3, 2]),
        (TraceFilter(top_k=2), [4, 1]),
        (TraceFilter(min_value=0.5), [4, 1, 3]),
        (TraceFilter(top_k=3, rank="shortest"), [2, 1, 3]),
        (TraceFilter(min_value=0.95), []),
    ],
)
def test_traces_are_selected_by_value_or_length_and_at_most_k(criteria: TraceFilter, kept: list[int]) -> None:
    assert [trace.node_id for trace in select_traces(TRACES, criteria)] == kept


@pytest.mark.parametrize(("rank", "steps"), [("value", ("a", "b")), ("least-value", ("c", "d"))])
def test_a_solution_is_ranked_by_its_last_step_or_by_the_one_that_is_liked_least(
    rank: Literal["value", "least-value"], steps: tuple[str, ...]
) -> None:
    tree = Tree()
    verdicts = {}
    for path in ((("a", 0.2), ("b", 0.9)), (("c", 0.7), ("d", 0.6))):
        node = tree.root
        for place, (step, value) in enumerate(path, start=1):
            node, _ = tree.add_child(node, ProposedStep(step, 1, -1.0), final=place == len(path))
            node.model_value = value
        verdicts[node.node_id] = Verdict.RIGHT
    (kept,) = select_traces(right_traces(tree, verdicts), TraceFilter(top_k=1, rank=rank))
    assert kept.steps == steps


def test_a_filter_that_keeps_nothing_is_refused() -> None:
    with pytest.raises(InputError):
        TraceFilter(top_k=0)


@quick
@given(seeds, sizes, unit, st.none() | st.integers(1, 5))
def test_pairs_are_siblings_the_best_first(seed: int, num_nodes: int, min_gap: float, top_k: int | None) -> None:
    tree, verdicts = random_tree(seed, num_nodes)
    labels = infer_labels(tree, verdicts)
    everything = step_pairs(tree, labels, PairFilter(min_gap))
    for pair in everything:
        assert pair.chosen.parent_id == pair.rejected.parent_id
        assert pair.steps == tree.steps_to(pair.chosen)[:-1] == tree.steps_to(pair.rejected)[:-1]
        value, other = labels[pair.chosen.node_id].quality_value, labels[pair.rejected.node_id].quality_value
        assert (value, other) == (pair.chosen_value, pair.rejected_value) and value > other and value - other >= min_gap
        assert value == max(
            labels[n].quality_value for n in tree[pair.chosen.parent_id or ROOT].children if n in labels
        )
    gaps = [pair.chosen_value - pair.rejected_value for pair in everything]
    assert gaps == sorted(gaps, reverse=True)
    assert step_pairs(tree, labels, PairFilter(min_gap, top_k)) == everything[:top_k]
    lower = sum(len({labels[n].quality_value for n in node.children if n in labels}) > 1 for node in tree.nodes)
    assert len({pair.chosen.parent_id for pair in step_pairs(tree, labels, PairFilter())}) == lower
