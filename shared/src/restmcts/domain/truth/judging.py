"""What language models that judge say of a finished solution, one criterion at a time.

A judge is asked in words, as any policy is, and quotes what its reply rests on. A model may like
the reply that is named first, whatever it reads (arXiv:2306.05685, section 3.3), so that each judge
is asked twice, with the two replies in either order, and says something only if it says the same.
Judges that disagree leave a solution undecided.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from restmcts.domain.answers.extraction import extract_answer
from restmcts.domain.problems import Verdict
from restmcts.domain.prompts import read_judgement
from restmcts.domain.tasks.task import Judgement

Order = Literal["yes or no", "no or yes"]
ORDERS: tuple[Order, ...] = ("yes or no", "no or yes")
MAX_KEPT_CHARACTERS = 300
"""Of a judge's reply, in what is stored with the verdict."""

_PROMPT = """Read a problem and a solution that someone wrote. Say whether one statement about the solution is true.

Problem:
{question}

Solution:
{solution}

Statement: {criterion}

First quote the words of the solution that decide whether the statement is true, and say why. Your
final answer must be one word, {order}."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a judge replied to one question.

    Attributes:
        judge: its address.
        text: all that it wrote.
    """

    judge: str
    text: str

    @property
    def says(self) -> bool | None:
        """Whether it says yes, in its stated answer, else its last line; None: it says neither."""
        answer = extract_answer(self.text)
        return read_judgement(answer if answer is not None else self.text.strip().rpartition("\n")[2])


def judge_prompts(question: str, solution: str, criterion: str) -> list[str]:
    """Return the questions that each judge is asked about a criterion, in the order of `ORDERS`."""
    return [
        _PROMPT.format(question=question, solution=solution.rstrip(), criterion=criterion, order=one) for one in ORDERS
    ]


def agreed(replies: Sequence[Reply]) -> bool | None:
    """Return what all replies to a criterion say; None where one says neither, or another thing."""
    said = {reply.says for reply in replies}
    return said.pop() if len(said) == 1 else None


@dataclass(frozen=True, slots=True)
class Finding:
    """What was asked about a solution so far.

    Attributes:
        replies: of all judges, by criterion, in the order in which they were asked.
        num_criteria: how many there are to ask.
    """

    replies: Mapping[str, Sequence[Reply]]
    num_criteria: int

    @property
    def is_open(self) -> bool:
        """Whether the next criterion is to be asked: all so far are met, and some are left."""
        return all(agreed(one) for one in self.replies.values()) and len(self.replies) < self.num_criteria

    @property
    def judgement(self) -> Judgement:
        """Right if all judges say yes to every criterion, wrong if all say no to one; else
        undecided. The score of a wrong solution is the share of the criteria that it met.
        """
        said = [agreed(replies) for replies in self.replies.values()]
        if None in said:
            return Judgement(Verdict.UNDECIDED, None, "judge", self._in_words())
        num_met = sum(bool(one) for one in said)
        verdict = Verdict.RIGHT if num_met == self.num_criteria else Verdict.WRONG
        return Judgement(verdict, num_met / self.num_criteria, "judge", self._in_words())

    def _in_words(self) -> str:
        words: dict[bool | None, str] = {True: "yes", False: "no", None: "undecided"}
        return "; ".join(
            f"{criterion} {words[agreed(replies)]}: " + " | ".join(map(_kept, replies))
            for criterion, replies in self.replies.items()
        )


def _kept(reply: Reply) -> str:
    text = " ".join(reply.text.split())
    return f"{reply.judge} wrote “{text if len(text) <= MAX_KEPT_CHARACTERS else text[:MAX_KEPT_CHARACTERS] + '…'}”"


def accepted_answer(answers: Mapping[int, str | None], judgements: Mapping[int, Judgement]) -> str | None:
    """Return the answer of most solutions that were found right; None where none was, none states
    an answer, or two have as many.

    Args:
        answers: that solutions state, by node id, equal ones written alike.
        judgements: by node id.
    """
    right = [
        answer for node, answer in answers.items() if answer is not None and judgements[node].verdict == Verdict.RIGHT
    ]
    counts = {answer: right.count(answer) for answer in right}
    first = [answer for answer, count in counts.items() if count == max(counts.values())]
    return first[0] if len(first) == 1 else None
