"""A reward model against what people say of the steps and answers of a run."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.reads import queries
from restmcts.adapters.sql.state import annotations, runs, trees
from restmcts.domain.labels.labelled_solutions import LabelledSolution
from restmcts.domain.runs.promotion import HeldOutStep, auc
from restmcts.domain.stats.estimates import Estimate, pooled_share
from restmcts.domain.stats.first_errors import Rule, suspicions
from restmcts.domain.stats.separation import CHANCE, is_above_chance
from restmcts.domain.text import counted
from restmcts.errors import InputError
from restmcts.reporting.figures import percent
from restmcts.reporting.tables import Table

from restmcts_cli.reward_models.scoring import ScoredSolution

PREFIX = "annotations:"
STEPS, ANSWERS = "steps", "answers"
_AUTHORS_THRESHOLDS: dict[Rule, float] = {"below": 0.5, "drop": 0.0}


@dataclass(frozen=True, slots=True)
class AnnotatedPath:
    """The path to a step of which people agree that it, or the answer that ends with it, is right
    or wrong; `problem` is the id of its problem.
    """

    problem: int
    is_right: bool
    solution: LabelledSolution


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far a model agrees with people; errors are over problems.

    Attributes:
        of: steps or answers.
        share_right: that people call right: what a model is worth that calls everything so.
        accuracy: share of which it says the same.
        auc: chance that a right one looks less wrong than a wrong one; None where a kind is
            missing.
    """

    of: str
    num: int
    num_problems: int
    share_right: float
    accuracy: Estimate
    auc: Estimate | None


@dataclass(frozen=True, slots=True)
class AnnotationBench:
    """A model on the annotations of a run; `threshold` is that of the format's rule."""

    model: str
    format: str
    run: str
    rule: Rule
    threshold: float
    agreements: tuple[Agreement, ...]
    refused: int
    tokens: int
    seconds: float


def annotated_paths(transaction: Transaction, run: str, limit: int | None) -> list[AnnotatedPath]:
    """Return what people agree on in a run, in order of tree: steps, then answers.

    Args:
        limit: of trees; None: all.

    Raises:
        InputError: if there is no such run, or people agree on nothing in it.
    """
    run_id = queries.run_named(transaction, run).id
    searches = [row.name for row in runs.phases_of(transaction, run_id) if row.kind == "search"]
    annotated = {row.tree_id for row in annotations.of_run(transaction, run_id)}
    rows = [row for batch in runs.labelled_trees(transaction, run_id, searches) for row in batch]
    chosen = [row for row in rows if row.tree_id in annotated][:limit]
    agreed = annotations.agreed(transaction, [row.tree_id for row in chosen])
    loaded = trees.load_trees(transaction, list(agreed))
    found = []
    for row in chosen:
        if row.tree_id in agreed:
            said = agreed[row.tree_id]
            for of, verdicts in ((STEPS, said.steps), (ANSWERS, said.answers)):
                for node_id, is_right in verdicts.items():
                    steps = loaded[row.tree_id].steps_to(loaded[row.tree_id][node_id])
                    labels = (*[None] * (len(steps) - 1), is_right)
                    solution = LabelledSolution(f"{row.tree_id}/{node_id}", of, row.question, steps, labels, None)
                    found.append(AnnotatedPath(row.id, is_right, solution))
    if not found:
        raise InputError(f"run {run} has no step or answer that people agree on: annotate its trees in `restmcts ui`")
    return found


def annotation_bench(
    model: str,
    format_name: str,
    run: str,
    rule: Rule,
    paths: Sequence[AnnotatedPath],
    scored: Sequence[ScoredSolution],
    threshold: float | None = None,
) -> AnnotationBench:
    """Return what values of annotated paths come to.

    Args:
        scored: of the paths, in order.
        threshold: of the rule; None: 0.5 below which a step is wrong, and any drop.

    Raises:
        InputError: if the model scored none of them.
    """
    refused = [one.reason for one in scored if one.values is None]
    if len(refused) == len(scored):
        raise InputError(f"{model} could score no annotated path of run {run}: {refused[0]}")
    chosen = _AUTHORS_THRESHOLDS[rule] if threshold is None else threshold
    return AnnotationBench(
        model,
        format_name,
        run,
        rule,
        chosen,
        tuple(_agreements(rule, chosen, paths, scored)),
        len(refused),
        sum(one.tokens for one in scored),
        sum(one.seconds for one in scored),
    )


