"""A bad network in front of a real server: an HTTP proxy that passes requests on, unless told otherwise."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

Kind = Literal["truncate", "reset", "damage", "slow down", "lose the answer", "hang", "conflict", "break"]
"""truncate: close the connection in the middle of a body. reset: the same, by a reset. damage: change a byte
of it. slow down, break, conflict: answer 503, 500, 409 without asking the server. lose the answer: ask the
server, then close the connection. hang: never answer."""

_ANSWERS = {
    "slow down": (503, "SlowDown"),
    "break": (500, "InternalError"),
    "conflict": (409, "ConditionalRequestConflict"),
}
_SOME = 1000
"""Bytes of a body that come before it is broken off."""


@dataclass
class _Fault:
    kind: Kind
    times: float
    method: str
    contains: str


@dataclass
class _Saying:
    method: str
    contains: str
    headers: dict[str, str]


@dataclass
class Network:
    """The way to a server. Without faults it is as good as none at all."""

    endpoint: str
    requests: list[str] = field(default_factory=list)
    """Method and path of every request that came."""
    _faults: list[_Fault] = field(default_factory=list)
    _sayings: list[_Saying] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _over: threading.Event = field(default_factory=threading.Event)

    def fail(self, kind: Kind, *, times: float = 1, method: str = "", contains: str = "") -> None:
        """Do this to the next requests with this method and this text in their path."""
        with self._lock:
            self._faults.append(_Fault(kind, times, method, contains))

    def say(self, *, method: str = "", contains: str = "", headers: dict[str, str]) -> None:
        """From now on good answers to requests with this method and this text in their path have these
        headers, too: what other servers say."""
        with self._lock:
            self._sayings.append(_Saying(method, contains, headers))

    def heal(self) -> None:
        """Forget all faults that are still to come, and what other servers say."""
        with self._lock:
            self._faults.clear()
            self._sayings.clear()

    @property
    def is_spent(self) -> bool:
        """Whether every fault has happened."""
        with self._lock:
            return not self._faults

    def _said(self, method: str, path: str) -> dict[str, str]:
        with self._lock:
            fitting = (one for one in self._sayings if one.method in ("", method) and one.contains in path)
            return {name: value for one in fitting for name, value in one.headers.items()}

    def _next(self, method: str, path: str) -> Kind | None:
        with self._lock:
            self.requests.append(f"{method} {path}")
            for fault in self._faults:
                if fault.method in ("", method) and fault.contains in path:
                    fault.times -= 1
                    if fault.times <= 0:
                        self._faults.remove(fault)
                    return fault.kind
        return None


@contextmanager
def faulty_network(endpoint: str) -> Iterator[Network]:
    """A proxy before a server's endpoint."""
    place = urlsplit(endpoint).netloc
    network = Network("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            return

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            kind = network._next(self.command, self.path)
            self.close_connection = kind is not None
            if kind in _ANSWERS:
                self._refuse(*_ANSWERS[kind])
            elif kind == "hang":
                network._over.wait(60)
            else:
                self._pass_on(body, kind)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any

        def _refuse(self, status: int, code: str) -> None:
            text = f"<Error><Code>{code}</Code><Message>told to</Message></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else text)

        def _pass_on(self, body: bytes, kind: Kind | None) -> None:
            server = http.client.HTTPConnection(place, timeout=60)
            server.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("expect", "connection"):
                    server.putheader(name, value)
            server.endheaders(body or None)
            answer = server.getresponse()
            content = answer.read()
            server.close()
            if kind == "lose the answer":
                return
            self.send_response_only(answer.status)
            said = network._said(self.command, self.path) if answer.status < 300 else {}
            ours = {"transfer-encoding", "content-length", "connection", *map(str.lower, said)}
            told = [(name, value) for name, value in answer.getheaders() if name.lower() not in ours]
            for name, value in (*told, *said.items()):
                self.send_header(name, value)
            length = answer.headers.get("Content-Length") if self.command == "HEAD" else str(len(content))
            self.send_header("Content-Length", length or "0")
            self.end_headers()
            if kind in ("truncate", "reset"):
                content = content[: min(_SOME, len(content) // 2)]
            elif kind == "damage" and content:
                content = content[:-1] + bytes([content[-1] ^ 1])
            self.wfile.write(content)
            if kind == "reset":
                self.wfile.flush()
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: object, client_address: object) -> None:
            return  # whoever called has gone, as is to be expected here

    with Server(("127.0.0.1", 0), Handler) as server:
        network.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield network
        finally:
            network._over.set()
            server.shutdown()
            thread.join()
