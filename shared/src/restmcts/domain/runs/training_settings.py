"""How a model is trained, and what a training run reports; torch-free, so that whoever asks for
training can say how.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from restmcts.domain.ranges import AtLeastOne, AtLeastZero, NotNegative, Positive, Share, check_ranges
from restmcts.errors import InputError

Schedule = Literal["cosine", "linear", "constant"]
OptimizerName = Literal["adamw", "muon"]
# "head": the output layer of a value model alone; its trunk stays as it is, bit by bit.
Trainable = Literal["all", "head"]
# What each of several processes keeps of the model that they train: everything, or its part of the
# weights, gradients and optimizer state.
Sharding = Literal["none", "full"]
Dtype = Literal["auto", "float32", "bfloat16"]
"""Of a model's weights where it is used; "auto": the type in which they are stored, where the
device computes in it quickly, else float32."""

# "sft": supervised on right traces; "dpo": direct preference optimisation on pairs
# (arXiv:2305.18290).
PolicyObjective = Literal["sft", "dpo"]
# "mse": regression on v_k; "soft": cross-entropy on v_k; "hard": cross-entropy on "leads to a right
# answer"; "orm": the same, at the ends of whole solutions alone; "ranking": of sibling steps, the
# one of higher v_k above the other (Bradley-Terry); "siblings": "mse", and the same order of
# siblings; "progress": "mse", and regression of what a step adds, V(p_k) - V(p_{k-1}), on
# v_k - v_{k-1}.
ValueObjective = Literal["mse", "soft", "hard", "orm", "ranking", "siblings", "progress"]


LARGE_MODEL = 3_000_000_000
"""Parameters above which adapters are trained unless all weights are asked for: gradients and
optimizer of more take over 36 GB."""
ADAPTER_RANK = 16
HEAD_OF_VALUES = (
    "trainable = head is for value models: a policy learns with all weights, or with adapters (lora_rank); leave it out"
)


def gives_values(objective: ValueObjective) -> bool:
    """Return whether a model with that objective gives values as they are; else log-odds."""
    return objective in ("mse", "siblings", "progress")


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """One training run.

    Attributes:
        num_steps: optimizer steps; None: as many as `num_epochs` give.
        num_epochs: passes over the examples where `num_steps` is None.
        batch_size: examples of one forward pass.
        gradient_accumulation: forward passes of one optimizer step; the loss is the mean over all
            of them together.
        learning_rate: peak learning rate of AdamW.
        optimizer: "adamw" for every weight, or "muon" for the hidden matrices and AdamW for the
            rest.
        muon_learning_rate: peak learning rate of Muon, scaled so that its updates are of AdamW's
            size.
        schedule: course of both learning rates after the warm-up.
        warmup_ratio: share of the steps over which the rates rise.
        weight_decay: weight decay of matrices; vectors never decay.
        max_gradient_norm: norm that gradients are scaled down to.
        max_length: tokens of an example at most; a longer one is dropped and counted, never cut.
        seed: decides the order of the data, dropout and fresh weights.
        template: template of the prompts that policies are trained on, and name as theirs
            (restmcts.domain.prompts.TEMPLATE_NAMES).
        dpo_beta: beta of direct preference optimisation: the penalty for leaving the parent.
        validation_share: share of the problems whose examples are held out (value models); the
            same problems in every training.
        evaluate_steps: steps between two evaluations on the held-out examples; None: once a pass
            over the examples.
        patience: evaluations in a row without a lower held-out loss after which training ends; the
            best weights are kept. None: train to the end and keep the last.
        trainable: "all" weights, or the "head" alone (value models): the trunk stays as it is.
        lora_rank: train low-rank adapters of that rank, merged when done (arXiv:2106.09685); 0: no
            adapters, all weights; None: all weights, but of a model of more than 3 billion
            parameters adapters of rank 16.
        precision: number format of forward and backward passes; weights and optimizer stay in
            float32. "auto": bfloat16 where the device computes in it quickly, else float32.
        gradient_checkpointing: compute activations again in the backward pass instead of keeping
            them.
        packing: lay the examples of a forward pass end to end instead of padding them; none sees
            another.
        tree_packing: compute what the paths of one problem begin with alike once; a batch then
            counts problems instead of paths. For the policy's learning from trees; not for pairs.
        save_seconds: seconds between two saves of the state from which a killed job is resumed.
    """

    num_steps: AtLeastOne | None = None
    num_epochs: AtLeastOne = 2
    batch_size: AtLeastOne = 32
    gradient_accumulation: AtLeastOne = 1
    learning_rate: Positive = 2e-5
    optimizer: OptimizerName = "adamw"
    muon_learning_rate: Positive = 0.01
    schedule: Schedule = "cosine"
    warmup_ratio: Share = 0.05
    weight_decay: float = 0.0
    max_gradient_norm: float = 1.0
    max_length: AtLeastOne = 2048
    seed: int = 0
    template: str = "auto"
    dpo_beta: Positive = 0.1
    validation_share: Share = 0.0
    evaluate_steps: AtLeastOne | None = None
    patience: AtLeastOne | None = None
    trainable: Trainable = "all"
    lora_rank: AtLeastZero | None = None
    precision: Dtype = "float32"
    gradient_checkpointing: bool = False
    packing: bool = False
    tree_packing: bool = False
    save_seconds: NotNegative = 600.0

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.patience is not None and not self.validation_share:
            raise InputError("training setting patience needs held-out problems: give a validation_share above 0")
        if self.packing and self.tree_packing:
            raise InputError("packing lays paths end to end, tree_packing lays them as trees: give one of them")
        if self.trainable == "head" and (self.lora_rank or self.gradient_checkpointing):
            raise InputError(
                "trainable = head leaves the trunk as it is: leave out lora_rank, which trains adapters in it, and "
                "gradient_checkpointing, as nothing is kept of its forward pass"
            )

    def adapters_of(self, num_parameters: int) -> int | None:
        """Return the rank of the adapters that are trained of a model of that size; None: its own
        weights are.
        """
        if self.lora_rank is None and self.trainable == "all" and num_parameters > LARGE_MODEL:
            return ADAPTER_RANK
        return self.lora_rank or None


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """What a training run did.

    Attributes:
        num_examples: used.
        num_dropped: left out because they are longer than `max_length` or have no target.
        num_targets: supervised positions (pairs, where pairs are compared) of one pass over the
            examples.
        num_steps: optimizer steps taken.
        first_loss: mean over the first logged stretch of steps.
        last_loss: mean over the last one.
        seconds: wall time, loading and saving included.
        micro_batch: examples of one forward pass at the end; below `batch_size` where memory did
            not suffice.
        losses: (step, mean loss since the entry before), first to last.
        held_out: what the held-out examples say of the model: "loss" and the figures of
            `restmcts.modeling.value.value_metrics`.
        held_out_before: the same of the model that training began with.
        step_seconds: wall time of one optimizer step, without loading and saving; None where the
            training continued another attempt.
        lora_rank: of the adapters that were trained; None: the model's own weights were.
    """

    num_examples: int
    num_dropped: int
    num_targets: int
    num_steps: int
    first_loss: float
    last_loss: float
    seconds: float
    micro_batch: int
    losses: Sequence[tuple[int, float]] = ()
    held_out: dict[str, float] = field(default_factory=dict)
    held_out_before: dict[str, float] = field(default_factory=dict)
    step_seconds: float | None = None
    lora_rank: int | None = None
