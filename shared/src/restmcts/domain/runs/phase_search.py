"""The search of one problem in a phase: made in one way by whoever searches, replays or shows."""

from collections.abc import Sequence

from restmcts.domain.runs.phases import SearchPhase
from restmcts.domain.search.protocol import Search
from restmcts.domain.search.tool_calls import ToolSettings, ToolUse
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
    search = phase.search.build(phase.budget, seed, TASKS.get(kind).ends, begins_with or ())
    tools = tool_use(kind, phase.tools)
    if tools is not None:
        search.use_tools(tools)
    return search


def tool_use(kind: str, settings: ToolSettings) -> ToolUse | None:
    """Return the tools of a problem of a kind; None where its steps may call none.

    Raises:
        UnknownEntryError: if there is no task of that kind.
    """
    return ToolUse(kind, TASKS.get(kind).calls, settings) if settings.max_calls else None
