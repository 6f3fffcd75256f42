"""A model in parts: of each parameter, its gradient and its optimizer state every process that
trains keeps one part, cut along the first dimension (FSDP2, arXiv:2304.11277).

Functions that take tensors leave one that is not in parts as it is. Knows no losses and no
trainers.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

Result = TypeVar("Result")


class ShardedModel(nn.Module):
    """What a model in parts is called through: while `forward` computes something, trunk, head and
    tied weights are whole, whoever reads them; a transformer block is whole only while it runs.
    """

    def __init__(self, *models: nn.Module) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)

    def forward(self, compute: Callable[[], Result]) -> Result:
        """Return what `compute` returns."""
        return compute()


def shard_model(model: Any, *others: Any) -> Any:
    """Cut a model, and others that are only read, into the parts of the processes; return their
    `ShardedModel`, or None where there is but one process.
    """
    processes = PartialState(cpu=not torch.accelerator.is_available())
    if processes.num_processes == 1:
        return None
    mesh = init_device_mesh(processes.device.type, (processes.num_processes,))
    sharded: Any = ShardedModel(model, *others)
    for block in _blocks(sharded):
        fully_shard(block, mesh=mesh)
    # Not kept whole between the passes: whoever reads the parameters there, reads parts.
    fully_shard(sharded, mesh=mesh, reshard_after_forward=True)
    groups: list[Any] = [module for module in sharded.modules() if isinstance(module, FSDPModule)]
    for group in groups:
        # Each process has its share of a sum; gloo computes no means.
        group.set_gradient_divide_factor(1.0)
        group.set_force_sum_reduction_for_comms(True)
        # Experts may be idle in one process only.
        group.set_reduce_scatter_unused_params(True)
    for one in sharded.models:
        plain = one.get_base_model() if hasattr(one, "get_base_model") else one
        plain._is_distributed_loading_by_transformers = True  # else the library cuts or copies it again
    return sharded


def _blocks(sharded: ShardedModel) -> list[nn.Module]:
    """Return the modules that the library would not split either, inner ones first; one that
    shares a parameter with others goes with the rest.
    """
    names = {name for module in sharded.modules() for name in getattr(module, "_no_split_modules", None) or ()}
    uses = Counter(parameter for _, parameter in sharded.named_parameters(remove_duplicate=False))
    blocks = [module for module in sharded.modules() if type(module).__name__ in names]
    return [block for block in reversed(blocks) if all(uses[one] == 1 for one in block.parameters())]


def part(tensor: torch.Tensor) -> torch.Tensor:
    """Return this process's part; what changes it changes the tensor."""
    own: torch.Tensor = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    return own


def part_of(whole: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return this process's part of a tensor that every process has whole, cut as `like` is, and
    on its device.
    """
    if not isinstance(like, DTensor):
        return whole
    own: torch.Tensor = distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None).to_local()
    return own


def whole_of(own: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return the whole tensor of which each process gives its own part, cut as `like` is."""
    return own if not isinstance(like, DTensor) else _as_cut(own, like).full_tensor()


def _as_cut(own: torch.Tensor, like: DTensor) -> DTensor:
    own = own.to(like.device)
    return DTensor.from_local(own, like.device_mesh, like.placements, shape=like.shape, stride=like.stride())


def whole_on_first(tensor: torch.Tensor) -> torch.Tensor:
    """Return the whole tensor, on the CPU, in the first process; something empty in the others,
    which have to call it too.
    """
    if not isinstance(tensor, DTensor):
        return tensor
    whole = tensor.detach().full_tensor()
    return whole.cpu() if torch.distributed.get_rank() == 0 else torch.empty(0)


@contextmanager
def whole_parameters(model: nn.Module, *, everywhere: bool = False) -> Iterator[None]:
    """Let a model in parts have whole parameters, on the CPU, while the block runs: in the first
    process, to be read, or everywhere, to be changed. All processes have to enter.
    """
    in_parts = [
        (module, name, parameter)
        for module in model.modules()
        for name, parameter in module._parameters.items()
        if isinstance(parameter, DTensor)
    ]
    wholes: dict[Any, nn.Parameter] = {}
    for _, _, parameter in in_parts:
        if parameter not in wholes:
            whole = parameter.detach().full_tensor().cpu() if everywhere else whole_on_first(parameter)
            wholes[parameter] = nn.Parameter(whole, parameter.requires_grad)
    # At these FSDP2 looks for its parts again, whenever something was loaded into a module.
    hooks = {module: module._load_state_dict_post_hooks for module, _, _ in in_parts}
    for module, name, parameter in in_parts:
        module._parameters[name] = wholes[parameter]
        module._load_state_dict_post_hooks = OrderedDict()
    try:
        yield
    finally:
        for module, name, parameter in in_parts:
            module._parameters[name] = parameter
            module._load_state_dict_post_hooks = hooks[module]
    if everywhere:
        for parameter, changed in wholes.items():
            part(parameter.detach()).copy_(part_of(changed.detach(), parameter))


def save_states_whole(optimizer: Optimizer) -> None:
    """Let an optimizer's `state_dict`, which all processes have to call, have whole tensors in the
    first of them, and `load_state_dict` take such.
    """
    optimizer.register_state_dict_post_hook(_whole_states)
    optimizer.register_load_state_dict_pre_hook(_own_states)


def _whole_states(_: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    states = {
        number: {name: whole_on_first(one) if torch.is_tensor(one) else one for name, one in state.items()}
        for number, state in state_dict["state"].items()
    }
    return {**state_dict, "state": states}


def _own_states(optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    numbers = [number for group in state_dict["param_groups"] for number in group["params"]]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    states = {
        number: {name: _cut(one, parameter) for name, one in state_dict["state"][number].items()}
        for number, parameter in zip(numbers, parameters, strict=True)
        if number in state_dict["state"]
    }
    return {**state_dict, "state": states}


def _cut(one: Any, parameter: torch.Tensor) -> Any:
    is_cut = isinstance(parameter, DTensor) and torch.is_tensor(one) and one.shape == parameter.shape
    return _as_cut(part_of(one, parameter), parameter) if is_cut else one
