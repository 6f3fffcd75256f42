"""Training data as others read it: TRL's stepwise supervision, preference pairs, and the lines of
the paper's released code.

Rows in, JSON lines out. Which rows there are, the schemas of
`restmcts.adapters.files.dataset_shards` say.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from restmcts.adapters.files.verifiers_traces import row_trace
from restmcts.domain.requests import STEP_SEPARATOR
from restmcts.errors import InputError

STEPWISE = {"trl-stepwise": "leads_to_right", "soft-stepwise": "targets"}
"""The column of labels that a stepwise format has."""

_Prefix = tuple[Any, str, tuple[str, ...]]


def convert(rows: Sequence[dict[str, Any]], to: str) -> Iterator[dict[str, Any]]:
    """Return the rows in another format.

    "trl-stepwise": `prompt`, `completions` and whether each leads to a right answer, `labels`; a
    path to each labelled leaf. "soft-stepwise": the same with the steps' values, v_k, as they are.
    "preference": `prompt`, `chosen`, `rejected`; pairs as they were written, or of value data all
    siblings of different values. "paper-json": of value data `prompt_answer` and `label`, v_k, a
    line a step; of solutions `content`, `summary` and `label`.
    "weighted-steps": of a policy's data `prompt`, `completions`, and a number a step in `weights`,
    `values`, `leaf_counts` and `log_probs`; `pair` is the same for a chosen step and its rejected
    one.
    "verifiers": a policy's whole solutions as traces (restmcts.adapters.files.verifiers_traces).

    Raises:
        InputError: if these rows do not have what the format needs.
    """
    kind = _kind(rows)
    if to in STEPWISE and kind == "value":
        return _stepwise(rows, STEPWISE[to])
    if to == "preference" and kind in ("value", "preference"):
        return _preferences(rows) if kind == "preference" else _sibling_preferences(rows)
    if to == "paper-json" and kind in ("value", "policy"):
        return _paper_values(rows) if kind == "value" else _paper_solutions(rows)
    if to == "weighted-steps" and kind == "policy":
        return _weighted_steps(rows)
    if to == "verifiers" and kind == "policy":
        return (row_trace(number, row) for number, row in enumerate(rows) if row.get("finished", True))
    raise InputError(f"{kind} data cannot be written as {to}; choose another phase or format")


def _kind(rows: Iterable[dict[str, Any]]) -> str:
    first = next(iter(rows), None)
    if first is None:
        raise InputError("the data set has no rows")
    return "preference" if "chosen" in first else "value" if "targets" in first else "policy"


def _stepwise(rows: Sequence[dict[str, Any]], column: str) -> Iterator[dict[str, Any]]:
    known = dict(_known(rows, column))
    for row in rows:
        labels = [known.get(_prefix(row, number)) for number in range(1, len(row["steps"]) + 1)]
        if None not in labels:
            yield {"prompt": row["question"], "completions": [_bare(step) for step in row["steps"]], "labels": labels}


def _weighted_steps(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for row in rows:
        # Data of version 0.1 are right solutions, every step alike, and say no more of them.
        weights = row.get("weights") or [1.0] * len(row["steps"])
        known = {name: row.get(name) for name in ("values", "leaf_counts", "log_probs", "pair")}
        finished = row.get("finished", True)
        completions = [_bare(step) for step in row["steps"]]
        yield {"prompt": row["question"], "completions": completions, "weights": weights, **known, "finished": finished}


def _preferences(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for row in rows:
        prompt = row["question"] + STEP_SEPARATOR + "".join(row["steps"])
        yield {"prompt": prompt, "chosen": "".join(row["chosen"]), "rejected": "".join(row["rejected"])}


def _sibling_preferences(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    families: dict[_Prefix, list[tuple[float, str]]] = defaultdict(list)
    for (tree_id, question, steps), value in _known(rows, "targets"):
        families[tree_id, question, steps[:-1]].append((value, steps[-1]))
    for (_, question, steps), siblings in families.items():
        for position, (value, step) in enumerate(siblings):
            for other_value, other in siblings[position + 1 :]:
                if value != other_value:
                    chosen, rejected = (step, other) if value > other_value else (other, step)
                    yield {"prompt": question + STEP_SEPARATOR + "".join(steps), "chosen": chosen, "rejected": rejected}


def _paper_values(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for (_, question, steps), value in _known(rows, "targets"):
        yield {"prompt_answer": f"Problem:{question}\nSolution:\n{''.join(steps)}", "label": value}


def _paper_solutions(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for row in rows:
        if None in row.get("weights", ()) or min(row.get("weights", ()), default=1.0) <= 0.0:
            continue  # it is no whole solution that the policy is to learn
        yield {"content": row["question"], "summary": "".join(row["steps"]), "label": 1}


def _known(rows: Sequence[dict[str, Any]], column: str) -> Iterator[tuple[_Prefix, Any]]:
    """Yield each partial solution that the column describes, with its value."""
    for row in rows:
        for number, value in enumerate(row[column], start=1):
            if value is not None:
                yield _prefix(row, number), value


def _prefix(row: dict[str, Any], number: int) -> _Prefix:
    return row["tree_id"], row["question"], tuple(row["steps"][:number])


def _bare(step: str) -> str:
    return step.removesuffix(STEP_SEPARATOR)
