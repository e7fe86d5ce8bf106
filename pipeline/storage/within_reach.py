"""What of a listing can be read: objects that are archived are left out, and told of."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from pipeline.storage.base import Entry, Storage

_AT_ONCE = 16
_AHEAD = 4 * _AT_ONCE


def _never(entry: Entry) -> bool:
    return False


class WithinReach:
    """Of these objects those that can be read, in their order; afterwards what is known of the others.

    ``needless`` says of which objects it does not matter.
    """

    def __init__(
        self, storage: Storage, entries: Iterable[Entry], *, needless: Callable[[Entry], bool] = _never
    ) -> None:
        self._storage = storage
        self._entries = entries
        self._needless = needless
        self._first: tuple[str, str] | None = None
        self._archived = 0
        self._digest = hashlib.sha256()

    def __iter__(self) -> Iterator[Entry]:
        for entry, reason in self._looked_up():
            if reason is None:
                yield entry
                continue
            self._first = self._first or (entry.name, reason)
            self._archived += 1
            self._digest.update(json.dumps([entry.key, entry.etag]).encode())

    @property
    def archived(self) -> int:
        """How many are archived."""
        return self._archived

    @property
    def digest(self) -> str:
        """Which ones are archived, in short."""
        return self._digest.hexdigest()

    @property
    def out_of_reach(self) -> tuple[str, str] | None:
        """The name of the first that is archived, and why that and the others cannot be read; None where
        all can."""
        if self._first is None or self._archived == 1:
            return self._first
        name, reason = self._first
        return name, f"{reason} (and {self._archived - 1} more of this folder)"

    def _looked_up(self) -> Iterator[tuple[Entry, str | None]]:
        """Each object with why it is out of reach; several are asked for at once."""
        pool: ThreadPoolExecutor | None = None
        waiting: deque[tuple[Entry, Future[str | None] | None]] = deque()
        try:
            for entry in self._entries:
                asked = None
                if entry.may_be_archived and not self._needless(entry):
                    pool = pool or ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="archived")
                    asked = pool.submit(self._storage.why_archived, entry)
                waiting.append((entry, asked))
                while waiting and (waiting[0][1] is None or len(waiting) > _AHEAD):
                    yield _answered(*waiting.popleft())
            while waiting:
                yield _answered(*waiting.popleft())
        finally:
            if pool is not None:
                pool.shutdown(wait=False, cancel_futures=True)


def _answered(entry: Entry, asked: Future[str | None] | None) -> tuple[Entry, str | None]:
    return entry, None if asked is None else asked.result()
