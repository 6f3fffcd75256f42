"""The paths of a problem as one tree: what they begin with alike is computed once, and every token
attends to its ancestors only.

The gradients are those of the paths one by one. Knows rows, no losses and no loop.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch

from restmcts.modeling.training.losses import IGNORED
from restmcts.modeling.training.training_rows import PathRow


@dataclass(frozen=True, slots=True)
class PathTree:
    """Paths of one problem.

    Attributes:
        token_ids: each token of the tree once, after all of its ancestors.
        parents: the place of the token before each; -1 where there is none.
        places: of each path's tokens in the tree.
    """

    paths: tuple[PathRow, ...]
    token_ids: tuple[int, ...]
    parents: tuple[int, ...]
    places: tuple[tuple[int, ...], ...]

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def num_targets(self) -> int:
        return sum(path.num_targets for path in self.paths)

    @property
    def num_steps(self) -> int:
        return sum(path.num_steps for path in self.paths)

    @property
    def weights(self) -> list[float]:
        return [weight for path in self.paths for weight in path.weights]

    @property
    def positive_weight(self) -> float:
        return sum(path.positive_weight for path in self.paths)

    @property
    def total_weight(self) -> float:
        return sum(path.total_weight for path in self.paths)


def path_tree(paths: Sequence[PathRow]) -> PathTree:
    """Return paths as a tree of tokens."""
    known: dict[tuple[int, int], int] = defaultdict(count().__next__)
    places = []
    for path in paths:
        at, own = -1, []
        for token in path.token_ids:
            at = known[at, token]
            own.append(at)
        places.append(tuple(own))
    parents, token_ids = zip(*known, strict=True)
    return PathTree(tuple(paths), token_ids, parents, tuple(places))


def path_trees(paths: Sequence[PathRow]) -> list[PathTree]:
    """Return a tree for each question, in the order in which they first come."""
    of_question: dict[str, list[PathRow]] = defaultdict(list)
    for path in paths:
        of_question[path.question].append(path)
    return [path_tree(members) for members in of_question.values()]


def collate_trees(trees: Sequence[PathTree], *, as_bool: bool) -> dict[str, torch.Tensor]:
    """Return a forward pass over trees laid end to end, of which none sees another.

    `input_ids` and `position_ids` (a token's depth) are `[1, tokens]`, `attention_mask` is `[1, 1,
    tokens, tokens]`; `readers` (the place that predicts each target), `target_ids` and `weights`
    are `[targets]`, path by path.

    Args:
        as_bool: give the mask as what may be seen, for torch's own attention; else as what is added
            to the scores.
    """
    starts = np.cumsum([0, *(tree.num_tokens for tree in trees)])[:-1]
    ids = [token for tree in trees for token in tree.token_ids]
    sees, depths = np.zeros((len(ids), len(ids)), bool), np.zeros(len(ids), np.int64)
    readers, target_ids, weights = [], [], []
    for start, tree in zip(starts.tolist(), trees, strict=True):
        for place, parent in enumerate(tree.parents, start=start):
            if parent >= 0:
                sees[place], depths[place] = sees[start + parent], depths[start + parent] + 1
            sees[place, place] = True
        for path, places in zip(tree.paths, tree.places, strict=True):
            for number, target in enumerate(path.targets):
                if target != IGNORED:
                    readers.append(start + places[number - 1])
                    target_ids.append(target)
                    weights.append(path.weights[number])
    mask = torch.from_numpy(sees)
    if not as_bool:
        mask = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
    return {
        "input_ids": torch.tensor([ids]),
        "position_ids": torch.from_numpy(depths).unsqueeze(0),
        "attention_mask": mask[None, None],
        "readers": torch.tensor(readers),
        "target_ids": torch.tensor(target_ids),
        "weights": torch.tensor(weights, dtype=torch.float32),
    }
