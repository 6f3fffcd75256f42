"""Servers over plain sockets that answer no request as they should: they drip, say nothing, never
end, or send their callers elsewhere.
"""

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from typing import Self

SECONDS_BETWEEN_BYTES = 0.1
_OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
_PART = b" " * 2**16

Answer = Callable[["HostileServer", socket.socket], None]


@dataclass
class HostileServer:
    """Gives every connection to `answer`; use as a context manager.

    Attributes:
        answer: what is done with a connection.
        elsewhere: the `host:port` that callers are sent to.
        num_connections: so far.
        num_bytes_sent: so far.
    """

    answer: Answer
    elsewhere: str = ""
    num_connections: int = 0
    num_bytes_sent: int = 0
    _ended: Event = field(default_factory=Event)
    _lock: Lock = field(default_factory=Lock)

    def __enter__(self) -> Self:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._threads = [Thread(target=self._accept)]
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        # A connection of its own wakes the thread that accepts.
        with suppress(OSError), socket.create_connection(self._listening.getsockname()):
            pass
        for thread in self._threads:
            thread.join()
        self._listening.close()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._listening.getsockname()[1]}"

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    def send(self, connection: socket.socket, sent: bytes) -> None:
        """Send bytes at once."""
        connection.sendall(sent)
        with self._lock:
            self.num_bytes_sent += len(sent)

    def drip(self, connection: socket.socket, sent: bytes) -> None:
        """Send bytes one by one, then blanks forever."""
        place = 0
        while not self._ended.wait(SECONDS_BETWEEN_BYTES):
            self.send(connection, sent[place : place + 1] or b" ")
            place += 1

    def _accept(self) -> None:
        while not self.ended:
            connection, _ = self._listening.accept()
            with self._lock:
                self.num_connections += 1
            self._threads.append(Thread(target=self._serve, args=(connection,)))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(1.0)
        with connection, suppress(OSError):
            self.answer(self, connection)


def drips_its_body(server: HostileServer, connection: socket.socket) -> None:
    """Answer with headers at once and a byte now and then."""
    _read(connection)
    server.send(connection, _OK + b"Content-Length: 1000000\r\n\r\n")
    server.drip(connection, b"{")


def drips_its_headers(server: HostileServer, connection: socket.socket) -> None:
    """Answer with a header that does not end."""
    _read(connection)
    server.send(connection, _OK)
    server.drip(connection, b"X-Header: ")


def drips_its_handshake(server: HostileServer, connection: socket.socket) -> None:
    """Begin a TLS record of a handshake, and send it byte by byte."""
    _read(connection)
    server.drip(connection, b"\x16\x03\x03\x40\x00")


def says_nothing(server: HostileServer, connection: socket.socket) -> None:
    """Take a request and keep the connection."""
    while not server.ended:
        time.sleep(SECONDS_BETWEEN_BYTES)


def never_ends(server: HostileServer, connection: socket.socket) -> None:
    """Answer as fast as it goes, forever."""
    _read(connection)
    server.send(connection, _OK + b"Transfer-Encoding: chunked\r\n\r\n")
    while not server.ended:
        server.send(connection, b"%x\r\n%b\r\n" % (len(_PART), _PART))


def answers_compressed(server: HostileServer, connection: socket.socket) -> None:
    """Answer in a compressed form, which may be small here and large there."""
    _read(connection)
    server.send(connection, _OK + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}")


def redirects(server: HostileServer, connection: socket.socket) -> None:
    """Send every caller to the same path elsewhere."""
    path = _read(connection).split(b" ")[1].decode()
    server.send(
        connection,
        f"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://{server.elsewhere}{path}\r\n".encode()
        + b"Content-Length: 0\r\nConnection: close\r\n\r\n",
    )


def says(body: bytes, status: str = "200 OK") -> Answer:
    """Return what answers every request so."""

    def answer(server: HostileServer, connection: socket.socket) -> None:
        _read(connection)
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        server.send(connection, head.encode() + b"Connection: close\r\n\r\n" + body)

    return answer


def breaks(server: HostileServer, connection: socket.socket) -> None:
    """Answer with an error of its own."""
    _read(connection)
    server.send(
        connection,
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 6\r\nConnection: close\r\n\r\nbroken",
    )


def _read(connection: socket.socket) -> bytes:
    request = connection.recv(2**16)
    if not request:
        raise ConnectionResetError("nothing was asked")
    return request
