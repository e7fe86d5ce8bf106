"""Real streams for tests: a network camera of ours, and Debian's ffmpeg as a sender."""

from __future__ import annotations

import io
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

COLOURS = ("red", "green", "blue", "yellow", "white", "black", "orange", "purple", "cyan", "brown")


def free_port() -> int:
    """A port that nobody listens at just now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def jpeg(number: int) -> bytes:
    """A small picture; ten in a row differ."""
    image = Image.new("RGB", (64, 48), COLOURS[number % 10])
    image.paste(COLOURS[(number * 3 + 1) % 10], (0, 0, 32, 24))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


class NetworkCamera:
    """A camera that serves Motion JPEG over HTTP, as those in many offices do; ``fps`` frames a second.

    ``cut`` breaks every connection off; it refuses new ones until ``mend``. It shows ``frames`` frames on
    each connection, or goes on for ever, to who sends the ``authorization``, if it wants one.
    """

    def __init__(
        self, fps: float = 10.0, frames: int | None = None, authorization: str | None = None
    ) -> None:
        self.connections = 0
        self.paths: list[str] = []
        self._authorization = authorization
        self._is_cut = threading.Event()
        self._fps = fps
        self._frames = frames
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                camera._serve(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/video"

    def cut(self) -> None:
        """Lose the connection."""
        self._is_cut.set()

    def mend(self) -> None:
        """Be there again."""
        self._is_cut.clear()

    def _serve(self, request: BaseHTTPRequestHandler) -> None:
        if self._is_cut.is_set():
            request.send_error(503)
            return
        if self._authorization not in (None, request.headers.get("Authorization")):
            request.send_response(401)
            request.send_header("WWW-Authenticate", 'Basic realm="camera"')
            request.end_headers()
            return
        self.connections += 1
        self.paths.append(request.path)
        request.send_response(200)
        request.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        request.end_headers()
        number, begun = 0, time.monotonic()
        while not self._is_cut.is_set() and number != self._frames:
            data = jpeg(number)
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            try:
                request.wfile.write(head.encode() + data + b"\r\n")
            except OSError:
                return
            number += 1
            time.sleep(max(0.0, begun + number / self._fps - time.monotonic()))

    def __enter__(self) -> NetworkCamera:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._is_cut.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def sender(*options: str, seconds: float = 30, fps: int = 10) -> Iterator[subprocess.Popen[bytes]]:
    """ffmpeg, sending a moving test picture in real time where its last options say."""
    picture = f"testsrc=size=64x48:rate={fps}:duration={seconds}"
    line = ["ffmpeg", "-nostdin", "-v", "error", "-re", "-f", "lavfi", "-i", picture, "-g", "5", *options]
    process = subprocess.Popen(line, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
