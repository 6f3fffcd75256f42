"""Numbers and arithmetic in words, English and Chinese: twenty-five, two thirds, 十二, half of 50,
at least 12.

Knows words only: what it makes of them is a number, a formula or an inequality in LaTeX.
"""

import re
from fractions import Fraction

_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen"
    " nineteen"
)
_WORDS = {word: value for value, word in enumerate(_SMALL.split())}
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_WORDS |= {word: 10 * (value + 2) for value, word in enumerate(_TENS.split())}
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}
_ORDINAL_WORDS = (
    "zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth"
    " sixteenth seventeenth eighteenth nineteenth twentieth"
)
ORDINALS = {word: value for value, word in enumerate(_ORDINAL_WORDS.split())}
_PARTS = {"half": 2, "halves": 2, "third": 3, "thirds": 3, "quarter": 4, "quarters": 4} | {
    word + plural: value for word, value in ORDINALS.items() if value > 3 for plural in ("", "s")
}
_NUMBER_WORD = "|".join(sorted({*_WORDS, *_SCALES}, key=len, reverse=True))
_NUMBER_WORDS = re.compile(rf"(?:{_NUMBER_WORD})(?:(?:[\s-]+|\s+and\s+)(?:{_NUMBER_WORD}))*(?![a-z])")
_PART_WORD = "|".join(sorted(_PARTS, key=len, reverse=True))
_FRACTION_WORDS = re.compile(
    rf"(?:(?P<top>(?:{_NUMBER_WORD})(?:-(?:{_NUMBER_WORD}))?|a|an|\d+)[\s-]+)?"
    rf"(?P<part>{_PART_WORD})(?![a-z])"
)
_CHINESE_DIGITS = {sign: value for value, sign in enumerate("零一二三四五六七八九")} | {"两": 2, "〇": 0}
_CHINESE_SCALES = {"十": 10, "百": 100, "千": 1000}
_MYRIADS = {"万": 10**4, "亿": 10**8}
# As on banknotes and cheques.
_PLAIN_SIGNS = str.maketrans("壹贰叁肆伍陆柒捌玖拾佰仟萬億", "一二三四五六七八九十百千万亿")
_CHINESE_NUMBER = re.compile(
    "(负?)(?:百分之)?([零〇一二两三四五六七八九十百千万亿]+)(?:分之([零〇一二两三四五六七八九十百千万亿]+))?(?:点([零〇一二三四五六七八九]+))?"
)


def names_a_number(words: list[str]) -> bool:
    """Return whether words spell a number or a fraction somewhere ("two thirds")."""
    spelled = (word in _WORDS or word in _PARTS or word in _SCALES for word in words)
    return any(spelled) or any(set(word) & {*_CHINESE_DIGITS, *_CHINESE_SCALES, "万", "亿"} for word in words)


def leading_number(text: str) -> tuple[Fraction, str] | None:
    """Return the number that a text opens with in words, and the rest; None if it opens with none
    that is whole.
    """
    lowered = text.lower()
    if chinese := chinese_number(text):
        return chinese
    sign = re.match(r"(?:minus|negative)\s+", lowered)
    start = sign.end() if sign else 2 if lowered.startswith("a dozen") else 0
    found = _fraction(lowered, start) or _whole(lowered, start)
    if found is None:
        return None
    value, end = found
    return (-value if sign else value), text[end:].strip()


def _whole(text: str, start: int) -> tuple[Fraction, int] | None:
    found = _NUMBER_WORDS.match(text, start)
    if found is None:
        return None
    value = _value_of_words(re.findall(r"[a-z]+", found.group()))
    if value is None:
        return None
    if half := re.compile(r"\s+and\s+(?:a|one)\s+half(?![a-z])").match(text, found.end()):
        return value + Fraction(1, 2), half.end()
    return Fraction(value), found.end()