def _agreements(
    rule: Rule, threshold: float, paths: Sequence[AnnotatedPath], scored: Sequence[ScoredSolution]
) -> Iterator[Agreement]:
    """Yield the agreement on steps and on answers. An answer is called right by the last value, as
    for a rule of "below": how it got there is not asked.
    """
    for of in (STEPS, ANSWERS):
        own: Rule = rule if of == STEPS else "below"
        limit = threshold if own == "drop" else -threshold if rule == "below" else -CHANCE
        by_problem: dict[int, list[HeldOutStep]] = defaultdict(list)
        for place, (path, one) in enumerate(zip(paths, scored, strict=True)):
            if path.solution.split == of and one.values is not None:
                suspicion = suspicions(one.values, own)[-1]
                by_problem[path.problem].append(HeldOutStep(place, -suspicion, path.is_right))
        if by_problem:
            yield _agreement(of, list(by_problem.values()), limit)


def _agreement(of: str, problems: Sequence[Sequence[HeldOutStep]], limit: float) -> Agreement:
    alike = [(sum((-one.value <= limit) == one.is_right for one in each), len(each)) for each in problems]
    flat = [one for each in problems for one in each]
    area = auc(problems)
    return Agreement(
        of,
        len(flat),
        len(problems),
        sum(one.is_right for one in flat) / len(flat),
        pooled_share(alike),
        area.estimate if area is not None else None,
    )


def annotation_sentences(result: AnnotationBench) -> list[str]:
    """Return what the numbers come to, as sentences."""
    wrong_if = "lies below" if result.rule == "below" else "drops, from that of the step before, by more than"
    said = [
        f"A step is called wrong where its value {wrong_if} {result.threshold:.4g}; errors and intervals (95 %) are over "
        "problems."
    ]
    for one in result.agreements:
        low, high = one.accuracy.interval
        more = max(one.share_right, 1 - one.share_right)
        said.append(
            f"It agrees with people on {100 * one.accuracy.value:.1f} % of {one.num:,} {one.of} of "
            f"{counted(one.num_problems, 'problem')} [{100 * low:.1f}, {100 * high:.1f}]; "
            f"always saying the more frequent verdict agrees on {100 * more:.1f} %."
        )
        if one.auc is not None and not is_above_chance(one.auc):
            said.append(f"On {one.of} it is no better than chance (AUC 0.50 is a guess).")
    if result.refused:
        said.append(f"{counted(result.refused, 'annotated path')} refused by the model, and left out.")
    return said


def annotation_table(result: AnnotationBench) -> Table:
    """Return the agreement on steps and on answers, a row each."""
    rows = tuple(
        (
            one.of,
            one.num,
            one.num_problems,
            f"{100 * one.share_right:.1f} %",
            percent(one.accuracy),
            None if one.auc is None else one.auc.as_decimal(),
        )
        for one in result.agreements
    )
    return Table(
        f"{result.model} and the people who annotated run {result.run}",
        ("of", "annotated", "problems", "right", "agreement", "AUC"),
        rows,
        "Right: share that people call right. Agreement: share of which the model says the same. AUC: the chance that what "
        "people call right looks less wrong than what they call wrong (0.50 is a guess).",
    )


def annotation_document(result: AnnotationBench) -> dict[str, Any]:
    """Return the results for programs."""
    first = result.agreements[0]
    return {
        "model": result.model,
        "format": result.format,
        "on": f"{PREFIX}{result.run}",
        "rule": result.rule,
        "threshold": result.threshold,
        "headline": {"name": f"agreement on {first.of}", "value": first.accuracy.value},
        "agreements": [_document(one) for one in result.agreements],
        "refused": result.refused,
        "tokens": result.tokens,
        "seconds": round(result.seconds, 3),
        "says": annotation_sentences(result),
    }


def _document(one: Agreement) -> dict[str, Any]:
    auc_interval = None if one.auc is None else one.auc.interval
    return {**asdict(one), "accuracy_interval": one.accuracy.interval, "auc_interval": auc_interval}
