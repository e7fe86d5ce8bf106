"""Bounded queues between the threads of a job, which all end when one of them fails."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

_LOOK_S = 0.1
"""How often a waiting thread looks whether the run is over."""


class Stopped(Exception):
    """The run ends early: whoever gets this leaves what it does."""


class Channel(Generic[T]):
    """A bounded queue with an end. ``put`` waits while it is full, iteration while it is empty.

    Once ``stop`` is set, ``put`` raises Stopped, and iteration raises it as soon as the queue is empty, so
    that what is done already is not lost.
    """

    def __init__(self, capacity: int, stop: threading.Event) -> None:
        self._queue: queue.Queue[T] = queue.Queue(capacity)
        self._stop = stop
        self._closed = threading.Event()

    def put(self, item: T) -> None:
        """Add an item. Raises Stopped when the run ends before there is room."""
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=_LOOK_S)
                return
            except queue.Full:
                continue
        raise Stopped

    def close(self) -> None:
        """No more items will come."""
        self._closed.set()

    def __iter__(self) -> Iterator[T]:
        while True:
            # Before looking into the queue: what was put before closing is then seen.
            closed, stopped = self._closed.is_set(), self._stop.is_set()
            try:
                yield self._queue.get(not (closed or stopped), _LOOK_S)
            except queue.Empty:
                if closed:
                    return
                if stopped:
                    raise Stopped from None
