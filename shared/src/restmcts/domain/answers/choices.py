"""Multiple choice: which letter a text chooses, and whether it is the right one.

Knows how models and data sets name an option, in English and Chinese; a text that names several, or
takes one back, names none or all of them.
"""

import re

from restmcts.domain.answers.normalisation import one_spelling, strip_wrappers
from restmcts.domain.problems import Verdict

MAX_CHARACTERS = 20_000
MAX_BARE_CHARACTERS = 500
MAX_NEGATION = 40
"""Characters before a letter in which a word may negate it."""
_LETTER = "A-J"
# A letter alone, in brackets or bold; no word, no symbol of a formula, no article before a noun.
_MARK = (
    rf"(?:\\(?:text|textbf|mathrm|mathbf|boxed)\s*\{{|[*(\[$\"'“\\{{\s])*(?P<letters>[{_LETTER}]{{1,4}})(?![a-zA-Z0-9'’_^]|\s*[=+])"
    r"(?P<closed>[*)\]$\"'”}.:：,，、。\\]*)"
)
_CHOSEN = tuple(
    re.compile(lead + r"[\s:：*]{0,9}" + _MARK, re.IGNORECASE if lead.isascii() else 0)
    for lead in (
        r"\b(?:answer|choice|option)s?\b(?:\s+(?:to|for)\s+[^.\n:]{1,60}?)?\s*\**\s*(?:is|are|:|=|-|should\s+be|must\s+be|would\s+be|seems\s+to\s+be|appears\s+to\s+be)"
        r"(?:\s+(?:either|therefore|thus|clearly|probably|likely|option|choice|letter|the))*",
        r"\b(?:go\s+with|pick|choose|select|chose|picked|selected|i\.e\.|namely|(?:it|this|that)\s+(?:must|should|has\s+to)\s+be)(?:\s+(?:option|choice|answer|letter))?",
        r"(?:so|thus|therefore|hence|it\s+is|it's)[,:]?(?:\s+(?:option|choice|it\s+is|it's))?(?=[^.\n]{1,12}\.?\s*$)",
        r"(?:答案|选项|应该选择?|应选择?|故选择?|本题选择?|所以选择?|因此选择?|选择|我选|正确的?是|认为是|应为|应该是|选)(?:应该是|应为|应是|是|为)?(?:选项)?",
    )
)
_CALLED_RIGHT = re.compile(
    rf"(?:\b(?:[Oo]ption|[Cc]hoice|[Aa]nswer)\s+)?(?<![a-zA-Z])[*(\[$]{{0,9}}(?P<letters>[{_LETTER}])[*)\]$]{{0,9}}"
    rf"\s+(?:is|must be|would be)\s+(?:the\s+)?"
    rf"(?:correct|right|best|answer|true)|(?<![a-zA-Z])(?P<chinese>[{_LETTER}])(?:选项)?(?:是)?正确"
)
_ARTICLE = re.compile(r"\s+(?!because|since|as\b|and\b|or\b|is\b|which|for\b|but\b|not\b|with\b|by\b|due\b)[a-z]")
_NEGATED = re.compile(
    r"(?:\b(?:not|neither|nor|isn't|cannot\s+be|can't\s+be|rather\s+than|rule\s+out|eliminate|(?:anything|everything|all)\s+but|except|besides|unlike|other\s+than|instead\s+of)|n't\s+(?:be|choose|pick)|不是?|不选|排除|而非|而不是)"
    r"[\s*(:]*(?:option|choice|选项)?[\s*(]*$",
    re.IGNORECASE,
)
_TAKEN_BACK = re.compile(
    r"\W*(?:选项)?(?:的?(?:说法|描述|结论|答案))?(?:是)?(?:错|不对|不正确|不符|不成立)|\W*\s(?:is|are)\s+(?:wrong|incorrect|not|false|impossible)"
    r"|\W*[?？]\W*(?:no\b|not\b|wrong|incorrect|nope|不)",
    re.IGNORECASE,
)
_SEVERAL = re.compile(
    rf"\W{{0,4}}(?:and|or|&|和|或|、|,|，|/)\W{{0,4}}(?:option\s+|choice\s+)?\(?([{_LETTER}])(?![a-zA-Z])"
)
_BARE = re.compile(
    rf"(?:(?:[Oo]ption|[Cc]hoice|[Aa]nswer|选项?)\s*)?(?P<mark>[*(\[$\"'{{\s]*(?:\\text\s*\{{)?[(\s]*)"
    rf"(?P<letters>[{_LETTER}]{{1,4}}|[a-j])(?P<closed>(?![a-zA-Z0-9_^'’])\s*[*)\]$\"'}}.:：、,，\s]*)"
)
_FORMULA = re.compile(r"\\(?!text|mathrm|mathbf|mathit|mathsf|bf|rm|,|;|!| )|[=+^_<>]")
_LABEL = re.compile(rf"\s*\(?[{_LETTER}][).:,]")
_BOX = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}")


