"""The numbers of a report of number paths, computed again from the run's database, its value models
and the formulas of the documents, by other code than the report's.
"""

import json
import math
import re
import sqlite3
from collections import defaultdict
from html.parser import HTMLParser
from itertools import combinations, product
from pathlib import Path
from statistics import fmean, variance
from typing import Any

from restmcts.adapters.storage.uris import ARTIFACT

NUMBER = r"[\d,]+(?:\.\d+)?"


class _Tables(HTMLParser):
    """Collects the rows of all tables, the texts of list items and the titles of marks."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.items: list[str] = []
        self.titles: list[str] = []
        self._into: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag == "tr":
            self.rows.append([])
        into = {"td": self.rows[-1] if self.rows else None, "th": self.rows[-1] if self.rows else None}
        into |= {"li": self.items, "p": self.items, "title": self.titles}
        chosen = into.get(tag)
        if chosen is not None:
            self._into = chosen
            chosen.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th", "li", "p", "title"):
            self._into = None

    def handle_data(self, data: str) -> None:
        if self._into is not None:
            self._into[-1] += data


class _Run:
    """Reads a run's rows as they are stored."""

    def __init__(self, database: sqlite3.Connection, name: str) -> None:
        self._database = database
        (self.id,) = database.execute("SELECT id FROM runs WHERE name = ?", [name]).fetchone()

    def trees(self, phase: str) -> list[tuple[str | None, int, int]]:
        """Return verdict, solved and tokens of a phase's trees in the order of their problems."""
        return self._database.execute(
            "SELECT trees.verdict, trees.solved, trees.tokens FROM trees JOIN phases ON phases.id = trees.phase_id"
            " JOIN problems ON problems.id = trees.problem_id WHERE phases.run_id = ? AND phases.name = ?"
            " ORDER BY problems.position",
            [self.id, phase],
        ).fetchall()

    def right(self, phase: str) -> list[float]:
        """Return 1 for each right tree of a phase, 0 for each other one."""
        return [float(verdict == "right") for verdict, _, _ in self.trees(phase)]

    def greedy(self, iteration: int) -> list[float]:
        """Return the same of the evaluation of an iteration's policy."""
        return self.right(f"grade-policy-{iteration}") or self.right("grade-base")

    def num_learnt(self, phase: str) -> int:
        row = self._database.execute(
            "SELECT num_rows FROM datasets JOIN phases ON phases.id = phase_id WHERE run_id = ? AND name = ?",
            [self.id, phase],
        ).fetchone()
        return 0 if row is None else int(row[0])

    def num_targets(self, phase: str) -> int:
        """Return how many values a value model learnt, by the bins of its data."""
        row = self._database.execute(
            "SELECT card FROM datasets JOIN phases ON phases.id = phase_id WHERE run_id = ? AND name = ?",
            [self.id, phase],
        ).fetchone()
        return 0 if row is None else sum(json.loads(row[0])["targets"].values())

    def budget(self, phase: str) -> int | None:
        (spec,) = self._database.execute(
            "SELECT spec FROM phases WHERE run_id = ? AND name = ?", [self.id, phase]
        ).fetchone()
        tokens: int | None = json.loads(spec)["budget"]["tokens"]
        return tokens


def share(outcomes: list[float]) -> str:
    """Return a share with its error, as decision 0021 has it: Wilson's interval below five outcomes
    of one kind.
    """
    return _shown(fmean(outcomes), _error(outcomes), len(outcomes))


def _error(contributions: list[float]) -> float:
    """Return the standard error of the mean of independent contributions."""
    n = len(contributions)
    return math.sqrt(variance(contributions) / n) if n > 1 else 0.0


def _shown(value: float, error: float, n: int, *, as_percent: bool = True) -> str:
    """Return a share of n problems as text, in per cent or, of an AUC, as a decimal."""
    factor, unit, places = (100, " %", 1) if as_percent else (1, "", 2)
    spread = value * (1 - value)
    effective = 1 + spread / error**2 if error and spread > 0 else float(n)
    if min(value, 1 - value) * effective >= 5:
        return f"{factor * value:.{places}f}{unit} ± {factor * error:.{places}f}"
    centre = (value + 1.96**2 / (2 * effective)) / (1 + 1.96**2 / effective)
    half = 1.96 * math.sqrt(spread / effective + 1.96**2 / (4 * effective**2)) / (1 + 1.96**2 / effective)
    low, high = factor * max(centre - half, 0), factor * min(centre + half, 1)
    return f"{factor * value:.{places}f}{unit} [{low:.{places}f}, {high:.{places}f}]"


