"""Where a solution states its final answer, and what it states.

Knows the phrases that models and data sets use (English and Chinese), not whether an answer is
right.
"""

import re

from restmcts.domain.answers.normalisation import matching_brace, strip_wrappers
from restmcts.domain.answers.quantities import normalise_number
from restmcts.domain.answers.withdrawals import is_denied, is_doubted, retraction_after
from restmcts.domain.segmenters import outside_thoughts, thought_is_open

__all__ = ["answer_statement", "extract_answer", "is_cut_off", "normalise_number", "states_answer"]

MAX_ANSWER_CHARACTERS = 2000
MAX_LEAD_CHARACTERS = 200
MAX_HEADING_WORDS = 3

_GATES = ("answer", "boxed", "####", "答", "故选", "应选", "ANSWER", "Answer", "选项", "故本题选", "应该选")
# A verb right after the word, or after a short phrase that says whose answer it is; or a colon.
_ANCHOR = re.compile(
    r"""
    \banswers?\b\s{0,9}[*_]{0,3}\s{0,9}
      (?:(?:to|for|of|in)\b(?!\s+(?:part|step|case|sub|question\s+\d|the\s+(?:first|second|third|previous|next)|\(?[a-h\d]\)))[^.:\n]{1,80}?\s)?
      (?:(?:is|are|equals|becomes|will\s+be|would\s+be|should\s+be|must\s+be|=)(?=[^\w]|$)\s{0,9}[*_]{0,3}\s{0,9}:?|:)
    |^[ \t#*_>-]{0,20}(?:final\s+)?answer[ \t*_]{0,20}$
    |</?answer>
    |(?:答案|(?:故|应|因此|所以)(?:本题|该)?选(?:择|项)?)\s{0,9}[*_]{0,3}\s{0,9}(?:应该是|应为|是|为|选|[:：])?
    |^[ \t]{0,20}(?:答|解答)\s{0,9}[:：]
    |^[ \t]{0,20}\#{4}(?!\#)
    |(?<=[ \t])\#{4}(?=[ \t]*-?\$?\d[\d,.]*[ \t]*$)
    """,
    re.VERBOSE | re.IGNORECASE | re.MULTILINE,
)
_BOX = re.compile(r"\\(?:boxed|fbox|framebox)\s*(?=\{|[0-9a-zA-Z])|(?<![\\a-zA-Z])boxed\s*(?=\{)")
_BETWEEN_BOXES = re.compile(r"(?:[\s$,;]|\\[()\[\]]|\band\b|\bor\b|和|或|\b[a-zA-Z](?:_\{?\w\}?)?\s*=)*")
_SAID_IN_BOX = re.compile(
    r"^(?:\\text\s*\{\s*)?(?:(?:so|thus|therefore),?\s+)?(?:the\s+)?(?:final\s+)?answer(?:\s+is|\s*[:=])\s*:?\s*\}?",
    re.IGNORECASE,
)
_LEAD = re.compile(
    r"^(?:[\s:：=*_]|(?:therefore|thus|simply|just|exactly|approximately|approx\.|about|around|roughly|equal\s+to|given\s+by"
    r"|option|choice|also|probably|likely|clearly|indeed|maybe|now)\b|\\(?:approx|therefore)\b|≈)+",
    re.IGNORECASE,
)
# "The answer is correct" speaks about an answer and gives none.
_NO_ANSWER = re.compile(
    r"(?:not|n't|in the form|to be|as follows|found by|obtained by|the same)\b"
    r"|(?:correct|incorrect|right|wrong|reasonable|consistent|clear|obvious|valid)\W*$"
    r"|(?:correct|reasonable|consistent)\s+(?:because|since|and|as)\b"
    r"|(?:必须|不|并非|非|未|没|的|要|取决|在)",
    re.IGNORECASE,
)
# What a prompt or a template has in the answer's place.
_PLACEHOLDER = re.compile(
    r"[\s$\\(\[{<*_（【]*(?:X|N|\.{3,}|…|_{2,}|\?+|(?:your|the|final|numerical|correct|insert|here|answer|number|letter|value|option|result|字母|数字|答案|\s)+)"
    r"[\s$\\)\]}>*_.）】]*",
    re.IGNORECASE,
)
_WITH_CASE = re.compile(r"[\s$\\(\[{<*_]*[xn][\s$\\)\]}>*_.]*")
# Whose answer, or under which condition: no answer to the problem.
_CONDITION = re.compile(
    r"\b(?:if|suppose|supposing|assuming|assume|unless|whether|were)\b[^.!?\n]*$"
    r"|\b(?:intermediate|partial|previous|preliminary|tentative|initial|wrong|incorrect|possible|another|earlier|sub)[\s-]+$"
    r"|(?:如果|若|假设|假如|是否|要是)[^。！？\n]*$"
    r"|(?:第[^。，\n]{1,6}(?:问|题|部分|步|空)|[(（][\dabc一二三四][)）]|上一步|中间|部分|错误|可能)(?:小题)?的?\s*$",
    re.IGNORECASE,
)
_CONDITION_AFTER = re.compile(
    r"(?<!because)(?<!since)[,;]?\s+(?:if|unless|provided|assuming|only\s+when)\b|[,;]\s*(?:so|but|and|now)\b[^.]*\b(?:continue|still\s+(?:need|have)|need\s+to|have\s+to|must|go\s+on)\b"
    r"|[，,]\s*(?:如果|若|但还|还需|继续|接下来)",
    re.IGNORECASE,
)
_MODAL = re.compile(r"(?:must|should|will|would)\s+be\s*:?$|(?:应该|必须|一定)是?$", re.IGNORECASE)
_DEFINITE = re.compile(r"[-$\\(\[{*+]*(?:\d|[$\\({\[]|[A-J](?![a-z]))|\w+\W*$")
_PROPERTY = re.compile(
    r"(?:an?\s+)?(?:positive|negative|even|odd|integral|integers?|whole|rational|real|unique|finite|small|large|close|similar|between|greater|less|smaller|"
    r"larger|at\s+(?:least|most)|divisible|multiple|simplified|given|expressed|rounded|exact|about|around|approximately|roughly|near)\b"
    r"|(?:正|负|整|偶|奇|质|实|大于|小于|唯一|介于)",
    re.IGNORECASE,
)
_HEADING = re.compile(r"^[ \t>*_]{0,9}#{1,6}(?!#)[ \t]*(?P<text>.*)$", re.MULTILINE)
_HEADING_OF_ANSWER = re.compile(r"(?:[*_\s]|the\b|final\b|answer\b|is\b|:|：|最终|答案|是|为)*", re.IGNORECASE)
_NO_RESULT = re.compile(
    r"(?:\*\*)?\s*(?:(?:step|part|case|question|problem|section|example|stage|phase|method|solution|approach|task|attempt|option)\s*(?:\d|[ivx]+\b|[a-c]\b|one|two)"
    r"|第.{1,3}[步问题部]|步骤|\d{1,2}\s*[.)、:：](?=\s*[^\d\s])|\([a-z\d]\)\s*\w)",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?:(?<![A-Z])\.|(?<=\W[A-Z])\.|(?<=^[A-Z])\.|(?<=[a-z])[!?])(?=\s)|。")
