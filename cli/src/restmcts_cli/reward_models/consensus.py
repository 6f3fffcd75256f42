"""`restmcts datasets consensus`: training data of a value model whose labels a judge shares."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer
from restmcts.errors import InputError

from restmcts_cli.commands.records.checkpoints import not_written
from restmcts_cli.reports.shown_tables import Json, print_fields, print_json, print_note
from restmcts_cli.row_progress import shown_progress

if TYPE_CHECKING:
    from restmcts.domain.labels.consensus import Agreement, Consensus, StepValue
    from restmcts_prm_scorer.opening import OpenedPrm

    from restmcts_cli.reward_models.scoring import ScoredSolution

_CARD = "card.json"


class ConsensusRule(StrEnum):
    """Rules of `restmcts.domain.labels.consensus`."""

    AGREE = "agree"
    MEAN = "mean"


def consensus(
    data: Annotated[
        Path,
        typer.Argument(
            help="Folder of a value model's data: of `datasets pull`, or of `datasets import`.",
            exists=True,
            file_okay=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Argument(
            help="Folder to make; the judge's values are kept in it as they come, and a command that was killed is resumed.",
            file_okay=False,
        ),
    ],
    judge: Annotated[
        str,
        typer.Option(
            help="Who else scores the steps: a model as --value takes it, whose values are chances, e.g. "
            "'MODEL?format=judge'."
        ),
    ],
    rule: Annotated[
        ConsensusRule,
        typer.Option(
            help="agree: labels stay where both say right, or both wrong, others are left out; mean: the weighted mean of "
            "both values, for labels that are chances."
        ),
    ] = ConsensusRule.AGREE,
    threshold: Annotated[float, typer.Option(help="Value from which on the judge says right.", min=0.0, max=1.0)] = 0.5,
    weight: Annotated[float, typer.Option(help="The judge's weight in the mean.", min=0.0, max=1.0)] = 0.5,
    device: Annotated[str, typer.Option(help="Torch device.")] = "cpu",
    trust_remote_code: Annotated[bool, typer.Option(help="Run code that comes with the model.")] = False,
    json: Json = False,
) -> None:
    """Keep the labels of training data that a judge agrees with, or mix both.

    Example: [bold]restmcts datasets consensus my-labels agreed --judge 'MODEL?format=judge'[/bold]
    """
    print_note(f"restmcts datasets consensus: {judge} on {data}")
    from restmcts.domain.labels.consensus import Consensus

    from restmcts_cli.arguments.model_sources import check_model_name
    from restmcts_cli.reward_models.value_data import stored_value_rows

    if (out / _CARD).exists():
        raise InputError(f"{out} has training data already; name a new folder")
    check_model_name(judge, "value")
    rows, how = stored_value_rows(data), Consensus(rule.value, threshold, weight)
    from restmcts_cli.reward_models.opened import opened_prm

    with opened_prm(judge, device=device, trust_remote_code=trust_remote_code) as opened:
        scored = _scored(judge, opened, rows, out)
    document, found = _made(judge, data, rows, scored, how, out)
    if json:
        print_json(document)
    else:
        _show(found, document, out)


def _made(
    judge: str,
    data: Path,
    rows: Sequence[dict[str, Any]],
    scored: "Sequence[ScoredSolution]",
    how: "Consensus",
    out: Path,
) -> "tuple[dict[str, Any], Agreement]":
    """Write what both say, and return what it came to, for programs, with their agreement.

    Raises:
        InputError: if the judge scores nothing, or agrees with nothing.
    """
    from restmcts.domain.labels.consensus import agreement

    refused = sum(one.values is None for one in scored)
    if refused == len(scored):
        raise InputError(f"{judge} could score no path of {data}: {scored[0].reason}")
    pairs = [pair for row, one in zip(rows, scored, strict=True) for pair in _pairs(row, one) if pair is not None]
    found = agreement(pairs, how.threshold)
    kept = list(_kept(rows, scored, how))
    if not kept:
        raise InputError(f"{judge} agrees with no label of {data}; give another --threshold, or --rule mean")
    card = _write(kept, out, {"kind": "train-value", "source": str(data), "judge": judge, **asdict(how)})
    return {"folder": str(out), **card, **asdict(found), "kappa": found.kappa, "refused": refused}, found


def _scored(judge: str, opened: "OpenedPrm", rows: Sequence[dict[str, Any]], out: Path) -> "list[ScoredSolution]":
    """Return the judge's values of all paths, those that the folder has already from there.

    Raises:
        InputError: if its values are no chances.
    """
    from restmcts.domain.labels.labelled_solutions import LabelledSolution

    from restmcts_cli.reward_models.scoring import score_solutions

    if opened.rule != "below":
        raise InputError(
            f"the values of {judge} are progress, and say no step right or wrong; `restmcts prm calibrate` makes chances "
            "of them"
        )
    paths = [
        LabelledSolution(str(number), "data", row["question"], tuple(row["steps"]), (None,) * len(row["steps"]), None)
        for number, row in enumerate(rows)
    ]
    with shown_progress(f"scoring with {judge}", "path", len(paths)) as seen:
        return score_solutions(opened.scorer, paths, out, judge, seen)


def _pairs(row: dict[str, Any], scored: "ScoredSolution") -> "list[tuple[StepValue, float] | None]":
    """Return each step's label with the judge's value; None where one of them is missing."""
    from restmcts.domain.labels.consensus import StepValue

    values = scored.values or (None,) * len(row["steps"])
    return [
        None if target is None or right is None or judged is None else (StepValue(target, right), judged)
        for target, right, judged in zip(row["targets"], row["leads_to_right"], values, strict=True)
    ]


def _kept(
    rows: Sequence[dict[str, Any]], scored: "Sequence[ScoredSolution]", how: "Consensus"
) -> Iterator[dict[str, Any]]:
    """Yield the rows with what both say; those of which nothing is left are left out."""
    from restmcts.domain.labels.consensus import agreed

    for row, one in zip(rows, scored, strict=True):
        both = [None if pair is None else agreed(*pair, how) for pair in _pairs(row, one)]
        if any(step is not None for step in both):
            targets = [None if step is None else step.target for step in both]
            leads_to_right = [None if step is None else step.leads_to_right for step in both]
            yield {**row, "targets": targets, "leads_to_right": leads_to_right}


def _write(rows: Sequence[dict[str, Any]], out: Path, facts: dict[str, Any]) -> dict[str, Any]:
    from restmcts.adapters.files.dataset_shards import VALUE_SCHEMA, write_shards

    def clear() -> None:
        for shard in out.glob("train-*.parquet"):
            shard.unlink()

    try:
        clear()
        return write_shards(iter(rows), VALUE_SCHEMA, facts, out)
    except OSError as error:
        clear()
        raise not_written(out, error) from error


def _show(found: "Agreement", card: dict[str, Any], out: Path) -> None:
    print_fields(
        {
            "called right": f"{found.num_right:,}, of which the judge agrees with {found.agreed_right:,}",
            "called wrong": f"{found.num_wrong:,}, of which the judge agrees with {found.agreed_wrong:,}",
            "Cohen's kappa": None if found.kappa is None else f"{found.kappa:.2f} (0 is chance, 1 is always)",
            "refused by the judge": card["refused"] or None,
            "rows": card["num_rows"],
        }
    )
    print_note(
        f"{card['num_rows']:,} rows are in {out}; `restmcts prm train {quote(str(out))} OUT --trunk MODEL` trains on them"
    )
