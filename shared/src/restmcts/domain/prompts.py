"""Prompt templates as data: how a question, and the steps written so far, become what a model
reads.

A plain text ends with the steps, each ending in the separator, so the text of a longer partial
solution extends that of a shorter one. For chat models without a way to continue text, the steps
are in the user's turn. Knows no tokenizer.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from restmcts.errors import InputError

Critic = Literal["simple", "common", "judge", "examiner"]
"""Who is asked about a partial solution. The self-critic of arXiv:2406.03816 is asked of the policy
before a node is expanded: "simple" says whether the problem is solved, "common" also says what to
do next, which goes into the next prompt. The "judge" says whether the solution so far is right and
leads to the answer, the "examiner" what is right or wrong in it, which a judge may be shown
(restmcts.adapters.models.llm_judge)."""


@dataclass(frozen=True, slots=True)
class Wording:
    """The words of one language.

    Attributes:
        instruction: how a solution is to be written.
        go_on: asks a chat model for the rest of a partial solution (`{steps}`).
        written: shows a chat model a partial solution (`{steps}`).
        hint: what an analysis becomes beside the question (`{analysis}`).
        argument: what an analysis becomes before what a critic is asked (`{analysis}`).
        critics: asks after a partial solution for the critic's one line.
    """

    instruction: str
    go_on: str
    written: str
    hint: str
    argument: str
    critics: Mapping[Critic, str]

    def with_hint(self, question: str, analysis: str) -> str:
        """Return the question with an analysis beside it, if there is one."""
        return f"{question}\n{self.hint.format(analysis=analysis)}" if analysis else question

    def asked(self, critic: Critic, analysis: str) -> str:
        """Return what a critic is asked after a partial solution, and after an analysis of it, if
        there is one.
        """
        shown = f"{self.argument.format(analysis=analysis)}\n" if analysis else ""
        return f"{shown}{self.critics[critic]}"


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """One way to write a question.

    Attributes:
        frame: the text around `{question}`, up to the first step.
        opening: what comes before the examples and the question.
        examples: worked problems, each a question and its solution, that come before the question.
        wording: for chat models.
        is_code: whether solutions are programs: a step is a logical line, and the fence that closes
            ends them.
    """

    frame: str
    wording: Wording
    opening: str = ""
    examples: tuple[tuple[str, str], ...] = ()
    is_code: bool = False

    def question_text(self, question: str) -> str:
        """Return the text that comes before the first step."""
        shown = "".join(f"{self._framed(asked)}{solution}\n\n" for asked, solution in self.examples)
        return f"{self.opening}{shown}{self._framed(question)}"

    def chat_messages(
        self, question: str, steps: str = "", critic: Critic | None = None, analysis: str = ""
    ) -> list[dict[str, str]]:
        """Return a conversation whose last turn is the user's; `steps` is the partial solution,
        if the turn has to show it, `analysis` what the critic is shown of an earlier one.
        """
        if critic is not None:
            shown = self.wording.written.format(steps=steps.rstrip())
            return [{"role": "user", "content": f"{question}\n\n{shown}\n\n{self.wording.asked(critic, analysis)}"}]
        messages = []
        for asked, solution in self.examples:
            messages.append({"role": "user", "content": self._user_turn(asked)})
            messages.append({"role": "assistant", "content": solution})
        last = self._user_turn(question)
        if steps:
            last = f"{last}\n\n{self.wording.go_on.format(steps=steps.rstrip())}"
        return [*messages, {"role": "user", "content": last}]

    def _framed(self, question: str) -> str:
        return self.frame.replace("{question}", question)

    def _user_turn(self, question: str) -> str:
        return f"{question}\n\n{self.wording.instruction}"


ENGLISH = Wording(
    instruction="Reason step by step, one step a line. End with the line `The answer is X`, where X is your final answer.",
    go_on="This much is written already:\n{steps}\n\nGo on from there with the next step. Do not repeat what is written.",
    written="A solution so far:\n{steps}",
    hint="Hint for the next step: {analysis}",
    argument="An examination of this solution: {analysis}",
    critics={
        "simple": "Is the problem solved by these steps, and its final answer stated? Reply with one word, solved or unsolved.",
        "common": "If these steps solve the problem and state its final answer, reply with the one word solved. Otherwise say in "
        "one line what is missing or wrong, and what the next step should do.",
        "judge": "Is every step of this solution right so far, and does it lead to the right final answer? Reply with one word, "
        "yes or no.",
        "examiner": "Examine this solution so far: say in one line which step is wrong and why, or why all of them are right.",
    },
)
CHINESE = Wording(
    instruction="请逐步推理，每行只写一步。最后一行写“答案是X”，其中X是最终答案。",
    go_on="已经写出的步骤：\n{steps}\n\n请接着写下一步，不要重复已有内容。",
    written="目前的解答：\n{steps}",
    hint="下一步的提示：{analysis}",
    argument="对以上解答的检查：{analysis}",
    critics={
        "simple": "以上步骤是否已经解决本题并给出最终答案？只回答“已解决”或“未解决”。",
        "common": "如果以上步骤已经解决本题并给出最终答案，只回答“已解决”。否则用一行说明缺少什么或哪里有错，以及下一步应做什么。",
        "judge": "以上解答的每一步是否都正确，并且能得出正确的最终答案？只回答一个字：“是”或“否”。",
        "examiner": "请检查以上解答：用一行说明哪一步有错以及原因，或者为什么全部正确。",
    },
)

CODE_ENGLISH = replace(
    ENGLISH,
    instruction="Write the Python program that is asked for, whole, in one block that begins with ```python and ends with "
    "```. Write nothing after the block.",
    go_on="This much is written already:\n{steps}\n\nGo on from there with the next line. Do not repeat what is written.",
    written="A program so far:\n{steps}",
    argument="An examination of this program: {analysis}",
    critics={
        "simple": "Is this program finished, and does it do all that is asked for? Reply with one word, solved or unsolved.",
        "common": "If this program is finished and does all that is asked for, reply with the one word solved. Otherwise say in "
        "one line what is missing or wrong, and what the next line should do.",
        "judge": "Is every line of this program right so far, and does it lead to a program that does what is asked for? Reply "
        "with one word, yes or no.",
        "examiner": "Examine this program so far: say in one line which line is wrong and why, or why all of them are right.",
    },
)
CODE_CHINESE = replace(
    CHINESE,
    instruction="请写出题目要求的完整 Python 程序，放在一个以 ```python 开头、以 ``` 结尾的代码块中。代码块之后不要再写任何内容。",
    go_on="已经写出的代码：\n{steps}\n\n请接着写下一行，不要重复已有内容。",
    written="目前的程序：\n{steps}",
    argument="对以上程序的检查：{analysis}",
    critics={
        "simple": "这个程序是否已经写完并满足全部要求？只回答“已解决”或“未解决”。",
        "common": "如果这个程序已经写完并满足全部要求，只回答“已解决”。否则用一行说明缺少什么或哪里有错，以及下一行应做什么。",
        "judge": "这个程序目前的每一行是否都正确，并且能写成满足要求的程序？只回答一个字：“是”或“否”。",
        "examiner": "请检查目前的程序：用一行说明哪一行有错以及原因，或者为什么全部正确。",
    },
)

_FEW_SHOT = (
    (
        "A box holds 12 pencils. Mia buys 3 boxes and gives 7 pencils away. How many pencils has she left?",
        "Mia buys 3 * 12 = 36 pencils.\nAfter giving 7 away she has 36 - 7 = 29 pencils.\nThe answer is 29",
    ),
    (
        "Solve for x: 3x - 5 = 16.",
        "Adding 5 to both sides gives 3x = 21.\nDividing by 3 gives x = 7.\nThe answer is 7",
    ),
    (
        "A fair die is rolled twice. What is the probability that both rolls are even?",
        "One roll is even with probability 3/6 = 1/2.\nThe rolls are independent, so both are even with probability "
        "1/2 * 1/2 = 1/4.\nThe answer is 1/4",
    ),
)
_PLAIN_FRAME = "Problem: {question}\nSolution:\n"

TEMPLATES = MappingProxyType(
    {
        "raw": PromptTemplate("{question}\n", ENGLISH),
        "plain": PromptTemplate(_PLAIN_FRAME, ENGLISH),
        "few-shot": PromptTemplate(_PLAIN_FRAME, ENGLISH, examples=_FEW_SHOT),
        "steps-en": PromptTemplate(
            "Problem: {question}\nSteps:\n",
            ENGLISH,
            opening="Solve the problem in small steps, one step a line. Each step follows from the steps before it and brings the "
            "solution further. The last line reads: The answer is X, where X is the final answer.\n\n",
        ),
        "steps-zh": PromptTemplate(
            "题目：{question}\n步骤：\n",
            CHINESE,
            opening="请把题目分成小步来解，每行写一步。每一步都由前面的步骤得出，并使解答更进一步。最后一行写：答案是X，其中X是最终答案。\n\n",
        ),
        "code-en": PromptTemplate("Problem: {question}\nProgram:\n", CODE_ENGLISH, is_code=True),
        "code-zh": PromptTemplate("题目：{question}\n程序：\n", CODE_CHINESE, is_code=True),
    }
)
"""All templates that need no tokenizer, by name. Those of code become a chat where the tokenizer or
the server has one."""


def template_named(name: str) -> PromptTemplate:
    """Return a template by its name.

    Raises:
        InputError: if there is none.
    """
    if name not in TEMPLATES:
        raise InputError(f"no prompt template is called {name!r}; choose one of {', '.join(TEMPLATES)}")
    return TEMPLATES[name]


TEMPLATE_NAMES = ("auto", "chat", *TEMPLATES)
"""What a run may choose: "chat" is the model's own chat template, "auto" what the
checkpoint or the server's address says."""

