"""How a model is trained, and what a training run reports; torch-free, so that whoever asks for training can say how."""

from dataclasses import dataclass
from typing import Literal

from restmcts.errors import InputError

Schedule = Literal["cosine", "linear", "constant"]
OptimizerName = Literal["adamw", "muon"]


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """One supervised training run.

    Attributes:
        num_steps: optimizer steps; None: as many as `num_epochs` give.
        num_epochs: passes over the examples where `num_steps` is None.
        batch_size: examples of one forward pass.
        gradient_accumulation: forward passes of one optimizer step; the loss is the mean over all of them together.
        learning_rate: peak rate of AdamW.
        optimizer: "adamw" for every weight, or "muon" for the hidden matrices and AdamW for the rest.
        muon_learning_rate: peak rate of Muon, scaled so that its updates are of AdamW's size.
        schedule: of both rates after the warm-up.
        warmup_ratio: share of the steps over which the rates rise.
        weight_decay: of matrices; vectors never decay.
        max_gradient_norm: gradients are scaled down to it.
        max_length: tokens; a longer example is dropped and counted, never cut.
        seed: of the data's order, of dropout and of fresh weights.
    """

    num_steps: int | None = None
    num_epochs: int = 2
    batch_size: int = 32
    gradient_accumulation: int = 1
    learning_rate: float = 2e-5
    optimizer: OptimizerName = "adamw"
    muon_learning_rate: float = 0.01
    schedule: Schedule = "cosine"
    warmup_ratio: float = 0.05
    weight_decay: float = 0.0
    max_gradient_norm: float = 1.0
    max_length: int = 2048
    seed: int = 0

    def __post_init__(self) -> None:
        counts = {
            "num_steps": 1 if self.num_steps is None else self.num_steps,
            "num_epochs": self.num_epochs,
            "batch_size": self.batch_size,
            "gradient_accumulation": self.gradient_accumulation,
            "max_length": self.max_length,
        }
        for name, count in counts.items():
            if count < 1:
                raise InputError(f"training setting {name} is {count}; give at least 1")
        rates = {"learning_rate": self.learning_rate, "muon_learning_rate": self.muon_learning_rate}
        for name, rate in rates.items():
            if not rate > 0:
                raise InputError(f"training setting {name} is {rate}; give a number above 0")
        if not 0 <= self.warmup_ratio < 1:
            raise InputError(f"training setting warmup_ratio is {self.warmup_ratio}; give a share of at least 0 and below 1")


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """What a training run did.

    Attributes:
        num_examples: used.
        num_dropped: left out because they are longer than `max_length` or have no target.
        num_targets: supervised positions of one pass over the examples.
        num_steps: optimizer steps taken.
        first_loss: mean over the first logged stretch of steps.
        last_loss: mean over the last one.
        seconds: wall time, loading and saving included.
    """

    num_examples: int
    num_dropped: int
    num_targets: int
    num_steps: int
    first_loss: float
    last_loss: float
    seconds: float
