"""What held-out trees say of a value model. Figures are over steps, each counted once."""

import math
from collections.abc import Sequence
from statistics import fmean

import torch

from restmcts.domain.runs.training_settings import ValueObjective, gives_values
from restmcts.domain.stats.ranks import area_under_curve
from restmcts.modeling.training.losses import summed_pair_loss, summed_value_loss
from restmcts.modeling.training.training_rows import ValueExample, compared_steps, sibling_pairs
from restmcts.modeling.value.readings import token_batches
from restmcts.modeling.value.value_reading import ValueReader

NUM_BINS = 10
_BATCH_TOKENS = 16_384


@torch.no_grad()
def value_outputs(reader: ValueReader, examples: Sequence[ValueExample]) -> list[list[float]]:
    """Return what the reader's model gives after each step of each example."""
    readings_of = list(reader.readings_of_paths([(example.question, example.steps, 1) for example in examples]))
    readings = [reading for listed in readings_of for reading in listed]
    judged: dict[int, list[float]] = {}
    for batch in token_batches(readings, _BATCH_TOKENS):
        flat = iter(reader.values([readings[place] for place in batch]).tolist())
        judged.update((place, [next(flat) for _ in readings[place].places]) for place in batch)
    in_order = iter(judged[place] for place in range(len(readings)))
    return [[value for _ in listed for value in next(in_order)] for listed in readings_of]


def value_metrics(reader: ValueReader, examples: Sequence[ValueExample], objective: ValueObjective) -> dict[str, float]:
    """Return figures over examples that the model has not learnt from, without those that need
    what no example has.

    Returns:
        "loss" of the objective; "mse" against v_k; "auc" for "leads to a right answer";
        "calibration_error", the expected calibration error for the same in ten equal bins
        (arXiv:1706.04599, Eq. 3); "sibling_accuracy", the share of pairs of siblings of different
        v_k that the model orders rightly, ties counting half; "num_steps".
    """
    raw = value_outputs(reader, examples)
    is_logit = not gives_values(objective)
    values = [[_clamped(_sigmoid(output) if is_logit else output) for output in outputs] for outputs in raw]
    places = [
        (i, k) for i, example in enumerate(examples) for k, target in enumerate(example.targets) if target is not None
    ]
    metrics = {"num_steps": float(len(places))}
    if places:
        metrics["mse"] = fmean((values[i][k] - float(examples[i].targets[k] or 0)) ** 2 for i, k in places)
    judged = [
        (values[i][k], right)
        for i, e in enumerate(examples)
        for k, right in enumerate(e.leads_to_right)
        if right is not None
    ]
    auc = area_under_curve([value for value, _ in judged], [right for _, right in judged]) if judged else None
    if auc is not None:
        metrics["auc"] = auc
    if judged:
        metrics["calibration_error"] = calibration_error(judged)
    pairs = [(raw[i][n - 1], raw[j][m - 1]) for (i, n), (j, m) in sibling_pairs(examples)]
    if pairs:
        metrics["sibling_accuracy"] = sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs)
    loss = _objective_loss(raw, examples, objective)
    return metrics if loss is None else {"loss": loss, **metrics}


def calibration_error(judged: Sequence[tuple[float, bool]]) -> float:
    """Return the mean over all values of |share of true ones - mean value| of their bin."""
    bins: dict[int, list[tuple[float, bool]]] = {}
    for value, is_true in judged:
        bins.setdefault(min(int(value * NUM_BINS), NUM_BINS - 1), []).append((value, is_true))
    gaps = (
        abs(sum(is_true for _, is_true in members) - sum(value for value, _ in members)) for members in bins.values()
    )
    return math.fsum(gaps) / len(judged)


def _objective_loss(
    raw: list[list[float]], examples: Sequence[ValueExample], objective: ValueObjective
) -> float | None:
    asked = [
        (outputs[k], target)
        for outputs, example in zip(raw, examples, strict=True)
        for k, target in enumerate(example.objective_targets(objective))
        if target is not None and objective != "ranking"
    ]
    compared = [(raw[i][n - 1], raw[j][m - 1], gap) for (i, n), (j, m), gap in compared_steps(examples, objective)]
    if not asked and not compared:
        return None
    outputs, targets = torch.tensor([a for a, _ in asked]), torch.tensor([b for _, b in asked])
    first, second, gaps = (torch.tensor([pair[side] for pair in compared]) for side in range(3))
    total = summed_value_loss(outputs, targets, objective) + summed_pair_loss(first, second, gaps, objective)
    return float(total) / (len(asked) + len(compared))


def _sigmoid(output: float) -> float:
    return 0.5 * (1.0 + math.tanh(0.5 * output))


def _clamped(value: float) -> float:
    return min(max(value, 0.0), 1.0)
