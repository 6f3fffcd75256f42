"""Words beside a number that make another number of it, take it back, or say how it is meant.

Knows words only, English and Chinese. A number beside one of them is not the answer by itself.
"""

import re

_CHANGING = (
    "doubled tripled quadrupled halved squaring cubing increased decreased reduced subtracted cube conjugate complement "
    "squared cubed root roots half halves third thirds quarter quarters fourth fourths fifth fifths sixth sixths"
    " seventh eighth ninth tenth tenths hundredth hundredths thousandth thousandths millionth millionths gross lakh"
    " lakhs crore crores myriad twice thrice double triple quadruple dozen dozens hundred hundreds thousand"
    " thousands million millions billion billions trillion plus minus negative fewest fewer least most over under above"
    " below between from to or factorial choose log logarithm ln sin cos tan sine cosine tangent reciprocal inverse"
    " power exponent not no never without except than divided multiplied mod modulo base opposite negation percent"
    " percentage greater larger smaller higher lower exceeds exceeding raised out if unless whether but neither nor"
    " cannot isn aren wasn none either versus vs pi divisible coprime successor predecessor short instead unlike"
    " assume assuming suppose supposing doubt wrong incorrect impossible invalid false extraneous rejected discarded"
    " contradiction contradicts actually wait correction scratch oops think thinks thought believe believes nobody mistake"
)
CHANGING_WORDS = frozenset(_CHANGING.split())
"""Words that make another number of the number beside them, or take it back."""

_FUNCTION_OF = re.compile(
    r"\b(?:square|multiples?|factors?|fraction|divisors?|share|part|double|digits?|sum|difference|product|quotient)\s+of\b"
    r"|\bthe\s+(?!(?:values?|total|answer|result|amount|number)\b)[a-z]+\s+of\s+[-$]?\d"
    r"|\btimes\s+(?:as|more|itself|the|larger|greater|bigger|smaller)\b"
)
_PLACED_BY = re.compile(r"\b(?:with|by|before|after|from|when|for|against|in|at)\s+[-$]?\d[\d.,]*\W*$")
_CHANGING_CHINESE = re.compile(
    "平方(?!米|厘米|千米|公里|英尺|分米|毫米)|立方(?!米|厘米|分米|毫米)|次方|以上|以下|以内|以外|多|左右|倍|分之|半|不|没|非|至|或|和|余"
    "|比|除|几|大于|小于|将近|接近|零下|根号|阶乘|对数|绝对值|倒数|相反数|因数|约数|前面|后面|前一个|后一个|错|更正|等等|认为|舍去|矛盾|假设|是否"
    r"|(?<![\u4e00-\u9fff])[成折打](?![\u4e00-\u9fff])|\d\s*的"
)
_OPPOSITES = (
    "left leftward|right rightward, up upward upwards upstream|down downward downwards downstream, north|south"
    ", east|west, increase increases rise|decrease decreases fall drop, discount|surcharge, faster|slower"
    ", profit gain surplus deposit deposits win wins|loss losses deficit withdrawal withdrawals, older|younger"
    ", taller longer|shorter, heavier|lighter, wider|narrower, warmer hotter|colder cooler, ahead|behind, long|short"
    ", early earlier|late later, inward|outward, inside|outside, before bc bce|after ad ce"
    ", clockwise|counterclockwise anticlockwise, 上升 升高 增加 盈利|下降 降低 减少 亏损, 左|右, 东|西, 南|北"
)
_SIDE_OF_WORD = {
    word: (pair, side)
    for pair, sides in enumerate(_OPPOSITES.split(", "))
    for side, words in enumerate(sides.split("|"))
    for word in words.split()
}


def changes_number(text: str) -> bool:
    """Return whether words beside a number may make another number of it, or take it back."""
    lowered = text.casefold()
    return (
        any(word in CHANGING_WORDS for word in re.findall(r"[a-z]+", lowered))
        or is_function_of(lowered)
        or _PLACED_BY.search(lowered) is not None
        or changes_in_chinese(text)
    )


def changes_in_chinese(text: str) -> bool:
    """Return whether a Chinese word in a text makes another number of the one beside it."""
    return _CHANGING_CHINESE.search(text) is not None


def is_function_of(text: str) -> bool:
    """Return whether a phrase says a function of the number beside it (times itself)."""
    return _FUNCTION_OF.search(text.casefold()) is not None


def are_opposite(text: str, other: str) -> bool:
    """Return whether one text has a word whose opposite the other has: 5 cm up, 5 cm down."""
    sides, other_sides = ({_SIDE_OF_WORD.get(word) for word in _words(one)} - {None} for one in (text, other))
    return any((pair, 1 - side) in other_sides for pair, side in filter(None, sides))


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]+|[\u4e00-\u9fff]{1,2}", text.casefold())
