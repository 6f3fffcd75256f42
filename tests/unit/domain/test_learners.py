"""Which steps of a tree each learner takes, with which weight."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from restmcts.domain.labels.filtering import TraceFilter, right_traces, select_traces
from restmcts.domain.learning.awr import AdvantageWeightedLearner
from restmcts.domain.learning.decisive import DecisiveLearner
from restmcts.domain.learning.estimates import prover_value
from restmcts.domain.learning.learner import LEARNER_SETTINGS, LEARNERS, LearnableTree, LearnerSettings
from restmcts.domain.learning.losses import PreferenceLoss
from restmcts.domain.learning.sft import SupervisedLearner
from restmcts.domain.learning.sibling_dpo import SiblingPreferenceLearner
from restmcts.domain.learning.tree_pg import TreeGradientLearner
from restmcts.domain.problems import Verdict
from restmcts.domain.requests import ProposedStep
from restmcts.domain.runs.phases import TRAINING_PHASE, TrainPolicyPhase
from restmcts.domain.runs.spec_settings import Setting, spec_of
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.domain.tree import Node, Tree
from restmcts.errors import InputError
from restmcts.testing.trees import random_tree

RIGHT, WRONG, UNDECIDED = Verdict.RIGHT, Verdict.WRONG, Verdict.UNDECIDED
seeds, sizes = st.integers(0, 2**32), st.integers(0, 40)
quick = settings(max_examples=60, deadline=None)


def learnable(tree: Tree, verdicts: dict[int, Verdict], *, sampled: bool = True, top_k: int = 2) -> LearnableTree:
    traces = select_traces(right_traces(tree, verdicts), TraceFilter(top_k=top_k, rank="shortest"))
    return LearnableTree.of(tree, verdicts, traces, samples_branches=sampled)


@pytest.fixture
def solvable() -> LearnableTree:
    """Return a tree in which the first step "lost" loses, and the second "slip" after "good".

    good ── end (right)      lost ── on ── wrong
        └── slip (wrong)
    """
    tree = Tree()

    def add(parent: Node, text: str, log_prob: float, *, final: bool = False) -> Node:
        node, _ = tree.add_child(parent, ProposedStep(text, 1, log_prob), final=final)
        return node

    good = add(tree.root, "good\n", -0.5)
    end, slip = add(good, "end\n", -0.1, final=True), add(good, "slip\n", -2.0, final=True)
    on = add(add(tree.root, "lost\n", -1.0), "on\n", 0.0)
    wrong = add(on, "wrong\n", 0.0, final=True)
    return learnable(tree, {end.node_id: RIGHT, slip.node_id: WRONG, wrong.node_id: WRONG})


def test_a_step_that_no_value_model_saw_has_no_model_value(solvable: LearnableTree) -> None:
    seen = solvable.tree[2]
    seen.model_value = 0.0
    paths = {end: solvable.path(solvable.tree[end], {}).model_value for end in (seen.node_id, 3)}
    assert paths == {2: 0.0, 3: None}


def taught(learner: LearnerSettings, found: LearnableTree) -> list[tuple[str, float]]:
    """Return the last word of each weighted step with its weight, row by row."""
    return [
        (step.strip(), weight)
        for path in learner.paths(found)
        for step, weight in zip(path.steps, path.weights, strict=True)
        if weight is not None
    ]


def test_sft_takes_right_solutions_whole(solvable: LearnableTree) -> None:
    assert taught(SupervisedLearner(), solvable) == [("good", 1.0), ("end", 1.0)]
    (path,) = SupervisedLearner().paths(solvable)
    assert (path.finished, path.leaf_counts, path.log_probs) == (True, (2, 1), (-0.5, -0.1))
    assert path.values == (pytest.approx((2 * 0.5 + 1 / 3) / 3), 1.0)


def test_decisive_steps_are_those_that_lost_a_solvable_problem(solvable: LearnableTree) -> None:
    learner = DecisiveLearner(strength=0.5, shrinkage=0.0)
    assert taught(learner, solvable) == [
        ("good", 1.0),
        ("end", 1.0),
        ("slip", -0.5 * 0.5),
        ("lost", pytest.approx(-0.5 / 3)),
    ]
    assert taught(DecisiveLearner(min_leaves=2), solvable) == [("good", 1.0), ("end", 1.0)]


def test_of_chosen_branches_the_weights_follow_the_probabilities(solvable: LearnableTree) -> None:
    chosen = learnable(solvable.tree, dict(solvable.verdicts), sampled=False)
    (*_, slip, lost) = taught(DecisiveLearner(strength=1.0, shrinkage=0.0), chosen)
    right, wrong = math.exp(-0.1), math.exp(-2.0)
    assert slip == ("slip", pytest.approx(-right / (right + wrong)))
    total = math.exp(-0.6) + math.exp(-2.5) + math.exp(-1.0)
    assert lost == ("lost", pytest.approx(-math.exp(-0.6) / total))


def test_a_step_above_an_undecided_leaf_is_not_decisive(solvable: LearnableTree) -> None:
    verdicts = {node_id: UNDECIDED if verdict == WRONG else verdict for node_id, verdict in solvable.verdicts.items()}
    assert taught(DecisiveLearner(), learnable(solvable.tree, verdicts)) == [("good", 1.0), ("end", 1.0)]


def test_awr_weights_the_steps_of_right_solutions_by_their_progress(solvable: LearnableTree) -> None:
    learner = AdvantageWeightedLearner(temperature=0.5, num_tries=2, shrinkage=0.0)
    gains = [prover_value(0.5, 2) - prover_value(1 / 3, 2), prover_value(1.0, 2) - prover_value(0.5, 2)]
    weights = [math.exp(gain / 0.5) for gain in gains]
    assert taught(learner, solvable) == [("good", pytest.approx(weights[0])), ("end", pytest.approx(weights[1]))]


def test_sibling_pairs_must_be_likely(solvable: LearnableTree) -> None:
    # One right leaf against one wrong one: 5/6. Two leaves, one right, against one wrong one: 7/10.
    likely = SiblingPreferenceLearner(min_probability=0.8, shrinkage=0.0)
    assert taught(likely, solvable) == [("end", 1.0), ("slip", -1.0)]
    all_pairs = SiblingPreferenceLearner(min_probability=0.65, shrinkage=0.0)
    assert taught(all_pairs, solvable) == [("end", 1.0), ("slip", -1.0), ("good", 0.5), ("lost", -0.5)]
    assert taught(SiblingPreferenceLearner(min_probability=0.65, max_pairs=1, shrinkage=0.0), solvable)[2:] == []


def test_the_policy_gradient_takes_every_step_once_with_its_advantage(solvable: LearnableTree) -> None:
    found = dict(taught(TreeGradientLearner(shrinkage=0.0), solvable))
    third = 1 / 3
    wanted = {
        "good": 2 * (0.5 - third) / math.sqrt(2),
        "end": (1 - third) + 0.5,
        "slip": (0 - third) - 0.5,
        "lost": 2 * (0 - third),
        "on": -third,
        "wrong": -third,
    }
    assert found == {name: pytest.approx(one / 6) for name, one in wanted.items()}


@pytest.mark.parametrize("verdict", [RIGHT, WRONG, UNDECIDED])
def test_a_tree_whose_leaves_agree_teaches_no_order(verdict: Verdict, solvable: LearnableTree) -> None:
    agreeing = learnable(solvable.tree, dict.fromkeys(solvable.verdicts, verdict))
    assert taught(TreeGradientLearner(), agreeing) == []
    assert taught(SiblingPreferenceLearner(min_probability=0.0), agreeing) == []
    assert all(weight > 0 for _, weight in taught(DecisiveLearner(), agreeing))


@quick
@given(seeds, sizes, st.booleans(), st.sampled_from(sorted(LEARNERS)))
def test_rows_are_whole_paths_and_weigh_only_what_is_decided(seed: int, size: int, sampled: bool, name: str) -> None:
    tree, verdicts = random_tree(seed, size)
    found = learnable(tree, verdicts, sampled=sampled)
    learner = LEARNERS.get(name)()
    paths = learner.paths(found)
    for path in paths:
        assert path.steps == tree.steps_to(tree[path.node_id])
        lengths: Sequence[int] = [len(path.weights), len(path.values), len(path.leaf_counts), len(path.log_probs)]
        assert set(lengths) == {len(path.steps)}
        for node, weight in zip(tree.lineage(tree[path.node_id])[1:], path.weights, strict=True):
            assert weight is None or (math.isfinite(weight) and node.node_id in found.estimates)
        assert any(weight is not None for weight in path.weights)
    if isinstance(learner.loss, PreferenceLoss):
        for chosen, rejected in zip(paths[::2], paths[1::2], strict=True):
            assert chosen.steps[:-1] == rejected.steps[:-1]
            assert chosen.weights[-1] == -(rejected.weights[-1] or 0.0) and (chosen.weights[-1] or 0.0) > 0


@quick
@given(seeds, sizes)
def test_a_step_stands_once_where_steps_are_counted(seed: int, size: int) -> None:
    tree, verdicts = random_tree(seed, size)
    found = learnable(tree, verdicts, top_k=5)
    for learner in (AdvantageWeightedLearner(), TreeGradientLearner()):
        nodes = [
            node.node_id
            for path in learner.paths(found)
            for node, weight in zip(tree.lineage(tree[path.node_id])[1:], path.weights, strict=True)
            if weight is not None
        ]
        assert len(nodes) == len(set(nodes))


def test_a_learner_is_an_object_with_its_name() -> None:
    document = LEARNER_SETTINGS.dump_python(DecisiveLearner(strength=0.1), mode="json")
    assert document["name"] == "decisive" and document["strength"] == 0.1
    assert LEARNER_SETTINGS.validate_python(document) == DecisiveLearner(strength=0.1)


def test_phases_stored_before_there_were_learners_are_supervised() -> None:
    phase = TrainPolicyPhase("policy-1", 1, "base", TrainingSettings())
    document = TRAINING_PHASE.dump_python(phase, mode="json")
    assert document["learner"] == {"name": "sft"}
    del document["learner"]
    assert TRAINING_PHASE.validate_python(document) == phase


def test_a_run_names_its_learner() -> None:
    spec = spec_of([Setting("learner.name", "decisive", "--learner"), Setting("learner.strength", 0.1, "-l")])
    assert spec.learner == DecisiveLearner(strength=0.1)
    assert spec_of([]).learner == SupervisedLearner()
    changed = [Setting("learner.name", "decisive", "run.toml"), Setting("learner.strength", 0.1, "run.toml")]
    assert spec_of([*changed, Setting("learner.name", "awr", "--learner")]).learner == AdvantageWeightedLearner()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("learner.name", "decisiv", r"--set: learner: no learner is called 'decisiv'; did you mean 'decisive'\?"),
        ("learner.strenght", 1, r"--set: learner.strenght: there is no such setting; did you mean 'strength'\?"),
        ("learner.strength", -1, r"--set: learner.strength is -1; give at least 0"),
    ],
)
def test_a_wrong_learner_is_one_line(name: str, value: object, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        spec_of([Setting("learner.name", "decisive", "run.toml"), Setting(name, value, "--set")])


def test_settings_of_every_learner_are_read_and_written() -> None:
    for name in LEARNERS:
        adapter = TypeAdapter(LearnerSettings)
        settings_of_it = LEARNERS.get(name)()
        assert adapter.validate_json(adapter.dump_json(settings_of_it)) == settings_of_it
