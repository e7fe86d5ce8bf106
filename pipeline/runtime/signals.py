"""Ctrl-C and SIGTERM: a job ends in order, keeps what is done and says how it ended."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(Exception):
    """A signal ended the run early; what was done by then is safe."""

    def __init__(self, signal_number: int) -> None:
        name = signal.Signals(signal_number).name
        super().__init__(f"stopped by {name}; what is done is kept, run the same command to go on")
        self.signal_number = signal_number


def end_on_sigterm_as_first_process() -> None:
    """The kernel spares the first process of a container signals that it does not handle: handle SIGTERM.

    Jobs that have something to keep put their own handler in its place.
    """
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda number, frame: os._exit(128 + number))


@contextmanager
def raised_on_sigterm() -> Iterator[None]:
    """Let SIGTERM raise Interrupted here, so that temporary folders go and what there is can be kept."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    got: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        got.append(number)
        signal.signal(number, signal.SIG_DFL)  # a second one ends the process at once
        # No mere exception: it may come in the middle of code that catches those.
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except SystemExit as ending:
        # Lightning ends itself on SIGTERM, and as if all were well.
        if got:
            raise Interrupted(got[0]) from ending
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def stopped_by_signals(stop_job: Callable[[int], None]) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM call ``stop_job`` with their number; a second one ends the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    got: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if got:
            os._exit(128 + number)
        got.append(number)
        stop_job(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
