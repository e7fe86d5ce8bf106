"""What of a listing can be read: objects that are archived are left out, and told of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

from pipeline.runtime.ordered_results import ordered_results
from pipeline.storage.base import Entry, Storage

_AT_ONCE = 16
_AHEAD = 4 * _AT_ONCE

_Found = tuple[Entry, str | None]


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

    def _looked_up(self) -> Iterator[_Found]:
        """Each object with why it is out of reach; several are asked for at once."""
        # No thread is started before it is needed.
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="archived") as pool:
            submitted = (self._asked(entry, pool) for entry in self._entries)
            with closing(ordered_results(submitted, _AHEAD)) as found:
                yield from found

    def _asked(self, entry: Entry, pool: ThreadPoolExecutor) -> Future[_Found] | _Found:
        if entry.may_be_archived and not self._needless(entry):
            return pool.submit(lambda: (entry, self._storage.why_archived(entry)))
        return entry, None
