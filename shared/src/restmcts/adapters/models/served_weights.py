"""Keeps a policy server's weights in step with what runs ask for; run beside the server:

    python -m restmcts.adapters.models.served_weights FOLDER [--reload URL]

FOLDER is shared with the server. The checkpoint to be served is fetched into it and named in
FOLDER/current (two lines: name and path), which infra/inference/serve.sh follows by restarting the
server. With --reload, the SGLang server at URL is asked to load it while it runs. Both may be
several: http://ONE:30000,TWO:30000, or http://NAME:30000?replicas=dns for all addresses of a name.
The policy that was trained last is fetched while the one before is still served. Settings are those
of the workers.
"""

import argparse
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import httpx2
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from restmcts.adapters.models.bounded_http import model_client
from restmcts.adapters.models.http_policy.address import has_hosts, is_by_name, is_server, url_at
from restmcts.adapters.models.http_policy.opening import served_name
from restmcts.adapters.models.replicas import hosts_now
from restmcts.adapters.sql.database import Database, Transaction, table_of
from restmcts.adapters.sql.state import promotions, requests
from restmcts.adapters.sql.state.runs import CHECKPOINTS
from restmcts.adapters.sql.tables import Run, RunState
from restmcts.adapters.storage.s3_store import open_bucket
from restmcts.adapters.storage.uris import local_path
from restmcts.errors import InputError, RestMctsError
from restmcts.ports import ArtifactStore
from restmcts.settings import load_settings

log = logging.getLogger(__name__)
RUNS = table_of(Run)
POINTER = "current"
SECONDS_BETWEEN_LOOKS = 2.0
RELOAD_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Served:
    """What a server is to serve: a name, and the folder (or hub id) of its weights."""

    name: str
    path: str


def wanted_policy(transaction: Transaction, served: str | None) -> str | None:
    """Return the URI of the policy that a server of one model should serve; None: nothing asks for
    another.

    While requests to what is served are open, it stays. Then comes the checkpoint that the oldest
    request waits for; where nothing waits, the promoted policy of the newest run that is running.
    """
    waited_for = [uri for uri in requests.policies_waited_for(transaction) if not is_server(uri)]
    if waited_for:
        return None if served in [served_name(uri) for uri in waited_for] else waited_for[0]
    running = select(RUNS.c.id).where(RUNS.c.state == RunState.RUNNING.value).order_by(RUNS.c.id.desc())
    for run_id in transaction.execute(running).scalars().all():
        promoted = promotions.promoted(transaction, run_id, "policy")
        if promoted is not None and not is_server(promoted.uri):
            return None if served_name(promoted.uri) == served else str(promoted.uri)
    return None


def newest_policies(transaction: Transaction) -> list[str]:
    """Return the URI of each running run's policy that was trained last."""
    newest = (
        select(func.max(CHECKPOINTS.c.id))
        .join(RUNS, RUNS.c.id == CHECKPOINTS.c.run_id)
        .where(RUNS.c.state == RunState.RUNNING.value, CHECKPOINTS.c.kind == "policy")
        .group_by(CHECKPOINTS.c.run_id)
    )
    found = transaction.execute(select(CHECKPOINTS.c.uri).where(CHECKPOINTS.c.id.in_(newest))).scalars()
    return [uri for uri in found if not is_server(uri)]


class WeightsFollower:
    """Fetches weights into a folder, names them there, and calls a server that can reload.

    Args:
        folder: that the server sees under the same path.
        reload_url: of servers that load weights while they run; empty: they are restarted by
            whoever watches the folder.

    Raises:
        InputError: if the URL is malformed.
    """

    def __init__(self, database: Database, artifacts: ArtifactStore, folder: Path, reload_url: str = "") -> None:
        self._database = database
        self._artifacts = artifacts
        self._folder = folder
        self._reload_url, self._servers = _reloaded(reload_url) if reload_url else ("", list)
        # Each is fetched ahead once: where the cache holds too few, two would drive each other out.
        self._fetched_ahead: set[str] = set()

    def follow(self) -> Served | None:
        """Bring the served weights in step once, and fetch those that will be asked for next;
        return what is to be served, None while nothing was ever asked for.

        Raises:
            RestMctsError: if weights cannot be fetched.
            httpx2.HTTPError: if a server does not answer or does not take them; the others have
                them.
        """
        current = self._current()
        with self._database.transaction() as transaction:
            uri = wanted_policy(transaction, current.name if current is not None else None)
            coming = newest_policies(transaction)
        if uri is not None:
            current = self._fetched(uri)
            pending = self._folder / f".{POINTER}"
            pending.write_text(f"{current.name}\n{current.path}\n", encoding="utf-8")
            pending.rename(self._folder / POINTER)
            log.info("%s is to be served from %s", current.name, current.path)
        if current is not None:
            self._reload(current)
        for newest in coming:
            if newest not in self._fetched_ahead:
                self._fetched(newest)
                self._fetched_ahead.add(newest)
        return current

    def _current(self) -> Served | None:
        pointer = self._folder / POINTER
        return Served(*pointer.read_text(encoding="utf-8").split("\n")[:2]) if pointer.is_file() else None

    def _fetched(self, uri: str) -> Served:
        """Return the weights under a path that ends in their name: servers that have no other
        name for them use it.
        """
        name, found = served_name(uri), Path(local_path(uri, self._artifacts))
        if not found.is_dir():
            return Served(name, str(uri))
        link = self._folder / name
        if not link.is_symlink():
            link.symlink_to(found.resolve())
        return Served(name, str(link))

    def _reload(self, wanted: Served) -> None:
        failures = []
        for host in self._servers():
            try:
                self._reload_at(host, wanted)
            except httpx2.HTTPError as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def _reload_at(self, host: str, wanted: Served) -> None:
        with model_client(url_at(self._reload_url, host), "", RELOAD_SECONDS) as http:
            models = http.get("/v1/models").raise_for_status().json()["data"]
            known = {str(model.get(key, "")).rpartition("/")[2] for model in models for key in ("id", "root")}
            if wanted.name.rpartition("/")[2] in known:
                return
            http.post("/update_weights_from_disk", json={"model_path": wanted.path}).raise_for_status()
        log.info("the server at %s took %s", host, wanted.name)


def _reloaded(url: str) -> tuple[str, Callable[[], Sequence[str]]]:
    """Return a URL without its options, and a function that returns the servers it names."""
    if not has_hosts(url):
        raise InputError(f"{url}: no server; write http://HOST:PORT")
    base, options = url.partition("?")[0], dict(parse_qsl(urlsplit(url).query))
    return base, hosts_now(base, by_name=is_by_name(url, base, options))


def main() -> None:
    """Follow forever; what fails is reported and tried again."""
    parser = argparse.ArgumentParser(prog="python -m restmcts.adapters.models.served_weights", description=__doc__)
    parser.add_argument("folder", type=Path, help="shared with the server, under the same path")
    parser.add_argument(
        "--reload", metavar="URL", default="", help="of an SGLang server, which loads weights while it runs"
    )
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    settings = load_settings()
    database = Database(settings.database_url.get_secret_value())
    follower = WeightsFollower(database, open_bucket(settings), given.folder, given.reload)
    while True:
        try:
            follower.follow()
        except (RestMctsError, OperationalError, httpx2.HTTPError, OSError) as error:
            log.warning("not in step: %s; again in %.0f s", error, SECONDS_BETWEEN_LOOKS)
        time.sleep(SECONDS_BETWEEN_LOOKS)


if __name__ == "__main__":
    main()
