"""What a model ends its steps with, seen in what it writes. Knows texts only.

Matters where a paragraph has several lines: where each has one, both separators make the same
steps.
"""

from collections.abc import Sequence

from restmcts.domain.requests import SEPARATORS, GenerationSettings

TRIAL_QUESTIONS = (
    "A baker sells 14 loaves in the morning and 9 in the afternoon, each for 3 dollars. How much does he earn?",
    "A train has 8 cars with 25 seats each. 120 seats are taken. How many are free?",
)
TRIAL_SETTINGS = GenerationSettings(max_step_tokens=160, max_solution_tokens=160, step_separator="newline")


def separator_in(solutions: Sequence[str]) -> str:
    """Return a blank line if at least two of them are in each solution, else a newline."""
    blank_line = SEPARATORS["blank-line"]
    paragraphs = [[part for part in solution.split(blank_line) if part.strip()] for solution in solutions]
    return blank_line if all(len(parts) > 2 for parts in paragraphs) else SEPARATORS["newline"]
