"""The paper's arithmetic of quality values and weighted rewards (arXiv:2406.03816, Section 3.1)."""

from restmcts.errors import InputError


def weighted_reward(parent_value: float, reasoning_distance: int, step_is_right: bool) -> float:
    """Return w_sk, the step's contribution to the quality value (arXiv:2406.03816, Eq. 2; no
    departures).

    Args:
        parent_value: v_{k-1}, in [0, 1].
        reasoning_distance: m_k, in steps; at least 0.
        step_is_right: whether r_sk is 0.

    Raises:
        InputError: if an argument is outside its range.
    """
    return expected_weighted_reward(parent_value, reasoning_distance, 1.0 if step_is_right else 0.0)


def expected_weighted_reward(parent_value: float, reasoning_distance: float, right_probability: float) -> float:
    """Return w_sk for a step that is right only with some probability: Eq. 2 with r_sk = 1 -
    probability, in [-1, 1].

    Args:
        parent_value: v_{k-1}, in [0, 1].
        reasoning_distance: m_k or its estimate, in steps; at least 0.
        right_probability: 1 - r_sk, in [0, 1].

    Raises:
        InputError: if an argument is outside its range.
    """
    if not 0.0 <= parent_value <= 1.0:
        raise InputError(f"parent value {parent_value} is outside [0, 1]")
    if reasoning_distance < 0:
        raise InputError(f"reasoning distance {reasoning_distance} is below 0")
    if not 0.0 <= right_probability <= 1.0:
        raise InputError(f"probability {right_probability} is outside [0, 1]")
    return (1.0 - parent_value) / (reasoning_distance + 1) * (2.0 * right_probability - 1.0)


def quality_value(parent_value: float, weighted: float) -> float:
    """Return v_k = max(v_{k-1} + w_sk, 0), in [0, 1] (arXiv:2406.03816, Eq. 1).

    Rounding may carry the sum past 1 by one unit in the last place; it is cut there.
    """
    return min(max(parent_value + weighted, 0.0), 1.0)
