"""How much memory a run takes that trains and calls its models on one machine: weights, keys and
values, gradients, optimizer, and what a training step keeps of its forward pass.

Arithmetic over the shape of a decoder like Llama and Qwen, whose feed-forward has three matrices;
of others it is a guess. Checked on SmolLM2-135M's shape on a CPU
(tests/unit/domain/test_forecasts.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from restmcts.domain.runs.training_settings import ADAPTER_RANK, TrainingSettings

FLOAT32 = 4
LIBRARY_BYTES = 450 * 2**20
"""Of a process that has imported torch, transformers and the trainers, without any model."""

KEPT_A_LAYER = 10
"""Numbers that a layer's attention and norms keep of each token for the backward pass, in widths
of the model; its feed-forward keeps four of its own width."""

COPIES = 3
"""Of the logits, and of attention scores where the device keeps them: before and after the softmax,
and their gradient."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What of a model decides its memory.

    Attributes:
        num_parameters: shared ones counted once.
        adapter_width: parameters of adapters of rank 1 around all its linear layers.
        key_value_width: numbers that a layer keeps of a token: its keys and its values.
        vocabulary: size of its output; 1 for a value model.
        num_heads: of its attention.
        keeps_scores: whether a training step keeps all attention scores, as it does on a CPU; the
            kernels of GPUs do not.
        weight_bytes: of a parameter where the model is used.
        context: tokens that it reads at most; None: no limit of its own.
    """

    num_parameters: int
    adapter_width: int
    num_layers: int
    width: int
    inner_width: int
    key_value_width: int
    vocabulary: int
    num_heads: int
    keeps_scores: bool = True
    weight_bytes: int = FLOAT32
    context: int | None = None


@dataclass(frozen=True, slots=True)
class MemoryPart:
    """Bytes that something takes."""

    name: str
    num_bytes: int


@dataclass(frozen=True, slots=True)
class MemoryForecast:
    """What a run takes at most, with its models and a training at once.

    Attributes:
        parts: of the sum.
        available_bytes: on the machine or its GPU; None: not known.
        advice: what makes it fit; empty where it fits.
    """

    parts: Sequence[MemoryPart]
    available_bytes: int | None
    advice: Sequence[str] = ()

    @property
    def num_bytes(self) -> int:
        return sum(part.num_bytes for part in self.parts)

    @property
    def fits(self) -> bool | None:
        """Whether there is as much; None where it is not known."""
        return None if self.available_bytes is None else self.num_bytes <= self.available_bytes


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A model with how it is trained, on examples of so many tokens."""

    name: str
    shape: ModelShape
    training: TrainingSettings
    num_tokens: int


def key_value_bytes(shape: ModelShape, num_tokens: int) -> int:
    """Return the memory of the keys and values of so many tokens."""
    return num_tokens * shape.num_layers * shape.key_value_width * shape.weight_bytes


def training_parts(model: TrainedModel) -> list[MemoryPart]:
    """Return the memory of a training process: weights in float32, gradients and two moments of
    AdamW for what is trained, and a forward pass with what its backward pass needs.
    """
    shape, training = model.shape, model.training
    trained, whole, beginnings = _learning(shape, training)
    rank = training.adapters_of(shape.num_parameters)
    adapters = "" if rank is None else f" of adapters of rank {rank}"
    length = min(model.num_tokens, training.max_length)
    tokens = training.batch_size * length
    a_layer = KEPT_A_LAYER * shape.width + 4 * shape.inner_width
    scores = COPIES * shape.num_heads * length if shape.keeps_scores else 0
    a_token = whole * (a_layer + scores) + beginnings * shape.width + COPIES * shape.vocabulary
    return [
        MemoryPart("Python and its libraries", LIBRARY_BYTES),
        MemoryPart("weights", shape.num_parameters * FLOAT32),
        MemoryPart(f"gradients and optimizer{adapters}", 3 * trained * FLOAT32),
        MemoryPart(f"forward pass of {training.batch_size} x {length} tokens", tokens * a_token * FLOAT32),
    ]


