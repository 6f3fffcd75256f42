"""What every artifact store promises, over a folder and over a real S3 server; then what only a
bucket with a cache has to show.
"""

import math
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import pytest
from minio import Minio
from minio.error import S3Error
from pydantic import SecretStr
from restmcts.adapters.storage.bucket_setup import ACCESS, KEY_FILES, set_up
from restmcts.adapters.storage.folder_store import FolderArtifactStore
from restmcts.adapters.storage.s3_store import NUM_LOCKED, S3ArtifactStore
from restmcts.errors import CorruptArtifactError, StorageError
from restmcts.ports import ArtifactStore
from restmcts.settings import BucketSettings
from restmcts_cli.processes.stack_processes import Stack

pytestmark = pytest.mark.integration

NO_PAUSES = (0.01, 0.01)


@dataclass(frozen=True)
class Bucket:
    """A bucket of its own for one test."""

    client: Minio
    endpoint: str
    access_key: str
    secret_key: str
    name: str

    def store(
        self, cache: Path, cache_bytes: int = 2**30, pauses_seconds: tuple[float, ...] = NO_PAUSES
    ) -> S3ArtifactStore:
        return S3ArtifactStore(
            self.endpoint, self.access_key, self.secret_key, self.name, False, cache, cache_bytes, pauses_seconds
        )

    def stored(self) -> set[str]:
        return {str(found.object_name) for found in self.client.list_objects(self.name, recursive=True)}


@pytest.fixture
def s3_server(servers: Stack) -> Bucket:
    """Return the administrator's account."""
    keys = (servers.settings["RESTMCTS_S3_ACCESS_KEY"], servers.settings["RESTMCTS_S3_SECRET_KEY"])
    endpoint = servers.settings["RESTMCTS_S3_ENDPOINT"]
    return Bucket(Minio(endpoint, *keys, secure=False, region="us-east-1"), endpoint, *keys, "")


@pytest.fixture
def bucket(s3_server: Bucket, request: pytest.FixtureRequest) -> Bucket:
    name = f"test-{abs(hash(request.node.name)) % 10**12}"
    if not s3_server.client.bucket_exists(name):
        s3_server.client.make_bucket(name)
    return Bucket(s3_server.client, s3_server.endpoint, s3_server.access_key, s3_server.secret_key, name)


@dataclass(frozen=True)
class Kept:
    """A store, and a way to damage one file of an artifact where it is kept."""

    store: ArtifactStore
    damage: Callable[[str, str, bytes | None], None]


