"""`restmcts prm`: process reward models, their formats and their health."""

from dataclasses import asdict
from typing import Annotated

import typer
from restmcts.errors import InputError, ModelError

from restmcts_cli.tables_shown import Json, print_fields, print_json, print_table

app = typer.Typer(help="Look at process reward models (PRMs): known formats, and whether a model is fit to guide a search.")


@app.command()
def formats(json: Json = False) -> None:
    """List the formats that are known, and what their scores mean.

    Example: [bold]restmcts prm formats[/bold]
    """
    from restmcts.modeling.prm.formats import FORMATS

    rows = [asdict(each) for each in FORMATS.values()]
    if json:
        print_json(rows)
        return
    for row in rows:
        row["range"] = f"{row['low']:g} to {row['high']:g}"
    print_table(("name", "models", "meaning", "range", "aggregation"), rows, empty="no formats")


@app.command()
def doctor(
    model: Annotated[str, typer.Argument(help="Folder or hub id; MODEL?format=NAME says the format, &separator=TEXT TRL's.")],
    device: Annotated[str, typer.Option(help="Torch device.")] = "cpu",
    trust_remote_code: Annotated[bool, typer.Option(help="Run code that comes with the model.")] = False,
    json: Json = False,
) -> None:
    """Load a PRM, say which format it seems to have, and test it; exit code 1 if something is wrong.

    Example: [bold]restmcts prm doctor Qwen/Qwen2.5-Math-PRM-7B[/bold]
    """
    from restmcts.modeling.prm.doctor import examine
    from restmcts.modeling.prm.formats import parse_reference
    from restmcts.modeling.prm.loading import load_prm

    reference = parse_reference(model)
    try:
        prm = load_prm(reference, reference.place, device=device, trust_remote_code=trust_remote_code)
    except ModelError as error:
        raise InputError(str(error)) from error
    findings = list(examine(prm))
    right = all(finding.right for finding in findings)
    if json:
        known = {**asdict(prm.format), "said": reference.format is not None}
        print_json({"model": model, "format": known, "right": right, "checks": [asdict(finding) for finding in findings]})
    else:
        how = "as said" if reference.format else "as its files show"
        meaning = {"meaning": prm.format.meaning, "whole solutions": f"the {prm.format.aggregation} of their steps' scores"}
        print_fields({"model": reference.place, "format": f"{prm.format.name}, {how}", **meaning})
        rows = [asdict(finding) | {"right": "right" if finding.right else "WRONG"} for finding in findings]
        print_table(("right", "check", "found", "remedy"), rows, empty="no checks")
        print_fields({"verdict": "fit for use" if right else "not fit as it is: see what is wrong"})
    if not right:
        raise typer.Exit(1)
