"""Brings the files of sources within reach: those on disk are, remote ones are fetched ahead of time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

from pipeline.records.row import Row
from pipeline.storage.base import Entry, Storage
from pipeline.storage.spool import Spool
from pipeline.storage.write_guard import fenced

THREADS = 16
"""Stills that are fetched at the same time: a request takes long, and costs little meanwhile."""
_STILLS_AHEAD = 4 * THREADS
_BYTES_AHEAD = 64 << 20
"""Of one source. A still that is larger is fetched alone."""

Joined = Entry | Row
"""A still that is to be captioned, or the row that it has already."""
Fetched = tuple[int, Joined, "Future[bytes] | None"]
"""A position, what is there, and its bytes where they are fetched ahead."""


class Fetcher:
    """``go_on`` is called now and then, and raises to give up."""

    def __init__(self, storage: Storage, go_on: Callable[[], None]) -> None:
        self._storage = storage
        self._go_on = go_on
        self._spool = Spool(storage, go_on=go_on) if storage.is_remote else None
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="fetch") if storage.is_remote else None

    def soon(self, film: Entry) -> None:
        """This film will be wanted next."""
        if self._spool is not None:
            self._spool.soon(film)

    def not_after_all(self, film: Entry) -> None:
        """A film that was said to be wanted is not."""
        if self._spool is not None:
            self._spool.forget(film)

    def film(self, film: Entry) -> AbstractContextManager[Path]:
        """A film as a file, as it was listed. Raises BadInput, StorageUnavailable."""
        return self._storage.local_path(film.key) if self._spool is None else self._spool.path(film)

    def stills(self, found: Iterable[tuple[int, Joined]]) -> Iterator[Fetched]:
        """The same in the same order, remote stills with their bytes, which come ahead of time."""
        return ((*one, None) for one in found) if self._pool is None else self._ahead(found, self._pool)

    def _ahead(self, found: Iterable[tuple[int, Joined]], pool: ThreadPoolExecutor) -> Iterator[Fetched]:
        waiting: deque[Fetched] = deque()
        size = 0
        try:
            for position, still in found:
                more = still.size if isinstance(still, Entry) else 0
                while waiting and (len(waiting) >= _STILLS_AHEAD or size + more > _BYTES_AHEAD):
                    size -= _size(waiting[0])
                    yield waiting.popleft()
                fetched = pool.submit(self._read, still) if isinstance(still, Entry) else None
                waiting.append((position, still, fetched))
                size += more
            while waiting:
                yield waiting.popleft()
        finally:
            for _, _, fetched in waiting:
                if fetched is not None:
                    fetched.cancel()

    def read(self, still: Entry) -> bytes:
        """A still as it was listed. Raises BadInput, StorageUnavailable."""
        return self._storage.read(still.key, etag=still.etag)

    def _read(self, still: Entry) -> bytes:
        with fenced(self._go_on):
            return self.read(still)

    def close(self) -> None:
        """Give up what is on its way, and remove what came."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        if self._spool is not None:
            self._spool.close()

    def __enter__(self) -> Fetcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _size(one: Fetched) -> int:
    return one[1].size if isinstance(one[1], Entry) else 0