_UNSOLVED = re.compile(r"\bunsolved\b|\bnot\s+(?:yet\s+)?(?:fully\s+)?solved\b|未解决|没有解决|尚未", re.IGNORECASE)
_SOLVED = re.compile(
    r"^\W*(?:(?:the\s+)?problem\s+is\s+|yes\W+)?(?:(?:already\s+)?solved\b|已解决|已经解决)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Critique:
    """What a critic said: whether the problem is solved, and else its analysis ("simple" gives
    none).
    """

    solved: bool
    analysis: str = ""


def read_critique(critic: Critic, reply: str) -> Critique:
    """Return what a critic's line says; one that says neither counts as unsolved."""
    solved = bool(_SOLVED.search(reply)) and not _UNSOLVED.search(reply)
    return Critique(solved, "" if solved or critic == "simple" else reply.strip())


_YES, _NO = "yes", "no"
_CHINESE_YES, _CHINESE_NO = ("是", "对", "正确"), ("否", "不", "错")


def read_judgement(reply: str) -> bool | None:
    """Return whether a judge says yes; None if it says neither yes nor no.

    A reply may be one token, and a token may be the beginning of the word: "Y" is yes, "n" is no,
    "not" is neither.
    """
    said = re.sub(r"^[\W_]+", "", reply.lower())
    if said.startswith(_CHINESE_NO):
        return False
    if said.startswith(_CHINESE_YES):
        return True
    word = re.match("[a-z]*", said)
    if word is None or not word.group():
        return None
    return True if _YES.startswith(word.group()) else False if _NO.startswith(word.group()) else None
