"""Where a solution states its final answer, and what it states.

Knows the phrases that models and data sets use (English and Chinese), not whether an answer is
right.
"""

import re

from restmcts.domain.answers.normalisation import matching_brace, strip_wrappers
from restmcts.domain.answers.quantities import normalise_number

__all__ = ["answer_statement", "extract_answer", "normalise_number", "states_answer"]

MAX_ANSWER_CHARACTERS = 2000

_GATES = ("answer", "boxed", "####", "答案", "故选", "应选", "ANSWER", "Answer", "选项")
# A verb right after the word, or after a short phrase that says whose answer it is; or a colon.
_ANCHOR = re.compile(
    r"""
    \banswers?\b\s{0,9}[*_]{0,3}\s{0,9}
      (?:(?:to|for|of)\b[^.:\n]{1,80}?\s)?
      (?:(?:is|are|equals|becomes|will\s+be|would\s+be|should\s+be|must\s+be|=)(?=[^\w]|$)\s{0,9}[*_]{0,3}\s{0,9}:?|:)
    |^[ \t#*_>-]{0,20}(?:final\s+)?answer[ \t*_]{0,20}$
    |(?:答案|(?:故|应|因此|所以)选(?:择|项)?)\s{0,9}[*_]{0,3}\s{0,9}(?:应该是|应为|是|为|选|[:：])?
    |^[ \t]{0,20}\#{4}(?!\#)
    """,
    re.VERBOSE | re.IGNORECASE | re.MULTILINE,
)
_BOX = re.compile(r"\\(?:boxed|fbox|framebox)\s*(?=\{|[0-9a-zA-Z])")
_BETWEEN_BOXES = re.compile(r"(?:[\s$,]|\\[()\[\]]|\band\b|\bor\b|和|或)*")
_LEAD = re.compile(
    r"^(?:[\s:：=*_]|(?:therefore|thus|simply|just|exactly|approximately|approx\.|about|around|roughly|equal\s+to|given\s+by"
    r"|option|choice|also|probably|likely|clearly|indeed|maybe|now)\b|\\(?:approx|therefore)\b|≈)+",
    re.IGNORECASE,
)
# "The answer is correct" speaks about an answer and gives none.
_NO_ANSWER = re.compile(
    r"(?:not|n't|in the form|to be|as follows|found by|obtained by|the same)\b"
    r"|(?:correct|incorrect|right|wrong|reasonable|consistent|clear|obvious|valid)\W*$"
    r"|(?:correct|reasonable|consistent)\s+(?:because|since|and|as)\b",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?:(?<![A-Z])\.|(?<=\W[A-Z])\.|(?<=^[A-Z])\.|(?<=[a-z])[!?])(?=\s)|。")
_CLAUSE = re.compile(
    r",?\s+(?:because|since|which|so\s+that|where|I\s+hope|as\s+(?:we|required|desired|shown)|not|rather\s+than)\b"
    r"|,\s+(?:as|so|and\s+(?:we|this|the))\b"
)
_FORMULA = re.compile(r"(?<!\\)\$([^$\n]+?)(?<!\\)\$")
_FUNCTION_WORDS = re.compile(
    r"\b(?:a|an|and|as|by|for|from|in|is|it|of|or|so|that|the|then|to|we|with)\b", re.IGNORECASE
)


def states_answer(step: str) -> bool:
    """Tell whether a step states a final answer (and so ends its solution); cheap enough to ask
    of every generated step.
    """
    return any(gate in step for gate in _GATES) and answer_statement(step) is not None


def extract_answer(solution: str) -> str | None:
    """Return the last answer that a solution states, without the words and marks around it, or None
    if it states none.

    A box that is never closed comes back with its opening, since nobody can know what it would have
    held.
    """
    if not any(gate in solution for gate in _GATES):
        return None
    return answer_statement(solution)


