"""What a comparison came to: accuracies over seeds beside the control, tokens, value models; as
a table, Markdown and JSON.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from restmcts.domain.stats.seeds import SeedMean, mean_over_seeds, paired_over_seeds
from restmcts.domain.stats.statistics import mean_and_standard_error
from restmcts.errors import StorageError
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from restmcts_cli.reports.run_report_data import Graded

Outcomes = list[Sequence[bool]]
FIGURES = ("auc", "sibling accuracy")


@dataclass(frozen=True, slots=True)
class MethodRun:
    """One method with one seed, iteration by iteration from 1.

    Attributes:
        greedy: of the policy that is promoted after the iteration.
        num_policy_samples: what its policy was trained on.
        tokens_before: generated for the first value model, a problem of the bootstrap set.
        tokens: generated for training data, a searched problem.
        gates: what its gates said, in order.
    """

    greedy: tuple[Graded | None, ...]
    num_policy_samples: tuple[int, ...]
    tokens_before: float
    tokens: tuple[float, ...]
    gates: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class SeedRuns:
    """Everything of one seed; `control` by iteration from 1, None where there is none."""

    seed: int
    first: Graded | None
    control: tuple[Graded | None, ...]
    methods: dict[str, MethodRun]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that was measured."""

    title: str
    methods: tuple[str, ...]
    num_iterations: int
    budget_tokens: int
    same_problems: bool
    seeds: tuple[SeedRuns, ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """One method (or the first policy, or the control) after its last iteration.

    Attributes:
        accuracy: by iteration, from 1; one figure for the first policy.
        over_control: in the last iteration, paired; None where there is no control.
        over_first_method: in the last iteration, paired, over the first method named; None for that
            itself.
        tokens: a problem, by iteration, mean over seeds.
        tokens_before: for the first value model, a problem of the bootstrap set.
        policy_samples: by iteration, mean over seeds.
        held_back: gates that did not promote, over all seeds, by kind of model.
    """

    name: str
    accuracy: tuple[SeedMean, ...]
    over_control: SeedMean | None = None
    over_first_method: SeedMean | None = None
    tokens: tuple[float, ...] = ()
    tokens_before: float = 0.0
    policy_samples: tuple[float, ...] = ()
    held_back: dict[str, int] | None = None


def standings(comparison: Comparison) -> list[Standing]:
    """Return the rows of the table: the first policy, the control where there is one, and the
    methods as they were named.
    """
    rows = [Standing("first policy", (_accuracy(comparison, _first(comparison)),))]
    iterations = range(comparison.num_iterations)
    if all(seed.control and seed.control[-1] for seed in comparison.seeds):
        rows.append(
            Standing("control", tuple(_accuracy(comparison, _control(comparison, number)) for number in iterations))
        )
    return rows + [_standing(comparison, method) for method in comparison.methods]


def _standing(comparison: Comparison, method: str) -> Standing:
    last = comparison.num_iterations - 1
    outcomes = [_of(comparison, method, number) for number in range(comparison.num_iterations)]
    control = _control(comparison, last)
    first = comparison.methods[0]
    members = [seed.methods[method] for seed in comparison.seeds]
    return Standing(
        name=method,
        accuracy=tuple(_accuracy(comparison, found) for found in outcomes),
        over_control=_difference(comparison, outcomes[last], control) if control else None,
        over_first_method=_difference(comparison, outcomes[last], _of(comparison, first, last))
        if method != first
        else None,
        tokens=_means([member.tokens for member in members]),
        tokens_before=mean_and_standard_error([member.tokens_before for member in members])[0],
        policy_samples=_means([member.num_policy_samples for member in members]),
        held_back={
            model: sum(gate["model"] == model and not gate["promoted"] for member in members for gate in member.gates)
            for model in ("policy", "value")
        },
    )


def value_figures(comparison: Comparison, method: str) -> dict[str, list[tuple[float, float]]]:
    """Return each figure of the method's value models V_0, V_1, … on the held-out trees: mean
    over seeds and its error (of the trees, for a single seed); empty where the method has no
    value model, or nothing was solved.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    for name in FIGURES:
        for number in range(comparison.num_iterations + 1):
            figures = [
                gate["figures"][name]["candidate"]
                for seed in comparison.seeds
                for gate in seed.methods[method].gates
                if gate["model"] == "value" and gate["iteration"] == number and gate["figures"][name]["candidate"]
            ]
            if figures:
                mean, error = mean_and_standard_error([figure["value"] for figure in figures])
                found.setdefault(name, []).append((mean, error if len(figures) > 1 else figures[0]["standard_error"]))
    return found


def _means(rows: Sequence[Sequence[float]]) -> tuple[float, ...]:
    return tuple(mean_and_standard_error(column)[0] for column in zip(*rows, strict=True))


def _first(comparison: Comparison) -> Outcomes:
    return [seed.first.outcomes for seed in comparison.seeds if seed.first is not None]


def _control(comparison: Comparison, number: int) -> Outcomes:
    return [
        graded.outcomes for seed in comparison.seeds if seed.control and (graded := seed.control[number]) is not None
    ]


def _of(comparison: Comparison, method: str, number: int) -> Outcomes:
    found: Outcomes = []
    for seed in comparison.seeds:
        greedy = seed.methods[method].greedy
        # Where a method found nothing to train on it stays what it was.
        kept = [graded for graded in (seed.first, *greedy[: number + 1]) if graded is not None]
        found.append(kept[-1].outcomes)
    return found


def _accuracy(comparison: Comparison, outcomes: Outcomes) -> SeedMean:
    return mean_over_seeds(outcomes, same_problems=comparison.same_problems)


def _difference(comparison: Comparison, first: Outcomes, second: Outcomes) -> SeedMean:
    return paired_over_seeds(first, second, same_problems=comparison.same_problems)


def _rows(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    first = comparison.methods[0]
    header = ["", *(f"iteration {number}" for number in range(1, comparison.num_iterations + 1))]
    header += ["over control", f"over {first}", "tokens a problem", "trained on", "held back"]
    rows = []
    for standing in standings(comparison):
        accuracies = [percent(figure) for figure in standing.accuracy]
        cells = [standing.name, *accuracies, *["–"] * (comparison.num_iterations - len(accuracies))]
        tokens = " / ".join(f"{value:.0f}" for value in standing.tokens) or "–"
        samples = " / ".join(f"{value:,.0f}" for value in standing.policy_samples) or "–"
        held_back = ", ".join(f"{count} {model}" for model, count in (standing.held_back or {}).items() if count) or "–"
        rows.append(
            [*cells, _gain(standing.over_control), _gain(standing.over_first_method), tokens, samples, held_back]
        )
    return header, rows


def percent(figure: SeedMean) -> str:
    return f"{100 * figure.value:.1f} ± {100 * figure.standard_error:.1f} %"


def _gain(figure: SeedMean | None) -> str:
    if figure is None:
        return "–"
    return f"{100 * figure.value:+.1f} ± {100 * figure.standard_error:.1f} ({figure.in_standard_errors:+.1f} SE)"


def sentences(comparison: Comparison) -> list[str]:
    """Return what is to be read with the table."""
    num_problems = len(_first(comparison)[0])
    found = [
        f"{comparison.title}: {len(comparison.seeds)} seeds, {num_problems:,} test problems each, greedy; ± is the greater of the "
        "standard errors over seeds and over problems; differences are paired by problem.",
    ]
    for method in comparison.methods:
        for name, figures in value_figures(comparison, method).items():
            trail = " → ".join(f"{mean:.3f} ± {error:.3f}" for mean, error in figures)
            found.append(f"{method}: {name} of V_0 → V_{len(figures) - 1} on held-out trees: {trail}")
    for standing in standings(comparison):
        gain = standing.over_control
        if gain is not None and len(comparison.seeds) > 1:
            found.append(
                f"{standing.name} over control: {100 * gain.value:+.1f} points, ± {100 * gain.over_problems:.1f} over problems, "
                f"± {100 * gain.over_seeds:.1f} over seeds"
            )
        if standing.tokens_before:
            found.append(f"{standing.name}: V_0 cost {standing.tokens_before:.0f} tokens a bootstrap problem more")
    return found


def render(comparison: Comparison) -> Group:
    """Return the table and its sentences for a rich console."""
    header, rows = _rows(comparison)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for place, name in enumerate(header):
        table.add_column(name, justify="left" if place == 0 else "right", no_wrap=place == 0)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return Group(table, *(Text(f"• {sentence}") for sentence in sentences(comparison)))


def markdown_table(comparison: Comparison) -> str:
    """Return the table and its sentences as Markdown."""
    header, rows = _rows(comparison)
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return table + "\n\n" + "\n".join(f"- {sentence}" for sentence in sentences(comparison)) + "\n"


def write_markdown(path: Path, text: str) -> None:
    """Write the table's file.

    Raises:
        StorageError: if the disk does not take it.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error


def json_line(comparison: Comparison) -> str:
    """Return all numbers as one line of JSON."""
    document = {
        "title": comparison.title,
        "seeds": [seed.seed for seed in comparison.seeds],
        "budget_tokens": comparison.budget_tokens,
        "standings": [_fields(standing) for standing in standings(comparison)],
        "values": {method: value_figures(comparison, method) for method in comparison.methods},
        "gates": {
            f"{method}-{seed.seed}": seed.methods[method].gates for seed in comparison.seeds for method in seed.methods
        },
        "by_seed": {
            f"{method}-{seed.seed}": [
                graded.accuracy.value if graded else None for graded in seed.methods[method].greedy
            ]
            for seed in comparison.seeds
            for method in seed.methods
        },
    }
    return json.dumps(document, allow_nan=False)


def _fields(standing: Standing) -> dict[str, Any]:
    figures = {"over_control": standing.over_control, "over_first_method": standing.over_first_method}
    return {
        **asdict(standing),
        "accuracy": [_seed_mean(figure) for figure in standing.accuracy],
        **{name: _seed_mean(figure) if figure else None for name, figure in figures.items()},
    }


def _seed_mean(figure: SeedMean) -> dict[str, float | None]:
    errors = figure.in_standard_errors
    return {**asdict(figure), "in_standard_errors": errors if abs(errors) != float("inf") else None}
