"""An endpoint that fails as it is told to: for what a real one does not do on demand.

It speaks just enough of OpenAI's protocol to be asked, and answers each chat with the next of its acts.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Act = Callable[["Handler"], None]


@dataclass
class FailingEndpoint:
    """A running server and what it was asked."""

    acts: list[Act]
    url: str = ""
    chats: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    models: tuple[str, ...] = ("the-only-one",)
    over: threading.Event = field(default_factory=threading.Event)


class Handler(BaseHTTPRequestHandler):
    """Answers a request by the next act; the last one stays."""

    protocol_version = "HTTP/1.1"
    endpoint: FailingEndpoint

    def do_GET(self) -> None:
        self.answer(200, {"object": "list", "data": [{"id": name} for name in self.endpoint.models]})

    def do_POST(self) -> None:
        self.endpoint.chats.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.endpoint.headers.append({name.lower(): value for name, value in self.headers.items()})
        acts = self.endpoint.acts
        (acts.pop(0) if len(acts) > 1 else acts[0])(self)

    def answer(self, status: int, content: object, **headers: str) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def send(self, text: str) -> None:
        data = text.encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def send_piece(self, text: str, finish: str | None = None) -> None:
        choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}
        chunk = {
            "id": "1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "m",
            "choices": [choice],
        }
        self.send(f"data: {json.dumps(chunk)}\n\n")

    def log_message(self, format: str, *args: Any) -> None:
        pass


def says(*pieces: str, finish: str = "stop") -> Act:
    """Tell these pieces and end well."""

    def act(handler: Handler) -> None:
        handler.begin_stream()
        for piece in pieces:
            handler.send_piece(piece)
        handler.send_piece("", finish)
        handler.send("data: [DONE]\n\n")
        handler.send("")

    return act


def refuses(status: int, message: str = "no", code: str | None = None, **headers: str) -> Act:
    """Answer with a status and an error as OpenAI writes it."""
    return lambda handler: handler.answer(status, {"error": {"message": message, "code": code}}, **headers)


def breaks_off(*pieces: str) -> Act:
    """Begin to tell, then close the connection."""

    def act(handler: Handler) -> None:
        handler.begin_stream()
        for piece in pieces:
            handler.send_piece(piece)
        handler.close_connection = True

    return act


def hangs(*pieces: str, breathing: bool = False) -> Act:
    """Begin to tell, or not even that, then say nothing more; ``breathing`` sends comments all the time."""

    def act(handler: Handler) -> None:
        if pieces or breathing:
            handler.begin_stream()
        for piece in pieces:
            handler.send_piece(piece)
        while not handler.endpoint.over.wait(0.05):
            if breathing:
                handler.send(": still working\n\n")
        handler.close_connection = True

    return act


def gibberish(body: bytes, content_type: str = "text/html") -> Act:
    """Answer with something that is no chat at all."""

    def act(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", content_type)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return act


@contextmanager
def failing_endpoint(*acts: Act, models: Sequence[str] = ("the-only-one",)) -> Iterator[FailingEndpoint]:
    """Run such an endpoint."""
    endpoint = FailingEndpoint(list(acts), models=tuple(models))
    handler = type("ThisHandler", (Handler,), {"endpoint": endpoint})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]
    endpoint.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        endpoint.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
