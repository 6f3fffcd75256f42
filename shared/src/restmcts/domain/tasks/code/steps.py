"""What a step of a program is: a logical line, which goes on while a bracket or a string is open;
so the line that closes it belongs to the same step.
"""

import re

FENCE, END_OF_FENCE = "```python", "```"
_DEPTH = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}
_QUOTE = re.compile(r"'''|\"\"\"|'|\"")


def closes_program(step: str) -> bool:
    """Return whether a step ends a program: it closes the fence that the program is in."""
    return step.strip() == END_OF_FENCE


def is_whole_line(text: str) -> bool:
    """Return whether a text that begins at a logical line ends with one: no bracket and no string
    of three quotes is open, and its last line does not end in a backslash.
    """
    depth, place, quote = 0, 0, ""
    while place < len(text):
        character = text[place]
        found = _QUOTE.match(text, place) if not quote else None
        if found is not None:
            place, quote = found.end(), found.group()
        elif quote and text.startswith(quote, place):
            place, quote = place + len(quote), ""
        elif not quote and character == "#":
            place = text.find("\n", place) if "\n" in text[place:] else len(text)
        else:
            if character == "\n" and len(quote) == 1:
                quote = ""  # a string of one quote ends with its line, whatever is there
            depth = max(0, depth + _DEPTH.get(character, 0)) if not quote else depth
            place += 2 if character == "\\" and quote else 1
    return not depth and len(quote) < 3 and not text.rstrip("\n").endswith("\\")


def logical_lines(program: str) -> list[str]:
    """Return a program's logical lines, blank lines left out, each without its last newline."""
    lines: list[str] = []
    is_open = False
    for line in program.splitlines():
        if is_open:
            lines[-1] += "\n" + line
        elif line.strip():
            lines.append(line.rstrip())
        else:
            continue
        is_open = not is_whole_line(lines[-1])
    return lines
