"""Artifacts in a bucket, with a cache on this machine's disk.

An artifact is under `<kind>/<digest>/`; its manifest is written last, so that it is seen only
whole. What is fetched is verified by SHA-256 before it enters the cache.
"""

import fcntl
import logging
import os
import shutil
import time
import uuid
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import urllib3
from minio import Minio
from minio.datatypes import Object
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError

from restmcts.adapters.storage.manifests import (
    MANIFEST,
    STALE_SECONDS,
    Manifest,
    Seen,
    age_seconds,
    artifacts_below,
    check_bytes,
    check_file,
    describe_file,
    describe_folder,
    read_manifest,
    seen,
    uri_of,
)
from restmcts.adapters.storage.readable import PartsOfFile
from restmcts.adapters.storage.uris import ARTIFACT, is_artifact
from restmcts.errors import CorruptArtifactError, MissingArtifactError, StorageError
from restmcts.ports import Artifact, StoredArtifact
from restmcts.settings import Settings

Result = TypeVar("Result")

log = logging.getLogger(__name__)

PART_BYTES = 16 * 2**20
CHUNK_BYTES = 2**20
# half a minute in all: a server that is restarted comes back within it
PAUSES_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
# of what this process fetched last; none of it is evicted while the process lives
NUM_LOCKED = 4
PASSING_CODES = {"InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown", "XMinioServerNotInitialized"}
ABSENT_CODES = {"NoSuchKey", "NoSuchObject", "NoSuchBucket"}


