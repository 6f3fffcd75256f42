"""Trees over HTTP."""

from restmcts.adapters.sql.rows import ListedTree, TreeWithNodes
from restmcts.errors import StorageError
from restmcts.reporting.tree_text import ROOT
from restmcts.usecases.requested.answers import RunDocument

from restmcts_cli.remote.client import Api

MAX_AT_ONCE = 1000


def trees(
    api: Api, run: str, phase: str | None, state: str | None, solved: bool | None, limit: int
) -> tuple[list[ListedTree], str]:
    """Return the first trees of a run that are as asked, however many, and the mark beside figures
    that rest on their verdicts.
    """
    mark = api.get(RunDocument, "runs", run).mark
    found: list[ListedTree] = []
    while len(found) < limit:
        wanted = min(limit - len(found), MAX_AT_ONCE)
        last = found[-1].id if found else 0
        query = {"phase": phase, "state": state, "solved": solved, "after": last, "limit": wanted}
        more = api.get(list[ListedTree], "runs", run, "trees", **query)
        found += more
        if len(more) < wanted:
            break
    return found, mark


def tree(api: Api, tree_id: int) -> TreeWithNodes:
    """Return a tree with its nodes.

    Raises:
        StorageError: if what is answered is no tree.
    """
    found = api.get(TreeWithNodes, "trees", str(tree_id))
    known: set[int | None] = {None}
    for node in found.nodes:
        if (node.parent_id is None) != (node.node_id == ROOT) or node.parent_id not in known or node.node_id in known:
            raise StorageError(f"{api.place} answers a tree whose nodes do not hang together: check RESTMCTS_API_URL")
        known.add(node.node_id)
    return found
