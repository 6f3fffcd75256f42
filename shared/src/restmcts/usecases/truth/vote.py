"""Verdicts by vote: the finished solutions of a tree decide among themselves which answer is
accepted as true, and where the true one is known, it is said how often they agree with it.
"""

from collections.abc import Mapping, Sequence

from restmcts.adapters.sql.state.labelling import TreeToLabel
from restmcts.domain.problems import Check, Verdict
from restmcts.domain.runs.phases import SearchPhase
from restmcts.domain.tasks.task import TASKS, Judgement, judged
from restmcts.domain.tree import Node, Tree
from restmcts.domain.truth.ledger import LedgerEntry
from restmcts.domain.truth.truth_settings import TruthSettings
from restmcts.domain.truth.votes import Ballot, ballots_of, count_votes, judgements_of
from restmcts.ports import Verifier

KnownAnswers = dict[str, list[str]]
"""What was accepted as true so far, by digest of the question, the earliest answer first."""


def judge_by_vote(
    row: TreeToLabel,
    tree: Tree,
    leaves: Sequence[Node],
    phase: SearchPhase,
    truth: TruthSettings,
    verifier: Verifier,
    known: KnownAnswers,
) -> tuple[dict[int, Judgement], str | None]:
    """Return what votes say of the leaves of a tree, and the answer that is accepted as true,
    written as it was for the problem before. Leaves that end no solution have no vote, and are
    undecided.
    """
    finished = [leaf for leaf in leaves if leaf.final]
    earlier = known.get(row.digest, [])
    weight = truth.probability_weight
    if weight is None:
        weight = 0.0 if phase.search.samples_branches else 1.0
    answers = answers_stated(row.kind, tree, finished, verifier, earlier)
    ballots: dict[int, Ballot] = ballots_of(tree, answers, weight, truth.branch_depth)
    vote = count_votes(list(ballots.values()), truth.min_share, truth.min_branches)
    unfinished = judged(Verdict.UNDECIDED, "votes", "the solution is not finished")
    found = {leaf.node_id: unfinished for leaf in leaves if not leaf.final}
    return found | judgements_of(ballots, vote), vote.answer


def answers_stated(
    kind: str, tree: Tree, finished: Sequence[Node], verifier: Verifier, earlier: Sequence[str]
) -> dict[int, str | None]:
    """Return what solutions state, by node id, equal answers written alike."""
    task = TASKS.get(kind)
    stated = {
        leaf.node_id: task.stated("".join(tree.steps_to(leaf))) if task.states_answers else None for leaf in finished
    }
    texts = list(dict.fromkeys([*earlier, *(text for text in stated.values() if text is not None)]))
    alike = dict(zip(texts, verifier.same_answers(kind, texts), strict=True))
    return {node_id: None if text is None else alike[text] for node_id, text in stated.items()}


def entry_of(
    row: TreeToLabel,
    tree: Tree,
    iteration: int,
    answer: str | None,
    judgements: Mapping[int, Judgement],
    verifier: Verifier | None,
) -> LedgerEntry:
    """Return what a tree was found to say.

    Args:
        verifier: that knows the true answer, to compare with; None: it is not looked up.
    """
    if verifier is None:
        return LedgerEntry(row.digest, iteration, answer)
    return LedgerEntry(row.digest, iteration, answer, _agreement(row, tree, judgements, verifier), is_probe=True)


def _agreement(row: TreeToLabel, tree: Tree, judgements: Mapping[int, Judgement], verifier: Verifier) -> float | None:
    """Return the share of decided verdicts that are the true ones; None where none is decided."""
    decided = {node_id: one.verdict for node_id, one in judgements.items() if one.verdict != Verdict.UNDECIDED}
    checks = [Check(row.question, row.answer, row.kind, "".join(tree.steps_to(tree[one]))) for one in decided]
    pairs = list(zip(decided.values(), verifier.verify(checks), strict=True))
    known = [found == true for found, true in pairs if true != Verdict.UNDECIDED]
    return sum(known) / len(known) if known else None
