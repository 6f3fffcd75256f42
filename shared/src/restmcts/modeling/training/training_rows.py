"""Training examples as texts and targets, and their rows of token ids. Knows no losses and no
loop.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from restmcts.domain.runs.training_settings import ValueObjective, gives_values
from restmcts.modeling.checkpoints import LoadedModel
from restmcts.modeling.tokenization import TextEncoder
from restmcts.modeling.training.losses import IGNORED
from restmcts.modeling.value.readings import Reading
from restmcts.modeling.value.value_reading import ValueReader


@dataclass(frozen=True, slots=True)
class PolicyExample:
    """A question and a right solution, step by step."""

    question: str
    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PreferenceExample:
    """Two ways to go on after the same steps; `*_finished` says whether the solution ends there."""

    question: str
    steps: tuple[str, ...]
    chosen: tuple[str, ...]
    rejected: tuple[str, ...]
    chosen_finished: bool
    rejected_finished: bool


@dataclass(frozen=True, slots=True)
class ValueExample:
    """A path, the value after each of its steps, and whether the step leads to a right answer; None
    where that is not returned.

    `finished` says whether the path is a whole solution.
    """

    question: str
    steps: tuple[str, ...]
    targets: tuple[float | None, ...]
    leads_to_right: tuple[bool | None, ...] = ()
    finished: bool = False

    @classmethod
    def of_row(cls, row: dict[str, Any]) -> "ValueExample":
        """Return the example of a row of value data."""
        targets, leads_to_right = tuple(row["targets"]), tuple(row["leads_to_right"])
        return cls(row["question"], tuple(row["steps"]), targets, leads_to_right, row["finished"])

    def objective_targets(self, objective: ValueObjective) -> tuple[float | None, ...]:
        """Return what a model with that objective is to give after each step, None where
        nothing is asked.
        """
        if gives_values(objective) or objective in ("soft", "ranking"):
            return self.targets
        right = tuple(None if label is None else float(label) for label in self.leads_to_right) or (None,) * len(
            self.steps
        )
        if objective == "hard":
            return right
        return (*(None for _ in self.steps[1:]), right[-1] if self.finished else None)


class Row(Protocol):
    """What the loop needs to know of an example: its tokens, and how much of the step's mean
    loss is its own.
    """

    @property
    def num_tokens(self) -> int: ...

    @property
    def num_targets(self) -> int: ...


@dataclass(frozen=True, slots=True)
class TokenRow:
    """Token ids and one target per position, `IGNORED` where there is none: the token's own id,
    or the value read there.
    """

    token_ids: list[int]
    targets: list[float]

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def num_targets(self) -> int:
        return sum(target != IGNORED for target in self.targets)


@dataclass(frozen=True, slots=True)
class PathRow:
    """Token ids, and what each of them teaches.

    Attributes:
        targets: the token's own id, `IGNORED` where it teaches nothing.
        weights: of its step; of an advantage divided by the step's number of tokens.
        num_steps: with a weight.
        old_log_probs: of the targets, under the policy that the training began with; empty before
            they are known, and for losses that do not ask.
    """

    token_ids: list[int]
    targets: list[int]
    weights: list[float]
    num_steps: int
    old_log_probs: list[float] = field(default_factory=list)
    question: str = ""

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def num_targets(self) -> int:
        return sum(target != IGNORED for target in self.targets)

    @property
    def positive_weight(self) -> float:
        return sum(weight for weight in self.weights if weight > 0.0)

    @property
    def total_weight(self) -> float:
        return sum(map(abs, self.weights))


@dataclass(frozen=True, slots=True)
class PreferenceRow:
    """Token ids of what is shared, chosen and rejected."""

    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]

    num_targets = 1

    @property
    def num_tokens(self) -> int:
        return len(self.prompt_ids) + max(len(self.chosen_ids), len(self.rejected_ids))


@dataclass(frozen=True, slots=True)
class ReadingPairRow:
    """Two partial solutions of the same problem: the first is to be valued above the second, by
    `gap`.
    """

    chosen: Reading
    rejected: Reading
    gap: float

    num_targets = 1

    @property
    def num_tokens(self) -> int:
        return max(len(self.chosen.token_ids), len(self.rejected.token_ids))


def policy_rows(loaded: LoadedModel, examples: Sequence[PolicyExample]) -> list[TokenRow]:
    """Return one row an example: the solution's tokens and the end token are targets, the
    question's are not.
    """
    encoder = TextEncoder(loaded.tokenizer, loaded.prompts.template)
    prompts = encoder.encode([loaded.prompts.text(example.question, ()) for example in examples])
    texts = encoder.encode([loaded.prompts.text(example.question, example.steps) for example in examples])
    rows = []
    for prompt, text in zip(prompts, texts, strict=True):
        # Where the solution's first letters change the prompt's last token, that token is the
        # solution's. Nothing predicts the first.
        first = max(num_shared(prompt, text), 1)
        ids = text + end_tokens(loaded)
        rows.append(TokenRow(ids, [float(IGNORED)] * first + [float(token) for token in ids[first:]]))
    return rows


def preference_rows(loaded: LoadedModel, examples: Sequence[PreferenceExample]) -> list[PreferenceRow]:
    """Return one row an example; an unfinished side has no end token."""
    encoder, text = TextEncoder(loaded.tokenizer, loaded.prompts.template), loaded.prompts.text
    shared = encoder.encode([text(example.question, example.steps) for example in examples])
    chosen = encoder.encode([text(example.question, example.steps + example.chosen) for example in examples])
    rejected = encoder.encode([text(example.question, example.steps + example.rejected) for example in examples])
    rows = []
    for example, prompt, first, second in zip(examples, shared, chosen, rejected, strict=True):
        length = min(num_shared(prompt, first), num_shared(prompt, second))
        first_end = end_tokens(loaded) if example.chosen_finished else []
        second_end = end_tokens(loaded) if example.rejected_finished else []
        rows.append(PreferenceRow(first[:length], first[length:] + first_end, second[length:] + second_end))
    return rows


def value_rows(reader: ValueReader, examples: Sequence[ValueExample], objective: ValueObjective) -> list[TokenRow]:
    """Return the rows of all examples; a target is at the place where its value is read."""
    rows = []
    paths = [(example.question, example.steps, 1) for example in examples]
    for example, readings in zip(examples, reader.readings_of_paths(paths), strict=True):
        wanted = example.objective_targets(objective)
        for reading in readings:
            targets: list[float] = [IGNORED] * len(reading.token_ids)
            for place, number in zip(reading.places, reading.steps, strict=True):
                target = wanted[number - 1]
                targets[place] = IGNORED if target is None else target
            rows.append(TokenRow(reading.token_ids, targets))
    return rows


def sibling_pairs(examples: Sequence[ValueExample]) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Yield the pairs of sibling steps with different values, the higher first, each as (place
    in `examples`, number of steps).
    """
    families: dict[tuple[str, tuple[str, ...]], list[tuple[float, int, int]]] = defaultdict(list)
    for place, example in enumerate(examples):
        for number, target in enumerate(example.targets, start=1):
            if target is not None:
                families[example.question, example.steps[: number - 1]].append((target, place, number))
    for siblings in families.values():
        for position, (value, place, number) in enumerate(siblings):
            for other_value, other_place, other_number in siblings[position + 1 :]:
                first, second = (place, number), (other_place, other_number)
                if value != other_value:
                    yield (first, second) if value > other_value else (second, first)


