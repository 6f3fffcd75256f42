"""The dashboard as a process: of the stack, or of a work folder."""

import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import uvicorn
from restmcts.adapters.observability import metrics
from restmcts.adapters.sql.database import Database
from restmcts.adapters.storage.readable import ReadableStore
from restmcts.errors import InputError
from restmcts.messages.base import Message
from restmcts.settings import DashboardSettings, Settings

from restmcts_dashboard.app import create_app
from restmcts_dashboard.source import LOCAL_NAMES, Source

GRACE_SECONDS = 2
# somebody waits for the page
PAUSES_SECONDS = (0.5,)


def stack_source(settings: Settings) -> Source:
    """Return the stack as a source; pages change it if the settings hold a token, and projects over
    HTTP if the settings say so.
    """
    url, redis_url = settings.database_url.get_secret_value(), settings.redis_url.get_secret_value()
    token = settings.dashboard_token.get_secret_value()
    return Source(
        database=Database(url, read_only=True),
        title="the stack",
        redis_url=redis_url,
        token=token,
        writable=_writable(url, redis_url) if token or settings.api_enabled else None,
        serves_api=settings.api_enabled,
        names=(*LOCAL_NAMES, *settings.dashboard_names),
        artifacts=_bucket(settings) if settings.s3_access_key else None,
    )


def _bucket(settings: Settings) -> ReadableStore:
    from restmcts.adapters.storage.s3_store import open_bucket

    return open_bucket(settings, PAUSES_SECONDS)


def folder_source(path: Path, settings: DashboardSettings | None = None) -> Source:
    """Return the database file of a work folder as a source; pages change it if the settings hold a
    token, and projects over HTTP if the settings say so. Without settings it is only read.
    """
    from restmcts.adapters.storage.folder_store import FolderArtifactStore

    token = settings.dashboard_token.get_secret_value() if settings else ""
    serves_api = settings is not None and settings.api_enabled
    return Source(
        database=Database(f"sqlite:///{path}", read_only=True),
        title=str(path.parent),
        token=token,
        writable=Database(f"sqlite:///{path}") if token or serves_api else None,
        serves_api=serves_api,
        names=(*LOCAL_NAMES, *(settings.dashboard_names if settings else ())),
        artifacts=FolderArtifactStore(path.parent / "artifacts"),
        folder=path.parent,
    )


def _writable(url: str, redis_url: str) -> Database:
    from restmcts.adapters.buses.celery_bus import CeleryBus, celery_app

    database = Database(url)

    def publish(messages: Sequence[Message], outbox_ids: Sequence[int]) -> None:
        bus = CeleryBus(celery_app(redis_url), redis_url, database)
        bus.publish(messages, outbox_ids)
        bus.close()

    database.publish = publish
    return database


def serve_stack(settings: Settings) -> None:
    """Serve the stack, and this process's own metrics if their port is set.

    Raises:
        InputError: if the address cannot be listened on.
    """
    served = metrics.begin(settings.metrics_host, settings.metrics_port, settings.run_dir)
    try:
        serve(stack_source(settings), settings.dashboard_host, settings.dashboard_port)
    finally:
        if served is not None:
            metrics.end(*served)


def serve(source: Source, host: str, port: int, on_ready: Callable[[str], None] | None = None) -> None:
    """Serve until the process is asked to end; `on_ready` is called with the address once browsers
    can connect.

    Raises:
        InputError: if the address cannot be listened on.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except OSError as error:
        raise InputError(f"cannot listen on {host}:{port} ({error.strerror or error}): choose another port") from error
    address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
    app = create_app(replace(source, names=(*source.names, host)))
    config = uvicorn.Config(
        app, log_level="warning", server_header=False, timeout_graceful_shutdown=GRACE_SECONDS, lifespan="off"
    )
    if on_ready is not None:
        listening.listen()
        on_ready(address)
    uvicorn.Server(config).run(sockets=[listening])
