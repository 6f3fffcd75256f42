"""Muon with its matrices stacked is Muon, and two optimizers behave as one."""

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.modeling.checkpoints import LoadedModel
from restmcts.modeling.training.optimizers import CombinedOptimizer, StackedMuon, build_optimizer, orthogonalise
from torch.optim import Muon
from torch.optim.lr_scheduler import LambdaLR

MUON = TrainingSettings(optimizer="muon", learning_rate=1e-3, muon_learning_rate=1e-2)


def steps_of(kind: type[Muon], num_steps: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(16, 16), (16, 16), (32, 16), (16, 32)]
    parameters = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    optimizer = kind(parameters, lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(num_steps):
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


def test_stacked_muon_takes_the_librarys_steps() -> None:
    for stacked, library, start in zip(steps_of(StackedMuon, 3), steps_of(Muon, 3), steps_of(Muon, 0), strict=True):
        # The library computes the direction in bfloat16, hence a hundredth of the way moved.
        assert (stacked - library).norm() < 0.02 * (library - start).norm()


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 16, 8), (2, 8, 16)])
def test_orthogonalised_matrices_keep_their_vectors(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    result = orthogonalise(matrices, (3.4445, -4.7750, 2.0315), 5, 1e-7)
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    inner = left.mT @ result @ right.mT
    diagonal = torch.diagonal(inner, dim1=1, dim2=2)
    assert (inner - torch.diag_embed(diagonal)).abs().max() < 1e-3
    assert diagonal.min() > 0.3 and diagonal.max() < 1.4


def test_muon_gets_the_hidden_matrices_and_nothing_else(make_policy: Callable[..., LoadedModel]) -> None:
    model = make_policy("llama").model
    optimizer = build_optimizer(model, MUON)
    named = {id(parameter): name for name, parameter in model.named_parameters()}
    muon = {named[id(p)] for p in optimizer.param_groups[0]["params"]}
    rest = {named[id(p)] for group in optimizer.param_groups[1:] for p in group["params"]}
    assert len(muon) == 2 * 7 and all(".layers." in name and "norm" not in name for name in muon)
    assert {"model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"} <= rest
    assert muon | rest == set(named.values()) and not muon & rest


def test_a_scheduler_reaches_both_parts(make_policy: Callable[..., LoadedModel]) -> None:
    optimizer = build_optimizer(make_policy("llama").model, MUON)
    assert isinstance(optimizer, CombinedOptimizer)
    LambdaLR(optimizer, lambda _: 0.5)
    assert {group["lr"] for group in optimizer.param_groups} == {5e-3, 5e-4}
    assert {group["lr"] for part in optimizer._optimizers for group in part.param_groups} == {5e-3, 5e-4}


def test_a_saved_state_goes_on_where_it_was(make_policy: Callable[..., LoadedModel]) -> None:
    def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()

    first, second = make_policy("llama").model, make_policy("llama").model
    optimizer = build_optimizer(first, MUON)
    step(first, optimizer, 1)
    second.load_state_dict(first.state_dict())
    restored = build_optimizer(second, MUON)
    restored.load_state_dict(deepcopy(optimizer.state_dict()))
    for group in restored.param_groups:
        group["lr"] /= 2
    for group in optimizer.param_groups:
        group["lr"] /= 2
    step(first, optimizer, 2)
    step(second, restored, 2)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
