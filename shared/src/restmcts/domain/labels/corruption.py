"""Value data from given solutions alone: their partial solutions, and what they become with one
wrong step (D_V0).
"""

import random
import re
from collections.abc import Iterator, Sequence, Set
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


def corrupted_values(steps: Sequence[str], seed: int, observed: Set[int] = frozenset()) -> Iterator[ValuedSteps]:
    """Yield a right solution with v_k = k / K, then each of its partial solutions with one
    corrupted step after it, whose value is that of a wrong step there (arXiv:2406.03816, Section
    3.3 and Eqs. 1-2).

    A step is corrupted by changing one of its numbers; a step without any gives no negative.

    Args:
        observed: places of observations, which are no steps: they have no value and are not
            corrupted.
    """
    generator = random.Random(seed)
    own = [place for place in range(len(steps)) if place not in observed]
    if not own:
        return
    num_steps = len(own)
    values = {place: (number + 1) / num_steps for number, place in enumerate(own)}
    every = range(len(steps))
    yield ValuedSteps(
        tuple(steps), tuple(values.get(place) for place in every), tuple(place in values or None for place in every)
    )
    for number, place in enumerate(own):
        wrong = corrupted(steps[place], generator)
        if wrong is not None:
            before = values[own[number - 1]] if number else 0.0
            value = quality_value(before, weighted_reward(before, num_steps - number, step_is_right=False))
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