def _value_of_words(words: list[str]) -> int | None:
    """Return the number that words spell, None where no number is spelled so ("three two")."""
    total, current, last = 0, 0, 0
    for word in words:
        if word == "and":
            continue
        if word in _SCALES:
            scale = _SCALES[word]
            if not current and scale != 12:
                return None
            total, current = (total, (current or 1) * scale) if scale in (12, 100) else (total + current * scale, 0)
            last = scale
        else:
            value = _WORDS[word]
            if last and not (last >= 100 or (20 <= last < 100 and 0 < value < 10)):
                return None
            current, last = current + value, value or 1
    return total + current


def _fraction(text: str, start: int) -> tuple[Fraction, int] | None:
    found = _FRACTION_WORDS.match(text, start)
    if found is None or text[found.end() :].lstrip().startswith(("of ", "a ")):
        return None
    top = found["top"]
    if top is None:
        return (Fraction(1, 2), found.end()) if found["part"] == "half" else None
    number = 1 if top in ("a", "an") else int(top) if top.isdigit() else _value_of_words(re.findall("[a-z]+", top))
    return None if not number else (Fraction(number, _PARTS[found["part"]]), found.end())


def chinese_number(text: str) -> tuple[Fraction, str] | None:
    """Return the number that a text opens with in Chinese numerals, and the rest; None if it opens
    with none.
    """
    found = _CHINESE_NUMBER.match(text.translate(_PLAIN_SIGNS))
    if found is None:
        return None
    sign, first, second, decimals = found.groups()
    value = _chinese_value(first)
    if "百分之" in found.group():
        value = None if value is None else value / 100
    elif second is not None:
        top = _chinese_value(second)
        value = None if not value or top is None else top / value
    if value is None:
        return None
    if decimals:
        value += Fraction(int("".join(str(_CHINESE_DIGITS[sign]) for sign in decimals)), 10 ** len(decimals))
    rest = text[found.end() :].strip()
    if rest.startswith("又") and (part := chinese_number(rest[1:])) and part[0] < 1:
        value, rest = value + part[0], part[1]
    return (-value if sign else value), rest


def _chinese_value(text: str) -> Fraction | None:
    """Return the number that numerals spell: by places (一百零五), digit by digit (二〇二四), or
    with the last place unsaid (一万二 is 12000); None where no number is spelled so.
    """
    if len(text) > 2 and set(text) <= _CHINESE_DIGITS.keys():
        return Fraction("".join(str(_CHINESE_DIGITS[sign]) for sign in text))
    total, section, digit, unsaid = 0, 0, 0, 1
    for place, sign in enumerate(text):
        if sign in _CHINESE_DIGITS:
            if digit:
                return None
            digit = _CHINESE_DIGITS[sign]
            unsaid = unsaid if digit else 1
            continue
        scale = _CHINESE_SCALES.get(sign) or _MYRIADS[sign]
        if sign in _CHINESE_SCALES:
            section += (digit or (1 if place == 0 else 0)) * scale
        else:
            total, section = (total + section + digit) * scale, 0
        digit, unsaid = 0, scale // 10
    return Fraction(total + section + digit * unsaid)


