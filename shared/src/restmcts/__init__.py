"""ReST-MCTS*: self-training of language models by process-reward-guided tree search
(arXiv:2406.03816).

`restmcts.load_run` opens a run for reading; what it needs is imported when it is first asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from restmcts.notebook import LoadedRun, SearchTree, TreeNode, load_run

__all__ = ["LoadedRun", "SearchTree", "TreeNode", "load_run"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'restmcts' has no attribute {name!r}")
    from restmcts import notebook

    return getattr(notebook, name)
