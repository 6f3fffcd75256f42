"""What is accepted as true where no true answer is known: votes in a tree, the ledger of a run, and
when a run has to stop. Properties over random ballots.
"""

import random

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from restmcts.domain.labels.inferred import infer_labels
from restmcts.domain.problems import Verdict
from restmcts.domain.requests import ProposedStep
from restmcts.domain.runs.spec import RunSpec
from restmcts.domain.runs.spec_plan import spec_plan
from restmcts.domain.tree import Tree
from restmcts.domain.truth.ledger import Flip, LedgerEntry, flips_of, quarantined_by, summarise_truth, why_stop
from restmcts.domain.truth.truth_settings import TruthSettings
from restmcts.domain.truth.votes import Ballot, ballots_of, count_votes, judgements_of
from restmcts.errors import InputError

BALLOTS = st.lists(
    st.builds(
        Ballot,
        st.sampled_from(["1", "2", "3", None]),
        st.floats(-800.0, 0.0),
        st.integers(1, 4),
    ),
    max_size=12,
)
SHARES = st.floats(0.05, 1.0)
VOTES = TruthSettings("votes")


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(BALLOTS, SHARES, st.integers(1, 3), st.randoms())
@example([Ballot("1", -6.8e-15, 1), Ballot("2", 0.0, 1)], 0.5, 1, random.Random(0))
def test_the_order_of_solutions_and_the_names_of_answers_decide_nothing(
    ballots: list[Ballot], min_share: float, min_branches: int, shuffled: random.Random
) -> None:
    vote = count_votes(ballots, min_share, min_branches)
    others = [
        Ballot(None if one.answer is None else f"x{one.answer}", one.log_weight - 300.0, one.branch + 7)
        for one in ballots
    ]
    shuffled.shuffle(others)
    same = count_votes(others, min_share, min_branches)
    assert same.answer == (None if vote.answer is None else f"x{vote.answer}")
    assert {f"x{answer}": share for answer, share in vote.shares.items()} == pytest.approx(same.shares, abs=1e-9)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(BALLOTS, SHARES, st.integers(1, 3))
def test_an_answer_wins_by_its_share_and_its_branches_alone(
    ballots: list[Ballot], min_share: float, min_branches: int
) -> None:
    vote = count_votes(ballots, min_share, min_branches)
    assert sum(vote.shares.values()) <= 1.0 + 1e-9
    if vote.answer is None:
        return
    assert vote.shares[vote.answer] == max(vote.shares.values()) >= min_share
    assert len({one.branch for one in ballots if one.answer == vote.answer}) >= min_branches


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(BALLOTS, SHARES, SHARES, st.integers(1, 3))
def test_stricter_settings_decide_no_tree_that_laxer_ones_leave_open(
    ballots: list[Ballot], first: float, second: float, branches: int
) -> None:
    lax, strict = sorted((first, second))
    strictly = count_votes(ballots, strict, branches + 1)
    if strictly.answer is not None:
        assert count_votes(ballots, lax, branches).answer == strictly.answer


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(BALLOTS)
def test_of_an_undecided_tree_nothing_is_known_and_of_a_decided_one_scores_are_shares(ballots: list[Ballot]) -> None:
    numbered = dict(enumerate(ballots))
    vote = count_votes(ballots, 0.5, 2)
    for node_id, found in judgements_of(numbered, vote).items():
        answer = ballots[node_id].answer
        assert found.source == "votes" and found.reason == vote.reason
        if vote.answer is None:
            assert (found.verdict, found.score) == (Verdict.UNDECIDED, None)
        else:
            assert found.verdict == (Verdict.RIGHT if answer == vote.answer else Verdict.WRONG)
            assert found.score == (vote.shares[answer] if answer is not None else 0.0)


def tree_of(*paths: tuple[tuple[str, float], ...]) -> Tree:
    tree = Tree()
    for path in paths:
        steps = [ProposedStep(text, 1, log_prob) for text, log_prob in path]
        nodes = tree.add_path(tree.root, steps, lambda step: step.text.startswith("="))
        nodes[-1].multiplicity += 1
    return tree


def answers_in(tree: Tree) -> dict[int, str | None]:
    return {node.node_id: node.step.removeprefix("=") for node in tree.final_nodes()}


def test_votes_are_weighted_by_probability_samples_and_value() -> None:
    tree = tree_of((("a", -1.0), ("=4", -0.5)), (("b", -2.0), ("=4", -0.5)), (("b", -2.0), ("=5", -1.0)))
    likely = ballots_of(tree, answers_in(tree), 1.0, 1)
    assert [round(one.log_weight, 6) for one in likely.values()] == [-1.5, -2.5, -3.0]
    assert len({one.branch for one in likely.values()}) == 2
    leaf = tree.final_nodes()[0]
    leaf.multiplicity, leaf.model_value = 8, 0.5
    sampled = ballots_of(tree, answers_in(tree), 0.0, 1)
    shares = count_votes(list(sampled.values()), 0.5, 1).shares
    assert shares == pytest.approx({"4": 5 / 6, "5": 1 / 6})


