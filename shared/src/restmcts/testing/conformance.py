"""Check that searches and labels agree with recorded ones: `python -m restmcts.testing.conformance
FILE.jsonl…`.

A case holds a scripted policy and value model, the parameters of a search, and the tree, answer and
labels that must come out. Numbers must agree to 1e-9. One line a failure with the first difference,
last `N/M cases agree`; exit code 1 unless all agree.
"""

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from restmcts.domain.answers.extraction import extract_answer, states_answer
from restmcts.domain.labels.filtering import value_samples
from restmcts.domain.labels.inferred import StepLabel, end_leaves, infer_labels
from restmcts.domain.problems import Verdict
from restmcts.domain.search.mcts_star import MctsStar, MctsStarSettings
from restmcts.domain.search.protocol import Budget
from restmcts.domain.tree import ROOT, Tree
from restmcts.errors import InputError, RestMctsError
from restmcts.testing.scripted import ScriptedModels, run_search

TOLERANCE = 1e-9
Case = Mapping[str, Any]


def first_difference(case: Case) -> str | None:
    """Return where and how our search departs from the case first, or None if it agrees."""
    search = _search(case)
    actual = _solve_outcome(search) if case["mode"] == "solve" else _collect_outcome(search, case)
    lazy = case["mode"] == "solve"
    for key, value in {"tree": _tree_json(search.tree, lazy), **actual}.items():
        difference = _compare(case[key], value, key) if key in case else None
        if difference is not None:
            return difference
    return None


def _search(case: Case) -> MctsStar:
    config = dict(case["config"])
    budget = Budget(iterations=config.pop("iteration_limit"))
    config["stop_threshold"] = config.pop("end_gate")
    search = MctsStar(MctsStarSettings(mode=case["mode"], **config), budget, 0, states_answer)
    models = ScriptedModels(case["proposals"], case["values"], states_answer)
    run_search(search, models.answer)
    return search


def _solve_outcome(search: MctsStar) -> dict[str, Any]:
    steps = search.tree.steps_to(search.chosen) if search.chosen is not None else ()
    return {"finished_at_iteration": search.finished_at_iteration, "best": "".join(steps)}


def _collect_outcome(search: MctsStar, case: Case) -> dict[str, Any]:
    tree = search.tree
    leaves = end_leaves(tree, case["config"]["end_gate"])
    verdicts = {leaf.node_id: _verdict(leaf.step, case["answer"]) for leaf in leaves}
    labels = infer_labels(tree, verdicts)
    return {
        "end_leaves": [
            {"steps": "".join(tree.steps_to(leaf)), "correct": verdicts[leaf.node_id] == Verdict.RIGHT}
            for leaf in leaves
        ],
        "solved": Verdict.RIGHT in verdicts.values(),
        "labels": _labels_json(tree, labels, ROOT),
        "value_samples": [
            {"steps": "".join(sample.steps), "value": sample.label.quality_value}
            for sample in value_samples(tree, labels)
        ],
    }


def _verdict(step: str, answer: str) -> Verdict:
    return Verdict.RIGHT if extract_answer(step) == answer else Verdict.WRONG


def _tree_json(tree: Tree, lazy: bool, node_id: int = ROOT) -> dict[str, Any]:
    """Return a subtree in the form of the cases; a `lazy` search has looked whether a node is
    final only where it has been.
    """
    node = tree[node_id]
    return {
        "step": node.step,
        "visits": node.visits,
        "value": node.search_value,
        "expanded": node.expanded,
        "terminal": node.final and (node.visits > 0 or not lazy),
        "children": [_tree_json(tree, lazy, child) for child in node.children],
    }


def _labels_json(tree: Tree, labels: Mapping[int, StepLabel], node_id: int) -> dict[str, Any]:
    label = labels.get(node_id)
    return {
        "distance": label.reasoning_distance if label else None,
        "correct_path": label.step_is_right if label else False,
        "children": [_labels_json(tree, labels, child) for child in tree[node_id].children],
    }


def _compare(expected: Any, actual: Any, where: str) -> str | None:
    if isinstance(expected, Mapping):
        if not isinstance(actual, Mapping):
            return f"{where}: expected an object, got {actual!r}"
        pairs: Iterator[tuple[str, Any, Any]] = ((f"{where}.{key}", expected[key], actual.get(key)) for key in expected)
        return next((found for at, e, a in pairs if (found := _compare(e, a, at)) is not None), None)
    if isinstance(expected, list):
        if not isinstance(actual, Sequence) or len(expected) != len(actual):
            return f"{where}: expected {len(expected)} entries, got {len(actual) if isinstance(actual, Sequence) else actual!r}"
        items = ((f"{where}[{i}]", e, a) for i, (e, a) in enumerate(zip(expected, actual, strict=True)))
        return next((found for at, e, a in items if (found := _compare(e, a, at)) is not None), None)
    return None if _equal(expected, actual) else f"{where}: expected {expected!r}, got {actual!r}"


def _equal(expected: Any, actual: Any) -> bool:
    if isinstance(expected, bool) or isinstance(actual, bool) or not isinstance(expected, int | float):
        return bool(expected == actual) and type(expected) is type(actual)
    return isinstance(actual, int | float) and math.isclose(expected, actual, rel_tol=0.0, abs_tol=TOLERANCE)


def read_cases(path: Path) -> list[Case]:
    """Return the cases of a file.

    Raises:
        InputError: if the file cannot be read or a line is not a case.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    cases = []
    for line_number, line in enumerate(lines, start=1):
        if line.strip():
            cases.append(_parse_case(line, f"{path}, line {line_number}"))
    return cases


def _parse_case(line: str, where: str) -> Case:
    try:
        case = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not JSON ({error.msg})") from error
    missing = {"config", "mode", "proposals", "values", "tree"} - set(case if isinstance(case, dict) else ())
    if missing:
        raise InputError(f"{where}: not a case; missing {', '.join(sorted(missing))}")
    return dict(case)


def _report(case: Case) -> str | None:
    try:
        return first_difference(case)
    except (RestMctsError, KeyError, TypeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"


def main(paths: Sequence[str]) -> int:
    """Check all cases of all files; return the exit code."""
    if not paths:
        print("usage: python -m restmcts.testing.conformance FILE.jsonl…", file=sys.stderr)
        return 2
    try:
        cases = [case for path in paths for case in read_cases(Path(path))]
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    num_agreeing = 0
    for place, case in enumerate(cases):
        difference = _report(case)
        num_agreeing += difference is None
        if difference is not None:
            print(f"{case.get('id', place)}: {difference}")
    print(f"{num_agreeing}/{len(cases)} cases agree")
    return 0 if num_agreeing == len(cases) and cases else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
