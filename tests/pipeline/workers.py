"""Real worker processes that start at once: copies of one that has loaded torch already."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

from pipeline.runtime.socket_paths import shorten_socket_paths

_PRELOADED = [
    "cv2",
    "botocore.session",
    "torch",
    "model.captioner",
    "pipeline.captioning.job",
    "pipeline.captioning.run",
]


class Worker:
    """`gpucapt ARGUMENTS` in a process of its own, whose parts are of some 16 rows."""

    def __init__(self, arguments: list[str], log: Path, **environment: str) -> None:
        shorten_socket_paths()
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_PRELOADED)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GPUCAPT_")}
        self.log = log
        self._process: BaseProcess = context.Process(
            target=_work, args=(arguments, str(log), {**kept, **environment})
        )
        self._process.start()

    def kill(self) -> bool:
        """SIGKILL; whether it was still running."""
        was_running = self._process.is_alive()
        self._process.kill()
        self._process.join()
        return was_running and self._process.exitcode == -signal.SIGKILL

    def stop(self) -> bool:
        """SIGSTOP: it does nothing until it is woken; whether it was still running."""
        try:
            self._signal(signal.SIGSTOP)
        except ProcessLookupError:
            return False
        return True

    def wake(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def terminate(self) -> None:
        """SIGTERM."""
        self._signal(signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def end(self, *, within_s: float = 120) -> int:
        """Wait for its end; the exit code."""
        self._process.join(within_s)
        assert self._process.exitcode is not None, f"it goes on and on: {self.said()}"
        return self._process.exitcode

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.is_alive()

    def said(self) -> str:
        """What it wrote to the standard output and error."""
        return self.log.read_text(encoding="utf-8") if self.log.exists() else ""


def _work(arguments: list[str], log: str, environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    with open(log, "ab", buffering=0) as file:  # noqa: PTH123
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    import cv2
    import torch

    from pipeline.captioning import row_writer
    from pipeline.cli import main

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    row_writer.ROWS_A_PART = 16
    sys.argv = ["gpucapt", *arguments]
    main.main()


def wait_until(happened: Callable[[], object], *, within_s: float = 60) -> None:
    """Wait for something to be true."""
    deadline = time.monotonic() + within_s
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)
