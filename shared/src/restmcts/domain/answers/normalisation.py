"""One spelling for answers: LaTeX, Unicode and plain-text ways of writing the same thing are
brought to one.

Knows characters and brackets only, nothing of numbers or meaning. Linear in the length of the text,
whatever the text.
"""

import re
import unicodedata

_CHARACTERS = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "×": r"\times ", "⋅": r"\cdot ", "·": r"\cdot ", "∗": "*", "÷": "/", "⁄": "/",
    "π": r"\pi ", "∞": r"\infty ", "∪": r"\cup ", "∩": r"\cap ", "≤": r"\le ", "⩽": r"\le ", "≥": r"\ge ", "⩾": r"\ge ",
    "≠": r"\ne ", "≈": r"\approx ", "±": r"\pm ", "∓": r"\mp ", "∈": r"\in ", "∅": r"\emptyset ", "θ": r"\theta ",
    "°": r"^\circ ", "º": r"^\circ ", "√": r"\sqrt ", "∛": r"\sqrt[3]", "∜": r"\sqrt[4]", "ℝ": r"\reals ", "℃": r"^\circ C",
    "µ": "μ", "Ω": "Ω", "Å": "Å", "′": "'", "″": '"', "…": "...", "∧": r"\land ", "∨": r"\lor ", "∖": r"\setminus ",
    "，": ", ", "。": ".", "：": ":", "；": ";", "、": ", ", "\u00a0": " ", "\u2009": " ",
    "\u202f": " ", "\u200b": "", "\ufeff": "", "“": '"', "”": '"', "’": "'", "‘": "'",
}  # fmt: skip
_CHARACTERS |= {
    sign: rf"\frac{{{top}}}{{{bottom}}}"
    for sign in "½¼¾⅓⅔⅕⅖⅗⅘⅙⅚⅐⅛⅜⅝⅞⅑⅒"
    for top, bottom in [unicodedata.normalize("NFKC", sign).split("\u2044")]
}
_CHARACTERS |= {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F) if chr(code) not in _CHARACTERS}
_TRANSLATION = str.maketrans(_CHARACTERS)
MAX_TOWER = 20
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
_SUPERSCRIPT_RUN = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]+")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_SUBSCRIPT_RUN = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
_ROOT_OF_NUMBER = re.compile(r"([√∛∜])\s*(\d+(?:\.\d+)?)")
_ROWS = re.compile(
    r"\\begin\s*\{(cases|aligned|align\*?|array|gathered|split)\}(?:\s*\{[lcr|]*\})?(.*?)\\end\s*\{\1\}", re.DOTALL
)
_THOUSANDS = re.compile(r"(?<![\d.,])(\d{1,3}(?:,\d{3})+)(?!,?\d)")
_REPEATED_DIGITS = re.compile(r"(?<![\d.])(\d*\.\d*?)(\d+?)(?:\2{2,}|(?<=\d\d)\2)\s*(?:\.\.\.|\\[lc]?dots(?![a-z]))")
_DOTTED_DIGITS = re.compile(r"\\dot\s*\{?(\d)\}?(?:(\d*)\\dot\s*\{?(\d)\}?)?")

_LETTER = r"\\(?:pi|alpha|beta|gamma|delta|theta|lambda|mu|phi|omega|infty)(?![a-zA-Z])"

