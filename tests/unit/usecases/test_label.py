"""What a tree comes to: what was not finished is undecided, and right or wrong only what was."""

from datetime import UTC, datetime

import pytest
from restmcts.adapters.sql.state.labelling import TreeToLabel
from restmcts.adapters.verification.verifier import AnswerVerifier
from restmcts.domain.problems import Verdict
from restmcts.domain.requests import ProposedStep
from restmcts.domain.runs.phases import SEARCH_PHASE, Purpose, SearchPhase
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.tree import Tree
from restmcts.usecases.label import outcome_of

FIRST, RIGHT, WRONG = "She has 40 + 2 = 42.\n", "The answer is 42\n", "The answer is 41\n"


def outcome(*paths: tuple[str, ...], chosen: int | None, purpose: Purpose = "evaluate", value: float = 0.1) -> tuple:
    """Return the verdict of a tree of these paths, and those of its leaves by their last step."""
    tree = Tree()
    for path in paths:
        tree.add_path(tree.root, [ProposedStep(step, 1, -1.0) for step in path], lambda step: "answer" in step.text)
    for node in tree.nodes:
        node.search_value = value
    phase = SearchPhase("a", 1, purpose, "train", "policy", "value", MctsStarSettings())
    now = datetime.now(UTC)
    spec = SEARCH_PHASE.dump_python(phase, mode="json")
    row = TreeToLabel(1, 1, 1, chosen, now, now, spec, "How many?", "42", None, "math", "digest")
    with AnswerVerifier() as verifier:
        found = outcome_of(row, tree, verifier)
    return found.verdict, {tree[node_id].step: one.verdict for node_id, one in found.judgements.items()}


def test_an_answer_is_right_or_wrong() -> None:
    assert outcome((FIRST, RIGHT), chosen=2)[0] == Verdict.RIGHT
    assert outcome((FIRST, WRONG), chosen=2)[0] == Verdict.WRONG


@pytest.mark.parametrize(("paths", "chosen"), [(((FIRST,),), 1), (((FIRST,),), None), ((), None)])
def test_a_solution_that_was_cut_short_is_undecided(paths: tuple[tuple[str, ...], ...], chosen: int | None) -> None:
    assert outcome(*paths, chosen=chosen)[0] == Verdict.UNDECIDED


def test_an_unfinished_leaf_of_high_value_is_never_wrong() -> None:
    _, verdicts = outcome((FIRST,), (WRONG,), chosen=None, purpose="collect", value=0.95)
    assert verdicts == {FIRST: Verdict.UNDECIDED, WRONG: Verdict.WRONG}
