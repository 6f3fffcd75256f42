"""Verdicts by language models, which are asked about every finished solution of a tree, one
criterion after the other, and of the next only about what met those before.
"""

from collections.abc import Callable, Mapping, Sequence

from restmcts.adapters.sql.state.labelling import TreeToLabel
from restmcts.domain.problems import Verdict
from restmcts.domain.requests import GenerationSettings, ProposeSteps, derive_seed
from restmcts.domain.tasks.task import Judgement, judged
from restmcts.domain.tree import Node, Tree
from restmcts.domain.truth.judging import Finding, Reply, accepted_answer, judge_prompts
from restmcts.domain.truth.truth_settings import TruthSettings
from restmcts.errors import InputError
from restmcts.ports import StepProposer, Verifier
from restmcts.usecases.truth.vote import KnownAnswers, answers_stated

OpenJudge = Callable[[str], StepProposer]
"""Returns the model that judges from its address; the same one for the same address."""

MAX_REPLY_TOKENS = 512
_REPLY = GenerationSettings(max_step_tokens=MAX_REPLY_TOKENS, max_solution_tokens=MAX_REPLY_TOKENS)


def judge_by_models(
    row: TreeToLabel,
    tree: Tree,
    leaves: Sequence[Node],
    truth: TruthSettings,
    verifier: Verifier,
    known: KnownAnswers,
    open_judge: OpenJudge | None,
) -> tuple[dict[int, Judgement], str | None]:
    """Return what judges say of the leaves of a tree, and the answer that is accepted as true,
    written as it was for the problem before. Leaves that end no solution are undecided.

    Raises:
        InputError: if no model can be asked here.
        ServerUnavailableError: if a judge does not answer; the tree may wait.
    """
    if open_judge is None:
        raise InputError("language models are to judge solutions, and none can be asked here")
    finished = [leaf for leaf in leaves if leaf.final]
    solutions = {leaf.node_id: "".join(tree.steps_to(leaf)) for leaf in finished}
    found = _findings(row.question, solutions, truth, open_judge)
    unfinished = judged(Verdict.UNDECIDED, "judge", "the solution is not finished")
    judgements = {leaf.node_id: unfinished for leaf in leaves if not leaf.final}
    judgements |= {node_id: found[solution].judgement for node_id, solution in solutions.items()}
    answers = answers_stated(row.kind, tree, finished, verifier, known.get(row.digest, []))
    return judgements, accepted_answer(answers, judgements)


def _findings(
    question: str, solutions: Mapping[int, str], truth: TruthSettings, open_judge: OpenJudge
) -> dict[str, Finding]:
    """Return what is found of each distinct solution."""
    num_criteria = len(truth.criteria)
    found = {solution: Finding({}, num_criteria) for solution in solutions.values()}
    for criterion in truth.criteria:
        open_ones = [solution for solution, one in found.items() if one.is_open]
        replies = _replies(question, open_ones, criterion, truth.judges, open_judge)
        for solution, own in zip(open_ones, replies, strict=True):
            found[solution] = Finding({**found[solution].replies, criterion: own}, num_criteria)
    return found


def _replies(
    question: str, solutions: Sequence[str], criterion: str, judges: Sequence[str], open_judge: OpenJudge
) -> list[list[Reply]]:
    """Return the replies of all judges about each solution."""
    found: list[list[Reply]] = [[] for _ in solutions]
    prompts = [
        (place, prompt) for place, one in enumerate(solutions) for prompt in judge_prompts(question, one, criterion)
    ]
    if not prompts:
        return found
    requests = [
        ProposeSteps(number, (), 1, None, derive_seed("judge", prompt), greedy=True)
        for number, (_, prompt) in enumerate(prompts)
    ]
    for judge in judges:
        answers = open_judge(judge).propose([prompt for _, prompt in prompts], requests, _REPLY)
        for (place, _), answer in zip(prompts, answers, strict=True):
            text = "".join(step.text for sample in answer.samples for step in sample.steps)
            found[place].append(Reply(judge, text))
    return found