# Order matters: spacing that sits inside numbers goes before the spacing that is between words.
_REWRITES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\(?:left|right|bigl|bigr|Bigl|Bigr|biggl|biggr|Biggl|Biggr|big|Big|bigg|Bigg)(?![a-zA-Z])\s*\.?", ""),
        (r"\\(?:displaystyle|textstyle|limits|nolimits|phantom\{[^{}]*\})(?![a-zA-Z])", ""),
        (r"\\(?:dfrac|tfrac|cfrac)(?![a-zA-Z])", r"\\frac"),
        (r"\\(?:mathrm|text|textrm|operatorname)\s*\{\s*([ei])\s*\}", r"\1"),
        (r"\\(?:mathbb|mathbf|mathrm|Bbb)\s*(?:\{\s*R\s*\}|R(?![a-zA-Z]))|\\R(?![a-zA-Z])", r"\\reals "),
        (r"\\underline\s*\{([^{}]*)\}", r"\1"),
        (r"\\bar\s*(?=\{\d)", r"\\overline"),
        (r"(?<=\d)\.(\d*)\((\d+)\)(?!\d)", r".\1\\overline{\2}"),
        (r"\\langle(?![a-zA-Z])", "("),
        (r"\\rangle(?![a-zA-Z])", ")"),
        (r"\{\s*(\w+)\s*\\choose\s*(\w+)\s*\}", r"\\binom{\1}{\2}"),
        (r"\\(?:colon|ratio)(?![a-zA-Z])", ":"),
        (r"\^\s*\{?\s*\\prime\s*\\prime\s*\}?", '"'),
        (r"\^\s*\{?\s*\\prime(?![a-zA-Z])\s*\}?", "'"),
        (
            r"\\(?:mbox|hbox|textrm|textbf|textit|textsf|textnormal|mathrm|mathbf|mathit|mathsf|operatorname\*?)\s*(?=\{)",
            r"\\text",
        ),
        (r"\\(?:boldsymbol|bm|mathbb|mathcal)\s*(?=\{)", ""),
        (r"\\!|\\negthinspace", ""),
        (r"(?<![\d,}])(0|\d+(?=\{,\}(?:\d{1,2}|\d{4,})(?!\d|\{)))\{,\}(?=\d)", r"\1."),
        (r"(?<=\d)\{,\}\s*(?=\d)", ","),
        (r"(?<=\d)'(?=\d{3}(?!\d))", ","),
        (r"(?<=\d)(?:\\,|\\:|\\;)(?=\d{3}(?!\d))", ","),
        (r"(?<![\d.,/ ])\d{1,3}(?: \d{3})+(?![\d/]| \d)", lambda found: found.group().replace(" ", ",")),
        (r"零下\s*(?=\d)", "-"),
        (r"零下(?=[一二两三四五六七八九十])", "负"),
        (r"(?<!\\)\\[,:;> ]|~|\\(?:quad|qquad|thinspace|space)(?![a-zA-Z])", " "),
        (r"\\(?:leqslant|leq)(?![a-zA-Z])", r"\\le "),
        (r"\\(?:geqslant|geq)(?![a-zA-Z])", r"\\ge "),
        (r"\\lt(?![a-zA-Z])", "<"),
        (r"\\gt(?![a-zA-Z])", ">"),
        (r"\\neq(?![a-zA-Z])", r"\\ne "),
        (r"\\(?:varnothing|empty)(?![a-zA-Z])", r"\\emptyset"),
        (r"\\(?:lbrace)(?![a-zA-Z])", r"\\{"),
        (r"\\(?:rbrace)(?![a-zA-Z])", r"\\}"),
        (r"\^\s*\{\s*\\circ\s*\}|\^\s*\\circ|\\degree(?![a-zA-Z])|\{\}\^\\circ", r"^\\circ "),
        (r"\\text\s*\{\s*\\?([$%])\s*\}", r"\1"),
        (r"\\(%|\$|&|#|_)", r"\1"),
        (
            r"(?:(?<=1)st|(?<=2)nd|(?<=3)rd|(?<=\d)th)(?![a-zA-Z])"
            r"|(?<=\d)\s*\^\s*\{?\s*(?:\\text\s*\{)?\s*(?:st|nd|rd|th)\s*\}?\s*\}?(?![a-zA-Z])",
            "",
        ),
        (r"\*\*(?=[\w({\\-])(?<=[\w)}]\*\*)", "^"),
        (r"(?<![\\a-zA-Z])sqrt(?![a-zA-Z])\s*", r"\\sqrt "),
        (r"(?<![\\a-zA-Z])(pi|infty)(?![a-zA-Z])", r"\\\1 "),
        (r"(?<![\\a-zA-Z])(?:infinity|inf|oo)(?![a-zA-Z])", r"\\infty "),
        (r"(?<![\\a-zA-Z])(sin|cos|tan|cot|sec|csc|ln|log|exp|arcsin|arccos|arctan)(?=\s*[(\\])", r"\\\1"),
        (rf"\\(frac|sqrt)\s*({_LETTER})\s*", r"\\\1{\2}"),
        (r"\\frac\s*([0-9a-zA-Z])\s*([0-9a-zA-Z])", r"\\frac{\1}{\2}"),
        (r"\\frac\s*([0-9a-zA-Z])\s*(?=[{\\])", r"\\frac{\1}"),
        (rf"(\\frac\s*\{{[^{{}}]*\}})\s*([0-9a-zA-Z]|{_LETTER})", r"\1{\2}"),
        (r"\\sqrt\s*([0-9a-zA-Z])", r"\\sqrt{\1}"),
        (r"\^\s*(\\frac\s*\{[^{}]*\}\s*\{[^{}]*\})", r"^{\1}"),
        (r"\^\s*(-?\d+(?:\.\d+)?)", r"^{\1}"),
        (r"[ \t\r\n]+", " "),
    )
]
_SPACE_IN_DIGITS, _SPACE_MARK = re.compile(r"(?<=\d)\s+(?=\d)"), "\ue000"
_INNER_MATH = re.compile(r"(?<!\\)\$([^$]+?)(?<!\\)\$")
_POWER_TOWER = re.compile(r"(?:\^(?:\{[0-9a-zA-Z]+\}|[0-9a-zA-Z]+)){2,}")
_PARENTHESISED = re.compile(r"(\\sqrt|\^)\s*\(")
_MATH_DELIMITERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"))
_MARKUP = ("**", "__", "`", "*")


