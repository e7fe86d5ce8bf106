"""How many sources are read at the same time, and how many more are taken meanwhile.

Looking whether a source is done, claiming it and beginning to fetch it are requests to a remote storage,
which take their time and cost nothing else. So more sources are looked at than are read; but few are claimed
ahead of their turn, and only one that is large, so that other workers get their share.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.records.source_info import SourceKind

_LOOKED_AT = 16
_TAKEN = 8
_BYTES_TAKEN = 256 << 20
_FOLDERS_READ = 4
"""Folders of stills that are read at once from a remote storage: small ones are mostly waiting."""
_LOOK_S = 0.1


class Turns:
    """``readers`` sources are read at the same time; ``go_on`` raises to give up waiting."""

    def __init__(self, readers: int, *, is_remote: bool, go_on: Callable[[], None]) -> None:
        self.are_taken_ahead = is_remote
        self.threads = readers + (_LOOKED_AT if is_remote else 0)
        """Threads that take sources."""
        folders = max(readers, _FOLDERS_READ) if is_remote else readers
        self._reading: dict[SourceKind, threading.Semaphore] = {
            "video": threading.Semaphore(readers),
            "stills": threading.Semaphore(folders),
        }
        self._go_on = go_on
        self._changed = threading.Condition()
        self._ahead: list[int] = []

    @contextmanager
    def room(self, size: int) -> Iterator[None]:
        """Be taken ahead of one's turn, for as long as the context lasts: a source of so many bytes."""
        if not self.are_taken_ahead:
            yield
            return
        with self._changed:
            while self._ahead and (len(self._ahead) >= _TAKEN or sum(self._ahead) + size > _BYTES_TAKEN):
                self._go_on()
                self._changed.wait(_LOOK_S)
            self._ahead.append(size)
        try:
            yield
        finally:
            with self._changed:
                self._ahead.remove(size)
                self._changed.notify_all()

    def begin(self, kind: SourceKind) -> None:
        """Wait for the turn to be read."""
        while not self._reading[kind].acquire(timeout=_LOOK_S):
            self._go_on()

    def end(self, kind: SourceKind) -> None:
        """The turn is over."""
        self._reading[kind].release()
