"""Where a step of a solution ends: named ways to divide a text as it is written, and its thoughts.

A thought is what a model writes between `<think>` and `</think>` before it answers; the prompt may
have opened it already. Knows texts only.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from restmcts.domain.tasks.code.steps import is_whole_line

THOUGHT_BEGINS, THOUGHT_ENDS = "<think>", "</think>"
_MARK_OF_THOUGHT = re.compile(
    r"<(/)?(?:think|thinking|thought|reasoning)>|<\|(?:begin|(end))_of_thought\|>", re.IGNORECASE
)
# Before the blank behind a sentence, a line or a thought; titles and numbers of lists end none.
_SENTENCE = re.compile(
    r"(?<=\S)(?=\n)|(?<=</think>)(?=\s)|(?<=[。！？])(?=.)|(?<=[.!?][\"')\]])(?=\s)|(?<=[.!?])(?=\s)"
    r"(?<!\bMr\.)(?<!\bMs\.)(?<!\bMrs\.)(?<!\bDr\.)(?<!\bSt\.)(?<!\bvs\.)(?<!e\.g\.)(?<!i\.e\.)(?<!\A\d\.)(?<!\n\d\.)"
)
_NUMBERED = re.compile(r"(?<=\n)(?=[ \t]*(?:#+ |\*\*)?step\s+\d)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Segmenter:
    """One way to divide: by a separator, which is part of the step that it ends, or by what is
    between two steps. With neither, only the limit of a step's tokens divides.

    Attributes:
        split_thoughts: whether thoughts are divided like any other text.
        is_code: whether solutions are programs: their lines are logical lines, and the fence that
            closes ends them.
    """

    separator: str | None = None
    boundary: re.Pattern[str] | None = None
    split_thoughts: bool = False
    is_code: bool = False

    def end(self, text: str, in_thought: bool = False) -> int | None:
        """Return how many characters of a text the step takes that it begins with; None while the
        step goes on. Blank lines before a step are part of it.

        Args:
            in_thought: whether the text begins inside a thought.
        """
        if self.goes_on(text, in_thought):
            return None
        begin = 0 if self.split_thoughts else max(text.rfind(THOUGHT_ENDS), 0)
        written = text[begin:].lstrip()
        if self.separator is not None:
            ends = self.separator in written and (not self.is_code or is_whole_line(written))
            return len(text) if ends else None
        if self.boundary is None or not written:
            return None
        found = self.boundary.search(text, len(text) - len(written) + 1)
        return found.start() if found is not None else None

    def goes_on(self, text: str, in_thought: bool = False) -> bool:
        """Return whether a step must not end here because a thought is open."""
        return not self.split_thoughts and thought_is_open(text, in_thought)


SEGMENTERS: Mapping[str, Segmenter] = MappingProxyType(
    {
        "newline": Segmenter(separator="\n"),
        "blank-line": Segmenter(separator="\n\n"),
        "numbered-step": Segmenter(boundary=_NUMBERED),
        "sentence": Segmenter(boundary=_SENTENCE),
        "tokens": Segmenter(),
    }
)
"""What may divide a solution, by the name that a run gives it."""

CODE_LINES = Segmenter(separator="\n", is_code=True)
"""What divides a program, whatever a run says."""


def thought_is_open(text: str, before: bool = False) -> bool:
    """Return whether a thought is open at a text's end, which `before` says of its beginning."""
    begins, ends = text.rfind(THOUGHT_BEGINS), text.rfind(THOUGHT_ENDS)
    return before if begins == ends == -1 else begins > ends


def outside_thoughts(text: str) -> str:
    """Return a text without its thoughts, one that was opened before it and one that is not
    finished included.
    """
    kept, start, inside = [], 0, False
    for count, mark in enumerate(_MARK_OF_THOUGHT.finditer(text)):
        ends = mark.lastindex is not None
        if not inside and not ends:
            kept.append(text[start : mark.start()])
        if inside or not ends or count == 0:
            start, inside = mark.end(), not ends
    return "".join(kept) if inside else "".join(kept) + text[start:]