def one_spelling(answer: str) -> str:
    """Return the answer with spacing, size and font commands removed and each symbol written in
    one way (as LaTeX).
    """
    text = _SUPERSCRIPT_RUN.sub(lambda run: "^{" + run.group().translate(_SUPERSCRIPTS) + "}", answer)
    text = _SUBSCRIPT_RUN.sub(lambda run: "_{" + run.group().translate(_SUBSCRIPTS) + "}", text)
    text = _ROOT_OF_NUMBER.sub(r"\1{\2}", text)
    text = _INNER_MATH.sub(r" \1 ", strip_wrappers(text.translate(_TRANSLATION)))
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    text = _ROWS.sub(_equations_of_rows, _with_overline(text))
    return strip_wrappers(_POWER_TOWER.sub(_nested_powers, _braces_for_parentheses(text)))


def _with_overline(text: str) -> str:
    """Write repeating decimals with a line over the digits that repeat."""
    if "." in text and (".." in text or "dots" in text):
        text = _REPEATED_DIGITS.sub(r"\1\\overline{\2}", text)
    return _DOTTED_DIGITS.sub(lambda found: rf"\overline{{{''.join(filter(None, found.groups()))}}}", text)


def _equations_of_rows(found: re.Match[str]) -> str:
    """Return the rows of an environment as a list, if all are equations; else as they are."""
    rows = [row.replace("&", "").strip(" ,") for row in re.split(r"\\\\(?:\[[^\]]*\])?", found.group(2)) if row.strip()]
    return ", ".join(rows) if all("=" in row for row in rows) else found.group()


def without_thousands_separators(text: str) -> str:
    """Return a text with 1,000 written as 1000; (1,000) alone in brackets is a pair and stays."""
    return _THOUSANDS.sub(_joined_digits, text)


def _joined_digits(found: re.Match[str]) -> str:
    before, after = found.string[: found.start()].rstrip(), found.string[found.end() :].lstrip()
    is_pair = before.endswith(("(", "[", "\\{")) and after.startswith((")", "]", "\\}"))
    return found.group() if is_pair else found.group().replace(",", "")


def _nested_powers(tower: re.Match[str]) -> str:
    """Write a^b^c as a^{b^{c}}, as everybody reads it."""
    exponents = re.findall(r"[0-9a-zA-Z]+", tower.group())[:MAX_TOWER]
    return "".join("^{" + exponent for exponent in exponents) + "}" * len(exponents)


