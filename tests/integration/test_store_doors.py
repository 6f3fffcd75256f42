"""The S3 server of `stack up` has no side door: whoever has no key reads, changes and deletes
nothing, by whichever of its ports.
"""

import io
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3
from minio import Minio
from restmcts_cli.processes.server_processes import HOST, NAME
from restmcts_cli.processes.stack_processes import Stack

PATHS = (
    f"/buckets/{NAME}/a/weights.bin",
    f"/buckets/{NAME}/?recursive=true",
    f"/col/delete?collection={NAME}",
    "/dir/assign",
    "/submit",
    "/vol/vacuum",
    f"/{NAME}/a/weights.bin",
)
SECRET = b"weights that nobody else may read" * 1000


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("store"), {})
    stack.folder.mkdir(exist_ok=True)
    stack.start_server("s3")
    yield stack
    stack.down()


@pytest.fixture(scope="module")
def bucket(stack: Stack) -> Minio:
    settings = stack.settings
    keys = (settings["RESTMCTS_S3_ACCESS_KEY"], settings["RESTMCTS_S3_SECRET_KEY"])
    client = Minio(settings["RESTMCTS_S3_ENDPOINT"], *keys, secure=False, region="us-east-1")
    client.put_object(NAME, "a/weights.bin", io.BytesIO(SECRET), len(SECRET))
    return client


def ports_of(stack: Stack) -> list[int]:
    return list(json.loads((stack.folder / "state.json").read_text())["servers"]["s3"]["ports"])


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE"])
def test_without_a_key_no_port_gives_or_takes_anything(stack: Stack, bucket: Minio, method: str) -> None:
    pool = urllib3.PoolManager(retries=False, timeout=3.0)
    for port in ports_of(stack):
        for path in PATHS:
            try:
                answer = pool.request(method, f"http://{HOST}:{port}{path}", body=b"evil" if method[0] == "P" else None)
            except urllib3.exceptions.HTTPError:
                continue
            assert answer.status >= 400, (port, path, answer.status)
            assert SECRET[:30] not in answer.data
            assert "Authorization" not in answer.headers, "a token to write with"
    with bucket.get_object(NAME, "a/weights.bin") as found:
        assert found.read() == SECRET
    assert [item.object_name for item in bucket.list_objects(NAME, recursive=True)] == ["a/weights.bin"]


def test_grpc_ports_ask_for_a_certificate(stack: Stack, bucket: Minio) -> None:
    refused = 0
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for port in ports_of(stack)[1::2]:
        try:
            with socket.create_connection((HOST, port), timeout=3.0) as raw, context.wrap_socket(raw) as connection:
                connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
                assert connection.recv(100) == b"", f"port {port} speaks with whoever comes"
        except (ssl.SSLError, ConnectionError):
            refused += 1
    assert refused >= 3, "master, volume and filer at least"


def test_keys_of_the_servers_are_their_owners_alone(stack: Stack) -> None:
    for path in (stack.folder / "s3").glob("grpc.*"):
        assert Path(path).stat().st_mode & 0o077 == 0
