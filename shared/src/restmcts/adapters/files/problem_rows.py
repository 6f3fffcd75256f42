"""Rows of problems as people and data sets write them, as problems: which column is what, where a
boxed answer or a list of choices is.

Knows the usual names and forms only, no files.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from restmcts.adapters.files.verifiers_traces import row_of_trace
from restmcts.domain.answers.extraction import extract_answer
from restmcts.domain.problems import Problem
from restmcts.domain.requests import STEP_SEPARATOR
from restmcts.domain.tasks.code.formats import is_code_row
from restmcts.domain.tasks.task import TASKS, Task
from restmcts.domain.text import valid_text
from restmcts.errors import InputError, UnknownEntryError

Row = Mapping[str, Any]

QUESTION_FIELDS = ("question", "content", "problem", "query", "prompt", "problem_text", "instruction")
ANSWER_FIELDS = (
    "answer", "final_answer", "expected_answer", "answerkey", "correct_answer", "ground_truth", "answer_number", "gold",
    "target",
)  # fmt: skip
SOLUTION_FIELDS = ("solution", "response", "generated_solution", "output", "completion")
COMMON_FIELDS = {"question", "answer", "solution", "kind"}
CHOICE_FIELDS = ("choices", "options")
NO_ANSWERS = frozenset({"proof", "notfound", "not found"})
LETTERS = "ABCDEFGHIJ"
CHOOSE = "Which is right? End with: The answer is (letter)."
SCIBENCH_SUBSETS = frozenset(
    ("atkins", "calculus", "chemmc", "class", "diff", "fund", "matter", "quan", "stat", "thermo")
)

_CALCULATOR = re.compile(r"<<[^<>]*>>")
# Of texts without white space at their ends, which may be long: no part is looked at twice.
_GSM8K_ANSWER = re.compile(r"^[ \t]*####[ \t]*(\S.*)\Z", re.MULTILINE)
_METAMATH_END = re.compile(r"\n####[ \t]*(\S[^\n]*)\n+The answer is:?[^\n]*\Z")
_DAPO_BEGINS = "Solve the following math problem step by step."
_DAPO_ENDS = "Remember to put your answer on its own line"


def problem_of_row(row: Row, *, needs_answer: bool = True) -> Problem:
    """Return the problem that a row of any known form holds.

    Args:
        needs_answer: whether a row with a question alone is refused.

    Raises:
        InputError: saying which field is missing, of the wrong type, or of a kind nobody can check.
    """
    row = {str(name).strip().casefold(): value for name, value in row.items() if value is not None}
    row = in_common_form(row_of_trace(row))
    if not needs_answer and _has_no_answer(row):
        return _without_answer(row)
    question, solution = _question(row), _first(row, SOLUTION_FIELDS)
    if choices := _choices(row):
        question, answer = _with_choices(question, choices), _letter(row, choices)
    else:
        answer = _answer(row, solution)
    kind = kind_of_row(row, "choice" if choices else "math")
    task = TASKS.get(kind)
    steps = _given_steps(solution[1], solution[0], task) if solution else []
    if gsm8k := _GSM8K_ANSWER.search(answer):
        steps = steps or _steps(answer[: gsm8k.start()], task)
        answer = gsm8k.group(1)
    return Problem(question, answer, _ended(steps, answer, task.ends), kind)


def _has_no_answer(row: Row) -> bool:
    given = (*ANSWER_FIELDS, *SOLUTION_FIELDS, "label", "answer_idx", "answer_index")
    return _first(row, given) is None and _ground_truth(row) is None


def _without_answer(row: Row) -> Problem:
    choices, question = _choices(row), _question(row)
    kind = kind_of_row(row, "choice" if choices else "math")
    return Problem(_with_choices(question, choices) if choices else question, None, kind=kind)


def in_common_form(row: Row) -> Row:
    """Return a row whose kind of problem has a form of its own in the common form; a row in that
    form stays as it is.

    Raises:
        InputError: if its kind is not known, or its task cannot read it.
    """
    if row.get("kind") is None and is_code_row(row):
        row = {**row, "kind": "code"}
    is_common = row.get("answer") is not None and row.keys() - {"prediction"} <= COMMON_FIELDS
    if row.get("kind") is None or is_common:
        return row
    return {**TASKS.get(kind_of_row(row)).read(row), "kind": row["kind"]}


def _first(row: Row, names: Sequence[str]) -> tuple[str, Any] | None:
    """Return the first of the named fields that a row has, with its name."""
    return next(((name, row[name]) for name in names if row.get(name) is not None), None)


def _question(row: Row) -> str:
    found = _first(row, QUESTION_FIELDS)
    if found is None:
        raise InputError(f"no question (one of {', '.join(QUESTION_FIELDS)})")
    name, question = found
    if isinstance(question, list):
        question = _said_by_user(question)
    if not isinstance(question, str):
        raise InputError(f'"{name}" is not text')
    if not question.strip():
        raise InputError(f'"{name}" is blank')
    return valid_text(_without_frame(question), name).strip()


def _without_frame(question: str) -> str:
    """Return the problem that a prompt of DAPO is around; any other question as it is."""
    if not question.startswith(_DAPO_BEGINS):
        return question
    problem, end, _ = question.partition("\n\n")[2].partition(_DAPO_ENDS)
    return problem if end else question


def _said_by_user(messages: list[object]) -> object:
    """Return what the user says last in a chat, or the messages themselves if they are none."""
    said = [one.get("content") for one in messages if isinstance(one, dict) and one.get("role") == "user"]
    return said[-1] if said else messages


def _answer(row: Row, solution: tuple[str, Any] | None) -> str:
    found = _first(row, ANSWER_FIELDS) or _ground_truth(row)
    if found is not None:
        return text_of_answer(found[1], found[0])
    if solution is None:
        raise InputError('no "answer"')
    text = solution[1] if isinstance(solution[1], str) else "\n".join(map(str, solution[1]))
    if metamath := _METAMATH_END.search(text.rstrip()):
        return text_of_answer(metamath.group(1))
    stated = extract_answer(text)
    if stated is None:
        raise InputError(f'no "answer", and the "{solution[0]}" boxes none')
    return text_of_answer(stated)


def _ground_truth(row: Row) -> tuple[str, Any] | None:
    """Return the true answer that a row for reinforcement learning holds in its reward model."""
    reward = row.get("reward_model")
    truth = reward.get("ground_truth") if isinstance(reward, dict) else None
    return ("ground_truth", truth) if truth is not None else None


def text_of_answer(answer: object, name: str = "answer") -> str:
    """Return an answer as text: a number in its shortest form, a text stripped, a list joined.

    Raises:
        InputError: if it is neither, blank, or says that there is none.
    """
    if isinstance(answer, list) and answer and all(isinstance(one, (str, int, float)) for one in answer):
        return ", ".join(text_of_answer(one, name) for one in answer)
    if isinstance(answer, str) and answer.strip().casefold() in NO_ANSWERS:
        raise InputError(f'"{name}" is {answer.strip()!r}: such a problem has no answer to compare with')
    if isinstance(answer, str) and answer.strip():
        return valid_text(answer, name).strip()
    if isinstance(answer, str):
        raise InputError(f'"{name}" is blank')
    if isinstance(answer, bool) or not isinstance(answer, (int, float)):
        raise InputError(f'"{name}" is neither text nor a number')
    if isinstance(answer, float) and not math.isfinite(answer):
        raise InputError(f'"{name}" is neither text nor a number')
    return str(int(answer)) if isinstance(answer, float) and answer.is_integer() and abs(answer) < 1e15 else str(answer)


def _choices(row: Row) -> list[str]:
    """Return the choices that a row lists, in order; none if it lists none.

    Raises:
        InputError: if they are no list of texts.
    """
    found = _first(row, CHOICE_FIELDS)
    if found is None:
        return []
    name, choices = found
    if isinstance(choices, dict):
        choices = choices["text"] if isinstance(choices.get("text"), list) else list(choices.values())
    if not isinstance(choices, list) or not 2 <= len(choices) <= len(LETTERS):
        raise InputError(f'"{name}" is not a list of 2 to {len(LETTERS)} choices')
    return [re.sub(r"^\(?[A-J][.):]\s+", "", text_of_answer(choice, name)) for choice in choices]


def _with_choices(question: str, choices: list[str]) -> str:
    """Return the question with its choices below it, unless it shows them already."""
    if all(choice in question for choice in choices):
        return question
    return choices_shown(question, choices, CHOOSE)


def choices_shown(question: str, choices: Sequence[str], instruction: str) -> str:
    """Return a question, its lettered choices and what is to be done with them, a line each."""
    lines = [f"{letter}. {choice.strip()}" for letter, choice in zip(LETTERS, choices, strict=False)]
    return "\n".join([question, *lines, instruction])


def _letter(row: Row, choices: list[str]) -> str:
    """Return the letter of the right choice, given as letter, number from 0, or text."""
    found = _first(row, (*ANSWER_FIELDS, "label", "answer_idx", "answer_index"))
    if found is None:
        raise InputError('no "answer"')
    name, answer = found
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices):
        return LETTERS[answer]
    text = text_of_answer(answer, name)
    letter = re.fullmatch(r"\(?([A-Ja-j])[.)]?", text)
    if letter and letter.group(1).upper() in LETTERS[: len(choices)]:
        return letter.group(1).upper()
    if choices.count(text) == 1:
        return LETTERS[choices.index(text)]
    raise InputError(f'"{name}" names none of the {len(choices)} choices')


def kind_of_row(row: Row, otherwise: str = "math") -> str:
    """Return which checker decides: the row's own "kind", "numeric" for a SciBench row, else
    `otherwise`.

    Raises:
        InputError: if "kind" is not text, or no kind that is known.
    """
    kind = row.get("kind")
    if kind is not None and (not isinstance(kind, str) or not kind.strip()):
        raise InputError('"kind" is not text')
    if kind:
        name = str(kind).strip()
        try:
            TASKS.get(name)
        except UnknownEntryError as error:
            raise UnknownEntryError(f"{error}; --plugin FILE adds others") from error
        return name
    is_scibench = row.get("subset") in SCIBENCH_SUBSETS if isinstance(row.get("subset"), str) else "unit" in row
    return "numeric" if is_scibench and otherwise == "math" else otherwise


def _given_steps(solution: object, name: str, task: Task) -> list[str]:
    if isinstance(solution, str):
        return _steps(valid_text(solution, name), task)
    if not isinstance(solution, list) or not all(isinstance(step, str) for step in solution):
        raise InputError(f'"{name}" is neither text nor a list of texts')
    return _steps("\n".join(valid_text(step, name).removesuffix(STEP_SEPARATOR) for step in solution), task)


def _steps(text: str, task: Task) -> list[str]:
    """Return the steps of a solution, calculator annotations removed."""
    return task.steps(_CALCULATOR.sub("", text))


def _ended(steps: list[str], answer: str, ends: Callable[[str], bool]) -> tuple[str, ...] | None:
    """Return the steps, each with its separator, the last one stating the answer where the task
    takes that for an end; None where there are none.
    """
    if not steps:
        return None
    statement = f"The answer is {answer}"
    is_whole = (ends(steps[-1]) and not steps[-1].startswith("####")) or not ends(statement)
    last = () if is_whole else (statement,)
    kept = steps[:-1] if steps[-1].startswith("####") else steps
    return tuple(step + STEP_SEPARATOR for step in (*kept, *last))
