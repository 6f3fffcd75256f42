"""AdamW, or Muon for the hidden matrices with AdamW for the rest, as one optimizer object.
Knows no data and no schedule.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.optim import AdamW, Muon, Optimizer

from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.modeling.training.sharding import part, part_of, save_states_whole, whole_of

ADAMW_BETAS = (0.9, 0.98)


class StackedMuon(Muon):
    """Muon with updates of AdamW's size: `torch.optim.Muon` with `adjust_lr_fn="match_rms_adamw"`,
    the saved state the same.

    Departures: matrices of one shape are orthogonalised together, and in float32 on a CPU. The
    library takes them one by one in bfloat16, which for a tiny model on a CPU costs more than the
    forward and backward passes.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step; parameters without a gradient are passed over."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            together: dict[Any, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    # One in parts is made whole for its step, at a time when no other is.
                    together[parameter if isinstance(parameter, DTensor) else parameter.shape].append(parameter)
            for parameters in together.values():
                self._step_together(parameters, group)
        return loss

    def _step_together(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        gradients = torch.stack([part(p.grad) for p in parameters if p.grad is not None])
        buffers = [part(self._momentum_buffer(p)) for p in parameters]
        momentum = torch.stack(buffers).lerp_(gradients, 1 - group["momentum"])
        for buffer, moved in zip(buffers, momentum, strict=True):
            buffer.copy_(moved)
        update = gradients.lerp_(momentum, group["momentum"]) if group["nesterov"] else momentum
        if isinstance(parameters[0], DTensor):
            update = whole_of(update[0], parameters[0]).unsqueeze(0)
        update = orthogonalise(update, group["ns_coefficients"], group["ns_steps"], group["eps"])
        rate = group["lr"] * 0.2 * math.sqrt(max(parameters[0].shape))
        for parameter, change in zip(parameters, update, strict=True):
            own = part(parameter).mul_(1 - group["lr"] * group["weight_decay"])
            own.add_(part_of(change, parameter), alpha=-rate)

    def _momentum_buffer(self, parameter: nn.Parameter) -> torch.Tensor:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer: torch.Tensor = state["momentum_buffer"]
        return buffer


def orthogonalise(
    matrices: torch.Tensor, coefficients: tuple[float, float, float], num_iterations: int, epsilon: float
) -> torch.Tensor:
    """Return matrices with the same singular vectors and singular values near 1, `[N, A, B]`,
    by Newton-Schulz iteration.
    """
    a, b, c = coefficients
    is_tall = matrices.shape[1] > matrices.shape[2]
    wide = (matrices.mT if is_tall else matrices).to(torch.float32 if matrices.device.type == "cpu" else torch.bfloat16)
    wide = wide / wide.norm(dim=(1, 2), keepdim=True).clamp(min=epsilon)
    for _ in range(num_iterations):
        gram = wide @ wide.mT
        wide = torch.baddbmm(wide, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return (wide.mT if is_tall else wide).to(matrices.dtype)


class CombinedOptimizer(Optimizer):
    """Several optimizers as one: their parameter groups are shared, so a scheduler that sets a
    group's rate reaches its owner.
    """

    def __init__(self, optimizers: list[Optimizer]) -> None:
        self._optimizers = optimizers
        super().__init__([group for optimizer in optimizers for group in optimizer.param_groups], {})
        self._share()

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Let every optimizer take its step; a closure is called once, before them."""
        loss = closure() if closure is not None else None
        for optimizer in self._optimizers:
            optimizer.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return every optimizer's state, in order."""
        return {"optimizers": [optimizer.state_dict() for optimizer in self._optimizers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        for optimizer, state in zip(self._optimizers, state_dict["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self._share()

    def _share(self) -> None:
        # The very same objects: loading a state puts new groups in place of the old ones.
        self.param_groups = [group for optimizer in self._optimizers for group in optimizer.param_groups]


def build_optimizer(model: Any, settings: TrainingSettings) -> Optimizer:
    """Return the optimizer that the settings name over the model's trainable parameters."""
    hidden = _hidden_matrices(model) if settings.optimizer == "muon" else []
    hidden_ids = {id(parameter) for parameter in hidden}
    rest = [p for p in model.parameters() if p.requires_grad and id(p) not in hidden_ids]
    optimizers: list[Optimizer] = []
    if hidden:
        muon_rate, decay = settings.muon_learning_rate, settings.weight_decay
        optimizers.append(StackedMuon(hidden, lr=muon_rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"))
    if rest or not hidden:  # of adapters all are hidden matrices
        groups = _by_decay(rest, settings.weight_decay)
        optimizers.append(AdamW(groups, lr=settings.learning_rate, betas=ADAMW_BETAS))
    for optimizer in optimizers:
        save_states_whole(optimizer)
    return optimizers[0] if len(optimizers) == 1 else CombinedOptimizer(optimizers)


def _hidden_matrices(model: Any) -> list[nn.Parameter]:
    """Return the trunk's matrices without embeddings; heads lie outside the trunk."""
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model  # below adapters
    trunk = plain.base_model
    embeddings = {
        id(p)
        for module in trunk.modules()
        if isinstance(module, nn.Embedding)
        for p in module.parameters(recurse=False)
    }
    return [p for p in trunk.parameters() if p.requires_grad and p.ndim == 2 and id(p) not in embeddings]


def _by_decay(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    matrices: list[nn.Parameter] = []
    vectors: list[nn.Parameter] = []
    for parameter in parameters:
        (matrices if parameter.ndim >= 2 else vectors).append(parameter)
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
