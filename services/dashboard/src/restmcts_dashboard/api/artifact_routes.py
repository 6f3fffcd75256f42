"""Routes of what the runs of a caller's project made: their checkpoints and training data, and the
files of these, which pass through as the store gives them.
"""

from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Response
from fastapi.responses import StreamingResponse
from restmcts.adapters.sql.reads import queries
from restmcts.adapters.sql.rows import JsonObject, ListedCheckpoint, ListedDataset
from restmcts.adapters.sql.state import projects
from restmcts.adapters.storage.manifests import Manifest, check_file
from restmcts.adapters.storage.readable import PartsOfFile, ReadableStore
from restmcts.adapters.storage.uris import ARTIFACT
from restmcts.errors import InputError
from starlette.types import Receive, Scope, Send

from restmcts_dashboard.api.access import Reader, Visit
from restmcts_dashboard.api.answers import answer
from restmcts_dashboard.api.bodies import MAX_LISTED
from restmcts_dashboard.runs.training_rows import read_rows

routes = APIRouter(tags=["artifacts"])


class FileResponse(StreamingResponse):
    """A file of an artifact, a part at a time; it is closed when the caller has it, or is gone."""

    media_type = "application/octet-stream"

    def __init__(self, parts: PartsOfFile, status_code: int = 200, num_bytes: int = 0) -> None:
        super().__init__(parts, status_code, {"Content-Length": str(num_bytes)})
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._parts.close()


@routes.get("/runs/{name}/checkpoints", response_model=list[ListedCheckpoint])
def list_checkpoints(visit: Reader, name: str) -> Response:
    """List the run's checkpoints in the order in which they were made."""
    with visit.reading() as transaction:
        return answer(queries.list_checkpoints(transaction, visit.run(transaction, name).id))


@routes.get("/runs/{name}/checkpoints/{checkpoint}", response_model=ListedCheckpoint)
def show_checkpoint(visit: Reader, name: str, checkpoint: str) -> Response:
    """Show a checkpoint: where it is, what it was made from, and what it came to on benches."""
    with visit.reading() as transaction:
        return answer(queries.checkpoint_named(transaction, visit.run(transaction, name), checkpoint))


@routes.get("/runs/{name}/checkpoints/{checkpoint}/files", response_model=Manifest)
def list_checkpoint_files(visit: Reader, name: str, checkpoint: str) -> Response:
    """List the files of a checkpoint, with their sizes in bytes and SHA-256."""
    return answer(_store(visit).manifest(_made(visit, name, checkpoint)).model_dump())


@routes.get("/runs/{name}/checkpoints/{checkpoint}/files/{file:path}", response_class=FileResponse)
def read_checkpoint_file(visit: Reader, name: str, checkpoint: str, file: str) -> Response:
    """Return the bytes of a file of a checkpoint."""
    return _file(visit, _made(visit, name, checkpoint), file)


@routes.get("/runs/{name}/datasets", response_model=list[ListedDataset])
def list_datasets(visit: Reader, name: str) -> Response:
    """List the run's training data, each by the phase that it trains."""
    with visit.reading() as transaction:
        return answer(queries.list_datasets(transaction, visit.run(transaction, name).id))


@routes.get("/runs/{name}/datasets/{phase}", response_model=ListedDataset)
def show_dataset(visit: Reader, name: str, phase: str) -> Response:
    """Show the training data of a phase, with their card."""
    return answer(_dataset(visit, name, phase))


@routes.get("/runs/{name}/datasets/{phase}/rows", response_model=list[JsonObject])
def list_rows(
    visit: Reader,
    name: str,
    phase: str,
    limit: Annotated[int, Query(description="Rows at most.", ge=1, le=MAX_LISTED)] = 3,
) -> Response:
    """Return the first rows of the training data of a phase, as they are stored."""
    return answer(read_rows(_store(visit), _dataset(visit, name, phase), 0, limit))


@routes.get("/runs/{name}/datasets/{phase}/files", response_model=Manifest)
def list_dataset_files(visit: Reader, name: str, phase: str) -> Response:
    """List the files of the training data of a phase, with their sizes in bytes and SHA-256."""
    return answer(_store(visit).manifest(_dataset(visit, name, phase).uri).model_dump())


@routes.get("/runs/{name}/datasets/{phase}/files/{file:path}", response_class=FileResponse)
def read_dataset_file(visit: Reader, name: str, phase: str, file: str) -> Response:
    """Return the bytes of a file of the training data of a phase."""
    return _file(visit, _dataset(visit, name, phase).uri, file)


def _file(visit: Visit, uri: str, name: str) -> Response:
    store = _store(visit)
    manifest = store.manifest(uri)
    return FileResponse(store.read(manifest, name), num_bytes=manifest.files[check_file(manifest, name)].size)


def _store(visit: Visit) -> ReadableStore:
    if visit.source.artifacts is None:
        raise HTTPException(503, "this server has no account of the store of artifacts")
    return visit.source.artifacts


def _dataset(visit: Visit, name: str, phase: str) -> ListedDataset:
    with visit.reading() as transaction:
        return queries.dataset_of(transaction, visit.run(transaction, name), phase)


def _made(visit: Visit, name: str, checkpoint: str) -> str:
    """Return where the files of a checkpoint are that a run of the caller's project made.

    Raises:
        InputError: if they are not in the store, or the run was given them: who knows the name of
            an artifact can let a run begin with it, and has no right to its files.
    """
    with visit.reading() as transaction:
        found = queries.checkpoint_named(transaction, visit.run(transaction, name), checkpoint)
        uri = found.uri.partition("?")[0]
        if not uri.startswith(ARTIFACT):
            raise InputError(
                f"checkpoint {checkpoint} of run {name} is {found.uri}, a model of the hub or of another machine; "
                "fetch it from there"
            )
        if not projects.has_made(transaction, visit.caller.project_id, uri):
            raise InputError(
                f"checkpoint {checkpoint} of run {name} was given to it: no run of project {visit.caller.project} made "
                "it; ask whoever has the database for its files"
            )
    return uri