@pytest.fixture(params=["folder", "s3"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kept]:
    if request.param == "folder":
        root = tmp_path / "store"

        def damage_file(digest: str, name: str, data: bytes | None) -> None:
            path = root / "checkpoints" / digest / name
            path.unlink() if data is None else path.write_bytes(data)

        yield Kept(FolderArtifactStore(root), damage_file)
        return
    bucket: Bucket = request.getfixturevalue("bucket")

    def damage_object(digest: str, name: str, data: bytes | None) -> None:
        key = f"checkpoints/{digest}/{name}"
        if data is None:
            bucket.client.remove_object(bucket.name, key)
        else:
            bucket.client.put_object(bucket.name, key, BytesIO(data), len(data))

    yield Kept(bucket.store(tmp_path / "cache"), damage_object)


def make_folder(path: Path, **files: str) -> Path:
    (path / "nested").mkdir(parents=True)
    for name, text in files.items():
        (path / f"{name}.txt").write_text(text)
    (path / "nested" / "empty.bin").touch()
    return path


def contents(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_what_is_put_is_fetched(kept: Kept, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "made", weights="w" * 1000, config="{}")
    artifact = kept.store.put(folder, "checkpoints", {"run": 1})
    assert artifact.uri == f"artifact:checkpoints/{artifact.digest}"
    assert artifact.num_bytes == 1002
    assert contents(kept.store.fetch(artifact.uri)) == contents(folder)


def test_equal_files_have_one_digest_whoever_stores_them(kept: Kept, tmp_path: Path) -> None:
    first = kept.store.put(make_folder(tmp_path / "a", weights="same"), "checkpoints", {"run": 1})
    second = kept.store.put(make_folder(tmp_path / "b", weights="same"), "checkpoints", {"run": 2})
    elsewhere = FolderArtifactStore(tmp_path / "elsewhere").put(tmp_path / "a", "checkpoints", {})
    assert first == second == elsewhere


def test_a_fetched_artifact_can_be_stored_again_as_the_same(kept: Kept, tmp_path: Path) -> None:
    artifact = kept.store.put(make_folder(tmp_path / "a", weights="w"), "checkpoints", {})
    assert kept.store.put(kept.store.fetch(artifact.uri), "checkpoints", {}) == artifact


@pytest.mark.parametrize("uri", ["artifact:checkpoints/" + "0" * 64, "checkpoints/x", "/etc"])
def test_what_is_not_there_is_a_storage_error(kept: Kept, uri: str) -> None:
    with pytest.raises(StorageError, match="no artifact"):
        kept.store.fetch(uri)


@pytest.mark.parametrize(("name", "data"), [("weights.txt", b"short"), ("weights.txt", None), ("manifest.json", b"{}")])
def test_damage_is_seen(kept: Kept, tmp_path: Path, name: str, data: bytes | None) -> None:
    artifact = kept.store.put(make_folder(tmp_path / "a", weights="w" * 100), "checkpoints", {})
    kept.damage(artifact.digest, name, data)
    for _ in range(2):
        with pytest.raises(CorruptArtifactError):
            kept.store.fetch(artifact.uri)


def test_a_manifest_cannot_lead_out_of_the_folder(kept: Kept, tmp_path: Path) -> None:
    artifact = kept.store.put(make_folder(tmp_path / "a", weights="w"), "checkpoints", {})
    manifest = (kept.store.fetch(artifact.uri) / "manifest.json").read_bytes()
    other = FolderArtifactStore(tmp_path / "other").put(make_folder(tmp_path / "b", weights="v"), "checkpoints", {})
    target = kept.store.put(tmp_path / "b", "checkpoints", {})
    assert target == other
    kept.damage(target.digest, "manifest.json", manifest.replace(b"weights.txt", b"../../x.txt"))
    with pytest.raises(CorruptArtifactError):
        kept.store.fetch(target.uri)


def test_an_artifact_without_manifest_is_not_there(bucket: Bucket, tmp_path: Path) -> None:
    artifact = bucket.store(tmp_path / "cache").put(make_folder(tmp_path / "a", weights="w"), "checkpoints", {})
    bucket.client.remove_object(bucket.name, f"checkpoints/{artifact.digest}/manifest.json")
    with pytest.raises(StorageError, match="no artifact"):
        bucket.store(tmp_path / "cache").fetch(artifact.uri)


def test_a_known_digest_is_not_sent_again(bucket: Bucket, tmp_path: Path) -> None:
    store = bucket.store(tmp_path / "cache")
    artifact = store.put(make_folder(tmp_path / "a", weights="w"), "checkpoints", {})
    key = f"checkpoints/{artifact.digest}/weights.txt"
    bucket.client.remove_object(bucket.name, key)
    store.put(tmp_path / "a", "checkpoints", {})
    assert bucket.stored() == {
        f"checkpoints/{artifact.digest}/{name}" for name in ("manifest.json", "nested/empty.bin")
    }


def test_changed_bytes_of_equal_length_are_refused_and_not_cached(bucket: Bucket, tmp_path: Path) -> None:
    store = bucket.store(tmp_path / "cache")
    artifact = store.put(make_folder(tmp_path / "a", weights="w" * 100), "checkpoints", {})
    (tmp_path / "changed").write_text("x" * 100)
    bucket.client.fput_object(bucket.name, f"checkpoints/{artifact.digest}/weights.txt", str(tmp_path / "changed"))
    with pytest.raises(CorruptArtifactError, match=r"weights\.txt"):
        store.fetch(artifact.uri)
    assert list((tmp_path / "cache").rglob("*.txt")) == []


def test_large_files_go_in_parts(bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "weights.bin").write_bytes(bytes(range(256)) * 4 * 40_000)
    artifact = bucket.store(tmp_path / "cache").put(tmp_path / "made", "checkpoints", {})
    etag = bucket.client.stat_object(bucket.name, f"checkpoints/{artifact.digest}/weights.bin").etag
    assert str(etag).endswith("-3")
    assert contents(bucket.store(tmp_path / "cache").fetch(artifact.uri)) == contents(tmp_path / "made")


def test_the_cache_serves_when_the_server_is_away(bucket: Bucket, tmp_path: Path) -> None:
    artifact = bucket.store(tmp_path / "cache").put(make_folder(tmp_path / "a", weights="w"), "checkpoints", {})
    bucket.store(tmp_path / "cache").fetch(artifact.uri)
    away = S3ArtifactStore(
        f"127.0.0.1:{free_port()}", "key", "secret", bucket.name, False, tmp_path / "cache", 2**30, ()
    )
    assert contents(away.fetch(artifact.uri)) == contents(tmp_path / "a")


def test_a_damaged_cache_is_fetched_anew(bucket: Bucket, tmp_path: Path) -> None:
    store = bucket.store(tmp_path / "cache")
    artifact = store.put(make_folder(tmp_path / "a", weights="w"), "checkpoints", {})
    (store.fetch(artifact.uri) / "weights.txt").unlink()
    assert contents(store.fetch(artifact.uri)) == contents(tmp_path / "a")


def test_a_flipped_bit_in_the_cache_is_noticed_and_fetched_anew(bucket: Bucket, tmp_path: Path) -> None:
    artifact = bucket.store(tmp_path / "cache").put(make_folder(tmp_path / "a", weights="w" * 100), "checkpoints", {})
    cached = bucket.store(tmp_path / "cache").fetch(artifact.uri) / "weights.txt"
    cached.write_text("w" * 99 + "v")
    assert contents(bucket.store(tmp_path / "cache").fetch(artifact.uri)) == contents(tmp_path / "a")


def test_a_flipped_bit_is_noticed_by_the_process_that_fetched_it_too(bucket: Bucket, tmp_path: Path) -> None:
    store = bucket.store(tmp_path / "cache")
    artifact = store.put(make_folder(tmp_path / "a", weights="w" * 100), "checkpoints", {})
    (store.fetch(artifact.uri) / "weights.txt").write_text("w" * 99 + "v")
    assert contents(store.fetch(artifact.uri)) == contents(tmp_path / "a")


def test_the_cache_keeps_to_its_limit_and_what_is_held(bucket: Bucket, tmp_path: Path) -> None:
    writer = bucket.store(tmp_path / "unused")
    uris = [
        writer.put(make_folder(tmp_path / str(number), weights=str(number) * 1000), "checkpoints", {}).uri
        for number in range(NUM_LOCKED + 3)
    ]
    store, other = bucket.store(tmp_path / "cache", cache_bytes=0), bucket.store(tmp_path / "cache")
    locked_elsewhere = other.fetch(uris[0])
    folders = [store.fetch(uri) for uri in uris]
    assert locked_elsewhere.is_dir()
    assert [folder.is_dir() for folder in folders[1:]] == [False, False, *[True] * NUM_LOCKED]


def test_the_longest_unused_goes_first(bucket: Bucket, tmp_path: Path) -> None:
    writer = bucket.store(tmp_path / "unused")
    uris = [
        writer.put(make_folder(tmp_path / str(number), weights=str(number) * 10_000), "checkpoints", {}).uri
        for number in range(NUM_LOCKED + 2)
    ]
    store = bucket.store(tmp_path / "cache", cache_bytes=(NUM_LOCKED + 1) * 11_000)
    folders = {uri: store.fetch(uri) for uri in uris[:-1]}
    store.fetch(uris[0])
    store.fetch(uris[-1])
    assert [folders[uri].is_dir() for uri in uris[:3]] == [True, False, True]


def test_an_absent_server_is_tried_again_then_reported(tmp_path: Path) -> None:
    endpoint = f"127.0.0.1:{free_port()}"
    store = S3ArtifactStore(endpoint, "key", "secret", "bucket", False, tmp_path / "cache", 2**30, NO_PAUSES)
    with pytest.raises(StorageError, match=endpoint):
        store.fetch("artifact:checkpoints/" + "0" * 64)


def test_a_server_that_comes_back_is_waited_for(bucket: Bucket, tmp_path: Path) -> None:
    artifact = bucket.store(tmp_path / "cache").put(make_folder(tmp_path / "a", weights="w"), "checkpoints", {})
    port = free_port()
    host, _, server_port = bucket.endpoint.partition(":")
    late = S3ArtifactStore(
        f"127.0.0.1:{port}",
        bucket.access_key,
        bucket.secret_key,
        bucket.name,
        False,
        tmp_path / "late",
        2**30,
        (0.1,) * 50,
    )
    stop = threading.Event()
    opener = threading.Timer(0.5, forward, (port, (host, int(server_port)), stop))
    opener.start()
    try:
        assert contents(late.fetch(artifact.uri)) == contents(tmp_path / "a")
    finally:
        stop.set()
        opener.join()


def test_a_server_lost_during_an_upload_leaves_no_artifact_and_the_next_upload_is_whole(
    bucket: Bucket, tmp_path: Path
) -> None:
    folder = make_folder(tmp_path / "made", config="{}")
    (folder / "weights.bin").write_bytes(os.urandom(12_000_000))
    port, stop = free_port(), threading.Event()
    host, _, server_port = bucket.endpoint.partition(":")
    cut = replace(bucket, endpoint=f"127.0.0.1:{port}").store(tmp_path / "cache")
    server = threading.Thread(target=forward, args=(port, (host, int(server_port)), stop, 7_000_000))
    server.start()
    try:
        with pytest.raises(StorageError, match=str(port)):
            cut.put(folder, "checkpoints", {})
    finally:
        stop.set()
        server.join()
    assert not any(name.endswith("manifest.json") for name in bucket.stored())
    store = bucket.store(tmp_path / "other")
    artifact = store.put(folder, "checkpoints", {})
    assert contents(store.fetch(artifact.uri)) == contents(folder)


def test_wrong_keys_are_reported_at_once(bucket: Bucket, tmp_path: Path) -> None:
    store = S3ArtifactStore(bucket.endpoint, bucket.access_key, "wrong", bucket.name, False, tmp_path, 2**30, (60.0,))
    with pytest.raises(StorageError, match=r"SignatureDoesNotMatch|AccessDenied"):
        store.fetch("artifact:checkpoints/" + "0" * 64)


def test_accounts_can_do_what_their_service_needs_and_no_more(s3_server: Bucket, tmp_path: Path) -> None:
    settings = BucketSettings(
        s3_endpoint=s3_server.endpoint,
        s3_access_key=s3_server.access_key,
        s3_secret_key=SecretStr(s3_server.secret_key),
        s3_bucket="accounts",
    )
    set_up(settings, tmp_path / "secrets")
    first = {path: path.read_text() for path in (tmp_path / "secrets").rglob("restmcts_*")}
    set_up(settings, tmp_path / "secrets")
    assert {path: path.read_text() for path in (tmp_path / "secrets").rglob("restmcts_*")} == first
    (lost := tmp_path / "secrets/trainer" / KEY_FILES[1]).unlink()
    set_up(settings, tmp_path / "secrets")
    assert [path for path, key in first.items() if path.read_text() != key] == [lost]
    assert all(path.stat().st_mode & 0o027 == 0 for path in first)

    def keys_of(service: str) -> list[str]:
        return [(tmp_path / "secrets" / service / name).read_text() for name in KEY_FILES]

    def store_of(service: str) -> S3ArtifactStore:
        return S3ArtifactStore(
            s3_server.endpoint, *keys_of(service), "accounts", False, tmp_path / service, 2**30, NO_PAUSES
        )

    administrator = Minio(
        s3_server.endpoint, s3_server.access_key, s3_server.secret_key, secure=False, region="us-east-1"
    )
    folder = make_folder(tmp_path / "made", weights="w")
    uris = {"datasets": store_of("value-labeler").put(folder, "datasets", {}).uri}
    uris["checkpoints"] = store_of("trainer").put(folder, "checkpoints", {}).uri
    for service, access in ACCESS.items():
        (folder / "of.txt").write_text(service)
        for kind, uri in uris.items():
            with nullcontext() if kind in access.reads else pytest.raises(StorageError, match="AccessDenied"):
                store_of(service).fetch(uri)
            with nullcontext() if kind in access.writes else pytest.raises(StorageError, match="AccessDenied"):
                store_of(service).put(folder, kind, {})
        client = Minio(s3_server.endpoint, *keys_of(service), secure=False, region="us-east-1")
        for name in ("doctor/object", "checkpoints/object"):
            administrator.put_object("accounts", name, BytesIO(b"body"), 4)
            may = name.partition("/")[0] in (access.own, *access.removes)
            with nullcontext() if may else pytest.raises(S3Error, match="Access"):
                client.remove_object("accounts", name)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def forward(port: int, target: tuple[str, int], stop: threading.Event, max_bytes: float = math.inf) -> None:
    """Pass connections on to the target until told to stop; of what is sent to it not more than
    that many bytes, at which every connection ends.
    """
    with ExitStack() as sockets:
        listener = sockets.enter_context(socket.create_server(("127.0.0.1", port)))
        listener.settimeout(0.1)
        left = [max_bytes]
        pumps: list[threading.Thread] = []
        ends: list[socket.socket] = []
        while not stop.is_set():
            try:
                near = sockets.enter_context(listener.accept()[0])
            except TimeoutError:
                continue
            far = sockets.enter_context(socket.create_connection(target))
            ends += [near, far]
            for source, sink, limit in ((near, far, left), (far, near, [math.inf])):
                pumps.append(threading.Thread(target=pump, args=(source, sink, limit)))
                pumps[-1].start()
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in pumps:
            thread.join()


def pump(source: socket.socket, sink: socket.socket, left: list[float]) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            left[0] -= len(data)
            if left[0] < 0:
                source.shutdown(socket.SHUT_RDWR)
                break
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
