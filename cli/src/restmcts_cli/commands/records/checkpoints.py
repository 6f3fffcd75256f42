"""`restmcts checkpoints`: the models that runs began with and made."""

import errno
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from restmcts.errors import InputError, StorageError

from restmcts_cli.arguments.connection import Connection, Workdir, connect
from restmcts_cli.reports.shown_tables import Json, print_fields, print_json, print_note, print_table

if TYPE_CHECKING:
    from restmcts.adapters.sql.rows import JsonObject, ListedCheckpoint

DIGITS_SHOWN = 12

app = typer.Typer(help="List, fetch, promote and publish models.", no_args_is_help=True)

Run = Annotated[str, typer.Argument(help="The run's name.")]
Name = Annotated[str, typer.Argument(help="The checkpoint's name in its run, e.g. policy-1.")]


@app.command("list")
def list_(
    run: Annotated[str | None, typer.Argument(help="Only checkpoints of this run.")] = None,
    workdir: Workdir = None,
    json: Json = False,
) -> None:
    """List checkpoints in the order in which they were made.

    Example: [bold]restmcts checkpoints list demo[/bold]
    """
    from restmcts_cli.remote import artifacts, client

    api = client.over_http(workdir)
    rows = artifacts.checkpoints(api, run) if api is not None else _stored(workdir, run)
    if json:
        print_json(rows)
        return
    listed = ("run", "name", "kind", "promoted", "parent", "digest", "created_at")
    print_table(listed, [_listed(row) for row in rows], empty="no checkpoints")


def _stored(workdir: Path | None, run: str | None) -> "list[ListedCheckpoint]":
    from restmcts.adapters.sql.reads import queries

    with connect(workdir) as connection, connection.database.transaction() as transaction:
        run_id = queries.run_named(transaction, run).id if run is not None else None
        return queries.list_checkpoints(transaction, run_id)


def _listed(row: "ListedCheckpoint") -> dict[str, object]:
    return {
        **asdict(row),
        "digest": row.digest[:DIGITS_SHOWN] if row.uri.startswith("artifact:") else row.uri,
        "promoted": "promoted" if row.promoted else "was promoted" if row.was_promoted else None,
    }


@app.command()
def show(run: Run, name: Name, workdir: Workdir = None, json: Json = False) -> None:
    """Show a checkpoint: where it is, what it was made from, and what it came to on benches.

    Example: [bold]restmcts checkpoints show demo policy-1[/bold]
    """
    from restmcts_cli.remote import artifacts, client

    if (api := client.over_http(workdir)) is not None:
        row = artifacts.checkpoint(api, run, name)
    else:
        with connect(workdir) as connection:
            row = _row(connection, run, name)
    if json:
        print_json(row)
    else:
        from restmcts.reporting.benches import bench_lines

        besides = ("id", "run_id", "lineage", "benches")
        print_fields({key: value for key, value in asdict(row).items() if key not in besides})
        print_fields({f"made from: {key}": value for key, value in row.lineage.items()})
        lines = bench_lines(row.benches).items()
        print_fields({f"bench ({number})": f"{on}: {line}" for number, (on, line) in enumerate(lines, 1)})


@app.command()
def pull(
    run: Run,
    name: Name,
    out: Annotated[Path, typer.Argument(help="Folder to make; transformers loads it as it is.", file_okay=False)],
    workdir: Workdir = None,
    json: Json = False,
) -> None:
    """Copy a checkpoint's files into a new folder.

    Example: [bold]restmcts checkpoints pull demo policy-2 my-policy[/bold]
    """
    print_note(f"copying checkpoint {name} of run {run} to {out}")
    from restmcts_cli.remote import artifacts, client

    if (api := client.over_http(workdir)) is not None:
        artifacts.pull(api, out, "runs", run, "checkpoints", name)
    else:
        with connect(workdir) as connection:
            copy_folder(_files(connection, run, name), out)
    if json:
        print_json({"run": run, "checkpoint": name, "folder": str(out)})
    else:
        print_note(f"checkpoint {name} of run {run} is in {out}")


@app.command()
def promote(run: Run, name: Name, workdir: Workdir = None, json: Json = False) -> None:
    """Make a checkpoint the one that its run continues with, whatever the promotion decided.

    Phases that start from now on use it, and the next promotion compares with it.

    Example: [bold]restmcts checkpoints promote demo policy-1[/bold]
    """
    from restmcts.usecases import steer

    with connect(workdir) as connection, connection.database.transaction() as transaction:
        steer.promote(transaction, run, name)
    if json:
        print_json({"run": run, "promoted": name})
    else:
        print_note(f"run {run} goes on with {name}")


