"""`restmcts prm`: process reward models, their formats and their health."""

from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer
from restmcts.errors import InputError, ModelError

from restmcts_cli.arguments.plugin_files import Plugins
from restmcts_cli.reports.shown_tables import Json, print_fields, print_json, print_table

if TYPE_CHECKING:
    from restmcts.modeling.prm.doctor import Finding
    from restmcts.modeling.prm.format import PrmFormat

_FIELDS = ("name", "models", "meaning", "low", "high", "aggregation", "marker", "routes", "good_class")

app = typer.Typer(
    help="Look at process reward models (PRMs): known formats, and whether a model is fit to guide a search."
)


@app.command()
def formats(plugin: Plugins = None, json: Json = False) -> None:
    """List the formats that are known, and what their scores mean.

    Example: [bold]restmcts prm formats[/bold]
    """
    from restmcts.modeling.prm.format import PRM_FORMATS

    rows = [_described(each) for each in PRM_FORMATS.values()]
    if json:
        print_json(rows)
        return
    for row in rows:
        row["range"] = f"{row['low']:g} to {row['high']:g}"
    print_table(("name", "models", "meaning", "range", "aggregation"), rows, empty="no formats")


def _described(known: "PrmFormat") -> dict[str, object]:
    """Return what a format says of itself."""
    return {name: getattr(known, name) for name in _FIELDS}


@app.command()
def doctor(
    model: Annotated[
        str,
        typer.Argument(
            help="A model as --value takes it: folder, hub id or server; MODEL?format=NAME says the format."
        ),
    ],
    device: Annotated[str, typer.Option(help="Torch device.")] = "cpu",
    trust_remote_code: Annotated[bool, typer.Option(help="Run code that comes with the model.")] = False,
    plugin: Plugins = None,
    json: Json = False,
) -> None:
    """Load a PRM, say which format it seems to have, and test it; exit code 1 if something is
    wrong.

    Example: [bold]restmcts prm doctor Qwen/Qwen2.5-Math-PRM-7B[/bold]
    """
    findings, known, said = _examined(model, device, trust_remote_code)
    right = all(finding.right for finding in findings)
    if json:
        shown = {**_described(known), "said": said}
        print_json(
            {"model": model, "format": shown, "right": right, "checks": [asdict(finding) for finding in findings]}
        )
    else:
        how = "as said" if said else "as its files show"
        meaning = {"meaning": known.meaning, "whole solutions": f"the {known.aggregation} of their steps' scores"}
        print_fields({"model": model.partition("?")[0], "format": f"{known.name}, {how}", **meaning})
        rows = [asdict(finding) | {"right": "right" if finding.right else "WRONG"} for finding in findings]
        print_table(("right", "check", "found", "remedy"), rows, empty="no checks")
        print_fields({"verdict": "fit for use" if right else "not fit as it is: see what is wrong"})
    if not right:
        raise typer.Exit(1)


def _examined(model: str, device: str, trust_remote_code: bool) -> "tuple[list[Finding], PrmFormat, bool]":
    """Return what is found of a model, its format, and whether that was said.

    Raises:
        InputError: if the model cannot be loaded, or is no PRM that is known.
    """
    from restmcts.modeling.prm.doctor import examine
    from restmcts.modeling.prm.known.own import JUDGE
    from restmcts.modeling.prm.loading import load_prm
    from restmcts.modeling.prm.reference import parse_reference

    reference = parse_reference(model)
    try:
        if reference.format == JUDGE.name or "://" in reference.place:
            return _asked(model, device, trust_remote_code)
        prm = load_prm(reference, reference.place, device=device, trust_remote_code=trust_remote_code)
    except ModelError as error:
        raise InputError(str(error)) from error
    return list(examine(prm)), prm.format, reference.format is not None


def _asked(model: str, device: str, trust_remote_code: bool) -> "tuple[list[Finding], PrmFormat, bool]":
    """Return the same of a judge, or of a model behind HTTP."""
    from restmcts.adapters.storage.folder_store import FolderArtifactStore
    from restmcts.adapters.workers.service import ModelSettings
    from restmcts.modeling.prm.doctor import examine_scorer
    from restmcts.modeling.prm.format import PRM_FORMATS
    from restmcts.modeling.prm.reference import parse_reference
    from restmcts.settings import load_policy_server_settings
    from restmcts_prm_scorer.opening import open_scorer

    servers = load_policy_server_settings()
    settings = ModelSettings(key_value_bytes=0, device=device, trust_remote_code=trust_remote_code, servers=servers)
    with TemporaryDirectory() as folder:
        scorer = open_scorer(model, FolderArtifactStore(Path(folder)), settings)
        return list(examine_scorer(scorer)), PRM_FORMATS.get(str(parse_reference(model).format)), True