class S3ArtifactStore:
    """Artifacts in one bucket of an S3 server (MinIO, SeaweedFS, ...)."""

    def __init__(
        self,
        endpoint: str,
        access_key: str,
        secret_key: str,
        bucket: str,
        secure: bool,
        cache_dir: Path,
        cache_bytes: int,
        pauses_seconds: Sequence[float] = PAUSES_SECONDS,
    ) -> None:
        self._where = f"bucket {bucket} at {endpoint}"
        self._bucket = bucket
        self.cache = ArtifactCache(cache_dir, cache_bytes)
        self._pauses_seconds = pauses_seconds
        # retries are made here, around whole operations: the pool's own do not cover a body that
        # breaks off
        pool = urllib3.PoolManager(maxsize=8, timeout=urllib3.Timeout(connect=5.0, read=60.0), retries=False)
        # a region that is given saves a request for it, and a right to ask
        self._client = Minio(endpoint, access_key, secret_key, secure=secure, region="us-east-1", http_client=pool)

    def put(self, folder: Path, kind: str, lineage: dict[str, Any]) -> Artifact:
        """Store a folder's files; the same files are stored once, with the lineage of the first.

        Raises:
            StorageError: if the bucket does not take them; what was sent stays invisible.
        """
        manifest = describe_folder(folder, kind, lineage)
        artifact = manifest.artifact
        if self._retried(artifact.uri, lambda: self._read_manifest(artifact.uri)) is not None:
            return artifact
        for name in manifest.files:
            self._upload(folder / name, f"{kind}/{artifact.digest}/{name}", artifact.uri)
        body = manifest.to_json().encode()
        key = f"{kind}/{artifact.digest}/{MANIFEST}"
        self._retried(artifact.uri, lambda: self._client.put_object(self._bucket, key, BytesIO(body), len(body)))
        return artifact

    def _upload(self, path: Path, key: str, uri: str) -> None:
        self._retried(uri, lambda: self._client.fput_object(self._bucket, key, str(path), part_size=PART_BYTES))

    def fetch(self, uri: str) -> Path:
        """Return a folder of the cache with the artifact's files; it stays while this process
        fetches few others.

        Raises:
            StorageError: if there is no such artifact, or the server stays away.
            CorruptArtifactError: if its files are not those of its manifest; nothing of it is kept.
        """
        cached = self.cache.take(uri) if is_artifact(uri) else None
        if cached is not None:
            return cached
        return self.cache.add(self.manifest(uri), lambda folder, manifest: self._download(folder, manifest))

    def manifest(self, uri: str) -> Manifest:
        """Return what an artifact is made of; its files are not looked at.

        Raises:
            StorageError: if there is no such artifact, or the server stays away.
            CorruptArtifactError: if that is no manifest of it.
        """
        text = self._retried(uri, lambda: self._read_manifest(uri)) if is_artifact(uri) else None
        if text is None:
            raise MissingArtifactError(f"no artifact {uri} in {self._where}")
        return read_manifest(text, uri)

    def read(self, manifest: Manifest, name: str) -> PartsOfFile:
        """Return the bytes of a file of an artifact as they come, a part at a time; they are not
        compared, and nothing is kept here.

        Raises:
            NotFoundError: if the artifact has no such file.
            StorageError: if the server does not give it, or between two parts breaks off.
        """
        uri = manifest.artifact.uri
        key = f"{manifest.kind}/{manifest.digest}/{check_file(manifest, name)}"
        response = self._retried(uri, lambda: self._get(key))
        if response is None:
            raise StorageError(f"{uri}: {name} is not in {self._where}")
        return self._parts(uri, response)

    def _parts(self, uri: str, response: Any) -> PartsOfFile:
        try:
            with response:
                yield from response.stream(CHUNK_BYTES)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise StorageError(f"{uri}: {self._where}: {_reason(error)}") from error

    def stored(self, kind: str | None = None) -> Iterator[StoredArtifact]:
        """Yield the artifacts of a kind, or all, and what uploads that did not end have left.

        Raises:
            StorageError: if the server refuses, or stays away.
        """
        sizes: dict[str, int] = defaultdict(int)
        newest: dict[str, datetime] = {}
        whole: set[str] = set()
        for found in self._listed(f"{kind}/" if kind else ""):
            name = "/".join(str(found.object_name).split("/")[:2])
            sizes[name] += found.size or 0
            moment = found.last_modified or datetime.now(UTC)
            newest[name] = max(newest.get(name, moment), moment)
            if found.object_name == f"{name}/{MANIFEST}":
                whole.add(name)
        for name, num_bytes in sizes.items():
            age = (datetime.now(UTC) - newest[name]).total_seconds()
            yield StoredArtifact(ARTIFACT + name, num_bytes, max(age, 0.0), name in whole)

    def _listed(self, prefix: str) -> list[Object]:
        def listed() -> list[Object]:
            return list(self._client.list_objects(self._bucket, prefix, recursive=True))

        return self._retried(ARTIFACT + prefix, listed)

    def remove(self, uri: str) -> None:
        """Forget an artifact, its manifest first, so that it is never seen in part, and whatever is
        there of one that is not whole; one that is not there is no error.

        Raises:
            StorageError: if the server refuses, or stays away.
        """
        if not is_artifact(uri):
            return
        place = uri.removeprefix(ARTIFACT)
        self.cache.drop(uri)
        keys = [str(found.object_name) for found in self._listed(f"{place}/")]
        for key in sorted(keys, key=lambda key: key != f"{place}/{MANIFEST}"):
            self._retried(uri, lambda key=key: self._client.remove_object(self._bucket, key))  # type: ignore[misc]

    def _download(self, folder: Path, manifest: Manifest) -> None:
        uri = manifest.artifact.uri
        for name, stored in manifest.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            key = f"{manifest.kind}/{manifest.digest}/{name}"
            found = self._retried(uri, lambda key=key, path=path: self._download_file(key, path))  # type: ignore[misc]
            if not found or describe_file(path) != stored:
                raise CorruptArtifactError(f"{uri}: {name} in {self._where} is not the file that its manifest names")

    def _download_file(self, key: str, path: Path) -> bool:
        """Return whether the object is there; write it if so."""
        response = self._get(key)
        if response is None:
            return False
        with response, path.open("wb") as file:
            for chunk in response.stream(CHUNK_BYTES):
                file.write(chunk)
        return True

    def _read_manifest(self, uri: str) -> bytes | None:
        response = self._get(f"{uri.removeprefix(ARTIFACT)}/{MANIFEST}")
        if response is None:
            return None
        with response:
            return bytes(response.read())

    def _get(self, key: str) -> Any | None:
        try:
            return self._client.get_object(self._bucket, key)
        except S3Error as error:
            if error.code in ABSENT_CODES:
                return None
            raise

    def _retried(self, uri: str, operation: Callable[[], Result]) -> Result:
        """Return what the operation returns, tried again after growing pauses while the server
        cannot be reached.
        """
        for pause in (*self._pauses_seconds, None):
            try:
                return operation()
            except (MinioException, urllib3.exceptions.HTTPError, OSError) as error:
                if pause is None or not _may_pass(error):
                    raise StorageError(f"{uri}: {self._where}: {_reason(error)}") from error
                log.warning("%s: %s: %s; again in %.1f s", uri, self._where, _reason(error), pause)
            time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")


def open_bucket(settings: Settings, pauses_seconds: Sequence[float] = PAUSES_SECONDS) -> S3ArtifactStore:
    """Return the store in the bucket that the settings name; the pauses are those after which a
    server that is away is asked again.
    """
    return S3ArtifactStore(
        endpoint=settings.s3_endpoint,
        access_key=settings.s3_access_key,
        secret_key=settings.s3_secret_key.get_secret_value(),
        bucket=settings.s3_bucket,
        secure=settings.s3_secure,
        cache_dir=settings.cache_dir,
        cache_bytes=settings.cache_bytes,
        pauses_seconds=pauses_seconds,
    )