@app.command()
def push(
    run: Run,
    name: Name,
    repository: Annotated[str, typer.Argument(help="OWNER/NAME on the hub; created if it does not exist.")],
    public: Annotated[
        bool, typer.Option("--public", help="Make a new repository public; if not given, it is private.")
    ] = False,
    workdir: Workdir = None,
    json: Json = False,
) -> None:
    """Upload a checkpoint to the Hugging Face hub, as the person that HF_TOKEN or `hf auth login`
    names; its card says what it came to on benches that were stored with it.

    Example: [bold]restmcts checkpoints push demo policy-2 me/number-paths[/bold]
    """
    print_note(f"uploading checkpoint {name} of run {run} to {repository}")
    with connect(workdir) as connection:
        folder = _files(connection, run, name)
        card = published_card(folder, _row(connection, run, name).benches)
        url = _upload(folder, card, repository, f"{name} of run {run}", private=not public)
    if json:
        print_json({"run": run, "checkpoint": name, "url": url})
    else:
        print_note(f"checkpoint {name} of run {run} is at {url}")


def published_card(folder: Path, benches: "JsonObject") -> str:
    """Return the model card that goes with a checkpoint's files: their own, and its benches."""
    from restmcts.reporting.benches import bench_section

    file = folder / "README.md"
    own = file.read_text(encoding="utf-8") if file.is_file() else ""
    return "\n".join(part for part in (own, bench_section(benches)) if part)


def _upload(folder: Path, card: str, repository: str, message: str, *, private: bool) -> str:
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HFValidationError
    except ImportError as error:
        raise InputError("the package huggingface_hub is not installed: `pip install restmcts-cli[hub]`") from error
    try:
        api = HfApi()
        url = api.create_repo(repository, private=private, exist_ok=True)
        left_out = ["manifest.json", "README.md"]
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message=message, ignore_patterns=left_out)
        if card:
            api.upload_file(
                repo_id=repository, path_or_fileobj=card.encode(), path_in_repo="README.md", commit_message=message
            )
        return str(url)
    except HFValidationError as error:
        raise InputError(f"{repository}: {str(error).splitlines()[0]}") from error
    except Exception as error:  # those of whatever HTTP library the hub's client uses are among them
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise StorageError(
            f"{repository}: the hub did not accept it: {reason}; check network and token (`hf auth login`)"
        ) from error


def _row(connection: Connection, run: str, name: str) -> "ListedCheckpoint":
    from restmcts.adapters.sql.reads import queries

    with connection.database.transaction() as transaction:
        return queries.checkpoint_named(transaction, queries.run_named(transaction, run), name)


def _files(connection: Connection, run: str, name: str) -> Path:
    """Return a local folder with the checkpoint's files.

    Raises:
        InputError: if the run names a model of the hub, which was never copied.
    """
    from restmcts.adapters.storage.uris import local_path

    uri = _row(connection, run, name).uri
    folder = Path(local_path(uri, connection.artifacts))
    if not folder.is_dir():
        raise InputError(
            f"checkpoint {name} of run {run} is {uri}, a model of the hub or of another machine; fetch it from there"
        )
    return folder


def copy_folder(folder: Path, out: Path) -> None:
    """Copy an artifact's files into a folder that is not there yet, or is empty.

    Raises:
        InputError: if something is there.
        StorageError: if the disk does not take them.
    """
    check_is_new(out)
    try:
        shutil.copytree(folder, out, dirs_exist_ok=True)
    except (OSError, shutil.Error) as error:
        shutil.rmtree(out, ignore_errors=True)
        raise not_written(out, error) from error


def check_is_new(out: Path) -> None:
    """Do nothing if there is no such folder, or it is empty.

    Raises:
        InputError: if something is there.
        StorageError: if this user may not look.
    """
    try:
        if out.exists() and any(out.iterdir()):
            raise InputError(f"{out} is not empty; name a new folder")
    except OSError as error:
        raise not_written(out, error) from error


def not_written(out: Path, error: OSError | shutil.Error) -> StorageError:
    """Return why something was not written, and what to do where this user may not write."""
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StorageError(
            f"{out}: not written: user {os.getuid()} may not write there ({error.strerror}); name a folder that this "
            "user owns, or, with docker compose, the user whose folder it is: CLI_UID in .env (`id -u`)"
        )
    return StorageError(f"{out}: not written ({error})")