def squeezed(text: str) -> str:
    """Return a text without white space, but for a mark between digits: 2 1/2 is not 21/2."""
    return re.sub(r"\s+", "", _SPACE_IN_DIGITS.sub(_SPACE_MARK, text))


def strip_wrappers(answer: str) -> str:
    """Return the answer without the math delimiters, boxes, bold marks and quotes around all of
    it, and the full stop.
    """
    text = answer.strip()
    while True:
        inner = _strip_one_wrapper(text).strip()
        if inner == text:
            return text
        text = inner


def _strip_one_wrapper(text: str) -> str:
    if text[:1].isalnum() and text[-1:].isalnum():
        return text
    if text.endswith((".", "。", ";", "；", ",", "，")) and not text.endswith(("\\!", "\\,", "\\;", "...", "\\right.")):
        return text[:-1]
    for opening, closing in _MATH_DELIMITERS:
        inner = text[len(opening) : -len(closing)]
        if _is_enclosed(text, opening, closing) and opening not in inner and closing not in inner:
            return inner
    for mark in _MARKUP:
        if _is_enclosed(text, mark, mark):
            return text[len(mark) : -len(mark)]
    if _is_enclosed(text, '"', '"') or _is_enclosed(text, "'", "'"):
        return text[1:-1]
    box = re.match(r"\\(?:boxed|fbox|framebox)\s*\{", text)
    if box and matching_brace(text, box.end() - 1) == len(text) - 1:
        return text[box.end() : -1]
    return text


def _is_enclosed(text: str, opening: str, closing: str) -> bool:
    return len(text) > len(opening) + len(closing) and text.startswith(opening) and text.endswith(closing)


def matching_brace(text: str, start: int) -> int | None:
    """Return where the brace that opens at `start` closes, or None if it does not; escaped
    braces do not count.
    """
    depth = 0
    for found in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, start):
        if found.group() == "{":
            depth += 1
        elif found.group() == "}":
            depth -= 1
            if depth == 0:
                return found.start()
    return None


def _braces_for_parentheses(text: str) -> str:
    """Write `\\sqrt(...)` and `^(...)` with braces, as LaTeX reads them; an unclosed one is
    left alone.
    """
    for _ in range(20):
        found = _PARENTHESISED.search(text)
        end = _matching_parenthesis(text, found.end() - 1) if found else None
        if found is None or end is None:
            return text
        text = f"{text[: found.start()]}{found.group(1)}{{{text[found.end() : end]}}}{text[end + 1 :]}"
    return text


def _matching_parenthesis(text: str, start: int) -> int | None:
    depth = 0
    for place in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0:
            return place
    return None


def is_balanced(text: str) -> bool:
    """Return whether environments and braces close, and round and square brackets (either closing
    either, as in [0, 1)) do.
    """
    depths = {"brace": 0, "bracket": 0}
    for token in re.findall(r"\\[{}]|\\.|[{}()\[\]]", text, re.DOTALL):
        kind = "brace" if token in "{}" else "bracket"
        if token in ("{", "(", "[", r"\{"):
            depths[kind] += 1
        elif token in ("}", ")", "]", r"\}"):
            depths[kind] -= 1
            if depths[kind] < 0:
                return False
    opened, closed = (re.findall(rf"\\{command}\s*\{{([^{{}}]*)\}}", text) for command in ("begin", "end"))
    return not any(depths.values()) and sorted(opened) == sorted(closed)


def split_top_level(text: str, separators: str = ",;") -> list[str]:
    """Return the parts of a text between separators that are outside every bracket, each
    stripped.
    """
    parts, depth, start = [], 0, 0
    for found in re.finditer(r"\\[{}]|\\.|.", text, re.DOTALL):
        token = found.group()
        if token in ("{", "(", "[", r"\{"):
            depth += 1
        elif token in ("}", ")", "]", r"\}"):
            depth -= 1
        elif depth == 0 and token in separators:
            parts.append(text[start : found.start()].strip())
            start = found.end()
    return [*parts, text[start:].strip()]
