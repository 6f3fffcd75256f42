"""The kinds of problems that are generated here, by name: how they are drawn, and how their
solutions are checked.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from restmcts.domain.problems import Check, Verdict
from restmcts.domain.tasks import number_paths, word_problems
from restmcts.domain.tasks.number_paths import ProblemSets, SetSizes

__all__ = ["CHECKERS", "PUZZLES", "ProblemSets", "PuzzleKind", "SetSizes"]


@dataclass(frozen=True, slots=True)
class PuzzleKind:
    """What makes the sets of problems that a run needs, and what judges a solution, every line
    of it.
    """

    make_sets: Callable[[random.Random, SetSizes], ProblemSets]
    check: Callable[[Check], Verdict]


PUZZLES: Mapping[str, PuzzleKind] = {
    number_paths.KIND: PuzzleKind(number_paths.make_problem_sets, number_paths.check_number_path),
    word_problems.KIND: PuzzleKind(word_problems.make_word_problem_sets, word_problems.check_word_problem),
}
CHECKERS = {kind: puzzle.check for kind, puzzle in PUZZLES.items()}