_CLAUSE = re.compile(
    r",?\s+(?:because|since|which|so\s+that|where|I\s+hope|as\s+(?:we|required|desired|shown)|not|rather\s+than)\b"
    r"|,\s+(?:as|so|and\s+(?:we|this|the))\b"
)
_WORD_CHARACTER = re.compile(r"\w")
_SHORT_RESULT = re.compile(r"(?:yes|no|true|false|none|odd|even|undefined|impossible|infinity|[a-z])\W*", re.IGNORECASE)
_BREAKS_OFF = re.compile(
    r"(?:[=+*/({\[,:\\^_-]|\\(?:frac|sqrt|times|cdot|boxed|left|text)\b\{?|\banswer(?:\s+(?:is|are))?|答案(?:是|为)?)\s*$"
    r"|\\boxed\s*\{(?:[^{}]|\{[^{}]*\})*$",
    re.IGNORECASE,
)
_OPEN_FORMULA = re.compile(r"(?<![\\$])\$(?![\d$])")
_FORMULA = re.compile(r"(?<!\\)\$([^$\n]+?)(?<!\\)\$")
_FUNCTION_WORDS = re.compile(
    r"\b(?:a|an|and|as|by|for|from|in|is|it|of|or|so|that|the|then|to|we|with)\b", re.IGNORECASE
)


def states_answer(step: str) -> bool:
    """Return whether a step states a final answer (and so ends its solution); cheap enough to ask
    of every generated step. What a thought says (`<think>`) is no answer.
    """
    if not any(gate in step for gate in _GATES):
        return False
    return answer_statement(outside_thoughts(step)) is not None


def extract_answer(solution: str) -> str | None:
    """Return the last answer that a solution states, without the words and marks around it, or None
    if it states none.

    A box that is never closed comes back with its opening, since nobody can know what it would have
    contained; an answer that is taken back, with the words that do so. What a thought says is no
    answer.
    """
    if not any(gate in solution for gate in _GATES):
        return None
    return answer_statement(outside_thoughts(solution))


