"""What a comparison came to: accuracies over seeds beside the control, tokens, value models; as
a table, Markdown and JSON.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from restmcts.domain.stats.estimates import Estimate, Figure, mean_over_seeds
from restmcts.domain.text import counted
from restmcts.errors import StorageError
from restmcts.reporting.figures import ERRORS, decimal, gain, percent, share_document
from restmcts.reporting.run_origins import RunOrigin
from restmcts.reporting.tables import CellValue, Table
from rich.console import Group
from rich.text import Text

FIGURES = ("auc", "sibling accuracy")


@dataclass(frozen=True, slots=True)
class MethodRun:
    """One method with one seed, iteration by iteration from 1.

    Attributes:
        greedy: of the policy that is promoted after the iteration.
        num_policy_samples: what its policy was trained on.
        tokens_before: generated for the first value model, a problem of the bootstrap set.
        tokens: generated for training data, a searched problem.
        gates: what its promotions decided, in order.
        solved: of the last policy, whether any of several samples is right; None if not measured.
    """

    greedy: tuple[Figure | None, ...]
    num_policy_samples: tuple[float, ...]
    tokens_before: float
    tokens: tuple[float, ...]
    gates: tuple[dict[str, Any], ...]
    solved: Figure | None = None


@dataclass(frozen=True, slots=True)
class SeedRuns:
    """Everything of one seed.

    Attributes:
        control: by iteration from 1, None where there is none.
        methods: the runs of each method, one for each time it was trained.
    """

    seed: int
    first: Figure | None
    control: tuple[Figure | None, ...]
    methods: dict[str, tuple[MethodRun, ...]]

    def reached(self, method: str, number: int) -> Figure | None:
        """Return the accuracy of a method after an iteration (from 0), mean over its runs."""
        return _mean([_latest(self.first, run.greedy[: number + 1]) for run in self.methods[method]])


@dataclass(frozen=True, slots=True)
class MethodComparison:
    """Everything that was measured."""

    title: str
    methods: tuple[str, ...]
    num_iterations: int
    budget_tokens: int
    same_problems: bool
    seeds: tuple[SeedRuns, ...]
    num_samples: int = 0
    origin: RunOrigin | None = None


@dataclass(frozen=True, slots=True)
class MethodSummary:
    """One method (or the first policy, or the control) after its last iteration.

    Attributes:
        accuracy: by iteration, from 1; one figure for the first policy.
        over_control: in the last iteration, paired; None where there is no control.
        over_first_method: in the last iteration, paired, over the first method named; None for that
            itself.
        tokens: a problem, by iteration, mean over seeds.
        tokens_before: for the first value model, a problem of the bootstrap set.
        policy_samples: by iteration, mean over seeds.
        rejected: checkpoints that were not promoted, over all seeds, by kind of model.
        solved: share of problems with a right one among several samples of the last policy.
        solved_over_first_method: the same, paired, over the first method named.
    """

    name: str
    accuracy: tuple[Estimate, ...]
    over_control: Estimate | None = None
    over_first_method: Estimate | None = None
    tokens: tuple[float, ...] = ()
    tokens_before: float = 0.0
    policy_samples: tuple[float, ...] = ()
    rejected: dict[str, int] | None = None
    solved: Estimate | None = None
    solved_over_first_method: Estimate | None = None


def method_summaries(comparison: MethodComparison) -> list[MethodSummary]:
    """Return the rows of the table: the first policy, the control where there is one, and the
    methods as they were named.
    """
    first = _accuracy(comparison, lambda seed: seed.first)
    assert first is not None
    rows = [MethodSummary("first policy", (first.estimate,))]
    controls = [_control(comparison, number) for number in range(comparison.num_iterations)]
    if controls[-1] is not None:
        rows.append(MethodSummary("control", tuple(found.estimate for found in controls if found is not None)))
    return rows + [_summary(comparison, method) for method in comparison.methods]


def _summary(comparison: MethodComparison, method: str) -> MethodSummary:
    last = comparison.num_iterations - 1
    accuracies = [_of(comparison, method, number) for number in range(comparison.num_iterations)]
    control = _control(comparison, last)
    first = comparison.methods[0]
    members = [run for seed in comparison.seeds for run in seed.methods[method]]
    solved, others = (_solved(comparison, name) for name in (method, first))
    return MethodSummary(
        name=method,
        accuracy=tuple(found.estimate for found in accuracies),
        over_control=accuracies[last].minus(control) if control is not None else None,
        over_first_method=accuracies[last].minus(_of(comparison, first, last)) if method != first else None,
        tokens=_means([member.tokens for member in members]),
        tokens_before=fmean(member.tokens_before for member in members),
        policy_samples=_means([member.num_policy_samples for member in members]),
        rejected={
            model: sum(gate["model"] == model and not gate["promoted"] for member in members for gate in member.gates)
            for model in ("policy", "value")
        },
        solved=solved.estimate if solved else None,
        solved_over_first_method=solved.minus(others) if solved and others and method != first else None,
    )


def value_figures(comparison: MethodComparison, method: str) -> dict[str, list[Estimate]]:
    """Return each figure of the method's value models V_0, V_1, … on the held-out trees, mean
    over seeds; empty where the method has no value model, or nothing was solved.
    """
    found: dict[str, list[Estimate]] = {}
    for name in FIGURES:
        for number in range(comparison.num_iterations + 1):
            figures = [
                gate["figures"][name]["candidate"]
                for seed in comparison.seeds
                for run in seed.methods[method]
                for gate in run.gates
                if gate["model"] == "value" and gate["iteration"] == number and gate["figures"][name]["candidate"]
            ]
            if figures:
                by_seed = [Estimate(one["value"], one["standard_error"], 1) for one in figures]
                found.setdefault(name, []).append(mean_over_seeds(by_seed))
    return found


def _means(rows: Sequence[Sequence[float]]) -> tuple[float, ...]:
    return tuple(map(fmean, zip(*rows, strict=True)))


def _accuracy(comparison: MethodComparison, read: Callable[[SeedRuns], Figure | None]) -> Figure | None:
    """Return one accuracy over all seeds; None where a seed has it not."""
    by_seed = [found for seed in comparison.seeds if (found := read(seed)) is not None]
    if len(by_seed) < len(comparison.seeds):
        return None
    return Figure.over_seeds([found.groups[0][0] for found in by_seed], same_problems=comparison.same_problems)


def _control(comparison: MethodComparison, number: int) -> Figure | None:
    return _accuracy(comparison, lambda seed: seed.control[number] if seed.control else None)


def _of(comparison: MethodComparison, method: str, number: int) -> Figure:
    found = _accuracy(comparison, lambda seed: seed.reached(method, number))
    assert found is not None
    return found


def _solved(comparison: MethodComparison, method: str) -> Figure | None:
    return _accuracy(comparison, lambda seed: _mean([run.solved for run in seed.methods[method]]))


def _latest(first: Figure | None, by_iteration: Sequence[Figure | None]) -> Figure | None:
    """Return the last accuracy there is: where a method found nothing to train on it stays what
    it was.
    """
    return next((figure for figure in (*reversed(by_iteration), first) if figure is not None), None)


def _mean(figures: Sequence[Figure | None]) -> Figure | None:
    """Return the mean of several trainings with one seed, problem by problem; None if one is
    missing.
    """
    rows = [figure.groups[0][0] for figure in figures if figure is not None]
    return Figure.of(list(map(fmean, zip(*rows, strict=True)))) if len(rows) == len(figures) else None


def comparison_table(comparison: MethodComparison) -> Table:
    """Return the table: a row for the first policy, the control and each method."""
    iterations = [f"iteration {number}" for number in range(1, comparison.num_iterations + 1)]
    over = ["over control", f"over {comparison.methods[0]}"]
    samples = [f"pass@{comparison.num_samples}"] if comparison.num_samples else []
    rows = tuple(_cells(summary, comparison.num_iterations, bool(samples)) for summary in method_summaries(comparison))
    return Table("", ("", *iterations, *over, *samples, "tokens a problem", "trained on", "rejected"), rows)


def _cells(summary: MethodSummary, num_iterations: int, has_samples: bool) -> tuple[CellValue, ...]:
    accuracies = [percent(figure) for figure in summary.accuracy]
    rejected = ", ".join(f"{count} {model}" for model, count in (summary.rejected or {}).items() if count)
    return (
        summary.name,
        *accuracies,
        *[None] * (num_iterations - len(accuracies)),
        gain(summary.over_control),
        gain(summary.over_first_method),
        *([percent(summary.solved) if summary.solved else None] if has_samples else []),
        " / ".join(f"{value:.0f}" for value in summary.tokens) or None,
        " / ".join(f"{value:,.0f}" for value in summary.policy_samples) or None,
        rejected or None,
    )


def sentences(comparison: MethodComparison) -> list[str]:
    """Return what is to be read with the table."""
    rows = method_summaries(comparison)
    first = rows[0].accuracy[0]
    num_seeds = len(comparison.seeds)
    num_problems = first.n if comparison.same_problems else first.n // num_seeds
    found = [
        f"{comparison.title}: {counted(num_seeds, 'seed')}, {counted(num_problems, 'test problem')} "
        f"each, answered greedily. {ERRORS.format(first.error_over)} Differences are paired by problem."
    ]
    for method in comparison.methods:
        for name, figures in value_figures(comparison, method).items():
            trail = " → ".join(f"{decimal(one.value, 3)} ± {one.standard_error:.3f}" for one in figures)
            last = comparison.num_iterations
            found.append(f"{method}: {name} of V_{last + 1 - len(figures)} → V_{last} on held-out trees: {trail}")
    for row in rows:
        if row.tokens_before:
            found.append(
                f"{row.name}: the first value model V_0 took {row.tokens_before:.0f} tokens more for each problem "
                "of the bootstrap set"
            )
    return found


def render(comparison: MethodComparison) -> Group:
    """Return the table and its sentences for a rich console."""
    lines = (Text(f"• {sentence}") for sentence in sentences(comparison))
    return Group(comparison_table(comparison).terminal(), *lines)


def markdown_table(comparison: MethodComparison) -> str:
    """Return the table, its sentences and where they come from as Markdown."""
    lines = "\n".join(f"- {sentence}" for sentence in sentences(comparison))
    found = f"{comparison_table(comparison).markdown()}\n\n{lines}\n"
    if comparison.origin is None:
        return found
    origin = comparison.origin.table("comparison")
    return f"{found}\n## {origin.title}\n\n{origin.markdown()}\n"


def write_markdown(path: Path, text: str) -> None:
    """Write the table's file.

    Raises:
        StorageError: if the disk does not take it.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error