def test_an_answer_that_one_early_step_leads_to_is_not_believed() -> None:
    tree = tree_of((("a", -1.0), ("=4", -0.5)), (("a", -1.0), ("c", -1.0), ("=4", -0.5)), (("b", -1.0), ("=5", -9.0)))
    ballots = list(ballots_of(tree, answers_in(tree), 1.0, 1).values())
    vote = count_votes(ballots, 0.5, 2)
    assert vote.answer is None and "all from 1 of at least 2 early steps" in vote.reason
    later = list(ballots_of(tree, answers_in(tree), 1.0, 2).values())
    assert count_votes(later, 0.5, 2).answer == "4", "the second step is another one"


def test_values_of_steps_are_as_sure_as_the_vote() -> None:
    tree = tree_of((("a", -1.0), ("=4", -0.5)), (("b", -1.0), ("=5", -9.0)))
    right, wrong = (node.node_id for node in tree.final_nodes())
    verdicts = {right: Verdict.RIGHT, wrong: Verdict.WRONG}
    sure, unsure = (infer_labels(tree, verdicts, scores) for scores in ({}, {right: 0.75, wrong: 0.25}))
    assert unsure[right].quality_value == pytest.approx(0.75 * sure[right].quality_value)
    assert [one.step_is_right for one in unsure.values()] == [one.step_is_right for one in sure.values()]


def entries(iteration: int, answers: str, agreements: str = "") -> list[LedgerEntry]:
    """Return the entries of problems "0", "1", … by one letter each, - for undecided; and of a
    probe's by one digit each, the share of true verdicts in tenths.
    """
    trained = [LedgerEntry(str(n), iteration, None if one == "-" else one) for n, one in enumerate(answers)]
    probed = [
        LedgerEntry(f"p{n}", iteration, None if one == "-" else "a", None if one == "-" else int(one) / 10, True)
        for n, one in enumerate(agreements)
    ]
    return [*trained, *probed]


def test_flips_are_counted_against_the_last_answer_and_quarantined_from_then_on() -> None:
    ledger = [*entries(1, "aab-"), *entries(2, "a-ba"), *entries(3, "bcba")]
    random.Random(1).shuffle(ledger)
    found = summarise_truth(ledger)
    assert [(one.num_trees, one.num_undecided) for one in found] == [(4, 1), (4, 1), (4, 0)]
    assert [(one.num_compared, one.num_flipped, one.num_quarantined) for one in found] == [
        (0, 0, 0),
        (2, 0, 0),
        (4, 2, 2),
    ]
    assert quarantined_by(ledger, 2) == set() and quarantined_by(ledger, 3) == {"0", "1"}
    assert flips_of(ledger) == [Flip("0", 2, "a", 3, "b"), Flip("1", 1, "a", 3, "c")], "undecided in iteration 2"
    assert not any(one.is_checked for one in found)


def test_two_trees_of_a_problem_that_disagree_have_flipped() -> None:
    ledger = [*entries(1, "a"), *entries(2, "a"), *entries(2, "b")]
    assert quarantined_by(ledger, 2) == {"0"}
    assert flips_of(ledger) == [Flip("0", 1, "a", 2, "b")]


def test_the_probe_says_how_often_verdicts_are_true() -> None:
    (found,) = summarise_truth(entries(1, "aa", "9753-"))
    assert found.is_checked and found.coverage is not None and found.agreement is not None
    assert (found.coverage.value, found.coverage.n) == (0.8, 5)
    assert (found.agreement.value, found.agreement.n) == (pytest.approx(0.6), 4)


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        ("a" * 40, None),
        ("a" * 34 + "b" * 6, None),  # 15 %: allowed
        ("a" * 30 + "b" * 10, None),  # 25 %: not more than 20 % beyond doubt
        ("a" * 20 + "b" * 20, "20 of 40 voted answers (50.0 % ± 8.0) are others in iteration 2"),
        ("b" * 10 + "-" * 30, None),  # too few
    ],
)
def test_flips_stop_a_run_once_they_are_too_many_beyond_doubt(second: str, reason: str | None) -> None:
    found = why_stop(summarise_truth([*entries(1, "a" * 40), *entries(2, second)]), VOTES)
    assert found == reason if reason is None else found is not None and found.startswith(reason)


@pytest.mark.parametrize(
    ("second", "third", "reason"),
    [
        ("8" * 60, "8" * 60, None),
        ("8" * 60, "7" * 58 + "99", "in iteration 3 than in iteration 1"),
        ("7" * 31 + "8" * 29, "7" * 20 + "8" * 40, None),
        ("9" * 60, "8" * 58 + "99", "in iteration 3 than in iteration 2"),
        ("8" * 60, "7" * 19, None),  # too few
    ],
)
def test_a_fall_of_the_probe_stops_a_run(second: str, third: str, reason: str | None) -> None:
    ledger = [*entries(1, "", "8" * 60), *entries(2, "", second), *entries(3, "", third)]
    found = why_stop(summarise_truth(ledger), VOTES)
    assert found is None if reason is None else found is not None and reason in found


def test_settings_outside_their_range_are_refused() -> None:
    with pytest.raises(InputError, match="min_share is 0"):
        TruthSettings("votes", min_share=0.0)


def test_a_probe_of_no_use_is_refused_before_anything_is_done() -> None:
    with pytest.raises(InputError, match="leave it out, or give --truth votes"):
        spec_plan(RunSpec.model_validate({"problems": "a.jsonl", "probe": "b.jsonl"}))
    puzzles = {"puzzles": {}, "truth": {"source": "votes"}, "probe": "b.jsonl"}
    with pytest.raises(InputError, match="give held-out, or leave it out"):
        spec_plan(RunSpec.model_validate(puzzles))
