"""Value data from given solutions alone: their partial solutions, and what they become with one
wrong step (D_V0).
"""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from restmcts.domain.values import quality_value, weighted_reward

_NUMBER = re.compile(r"\d+")
MAX_CHANGE = 9


@dataclass(frozen=True, slots=True)
class ValuedSteps:
    """A partial solution with v_k of each step, and whether each leads to a right answer; None
    where it is elsewhere.
    """

    steps: tuple[str, ...]
    targets: tuple[float | None, ...]
    leads_to_right: tuple[bool | None, ...]


def corrupted_values(steps: Sequence[str], seed: int) -> Iterator[ValuedSteps]:
    """Yield a right solution with v_k = k / K, then each of its partial solutions with one
    corrupted step after it, whose value is that of a wrong step there (arXiv:2406.03816, Section
    3.3 and Eqs. 1-2).

    A step is corrupted by changing one of its numbers; a step without any gives no negative.
    """
    generator = random.Random(seed)
    num_steps = len(steps)
    if not steps:
        return
    values = [(place + 1) / num_steps for place in range(num_steps)]
    yield ValuedSteps(tuple(steps), tuple(values), (True,) * num_steps)
    for place, step in enumerate(steps):
        wrong = corrupted(step, generator)
        if wrong is not None:
            before = values[place - 1] if place else 0.0
            value = quality_value(before, weighted_reward(before, num_steps - place, step_is_right=False))
            untold = (None,) * place
            yield ValuedSteps((*steps[:place], wrong), (*untold, value), (*untold, False))


def corrupted(step: str, generator: random.Random) -> str | None:
    """Return the step with one of its numbers changed by 1 to 9; None if it has no number."""
    numbers = list(_NUMBER.finditer(step))
    if not numbers:
        return None
    chosen = generator.choice(numbers)
    old = int(chosen[0])
    change = generator.randint(1, MAX_CHANGE)
    new = old - change if old >= change and generator.random() < 0.5 else old + change
    return step[: chosen.start()] + str(new) + step[chosen.end() :]
