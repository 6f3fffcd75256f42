"""Solutions as traces of the package `verifiers`, which trainers and its viewers read: a graph of
messages, and named rewards.

Plain JSON, written to the schema of version 0.4 (`verifiers.v1.WireTrace`), whose package need not
be installed. A solution is one trace: the question, what the policy wrote as the assistant, and
each observation as a message that no model sampled, so that nobody trains on it.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from restmcts.adapters.sql.rows import JsonObject, ShownNode, TreeWithNodes

VERSION = 1
"""Of the schema of traces."""

OBSERVATIONS = ("observation", "given-observation")
REWARD = "restmcts"

_SCORES = {"right": 1.0, "wrong": 0.0}


def trace_record(
    trace_id: str,
    question: str,
    steps: Sequence[tuple[str, bool]],
    score: float | None,
    *,
    task: Mapping[str, Any] | None = None,
    info: Mapping[str, Any] | None = None,
    timestamp: float = 0.0,
) -> "JsonObject":
    """Return a solution as a trace.

    Args:
        steps: texts, each with whether it is an observation.
        score: in [0, 1]; None where the solution is undecided.
        task: more of the task's data than its prompt.
        info: whatever else is known.
        timestamp: of its messages, in seconds.
    """
    contents = [("user", question, False)]
    for observed, together in groupby(steps, key=lambda step: step[1]):
        contents.append(("user" if observed else "assistant", "".join(text for text, _ in together), not observed))
    nodes = [
        {
            "parent": place - 1 if place else None,
            "message": {"role": role, "content": content},
            "sampled": sampled,
            "timestamp": timestamp,
        }
        for place, (role, content, sampled) in enumerate(contents)
    ]
    return {
        "version": VERSION,
        "id": trace_id,
        "task": {"type": "RestMctsTask", "data": {**(task or {}), "prompt": question}},
        "agent": {"config": {}, "name": "policy"},
        "nodes": nodes,
        "rewards": {REWARD: None if score is None else {"score": score, "weight": 1.0}},
        "info": dict(info or {}),
        "is_completed": True,
        "ok": True,
    }


def tree_traces(tree: "TreeWithNodes") -> "Iterator[JsonObject]":
    """Yield the finished solutions of a tree, in order of their nodes; what is known of their steps
    is in `info`.
    """
    by_id = {node.node_id: node for node in tree.nodes}
    timestamp = tree.started_at.timestamp() if tree.started_at is not None else 0.0
    task = {"idx": tree.problem} | ({"answer": tree.true_answer} if tree.true_answer is not None else {})
    for leaf in tree.nodes:
        if not leaf.final:
            continue
        lineage = _lineage(by_id, leaf)
        yield trace_record(
            f"{tree.run}-{tree.id}-{leaf.node_id}",
            tree.question,
            [(node.step, node.origin in OBSERVATIONS) for node in lineage],
            leaf.score if leaf.score is not None else _SCORES.get(leaf.verdict or ""),
            task=task,
            info={
                "run": tree.run,
                "phase": tree.phase,
                "tree": tree.id,
                "node": leaf.node_id,
                "verdict": leaf.verdict,
                "reason": leaf.reason,
                "steps": [_known(node) for node in lineage],
            },
            timestamp=timestamp,
        )


def _lineage(by_id: "Mapping[int, ShownNode]", leaf: "ShownNode") -> "list[ShownNode]":
    """Return the nodes from the first step to a leaf."""
    nodes = []
    node: ShownNode | None = leaf
    while node is not None and node.parent_id is not None:
        nodes.append(node)
        node = by_id.get(node.parent_id)
    return nodes[::-1]


def _known(node: "ShownNode") -> "JsonObject":
    names = ("step", "origin", "num_tokens", "log_prob", "model_value", "quality_value")
    return {name: getattr(node, name) for name in names}


def row_trace(number: int, row: Mapping[str, Any]) -> "JsonObject":
    """Return a row of a policy's training data as a trace; its score is the value of its last step,
    and that of a given solution 1. A step without a weight is an observation.
    """
    values = row.get("values") or []
    weights = row.get("weights") or [1.0] * len(row["steps"])
    score = values[-1] if row["tree_id"] is not None and values else 1.0
    lineage = {name: row.get(name) for name in ("problem_id", "tree_id", "node_id", "weights", "values")}
    steps = [(step, weight is None) for step, weight in zip(row["steps"], weights, strict=True)]
    return trace_record(f"row-{number}", row["question"], steps, score, info=lineage)


def row_of_trace(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a trace as a row of a problem: the data of its task, with the text of its prompt. Any
    other row stays as it is.
    """
    task = row.get("task")
    data = task.get("data") if isinstance(task, Mapping) and isinstance(row.get("nodes"), list) else None
    if not isinstance(data, Mapping):
        return row
    known = {
        name: value for name, value in data.items() if name in ("prompt", "answer", "solution", "kind", "question")
    }
    return {**known, "prompt": prompt_text(data)}


def prompt_text(data: Mapping[str, Any]) -> str:
    """Return what a task of `verifiers` asks, as one text; empty if it asks nothing."""
    prompt = data.get("prompt")
    messages = prompt if isinstance(prompt, list) else [{"content": prompt}]
    said = [_text(message.get("content")) for message in messages if isinstance(message, Mapping)]
    return "\n\n".join(text for text in (_text(data.get("system_prompt")), *said) if text)


def _text(content: object) -> str:
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, Mapping) and part.get("type") == "text"]
        return "\n".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""
