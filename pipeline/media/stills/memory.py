"""How much memory decoding stills may take, and who waits until there is enough of it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

DECODING_MEMORY = 1 << 30
"""Bytes that one process takes for stills that it decodes at the same time, beside their files. One that
would take more alone is refused before it is decoded."""


class Budget:
    """Lets as many decode at the same time as fit into so many bytes, first come, first served.

    Whoever comes later waits behind a large one that waits, so that small ones cannot keep it waiting for
    ever.
    """

    def __init__(self, limit: int = DECODING_MEMORY) -> None:
        self.limit = limit
        self._free = limit
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def room(self, memory: int) -> Iterator[None]:
        """Have so many bytes for as long as the context lasts. Raises ValueError for more than there are."""
        if memory > self.limit:
            raise ValueError(f"{memory} bytes are more than the {self.limit} that there are")
        turn = object()
        with self._changed:
            self._waiting.append(turn)
            try:
                self._changed.wait_for(lambda: self._waiting[0] is turn and memory <= self._free)
                self._free -= memory
            finally:  # also where Ctrl-C ends the wait
                self._waiting.remove(turn)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += memory
                self._changed.notify_all()