def difference(ours: list[float], others: list[float]) -> tuple[float, float]:
    """Return a difference in points, paired by problem, and in standard errors."""
    each = [one - other for one, other in zip(ours, others, strict=True)]
    error = math.sqrt(variance(each) / len(each))
    return 100 * fmean(each), fmean(each) / error if error else math.copysign(math.inf, fmean(each))


def check_report(workdir: Path, printed: str) -> None:
    """Compare every number of a report's tables, charts and sentences, and of the JSON line that
    was printed.

    Raises:
        AssertionError: if one is another than the database gives.
    """
    page = _Tables()
    page.feed((workdir / "report.html").read_text())
    database = sqlite3.connect(workdir / "run.db")
    run, beside = _Run(database, "demo"), _Run(database, "rest-em")
    document = json.loads(printed)
    last = max(one["iteration"] for one in document["iterations"])
    _check_iterations(page, document, run, beside, last)
    _check_search(page, document, run)
    _check_values(page, document, run, database, workdir)
    _check_sentences(page, document, run, beside, last)
    database.close()


def _check_iterations(page: _Tables, document: Any, run: _Run, beside: _Run, last: int) -> None:
    for number in range(last + 1):
        greedy, others = run.greedy(number), beside.greedy(number)
        control = run.right(f"grade-control-{number}")
        searched = run.trees(f"collect-{number}")
        counts = len(searched), sum(solved for _, solved, _ in searched), sum(tokens for *_, tokens in searched)
        learnt = run.num_learnt(f"policy-{number}"), run.num_targets(f"value-{number}")
        accuracies = [share(found) if found else "–" for found in (greedy, others, control)]
        evaluated = len(greedy or others or control)
        row = [str(number), *accuracies, *(f"{one:,}" for one in (evaluated, *counts, *learnt))]
        assert row in page.rows, (row, page.rows[: last + 2])
        names = ("Self-training, greedy", "ReST^EM: samples, as many tokens", "Control: demonstrations alone")
        for name, found in zip(names, (greedy, others, control), strict=True):
            assert not found or f"{name}: {share(found)}" in page.titles, name
        fields = document["iterations"][number]
        assert math.isclose(fields["greedy_accuracy"], fmean(greedy))
        assert fields["stderr"] == round(math.sqrt(variance(greedy) / len(greedy)), 5)
        assert (fields["trees"], fields["solved"], fields["tokens"]) == counts
    assert math.isclose(document["control"], fmean(run.right(f"grade-control-{last}")))
    known = [beside.greedy(number) for number in range(last + 1) if beside.greedy(number)]
    assert math.isclose(document["rest_em"], fmean(known[-1]))


def _check_search(page: _Tables, document: Any, run: _Run) -> None:
    assert len(document["search"]) > 3
    for found in document["search"]:
        method, budget = found["method"], found["budget_tokens"]
        phase = method if budget is None else f"{method} @ {budget}"
        assert run.budget(phase) == budget
        spent = [tokens for *_, tokens in run.trees(phase)]
        outcomes, tokens, most = run.right(phase), fmean(spent), max(spent)
        limit = "–" if budget is None else f"{budget:,}"
        assert [method, limit, f"{round(tokens):,}", f"{most:,}", share(outcomes), f"{len(outcomes):,}"] in page.rows
        assert f"{method}: {share(outcomes)}" in page.titles
        assert math.isclose(found["accuracy"], fmean(outcomes)) and found["mean_tokens"] == round(tokens, 1)
        assert found["most_tokens"] == most
        assert found["stderr"] == round(math.sqrt(variance(outcomes) / len(outcomes)), 5)