Pair = tuple[tuple[int, int], tuple[int, int], float]
"""Two steps, each as (place in the examples, number of steps), and the gap of their targets."""


def compared_steps(examples: Sequence[ValueExample], objective: ValueObjective) -> list[Pair]:
    """Return the pairs that an objective compares; none for objectives that compare nothing.

    For "ranking" and "siblings" siblings, the one of higher value first; for "progress" each step
    with the one before it, where both values are known.
    """
    if objective == "progress":
        return list(_steps_with_parents(examples))
    if objective not in ("ranking", "siblings"):
        return []
    pairs = sibling_pairs(examples)
    return [(first, second, _target(examples, first) - _target(examples, second)) for first, second in pairs]


def _target(examples: Sequence[ValueExample], step: tuple[int, int]) -> float:
    place, number = step
    return float(examples[place].targets[number - 1] or 0.0)


def _steps_with_parents(examples: Sequence[ValueExample]) -> Iterator[Pair]:
    # The value of a shared step is in the first path of its tree, and trees follow one another:
    # what was known last of a partial solution is of the same tree.
    known: dict[tuple[str, tuple[str, ...]], float] = {}
    for place, example in enumerate(examples):
        for number, target in enumerate(example.targets, start=1):
            before = known.get((example.question, example.steps[: number - 1]))
            if target is not None:
                known[example.question, example.steps[:number]] = target
                if before is not None:
                    yield (place, number), (place, number - 1), target - before


def compared_rows(
    reader: ValueReader, examples: Sequence[ValueExample], objective: ValueObjective
) -> list[ReadingPairRow]:
    """Return one row for each pair of steps that the objective compares."""

    def reading(place: int, number: int) -> Reading:
        example = examples[place]
        return reader.readings(example.question, example.steps[:number], number)[0]

    return [
        ReadingPairRow(reading(*first), reading(*second), gap)
        for first, second, gap in compared_steps(examples, objective)
    ]


def pad(rows: Sequence[Sequence[float]], fill: float, dtype: Any) -> torch.Tensor:
    """Return rows as one tensor, `[rows, longest]`, filled up on the right."""
    padded = np.full((len(rows), max(map(len, rows))), fill, dtype=dtype)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = row
    return torch.from_numpy(padded)


def collate(
    token_ids: Sequence[Sequence[int]], targets: Sequence[Sequence[float]], pad_token_id: int
) -> dict[str, torch.Tensor]:
    """Return `input_ids`, `targets` (float64) and, where lengths differ, `attention_mask`, all
    `[rows, longest]`.
    """
    batch = {"input_ids": pad(token_ids, pad_token_id, np.int64), "targets": pad(targets, IGNORED, np.float64)}
    if len(set(map(len, token_ids))) > 1:
        # Attention is quicker without a mask, which rows of one length do not need.
        batch["attention_mask"] = pad([[1] * len(row) for row in token_ids], 0, np.int64)
    return batch


def collate_packed(token_ids: Sequence[Sequence[int]], targets: Sequence[Sequence[float]]) -> dict[str, torch.Tensor]:
    """Return the rows laid end to end, `[1, tokens]`; from `position_ids`, which begin anew,
    the library keeps them apart.
    """
    places = [place for row in token_ids for place in range(len(row))]
    return {
        "input_ids": torch.tensor([[token for row in token_ids for token in row]]),
        "targets": torch.tensor([[target for row in targets for target in row]], dtype=torch.float64),
        "position_ids": torch.tensor([places]),
    }


def num_shared(first: Sequence[int], second: Sequence[int]) -> int:
    """Return how many token ids two texts begin with alike."""
    return next(
        (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )


def end_tokens(loaded: LoadedModel) -> list[int]:
    """Return what ends a solution: the end token, or nothing where the tokenizer has none."""
    return [] if loaded.tokenizer.eos_token_id is None else [loaded.tokenizer.eos_token_id]
