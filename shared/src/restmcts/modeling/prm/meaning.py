"""Whether the scores of a process reward model mean what they should: it scores right and wrong
next steps after the same ones, of built-in arithmetic and of a person's solved problems.

Asks any `StepScorer`; knows no weights and no searches.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from restmcts.domain.labels.corruption import corrupted
from restmcts.domain.problems import Problem
from restmcts.domain.requests import ScoreSteps, derive_seed
from restmcts.domain.stats.separation import Meaning, Separation, StepPair, separation
from restmcts.domain.tasks.puzzles import SetSizes
from restmcts.domain.tasks.story_problems import make_story_problem_sets
from restmcts.domain.text import counted
from restmcts.errors import InputError, ModelError
from restmcts.modeling.prm.doctor import PrmFinding, checked
from restmcts.ports import StepScorer

NUM_ARITHMETIC = 16
ARITHMETIC = "arithmetic"
_SEED = 7
_BATCH = 16

_REMEDIES = {
    Meaning.SEPARATED: "",
    Meaning.FLIPPED: "wrong steps score higher: its labels are flipped, or the other class is the good one; "
    "say another format (MODEL?format=NAME)",
    Meaning.CHANCE: "no better than chance on these: if they are not of its kind, give solved ones that are "
    "(--problems FILE); else train it, or say another format: a search gains nothing from its scores",
    Meaning.FEW: "not shown to be better than chance on so few problems: give more solved ones",
    Meaning.CONSTANT: "all scores are one: the head is not trained, or the place where they are read is wrong",
    Meaning.SATURATED: "right and wrong steps are at one end of the range: the head was trained to another scale, "
    "or the format is another",
}


@dataclass(frozen=True, slots=True)
class _Task:
    """Two steps after the same ones, of which the second is wrong."""

    problem: int
    question: str
    before: tuple[str, ...]
    right: str
    wrong: str


def arithmetic_problems() -> tuple[Problem, ...]:
    """Return the built-in solved problems, the same each time: stories with several sums."""
    sizes = SetSizes(NUM_ARITHMETIC, iterations=0, searched=0, test=0, validation=0)
    return make_story_problem_sets(random.Random(_SEED), sizes).demonstrations


def examine_meaning(scorer: StepScorer, name: str, problems: Sequence[Problem], *, decides: bool) -> PrmFinding:
    """Return what a scorer makes of right and wrong steps of solved problems.

    Args:
        name: of the problems, for people.
        problems: those without a solution, or without a number in it, say nothing.
        decides: whether it counts for the verdict on the model.

    Raises:
        InputError: if no problem has a solution with a number in it.
    """
    tasks = list(_tasks(problems))
    if not tasks:
        raise InputError(
            f"{name}: no problem has a solution with a number in it, to make a wrong step of; give solved problems"
        )
    return checked(name, lambda: _found(scorer, tasks), decides=decides)


def _tasks(problems: Sequence[Problem]) -> Iterator[_Task]:
    for number, problem in enumerate(problems):
        generator = random.Random(derive_seed("doctor", problem.question))
        steps = problem.solution or ()
        for place, step in enumerate(steps):
            wrong = corrupted(step, generator)
            if wrong is not None:
                yield _Task(number, problem.question, steps[:place], step, wrong)


def _found(scorer: StepScorer, tasks: Sequence[_Task]) -> tuple[str, str]:
    pairs, reason = _pairs(scorer, tasks)
    measured = separation(pairs)
    lost = f"; pairs that were not scored: {len(tasks) - len(pairs)} ({reason})" if reason else ""
    return in_words(measured) + lost, _REMEDIES[measured.meaning]


def _pairs(scorer: StepScorer, tasks: Sequence[_Task]) -> tuple[list[StepPair], str]:
    """Return the pairs that the model scores, and why it refused one; "" if it refused none.

    Raises:
        ModelError: if it refuses all.
    """
    found: list[StepPair] = []
    refused: ModelError | None = None
    for first in range(0, len(tasks), _BATCH):
        batch = tasks[first : first + _BATCH]
        try:
            found += _scored(scorer, batch)
        except ModelError:
            # One that does not fit takes none of its neighbours with it.
            for task in batch:
                try:
                    found += _scored(scorer, [task])
                except ModelError as error:
                    refused = error
    if refused is not None and not found:
        raise refused
    return found, str(refused or "")


def _scored(scorer: StepScorer, tasks: Sequence[_Task]) -> list[StepPair]:
    requests = [ScoreSteps(number, task.before, ((task.right,), (task.wrong,))) for number, task in enumerate(tasks)]
    answers = scorer.score([task.question for task in tasks], requests)
    values = [(answer.values[0][0], answer.values[1][0]) for answer in answers]
    return [StepPair(task.problem, len(task.before), *both) for task, both in zip(tasks, values, strict=True)]


def in_words(measured: Separation) -> str:
    """Return the figures as a sentence's end."""
    return (
        f"of a right and a wrong next step the right one scores higher in {measured.siblings.as_percent()} of "
        f"{counted(measured.num_pairs, 'pair')} (sibling accuracy; 50 % is a guess); AUC {measured.auc.as_decimal()}; "
        f"scores {measured.low:.3f} to {measured.high:.3f}, "
        f"{100 * measured.saturated:.0f} % of the pairs at one end of the range"
    )
