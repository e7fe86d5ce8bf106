"""How far a job is: a bar on a terminal, a line every few seconds in logs."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID


LOG_EVERY_S = 5.0

_log = logging.getLogger("gpucapt")

OnProgress = Callable[[int, int], None]
"""Called now and then with how many are done, and of how many."""


class Progress:
    """Counts what is done, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self.frames = 0
        self.sources = 0
        self.set_aside = 0
        self.current = ""

    def begin(self, key: str, first: int) -> None:
        """Work on a source begins, at position ``first``."""
        with self._lock:
            self.current = key
        if first:
            _log.info("going on with %s after %d frames", json.dumps(key, ensure_ascii=False), first)

    def captioned(self, frames: int) -> None:
        """So many more frames have captions."""
        with self._lock:
            self.frames += frames

    def end(self, key: str, status: str, frames: int = 0) -> None:
        """A source is finished, one way or the other."""
        with self._lock:
            self.sources += 1
            self.set_aside += status == "set aside"
        if status == "captioned":
            _log.debug("captioned %s: %d frames", json.dumps(key, ensure_ascii=False), frames)

    @property
    def rate(self) -> float:
        """Captioned frames a second, since the beginning."""
        return self.frames / max(time.monotonic() - self._started, 1e-9)

    def line(self) -> str:
        """Where things stand, as ``name=value`` pairs."""
        with self._lock:
            return (
                f"progress sources={self.sources} frames={self.frames} frames_per_s={self.rate:.1f}"
                f" set_aside={self.set_aside} elapsed_s={time.monotonic() - self._started:.0f}"
                f" current={json.dumps(self.current, ensure_ascii=False)}"
            )


@contextmanager
def shown(progress: Progress, how: str = "auto") -> Iterator[None]:
    """Show progress meanwhile: "bar", "log" or "none"; "auto" is a bar where a person looks on."""
    if how == "auto":
        how = "bar" if sys.stderr.isatty() else "log"
    if how == "none":
        yield
        return
    over = threading.Event()
    teller = threading.Thread(
        target=_show_bar if how == "bar" else _write_lines,
        args=(progress, over),
        name="progress",
        daemon=True,
    )
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Say meanwhile what takes so long, where a person looks on."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(f"{what} …"):
        yield


def _write_lines(progress: Progress, over: threading.Event) -> None:
    told = ""
    while not over.wait(LOG_EVERY_S):
        told = progress.line()
        _log.info(told)
    if told:
        _log.info(progress.line())


def _show_bar(progress: Progress, over: threading.Event) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (
        BarColumn(20),
        TextColumn(
            "{task.fields[frames]} frames · {task.fields[rate]:.1f}/s · {task.fields[sources]} sources"
        ),
        TimeElapsedColumn(),
        TextColumn("{task.fields[current]}", markup=False),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, frames=0, rate=0.0, sources=0, current="")
        while not over.wait(0.2):
            _update(bar, task, progress)
        _update(bar, task, progress)


def _update(bar: Bar, task: TaskID, progress: Progress) -> None:
    bar.update(
        task,
        frames=progress.frames,
        rate=progress.rate,
        sources=progress.sources,
        current=progress.current.replace("\n", " ")[-60:],
    )


def log_progress(what: str, seconds: float = LOG_EVERY_S) -> OnProgress:
    """A log line every few seconds, and one at the end."""
    last = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal last
        if done == total or time.monotonic() - last >= seconds:
            last = time.monotonic()
            _log.info("%d of %d %s", done, total, what)

    return progress