def answer_statement(text: str) -> str | None:
    """Return the last non-empty statement of an answer in a text, whichever of the known forms
    it has.
    """
    for place, end, is_box in sorted(_anchors(text), reverse=True):
        answer = _boxed(text, place) if is_box else _sentence_answer(text, end)
        if answer:
            return answer
    return None


def _anchors(text: str) -> list[tuple[int, int, bool]]:
    """Return (start, end, is a box) of the last mentions; earlier ones can matter only where
    these turn out to be empty.
    """
    phrases = [(found.start(), found.end(), False) for found in _ANCHOR.finditer(text)]
    boxes = [(found.start(), found.end(), True) for found in _BOX.finditer(text)]
    return phrases[-8:] + boxes[-8:]


def _boxed(text: str, place: int) -> str | None:
    """Return what the box at `place` holds, joined with boxes that stand right before it in one
    enumeration.
    """
    last = _one_box(text, place)
    if last is None:
        return text[place : place + MAX_ANSWER_CHARACTERS].strip()
    contents = [last[0]]
    earlier = [found.start() for found in _BOX.finditer(text, max(0, place - MAX_ANSWER_CHARACTERS), place)]
    for start in reversed(earlier):
        box = _one_box(text, start)
        if box is None or box[1] > place or not _BETWEEN_BOXES.fullmatch(text, box[1], place):
            break
        contents.insert(0, box[0])
        place = start
    joined = ", ".join(content.strip() for content in contents)
    return (strip_wrappers(joined) if len(joined) <= MAX_ANSWER_CHARACTERS else joined) or None


def _one_box(text: str, place: int) -> tuple[str, int] | None:
    """Return a box's content and where it ends, or None if it is not closed."""
    found = _BOX.match(text, place)
    if found is None:
        return None
    if text[found.end()] != "{":
        return text[found.end()], found.end() + 1
    end = matching_brace(text, found.end())
    return None if end is None else (text[found.end() + 1 : end], end + 1)


def _sentence_answer(text: str, start: int) -> str | None:
    """Return the answer in the text after an opening phrase: the rest of its sentence, or the
    math that stands there.
    """
    rest = text[start : start + 2 * MAX_ANSWER_CHARACTERS]
    rest = rest[_lead_end(rest) :]
    math = _leading_math(rest)
    if math is not None:
        return strip_wrappers(math) or None
    line = rest.partition("\n")[0].strip()
    if not line or _NO_ANSWER.match(line):
        return None
    sentence = _until(_SENTENCE_END, line)
    return _trim(_until(_CLAUSE, sentence)) or None


def _lead_end(rest: str) -> int:
    found = _LEAD.match(rest)
    return found.end() if found else 0


def _leading_math(rest: str) -> str | None:
    """Return the display or inline formula that a text opens with, if nothing but its
    sentence's end (or a unit) follows it.
    """
    found = re.match(r"(?:\\\[(.+?)\\\]|\$\$(.+?)\$\$|\\\((.+?)\\\))(?=[^\S\n]*(?:[.。]|$|\n|I hope))", rest, re.DOTALL)
    return next((group for group in found.groups() if group), None) if found else None


def _until(end: re.Pattern[str], text: str) -> str:
    found = end.search(text, 1)
    return text[: found.start()] if found else text


def _trim(sentence: str) -> str:
    text = re.sub(r"\s*<\|?[a-z_/]+\|?>\s*$", "", sentence.strip())
    text = strip_wrappers(text.strip("*_ "))
    text = re.sub(r"\\[()]", "$", text[_lead_end(text) :])
    formulas = _FORMULA.findall(text)
    words = _FORMULA.sub(" ", text).strip()
    # One formula among words: it is the answer and they explain it, unless they are a unit or hold
    # numbers of their own.
    if len(formulas) == 1 and not re.search(r"\d", words) and not _is_unit_phrase(words):
        return strip_wrappers(formulas[0])
    return strip_wrappers(text.strip("*_ "))


def _is_unit_phrase(words: str) -> bool:
    return len(words.split()) <= 3 and not _FUNCTION_WORDS.search(words)