def json_line(comparison: MethodComparison) -> str:
    """Return all numbers as one line of JSON."""
    document = {
        "title": comparison.title,
        "seeds": [seed.seed for seed in comparison.seeds],
        "budget_tokens": comparison.budget_tokens,
        "methods": [_fields(summary) for summary in method_summaries(comparison)],
        "values": {
            method: {
                name: [(one.value, one.standard_error) for one in found]
                for name, found in value_figures(comparison, method).items()
            }
            for method in comparison.methods
        },
        "gates": {
            f"{method}-{seed.seed}": [gate for run in members for gate in run.gates]
            for seed in comparison.seeds
            for method, members in seed.methods.items()
        },
        "accuracies": list(_accuracies(comparison)),
        "origin": comparison.origin.dated_document if comparison.origin is not None else None,
    }
    return json.dumps(document, allow_nan=False)


def _accuracies(comparison: MethodComparison) -> Iterator[dict[str, Any]]:
    """Yield every accuracy that was measured, one for each method, seed, repeat and iteration;
    tokens are those generated for training data, a problem, and those of V_0 in iteration 0.
    """
    for seed in comparison.seeds:
        controls = enumerate((seed.first, *seed.control))
        yield from (_row("control", seed.seed, number, figure, 0.0) for number, figure in controls)
        for method, members in seed.methods.items():
            for repeat, run in enumerate(members):
                yield {**_row(method, seed.seed, 0, seed.first, run.tokens_before), "repeat": repeat}
                for number, tokens in enumerate(run.tokens, start=1):
                    figure = _latest(seed.first, run.greedy[:number])
                    row = {**_row(method, seed.seed, number, figure, tokens), "repeat": repeat}
                    is_last = number == comparison.num_iterations and run.solved is not None
                    yield row | ({f"pass@{comparison.num_samples}": _value(run.solved)} if is_last else {})


def _row(method: str, seed: int, iteration: int, figure: Figure | None, tokens: float) -> dict[str, Any]:
    accuracy = _value(figure)
    return {"method": method, "seed": seed, "iteration": iteration, "accuracy": accuracy, "tokens": tokens}


def _value(figure: Figure | None) -> float | None:
    return figure.estimate.value if figure is not None else None


def _fields(summary: MethodSummary) -> dict[str, Any]:
    names = ("over_control", "over_first_method", "solved_over_first_method")
    differences = {name: getattr(summary, name) for name in names}
    return {
        **asdict(summary),
        "accuracy": list(map(share_document, summary.accuracy)),
        "solved": share_document(summary.solved),
        **{name: _estimate(figure) if figure else None for name, figure in differences.items()},
    }


def _estimate(figure: Estimate) -> dict[str, Any]:
    errors = figure.in_standard_errors
    return {**asdict(figure), "in_standard_errors": errors if abs(errors) != float("inf") else None}