_N = r"(-?\$?\d+(?:\.\d+)?)"
_ARITHMETIC = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (rf"\b(?:square )?root of {_N}", r"\\sqrt{\1}"),
        (rf"\bcube root of {_N}", r"\\sqrt[3]{\1}"),
        (rf"{_N} squared\b", r"{\1}^{2}"),
        (rf"{_N} cubed\b", r"{\1}^{3}"),
        (rf"{_N} (?:raised )?to (?:the )?(?:power of {_N}|{_N} power)", r"{\1}^{\2\3}"),
        (rf"{_N} factorial\b", r"\1!"),
        (rf"{_N} choose {_N}", r"\\binom{\1}{\2}"),
        (rf"{_N}\s?(?:%|percent) of {_N}", r"\\frac{\1}{100} \\cdot \2"),
        (rf"\b(?:one |a )?half (?:of )?{_N}", r"\\frac{1}{2} \\cdot \1"),
        (rf"\b(?:one |a )?third of {_N}", r"\\frac{1}{3} \\cdot \1"),
        (rf"\b(?:one |a )?(?:quarter|fourth) of {_N}", r"\\frac{1}{4} \\cdot \1"),
        (rf"\b(?:twice|double) {_N}", r"2 \\cdot \1"),
        (rf"\b(?:thrice|triple) {_N}", r"3 \\cdot \1"),
        (rf"{_N} (?:in|out of|over|divided by) {_N}", r"\\frac{\1}{\2}"),
        (rf"{_N} (?:times|multiplied by) {_N}", r"\1 \\cdot \2"),
        (rf"{_N} plus {_N}", r"\1 + \2"),
        (rf"\bsum of {_N} and {_N}", r"\1 + \2"),
        (rf"\bproduct of {_N} and {_N}", r"\1 \\cdot \2"),
        (rf"{_N} minus {_N}", r"\1 - \2"),
        (rf"^(?:minus|negative) {_N}", r"-\1"),
    )
)
_BOUNDS = tuple(
    (re.compile(pattern), relation)
    for pattern, relation in (
        (rf"(?:at least|no less than|not less than|no fewer than|a minimum of) {_N}.*", r"\ge"),
        (rf"{_N} (?:\w+ )?(?:or|and) (?:more|greater|above|larger|higher|over|up).*", r"\ge"),
        (rf"(?:at most|no more than|not more than|no greater than|up to|a maximum of) {_N}.*", r"\le"),
        (rf"{_N} (?:\w+ )?(?:or|and) (?:less|fewer|below|smaller|lower|under).*", r"\le"),
        (rf"(?:more than|greater than|larger than|over|above|exceeding|higher than) {_N}.*", ">"),
        (rf"(?:less than|fewer than|smaller than|under|below|lower than) {_N}.*", "<"),
        (rf"(?:至少|不少于|不小于|不低于|大于等于|大于或等于){_N}.*|{_N}\w?(?:以上|或更多|及以上)", r"\ge"),
        (rf"(?:至多|最多|不超过|不大于|不多于|小于等于|小于或等于){_N}.*|{_N}\w?(?:以下|以内|及以下)", r"\le"),
        (rf"(?:大于|多于|超过|高于){_N}.*", ">"),
        (rf"(?:小于|少于|低于|不到){_N}.*", "<"),
    )
)


def formula_of_words(text: str) -> str | None:
    """Return the formula that a phrase of arithmetic says ("5 plus 6"), or None if it says none."""
    if re.search(r"[a-z]{2}", text.lower()) is None or re.search(r"[\\()\[\]{}]", text):
        return None
    formula = _with_digits(text)
    for pattern, replacement in _ARITHMETIC:
        formula = pattern.sub(replacement, formula)
    return formula if re.fullmatch(r"(?:[\d\s.+\-{}^!()]|\\(?:frac|sqrt|cdot|binom)|\[3\])+", formula) else None


def bound_of_words(text: str) -> str | None:
    """Return the inequality that a phrase says ("at least 12" as x \\ge 12), or None."""
    spelled = _with_digits(text)
    for pattern, relation in _BOUNDS:
        if found := pattern.fullmatch(spelled):
            return f"x {relation} {next(filter(None, found.groups()))}"
    return None


def _with_digits(text: str) -> str:
    """Return a phrase in lower case without articles, its numbers in digits."""
    lowered = re.sub(r"(?<=\d),(?=\d{3})", "", text.lower().strip(" .$"))
    lowered = re.sub(r"\b(?:the|exactly|about|approximately|a(?= dozen))\s+", "", lowered).replace("\\", "")

    def digits(found: re.Match[str]) -> str:
        value = _value_of_words(re.findall(r"[a-z]+", found.group()))
        return found.group() if value is None else str(value)

    return _NUMBER_WORDS.sub(digits, lowered).strip()