def answer_statement(text: str) -> str | None:
    """Return the last non-empty statement of an answer in a text, whichever of the known forms
    it has.
    """
    for place, end, is_box in sorted(_anchors(text), reverse=True):
        answer = _boxed(text, place) if is_box else _stated(text, place, end)
        if answer and not _is_placeholder(answer):
            return _with_withdrawal(answer, text, place, end, is_box)
    return None


def _with_withdrawal(answer: str, text: str, start: int, end: int, is_box: bool) -> str:
    """Return an answer with the words that take it back or deny it, if any do."""
    if is_box:
        box = _one_box(text, start)
        if box and is_denied(text[max(0, start - MAX_LEAD_CHARACTERS) : start]):
            return f"not {answer}"
        end = box[1] if box else end
    else:
        first = _WORD_CHARACTER.search(text, end)
        end = first.end() if first else end
    words = retraction_after(text, end)
    return answer if words is None else f"{answer} {words}"


def is_cut_off(solution: str) -> bool:
    """Return whether a text breaks off where more must follow: in a formula, a box, a sum or the
    statement of its answer, or a thought.
    """
    if thought_is_open(solution):
        return True
    line = solution.rstrip()[-MAX_ANSWER_CHARACTERS:].rpartition("\n")[2]
    return _BREAKS_OFF.search(line) is not None or len(_OPEN_FORMULA.findall(line)) % 2 == 1


def _is_placeholder(answer: str) -> bool:
    return _PLACEHOLDER.fullmatch(answer) is not None and _WITH_CASE.fullmatch(answer) is None


def _anchors(text: str) -> list[tuple[int, int, bool]]:
    """Return (start, end, is a box) of the last mentions; earlier ones can matter only where
    these turn out to be empty.
    """
    boxes = [(found.start(), found.end(), True) for found in _BOX.finditer(text)]
    inside = [(start, end) for start, _, _ in boxes[-8:] for _, end in [_one_box(text, start) or ("", start)]]
    phrases = [
        (found.start(), found.end(), False)
        for found in _ANCHOR.finditer(text)
        if not any(start < found.start() < end for start, end in inside)
    ]
    return phrases[-8:] + boxes[-8:]


def _stated(text: str, start: int, end: int) -> str | None:
    """Return what a phrase states as the answer; None where it is a heading, a condition or a
    remark on an answer.
    """
    line_start = text.rfind("\n", 0, start) + 1
    before = text[max(line_start, start - MAX_LEAD_CHARACTERS) : start]
    heading = _HEADING.match(text, line_start)
    if heading and not _is_answer_of_heading(heading["text"], text[start:end]):
        return None
    if _CONDITION.search(before) or is_doubted(before):
        return None
    answer = _sentence_answer(text, end)
    if answer is None or not _says_answer(text[start:end], text[end : end + MAX_LEAD_CHARACTERS], answer):
        return None
    return answer


def _says_answer(phrase: str, rest: str, answer: str) -> bool:
    line = rest.partition("\n")[0]
    if _CONDITION_AFTER.search(_until(_SENTENCE_END, line)) or not re.search(r"\w", answer):
        return False
    if phrase.endswith("答案") and not re.match(r"\s*[-$\\(（\d.A-J]", rest):
        return False
    return not (_MODAL.search(phrase.rstrip()) and (_PROPERTY.match(line.strip(" :*$")) or not _DEFINITE.match(answer)))


def _is_answer_of_heading(heading: str, phrase: str) -> bool:
    """Return whether a heading is one of GSM8K's answers (#### 72) or no more than one."""
    said = phrase.strip(" #\t")
    before, _, result = heading.partition(said) if said else ("", "", heading)
    words = re.findall(r"[^\W\d_]{2,}", re.sub(r"\\[a-zA-Z]+", "", result))
    if re.search("[一-鿿]{9}", result):
        return False
    if not phrase.lstrip().startswith("####"):
        return len(words) <= MAX_HEADING_WORDS and _HEADING_OF_ANSWER.fullmatch(before) is not None
    if _NO_RESULT.match(heading) or len(words) > MAX_HEADING_WORDS + 1:
        return False
    return (
        not words or re.search(r"[\d\\$]", heading) is not None or _SHORT_RESULT.fullmatch(heading.strip()) is not None
    )


def _boxed(text: str, place: int) -> str | None:
    """Return what the box at `place` holds, joined with boxes that are right before it in one
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
    joined = ", ".join(_SAID_IN_BOX.sub("", content.strip()).strip() for content in contents)
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
    math that is there.
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