def _learning(shape: ModelShape, training: TrainingSettings) -> tuple[int, int, int]:
    """Return how many parameters learn, of how many layers all is kept for the backward pass, and
    of how many their beginning.
    """
    if training.trainable == "head":
        return shape.width, 1, 0
    rank = training.adapters_of(shape.num_parameters)
    learning = shape.num_parameters if rank is None else rank * shape.adapter_width
    # With gradient checkpointing one layer at a time is kept whole, of others their beginning.
    return (learning, 1, shape.num_layers) if training.gradient_checkpointing else (learning, shape.num_layers, 0)


def memory_forecast(
    called: Sequence[ModelShape],
    trained: Sequence[TrainedModel],
    *,
    kept_bytes: int,
    batch_tokens: int,
    trainings_at_once: int,
    available_bytes: int | None,
) -> MemoryForecast:
    """Return the memory of a run in one process, with the trainings that run beside it.

    Args:
        called: models that are loaded to be called.
        kept_bytes: that each of them may take for keys and values of what it has read.
        batch_tokens: of one forward pass at most.
        trainings_at_once: the largest of `trained` count.
    """
    weights = sum(shape.num_parameters * shape.weight_bytes for shape in called)
    caches = sum(kept_bytes + key_value_bytes(shape, batch_tokens) for shape in called)
    parts = [MemoryPart("Python and its libraries", LIBRARY_BYTES), MemoryPart("weights", weights)]
    parts.append(MemoryPart("keys and values, kept and of one batch", caches))
    largest = sorted(trained, key=_training_bytes, reverse=True)[:trainings_at_once]
    for model in largest:
        purpose = "to train the policy" if model.name == "policy" else "to train the value model"
        parts += [MemoryPart(f"{part.name}, {purpose}", part.num_bytes) for part in training_parts(model)]
    used = sum(part.num_bytes for part in parts)
    short = used - available_bytes if available_bytes is not None else 0
    return MemoryForecast(parts, available_bytes, _advice(largest, kept_bytes, short) if short > 0 else ())


def _training_bytes(model: TrainedModel) -> int:
    return sum(part.num_bytes for part in training_parts(model))


def _advice(trained: Sequence[TrainedModel], kept_bytes: int, short: int) -> list[str]:
    """Return what makes room, as settings; each with how much it saves."""
    found = []
    for model in trained:
        section, training = f"{model.name}_training", model.training
        if training.adapters_of(model.shape.num_parameters) is None and training.trainable == "all":
            saved = 3 * FLOAT32 * (model.shape.num_parameters - ADAPTER_RANK * model.shape.adapter_width)
            found.append((saved, f"--set {section}.lora_rank={ADAPTER_RANK}"))
        if training.batch_size > 1:
            forward = training_parts(model)[-1].num_bytes
            half, more = training.batch_size // 2, 2 * training.gradient_accumulation
            change = f"--set {section}.batch_size={half} --set {section}.gradient_accumulation={more}"
            found.append((forward // 2, change))
    if kept_bytes:
        found.append((kept_bytes, "--set models.key_value_bytes=0"))
    if len(trained) > 1:
        found.append((_training_bytes(trained[-1]), "one training at a time: leave out models.num_training_threads"))
    found = sorted((one for one in found if one[0] > 0), reverse=True)
    enough = sum(saved for saved, _ in found) >= short
    sentences = [f"{change} saves about {size_in_words(saved)}" for saved, change in found]
    return sentences if enough else [*sentences, "all of that together is not enough: take a smaller model"]


def size_in_words(num_bytes: float) -> str:
    """Return a number of bytes for people: "310 MB", "4.2 GB"."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if num_bytes >= size:
            value = num_bytes / size
            return f"{value:.1f} {unit}" if value < 10 else f"{value:,.0f} {unit}"
    return f"{num_bytes / 1e3:,.0f} kB"
