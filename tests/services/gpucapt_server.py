"""`gpucapt serve` as people start it: a process of its own on a free port."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.pipeline.jobs import command, environment

_TIMEOUT_S = 240


class Server:
    """A server that runs; ``client`` asks it."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url
        self.client = httpx.Client(base_url=url, timeout=_TIMEOUT_S)

    def wait_until_ready(self) -> None:
        """Until the model is loaded."""
        deadline = time.monotonic() + _TIMEOUT_S
        while self.client.get("/ready").status_code != 200:
            assert self.process.poll() is None, "the server has ended"
            assert time.monotonic() < deadline, "the model is not loaded"
            time.sleep(0.1)

    def end(self) -> int:
        """Ask it to end; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(_TIMEOUT_S)

    def memory_kb(self) -> int | None:
        """How much memory it holds; None where the system does not tell."""
        status = Path(f"/proc/{self.process.pid}/status")
        lines = status.read_text().splitlines() if status.is_file() else []
        return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS:")), None)


@contextmanager
def started(*options: str | Path, **variables: str) -> Iterator[Server]:
    """A server with these options and variables; it need not be ready."""
    line = command("serve", "--port", "0", "--device", "cpu", "--precision", "fp32", *options)
    process = subprocess.Popen(line, stderr=subprocess.PIPE, text=True, env=environment(**variables))
    try:
        assert process.stderr is not None
        first = process.stderr.readline()
        assert "listening on http://" in first, first + process.stderr.read()
        server = Server(process, first.split()[-1])
        with server.client:
            yield server
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


@contextmanager
def running(*options: str | Path, **variables: str) -> Iterator[Server]:
    """As ``started``, with its model loaded."""
    with started(*options, **variables) as server:
        server.wait_until_ready()
        yield server
