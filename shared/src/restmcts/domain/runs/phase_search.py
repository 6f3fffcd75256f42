"""The search of one problem in a phase: made in one way by whoever searches, replays or shows."""

from collections.abc import Sequence

from restmcts.domain.runs.phases import SearchPhase
from restmcts.domain.search.protocol import Search
from restmcts.domain.search.tool_calls import ToolUse
from restmcts.domain.tasks.task import TASKS


def search_of(phase: SearchPhase, kind: str, seed: int, begins_with: Sequence[str] | None = None) -> Search:
    """Return a fresh search of a phase that has one of its own.

    Args:
        kind: of the problem.
        seed: of the tree.
        begins_with: given steps of the problem.

    Raises:
        UnknownEntryError: if there is no task of that kind.
    """
    task = TASKS.get(kind)
    search = phase.search.build(phase.budget, seed, task.ends, begins_with or ())
    if phase.tools.max_calls:
        search.use_tools(ToolUse(kind, task.calls, phase.tools))
    return search