def compare_choices(truth: str, prediction: str) -> Verdict:
    """Return whether a multiple-choice answer names the true letter; UNDECIDED when it names
    none.
    """
    if strip_wrappers(truth).casefold() == strip_wrappers(prediction).casefold():
        return Verdict.RIGHT
    true_letters, letters = chosen_letters(truth), chosen_letters(prediction)
    if true_letters is None or letters is None:
        return Verdict.UNDECIDED
    return Verdict.RIGHT if true_letters == letters else Verdict.WRONG


def chosen_letters(text: str) -> str | None:
    """Return the letter that a text chooses, several in order of the alphabet if it names several,
    or None.

    The last choice counts; what is negated ("not B", "B is wrong") is none.
    """
    text = text[-MAX_CHARACTERS:]
    for box in reversed(_BOX.findall(text)):
        if letters := None if _FORMULA.search(box) and not _LABEL.match(box) else _letters_of_answer(box):
            return letters
    return _letters_of_answer(text)


def _letters_of_answer(text: str) -> str | None:
    spelled = one_spelling(text) if len(text) < MAX_BARE_CHARACTERS else ""
    return _bare_letters(spelled, whole=True) or _stated_letters(text) or _bare_letters(spelled, whole=False)


def _bare_letters(spelled: str, whole: bool) -> str | None:
    """Return the letter that an answer consists of ("B", "(B)", "A and B"), or that labels it
    ("B. text", "B because").
    """
    found = _BARE.match(spelled)
    if found is None:
        return None
    letters, closed = found["letters"].upper(), found["closed"].strip()
    is_label = bool(closed) or re.match(r"(?:because|since|as)\b|[-–—]|\\text", spelled[found.end() :]) is not None
    named, end = _with_others(letters, spelled, found.end("letters"))
    ends = re.fullmatch(r"\W*", spelled[end:]) is not None
    if found["letters"].islower() and not (ends or ")" in closed):
        return None
    if len(letters) > 1 and (found["letters"].islower() or not ends):
        return None
    return named if ends or (is_label and not whole) else None


def _stated_letters(text: str) -> str | None:
    """Return what the last statement of a choice names."""
    found = [one for pattern in _CHOSEN for one in pattern.finditer(text) if _is_choice(text, one)]
    statements = [(one.start("letters"), _with_others(one["letters"], text, one.end("letters"))[0]) for one in found]
    for one in _CALLED_RIGHT.finditer(text):
        group = "letters" if one["letters"] else "chinese"
        if not _NEGATED.search(text[max(0, one.start(group) - MAX_NEGATION) : one.start(group)]):
            statements.append((one.start(group), one[group]))
    if statements:
        return max(statements)[1]
    contrast = re.search(
        rf"(?:it is|it's|\b[Nn]ot\b[^.]{{0,60}}\bbut|而是|而应是)\s+(?:option\s+)?\(?([{_LETTER}])\)?\W*$", text.strip()
    )
    return contrast.group(1) if contrast else None


def _is_choice(text: str, found: re.Match[str]) -> bool:
    letters, end = found["letters"], found.end("letters")
    if not letters.isupper() or len(set(letters)) < len(letters):
        return False
    if letters in ("A", "I") and not found["closed"] and _ARTICLE.match(text, end):
        return False
    after = text[end : end + 40]
    if _TAKEN_BACK.match(after):
        return False
    return not _NEGATED.search(text[max(0, found.start("letters") - MAX_NEGATION) : found.start("letters")])


def _with_others(letters: str, text: str, end: int) -> tuple[str, int]:
    """Return the letters together with those that the same enumeration names after them, and where
    it ends.
    """
    named = list(letters)
    place = end
    while following := _SEVERAL.match(text, place):
        named.append(following.group(1))
        place = following.end(1)
    return "".join(sorted(set(named))), place
