"""ReST-MCTS*: self-training of language models by process-reward-guided tree search
(arXiv:2406.03816).

`restmcts.load_run` opens a run for reading, and `selftrain`, `evaluate` and `search` do in this
process what the commands of these names do. What they need is imported when they are first asked
for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from restmcts_cli.python_api import evaluate, search, selftrain

    from restmcts.notebook.runs import CurvePoint, LoadedRun, load_run, runs
    from restmcts.notebook.trees import SearchTree, TreeNode

    __version__: str

__all__ = [
    "CurvePoint",
    "LoadedRun",
    "SearchTree",
    "TreeNode",
    "__version__",
    "evaluate",
    "load_run",
    "runs",
    "search",
    "selftrain",
]

_HOMES = {
    "CurvePoint": "restmcts.notebook.runs",
    "LoadedRun": "restmcts.notebook.runs",
    "SearchTree": "restmcts.notebook.trees",
    "TreeNode": "restmcts.notebook.trees",
    "evaluate": "restmcts_cli.python_api",
    "load_run": "restmcts.notebook.runs",
    "runs": "restmcts.notebook.runs",
    "search": "restmcts_cli.python_api",
    "selftrain": "restmcts_cli.python_api",
}


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("restmcts")
    if name not in _HOMES:
        raise AttributeError(f"module 'restmcts' has no attribute {name!r}")
    try:
        return getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        missing = "restmcts-cli[local]" if _HOMES[name].startswith("restmcts_cli") else "restmcts[notebook]"
        raise ImportError(f"restmcts.{name} needs more than is installed ({error}): pip install '{missing}'") from error
