"""A tree computed once teaches what its paths teach one by one."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from restmcts.domain.learning.losses import ClippedRatioLoss, LikelihoodLoss, Loss, PreferenceLoss
from restmcts.domain.runs.spec import RunSpec
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.errors import InputError, TrainingError
from restmcts.modeling.checkpoints import LoadedModel, load_policy, save_checkpoint
from restmcts.modeling.training import path_training
from restmcts.modeling.training.path_training import (
    PathExample,
    packed_as_trees,
    path_rows,
    summed_path_loss,
    target_log_probs,
)
from restmcts.modeling.training.training import train_paths, train_policy, train_value
from restmcts.modeling.training.training_rows import PathRow, PolicyExample
from restmcts.modeling.training.tree_packing import PathTree, collate_trees, path_tree

PATHS = [
    PathExample("ab", ("cd\n", "e\n", "ff\n"), (1.0, None, 0.5), True),
    PathExample("ab", ("cd\n", "e\n", "fg\n"), (None, None, -0.4), True),
    PathExample("ab", ("cd\n", "hhh\n"), (None, 0.7), False),
    PathExample("b", ("i\n", "jkl\n"), (-0.2, 0.3), False),
    PathExample("ab", ("x\n",), (0.6,), True),
]
SETTINGS = TrainingSettings(num_steps=6, batch_size=2, learning_rate=1e-2, schedule="constant", warmup_ratio=0.0)


def gradients(loaded: LoadedModel, rows: Sequence[PathRow], loss: Loss, *, as_trees: bool) -> dict[str, torch.Tensor]:
    """Return the gradients of the summed loss where the old policy is another one."""
    loaded.model.zero_grad()
    generator = torch.Generator().manual_seed(3)
    old = {row.question + str(row.token_ids): torch.randn(row.num_targets, generator=generator) for row in rows}
    groups = packed_as_trees(loaded, rows) if as_trees else [path_tree([row]) for row in rows]
    total = torch.zeros(())
    for tree in groups:
        batch = collate_trees([tree], as_bool=True)
        log_probs = target_log_probs(loaded.model, batch)
        before = log_probs.detach() + 0.1 * torch.cat([old[one.question + str(one.token_ids)] for one in tree.paths])
        total = total + summed_path_loss(loss, log_probs, before, batch["weights"], torch.zeros(len(log_probs)))
    total.backward()
    return {name: one.grad.clone() for name, one in loaded.model.named_parameters() if one.grad is not None}


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2"])
@pytest.mark.parametrize("loss", [LikelihoodLoss(), ClippedRatioLoss()], ids=["likelihood", "clipped"])
@pytest.mark.parametrize("limit", [0, 4096])
def test_gradients_are_those_of_the_paths(
    make_policy: Callable[..., LoadedModel], monkeypatch: pytest.MonkeyPatch, family: str, loss: Loss, limit: int
) -> None:
    monkeypatch.setattr(path_training, "_LARGE_VOCABULARY", limit)
    loaded = make_policy(family)
    rows = [row for row in path_rows(loaded, PATHS, loss) if isinstance(row, PathRow)]
    alone, packed = (gradients(loaded, rows, loss, as_trees=as_trees) for as_trees in (False, True))
    assert alone.keys() == packed.keys() and any(float(one.abs().max()) > 1e-2 for one in alone.values())
    for name, one in alone.items():
        torch.testing.assert_close(packed[name], one, atol=1e-5, rtol=0.0, msg=name)


def test_what_paths_begin_with_alike_is_there_once(make_policy: Callable[..., LoadedModel]) -> None:
    loaded = make_policy()
    rows = [row for row in path_rows(loaded, PATHS, LikelihoodLoss()) if isinstance(row, PathRow)]
    first, second = packed_as_trees(loaded, rows)
    assert [len(tree.paths) for tree in (first, second)] == [4, 1]
    together = {tuple(row.token_ids[: place + 1]) for row in first.paths for place in range(row.num_tokens)}
    assert first.num_tokens == len(together) < sum(row.num_tokens for row in first.paths)
    for row, places in zip(first.paths, first.places, strict=True):
        assert [first.token_ids[place] for place in places] == row.token_ids
        assert [first.parents[place] for place in places] == [-1, *places[:-1]]


def test_no_tree_sees_another_however_the_mask_is_given(make_policy: Callable[..., LoadedModel]) -> None:
    loaded = make_policy()
    rows = [row for row in path_rows(loaded, PATHS, LikelihoodLoss()) if isinstance(row, PathRow)]
    trees: list[PathTree] = packed_as_trees(loaded, rows)
    loaded.model.eval()
    with torch.no_grad():
        alone = torch.cat([target_log_probs(loaded.model, collate_trees([tree], as_bool=True)) for tree in trees])
        for as_bool in (True, False):
            together = target_log_probs(loaded.model, collate_trees(trees, as_bool=as_bool))
            torch.testing.assert_close(together, alone, atol=1e-5, rtol=0.0)


def test_a_training_on_trees_makes_the_policy_that_one_on_paths_makes(
    make_policy: Callable[..., LoadedModel], tmp_path: Path
) -> None:
    """One problem a tree and all in one batch: the steps are the same steps."""
    save_checkpoint(make_policy(), tmp_path / "parent")
    settings = replace(SETTINGS, num_steps=3, batch_size=8)
    made = []
    for name, packs in (("paths", False), ("trees", True)):
        report = train_paths(
            tmp_path / "parent", PATHS, LikelihoodLoss(), replace(settings, tree_packing=packs), tmp_path / name
        )
        assert report.num_examples == len(PATHS)
        made.append(load_policy(tmp_path / name).model.state_dict())
    for name, weights in made[0].items():
        torch.testing.assert_close(made[1][name], weights, atol=2e-4, rtol=0.0, msg=name)


def test_solutions_are_packed_too(make_policy: Callable[..., LoadedModel], tmp_path: Path) -> None:
    save_checkpoint(make_policy(), tmp_path / "parent")
    examples = [
        PolicyExample("ab", ("cd\n", "e\n")),
        PolicyExample("ab", ("cd\n", "f\n")),
        PolicyExample("b", ("i\n",)),
    ]
    losses = [
        train_policy(
            tmp_path / "parent", examples, replace(SETTINGS, batch_size=8, tree_packing=packs), tmp_path / str(packs)
        ).first_loss
        for packs in (False, True)
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_a_model_that_does_not_attend_as_it_is_told_is_refused(
    make_policy: Callable[..., LoadedModel], tmp_path: Path
) -> None:
    save_checkpoint(make_policy("mamba"), tmp_path / "parent")
    with pytest.raises(TrainingError, match="leave tree_packing out"):
        train_paths(
            tmp_path / "parent", PATHS, LikelihoodLoss(), replace(SETTINGS, tree_packing=True), tmp_path / "out"
        )


def test_what_holds_no_paths_is_refused_before_anything_is_spent(
    make_policy: Callable[..., LoadedModel], tmp_path: Path
) -> None:
    settings = replace(SETTINGS, tree_packing=True)
    save_checkpoint(make_policy(), tmp_path / "parent")
    pair = [PathExample("a", ("b\n",), (weight,), True) for weight in (0.5, -0.5)]
    with pytest.raises(TrainingError, match="pairs cannot be packed as trees"):
        train_paths(tmp_path / "parent", pair, PreferenceLoss(), settings, tmp_path / "out")
    with pytest.raises(TrainingError, match="not for value models"):
        train_value(tmp_path / "parent", [], settings, tmp_path / "out")
    for document in (
        {"value_training": {"tree_packing": True}},
        {"policy_training": {"tree_packing": True}, "learner": {"name": "sibling-dpo"}},
    ):
        with pytest.raises(ValueError, match="tree_packing is for paths that a policy learns"):
            RunSpec.model_validate(document)
    with pytest.raises(InputError, match="give one of them"):
        replace(settings, packing=True)