class ArtifactCache:
    """Artifacts on this machine's disk; several processes may share it.

    The bytes of what is here are compared with the manifest when this process first takes it, and
    whenever somebody has written to them; what is not what it should be is fetched anew.
    What is not used for longest goes first, and nothing goes that a living process fetched among
    its last few.
    """

    def __init__(self, root: Path, max_bytes: int) -> None:
        self._root = root
        self._max_bytes = max_bytes
        self._locked: OrderedDict[str, int] = OrderedDict()
        self._compared: dict[str, Seen] = {}
        for leftover in root.glob("*/.partial-*"):
            if age_seconds(leftover) > STALE_SECONDS:
                shutil.rmtree(leftover, ignore_errors=True)

    def take(self, uri: str) -> Path | None:
        """Return the artifact's folder and mark it as used; None if it is not there whole."""
        folder = self._root / uri.removeprefix(ARTIFACT)
        if not self._lock_shared(uri, folder):
            return None
        try:
            manifest = read_manifest((folder / MANIFEST).read_bytes(), uri)
            found = seen(folder, manifest)
            if self._compared.get(uri) != found:
                check_bytes(folder, manifest)
            self._compared[uri] = found
        except (OSError, CorruptArtifactError) as error:
            log.warning("%s is fetched anew: %s", uri, error)
            self._release(uri)
            shutil.rmtree(folder, ignore_errors=True)
            return None
        os.utime(folder)
        return folder

    def add(self, manifest: Manifest, fill: Callable[[Path, Manifest], None]) -> Path:
        """Make an artifact's folder, let `fill` write and verify its files, and make room by
        evicting others.

        Raises:
            StorageError: if the disk does not take it.
        """
        uri = manifest.artifact.uri
        folder = self._root / uri.removeprefix(ARTIFACT)
        partial = folder.parent / f".partial-{uuid.uuid4().hex}"
        try:
            partial.mkdir(parents=True)
            fill(partial, manifest)
            (partial / MANIFEST).write_text(manifest.to_json())
            partial.rename(folder)
            self._compared[uri] = seen(folder, manifest)
        except OSError as error:
            # another process may have been quicker with the same files
            if not (folder / MANIFEST).is_file():
                raise StorageError(f"{folder}: artifact not written ({error})") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        self._lock_shared(uri, folder)
        self._evict()
        return folder

    def stored(self) -> Iterator[StoredArtifact]:
        """Yield the artifacts that are here."""
        return artifacts_below(self._root)

    def drop(self, uri: str) -> None:
        """Give the artifact's folder up for eviction and take it away, unless another process
        holds it.
        """
        if uri in self._locked:
            self._release(uri)
        _remove_unless_locked(self._root / uri.removeprefix(ARTIFACT))

    def _lock_shared(self, uri: str, folder: Path) -> bool:
        """Lock a folder against eviction; return whether it is there."""
        if uri in self._locked:
            self._locked.move_to_end(uri)
            return True
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return False
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        self._locked[uri] = descriptor
        if not folder.exists():
            self._release(uri)
            return False
        while len(self._locked) > NUM_LOCKED:
            self._release(next(iter(self._locked)))
        return True

    def _release(self, uri: str) -> None:
        os.close(self._locked.pop(uri))

    def _evict(self) -> None:
        artifacts = [(path.stat().st_mtime, path) for path in self._root.glob("*/[!.]*") if path.is_dir()]
        sizes = {path: _num_bytes(path) for _, path in artifacts}
        total = sum(sizes.values())
        for _, path in sorted(artifacts):
            if total <= self._max_bytes:
                return
            if uri_of(path.parent.name, path.name) not in self._locked and _remove_unless_locked(path):
                total -= sizes[path]


def _remove_unless_locked(folder: Path) -> bool:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        doomed = folder.rename(folder.parent / f".partial-{uuid.uuid4().hex}")
    except OSError:
        return False
    finally:
        os.close(descriptor)
    shutil.rmtree(doomed, ignore_errors=True)
    return True


def _num_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _may_pass(error: Exception) -> bool:
    if isinstance(error, S3Error):
        return error.code in PASSING_CODES
    if isinstance(error, ServerError):
        return error.status_code >= 500
    return isinstance(error, urllib3.exceptions.HTTPError | InvalidResponseError | ConnectionError)


def _reason(error: Exception) -> str:
    if isinstance(error, S3Error):
        return f"{error.code}: {error.message}"
    return str(error).splitlines()[0] if str(error) else type(error).__name__
