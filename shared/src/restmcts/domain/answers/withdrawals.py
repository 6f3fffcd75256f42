"""Answers that are taken back, or that are somebody else's: "The answer is 5. Wait, no", "One might
think the answer is 5".

Knows phrases only, English and Chinese.
"""

import re

MAX_SENTENCE = 400
_WRONG = r"(?:wrong|incorrect|false|invalid|impossible|not\s+(?:right|correct|possible|valid|the\s+answer))\b"
_RETRACTION = (
    r"(?:(?:but|hmm+|oh|uh|oops|sorry)\b[\s,.…]*)*"
    r"(?:no(?=[,.!]|\s+wait)|nope\b|wait\b|actually\b|correction\b|scratch\s+that|on\s+second\s+thought|oops\b"
    rf"|(?:that|this|which)(?:'s|\s+(?:is|was|would\s+be|seems))\s+{_WRONG}"
    r"|(?:that|this)\s+contradicts|i\s+made\s+an?\s+(?:mistake|error)"
    r"|更正|不对|等等|错了|(?:但|可)?(?:是)?这(?:是|个)?错|不，)"
)
_AT_ONCE = re.compile(
    rf"\A[\s$\\)\]*_.]*(?:is|was|would\s+be)\s+{_WRONG}|[?!,;:，？；…({{]\s*{_RETRACTION}", re.IGNORECASE
)
_NEXT = re.compile(rf"[\s.!?。！？…$)\]*_]*{_RETRACTION}", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[\w$)\]}*])[.!?](?=\s)|。|\n")
_DOUBTED = re.compile(
    r"(?:\b(?:false|untrue|doubt(?:s|ed|ful)?|unlikely|not\s+(?:true|the\s+case|sure|clear)|mistakes?\s*(?:is|was|:))"
    r"|\b(?:one|you|some|someone|nobody|no\s+one|people|students?|many|others|they)\b[^.!?\n]{0,20}"
    r"\b(?:thinks?|thought|says?|said|believe[sd]?|claim(?:s|ed)?|guess(?:es|ed)?|conclude[sd]?|assume[sd]?|argue[sd]?))"
    r"\s+(?:that\s+)?(?:the\s+|your\s+)?(?:final\s+|correct\s+)?$"
    r"|(?:有人|误|错误地)(?:以为|认为|说)[^。\n]{0,6}$",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"(?:(?<![a-z])(?:not|isn't|never|suppose|assume|supposing|assuming)(?:\s+that)?|≠|\\neq?|不是|并非|不等于)[\s:$\\(\[*]*$",
    re.IGNORECASE,
)


def retraction_after(text: str, start: int) -> str | None:
    """Return the words that take back the answer which ends or is at `start`, in its sentence
    or at the beginning of the next; None if none do.
    """
    limit = start + MAX_SENTENCE
    end = _SENTENCE_END.search(text, start, limit)
    found = _AT_ONCE.search(text[start : end.start() if end else limit])
    if found:
        place = start + found.start()
    elif end and (found := _NEXT.match(text, end.start())):
        place = found.start()
    else:
        return None
    return text[place : place + MAX_SENTENCE].partition("\n\n")[0].strip()


def is_doubted(before: str) -> bool:
    """Return whether the words before a statement make it somebody else's, or deny it."""
    return _DOUBTED.search(before) is not None


def is_denied(before: str) -> bool:
    """Return whether the word before a boxed answer denies or only supposes it."""
    return _DENIED.search(before) is not None
