"""Rows of benchmarks in their own formats, as rows in ours: a question, a true answer, its
kind. Knows no files and no hub.
"""

import random
from collections.abc import Callable, Mapping
from typing import Any

from restmcts.adapters.files.problem_rows import CHOOSE, LETTERS, choices_shown
from restmcts.domain.answers.extraction import extract_answer
from restmcts.domain.requests import derive_seed
from restmcts.errors import InputError

Row = Mapping[str, Any]
Reader = Callable[[Row], dict[str, Any]]

CHOOSE_CHINESE = "请选出正确的一项，最后一行写：答案是（字母）。"


def as_it_is(row: Row) -> dict[str, Any]:
    """Return a row that needs no change: GSM8K's, MATH-500's."""
    return dict(row)


def math_row(row: Row) -> dict[str, Any]:
    """Return a row of MATH, whose answer is boxed in its solution."""
    solution = _text(row, "solution")
    answer = row.get("answer") or extract_answer(solution)
    if answer is None:
        raise InputError('the "solution" boxes no answer')
    return {"question": _text(row, "problem"), "answer": answer, "solution": solution}


def scibench_row(row: Row) -> dict[str, Any]:
    """Return a row of SciBench: a number with a unit, right within five per cent."""
    if "problem_text" not in row:
        return {**row, "kind": "numeric"}
    question = _text(row, "problem_text")
    unit = str(row.get("unit") or "").strip()
    if unit and "unit of the answer" not in question:
        question += f" The unit of the answer should be {unit}."
    return {"question": question, "answer": _number(row.get("answer_number")), "kind": "numeric"}


def gpqa_row(row: Row) -> dict[str, Any]:
    """Return a row of GPQA; the choices are in an order that depends on the question alone."""
    question = _text(row, "Question")
    right = _text(row, "Correct Answer")
    choices = [right, *(_text(row, f"Incorrect Answer {number}") for number in (1, 2, 3))]
    random.Random(derive_seed("choices", question)).shuffle(choices)
    return {
        "question": choices_shown(question, choices, CHOOSE),
        "answer": LETTERS[choices.index(right)],
        "kind": "choice",
    }


def ceval_row(row: Row) -> dict[str, Any]:
    """Return a row of C-Eval; those of its test split have no answer and cannot be used."""
    choices = [str(row.get(letter) or "") for letter in LETTERS[:4]]
    return {
        "question": choices_shown(_text(row, "question"), choices, CHOOSE_CHINESE),
        "answer": _text(row, "answer"),
        "kind": "choice",
    }


def _text(row: Row, name: str) -> str:
    text = row.get(name)
    if not isinstance(text, str) or not text.strip():
        raise InputError(f'no "{name}"')
    return text.strip()


def _number(text: object) -> object:
    """Return a number that may come as text with signs that Python does not read."""
    if not isinstance(text, str):
        return text
    plain = text.replace("−", "-").replace(",", "").strip()
    try:
        return float(plain)
    except ValueError:
        return plain
