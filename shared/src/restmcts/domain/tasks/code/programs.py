"""Where a text holds a program: in fences of Markdown, behind a model's thinking, or as it is.

Finds texts only; which of them is Python is found out where they are run.
"""

import re

MAX_PROGRAM_CHARACTERS = 200_000

_THOUGHT = re.compile(r"\A.*</(?:think|thinking|thought|reasoning)>", re.DOTALL | re.IGNORECASE)
_OPEN_THOUGHT = re.compile(r"<(?:think|thinking|thought|reasoning)>", re.IGNORECASE)
_FENCE = re.compile(r"^[ \t]*(?P<marks>`{3,}|~{3,})[ \t]*(?P<language>[^\s`]*)[^\n`]*$", re.MULTILINE)
_PYTHON = frozenset(("", "py", "py3", "python", "python3", "python2"))
_STOP = re.compile(r"\n(?=class\b|def\b|#|@|if\b|print\b|assert\b|<)")


def programs_in(text: str, prelude: str = "", entry_point: str | None = None) -> tuple[str, ...]:
    """Return the programs that a solution may be, likeliest first; none if it contains no text.

    Args:
        text: what a model wrote.
        prelude: what is before the solution: imports, and perhaps the head of the function
            whose body is asked for.
        entry_point: the function that is asked for; of several fences, the last one that names it
            is taken.
    """
    written = _without_thoughts(text)[:MAX_PROGRAM_CHARACTERS]
    fenced = _fenced(written)
    if fenced:
        named = [one for one in fenced if entry_point is not None and re.search(rf"\b{entry_point}\b", one)]
        bodies = [(named or fenced)[-1]]
    else:
        bodies = [written]
    if not bodies[0].strip():
        return ()
    if not fenced and entry_point is not None:
        bodies += [piece for piece in [_STOP.split(written, maxsplit=1)[0]] if piece != written]
    found = [one for body in bodies for one in _variants(body, prelude)]
    return tuple(dict.fromkeys(found))


def _variants(body: str, prelude: str) -> tuple[str, ...]:
    """Return a program alone, with what the prelude imports, and as what follows the prelude."""
    if not prelude.strip():
        return (body,)
    imports = "\n".join(line for line in prelude.splitlines() if line.startswith(("import ", "from ")))
    follows = prelude + ("" if prelude.endswith("\n") else "\n") + body
    # The helpers of the prelude are there too, and the solution's own come after them.
    closed = prelude.rstrip() + "\n    pass\n" if imports != prelude.strip() else prelude
    return (f"{closed}\n{body}", f"{imports}\n{body}", follows, body)


def _without_thoughts(text: str) -> str:
    """Return what is behind a model's thinking; nothing, if it never stopped to think."""
    behind = _THOUGHT.sub("", text)
    return "" if _OPEN_THOUGHT.search(behind) else behind


def _fenced(text: str) -> list[str]:
    """Return what is in closed fences of Python or of no language, in order; of a text whose
    only fence is never closed, what follows it.
    """
    closed, start, marks, language = [], -1, "", ""
    for found in _FENCE.finditer(text):
        if start < 0:
            start, marks, language = found.end() + 1, found["marks"], found["language"].casefold()
        elif found["marks"].startswith(marks) and not found["language"]:
            if language in _PYTHON:
                closed.append(text[start : found.start()])
            start = -1
    if not closed and start >= 0 and language in _PYTHON:
        return [text[start:]]
    return closed