def _check_values(page: _Tables, document: Any, run: _Run, database: sqlite3.Connection, workdir: Path) -> None:
    known = database.execute(
        "SELECT name, uri FROM checkpoints WHERE run_id = ? AND kind = 'value'", [run.id]
    ).fetchall()
    assert known and len(known) == len(document["value_auc"])
    for name, uri in known:
        values, distances, steps = _values(run, database, workdir / "artifacts" / uri.removeprefix(ARTIFACT))
        shown = f"V_{name.removeprefix('value-')}"
        members: dict[str, list[_Valued]] = defaultdict(list)
        for ((question, *path), step), value, left in zip(steps, values, distances, strict=True):
            members[question].append((tuple(path), step, value, left))
        problems = list(members.values())
        auc, siblings, ranks = _auc(problems), _siblings(problems), _ranks(problems)
        figures = [
            "–" if auc is None else _shown(*auc, as_percent=False),
            "–" if siblings is None else _shown(*siblings),
            "–" if ranks is None else f"{ranks[0]:.2f} ± {ranks[1]:.2f}",
            "–" if auc is None else f"{auc[2]:,}",
        ]
        assert [shown, *figures, f"{len(values):,}"] in page.rows, (shown, figures, len(values))
        for field, figure in (("value_auc", auc), ("value_sibling_accuracy", siblings)):
            for place, name in enumerate((field, f"{field}_stderr")):
                said, wanted = document[name][shown], figure[place] if figure is not None else None
                assert said == wanted or math.isclose(said, wanted or math.nan, abs_tol=1e-5)
        for left in set(distances):
            at = [value for value, other in zip(values, distances, strict=True) if other == left]
            error = math.sqrt(variance(at) / len(at)) if len(at) > 1 else 0.0
            assert f"{shown}: {fmean(at):.3f}" + (f" ± {error:.3f}" if error else "") in page.titles


_Valued = tuple[tuple[str, ...], str, float, int | None]
"""What a partial solution goes on from, its step, its value and exact distance."""


def _auc(problems: list[list[_Valued]]) -> tuple[float, float, int] | None:
    """Return the chance that a solvable partial solution is valued above another, its error over
    problems, each of which moves it by what its own partial solutions win, and their number.
    """
    right = [value for each in problems for *_, value, left in each if left is not None]
    wrong = [value for each in problems for *_, value, left in each if left is None]
    auc = _chance_above(list(product(right, wrong)))
    if auc is None:
        return None
    moved = []
    for each in problems:
        above = [_chance_above([(value, other) for other in wrong]) for *_, value, left in each if left is not None]
        below = [_chance_above([(other, value) for other in right]) for *_, value, left in each if left is None]
        moves = sum((one or 0.0) - auc for one in above) / len(right)
        moves += sum((one or 0.0) - auc for one in below) / len(wrong)
        moved.append(len(problems) * moves)
    return auc, _error(moved), len(problems)


def _siblings(problems: list[list[_Valued]]) -> tuple[float, float, int] | None:
    """Return the share of pairs of siblings in which the nearer is valued higher, its error over
    problems that have pairs, and their number.
    """
    counts = []
    for each in problems:
        families: dict[tuple[str, ...], dict[str, tuple[float, float]]] = defaultdict(dict)
        for parent, step, value, left in each:
            families[parent][step] = (math.inf if left is None else left, value)
        pairs = [
            (one[1], other[1]) if one[0] < other[0] else (other[1], one[1])
            for family in families.values()
            for one, other in combinations(family.values(), 2)
            if one[0] != other[0]
        ]
        if pairs:
            counts.append(((_chance_above(pairs) or 0.0) * len(pairs), len(pairs)))
    if not counts:
        return None
    total = sum(num for _, num in counts)
    value = sum(won for won, _ in counts) / total
    return value, _error([len(counts) * (won - value * num) / total for won, num in counts]), len(counts)


def _ranks(problems: list[list[_Valued]]) -> tuple[float, float] | None:
    """Return the rank correlation of value and nearness, with its error by the jackknife over at
    most 20 groups of problems.
    """

    def of(some: list[list[_Valued]]) -> float | None:
        known = [(value, -float(left)) for each in some for *_, value, left in each if left is not None]
        return _spearman([value for value, _ in known], [near for _, near in known])

    whole, num_groups = of(problems), min(20, len(problems))
    if whole is None:
        return None
    parts = [[each for place, each in enumerate(problems) if place % num_groups != one] for one in range(num_groups)]
    kept = [value for part in parts if part and (value := of(part)) is not None]
    if len(kept) < 2:
        return whole, 0.0
    return whole, math.sqrt(sum((one - fmean(kept)) ** 2 for one in kept) * (len(kept) - 1) / len(kept))


def _values(
    run: _Run, database: sqlite3.Connection, model: Path
) -> tuple[list[float], list[int | None], list[tuple[tuple[str, ...], str]]]:
    """Return what a value model says of the moves of every solution of best-of-n at 80 tokens,
    their exact distances, and each as what it goes on from and its step.
    """
    from restmcts.domain.requests import ScoreSteps
    from restmcts.domain.tasks.number_paths import distance
    from restmcts.modeling.checkpoints import load_value_model
    from restmcts.modeling.value.value_model import TransformersScorer

    rows = database.execute(
        "SELECT problems.question, tree_id, node_id, parent_id, step, final FROM nodes"
        " JOIN trees ON trees.id = tree_id JOIN problems ON problems.id = trees.problem_id"
        " JOIN phases ON phases.id = trees.phase_id WHERE phases.run_id = ? AND phases.name = 'best-of-n @ 80'"
        " ORDER BY tree_id, node_id",
        [run.id],
    ).fetchall()
    nodes = {(tree, node): (parent, step, final) for _, tree, node, parent, step, final in rows}
    parents = {(tree, parent) for _, tree, _, parent, *_ in rows}
    values: list[float] = []
    distances: list[int | None] = []
    known: list[tuple[tuple[str, ...], str]] = []
    scorer = TransformersScorer(load_value_model(model))
    for question, tree, node, *_ in rows:
        if (tree, node) in parents:
            continue
        path: list[str] = []
        at: int | None = node
        while at is not None and nodes[tree, at][0] is not None:
            at, step, final = nodes[tree, at]
            path[:0] = [] if final else [step]
        if not path:
            continue
        (answer,) = scorer.score([question], [ScoreSteps(0, (), (tuple(path),))])
        values += answer.values[0]
        distances += [distance(question, tuple(path[:count])) for count in range(1, len(path) + 1)]
        known += [((question, *path[:count]), path[count]) for count in range(len(path))]
    return values, distances, known


def _chance_above(pairs: list[tuple[float, float]]) -> float | None:
    return fmean((one > other) + 0.5 * (one == other) for one, other in pairs) if pairs else None


def _spearman(values: list[float], others: list[float]) -> float | None:
    import pandas as pd

    found = pd.Series(values, dtype=float).rank().corr(pd.Series(others, dtype=float).rank())
    return None if math.isnan(found) else found


def _check_sentences(page: _Tables, document: Any, run: _Run, beside: _Run, last: int) -> None:
    searched = [tree for number in range(1, last + 1) for tree in run.trees(f"collect-{number}")]
    solved = [float(one) for _, one, _ in searched]
    begun, greedy = run.greedy(0), run.greedy(last)
    control, others = run.right(f"grade-control-{last}"), beside.greedy(last)
    _says(
        page,
        rf"solved ({NUMBER}) of ({NUMBER}) problems \((.*?)\)",
        round(sum(solved)),
        len(searched),
        share(solved),
    )
    _says(page, rf"answers (.*) of ({NUMBER}) held-out problems greedily", share(greedy), len(greedy))
    for other, named in ((begun, "iteration 0"), (control, "the control"), (others, r"ReST\^EM")):
        if not other:
            continue
        points, errors = difference(greedy, other)
        if points:
            word = "above" if points > 0 else "below"
            pattern = rf"is ({NUMBER}) points {word} {named} \((.*?)\).*: ({NUMBER}|infinitely many) standard error"
            _says(page, pattern, f"{abs(points):.1f}", share(other), f"{abs(errors):.1f}")
        else:
            _says(page, rf"is level with {named} \((.*?)\)", share(other))
    outcomes = {one["method"]: run.right(f"{one['method']} @ 80") for one in document["search"] if one["budget_tokens"]}
    spent = {one["method"]: one["mean_tokens"] for one in document["search"]}
    ranked = sorted(outcomes, key=lambda method: (-fmean(outcomes[method]), spent[method]))
    points, _ = difference(outcomes[ranked[0]], outcomes[ranked[1]])
    if points:
        limits = f"Under a limit of 80 tokens a problem, on {NUMBER} problems"
        pattern = rf"{limits}, (.*?) is best \((.*?)\), ({NUMBER}) points above (.*?)[:,;]"
        _says(page, pattern, ranked[0], share(outcomes[ranked[0]]), f"{points:.1f}", ranked[1])


def _says(page: _Tables, pattern: str, *numbers: object) -> None:
    found = [match.groups() for text in page.items if (match := re.search(pattern, " ".join(text.split())))]
    wanted = tuple(f"{one:,}" if isinstance(one, int) else one for one in numbers)
    assert wanted in found, (pattern, wanted, found)
