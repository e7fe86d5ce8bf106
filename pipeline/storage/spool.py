"""Films on remote storage, fetched into a temporary folder of limited size, the next while one is read.

OpenCV opens files, so a film is fetched whole, by parallel ranges (``Storage.download``). What lies in the
folder stays below a limit; a film that is larger than that is fetched all the same, alone.
"""

from __future__ import annotations

import errno
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from pipeline.errors import BadInput, StorageUnavailable
from pipeline.runtime.config import tuning
from pipeline.runtime.temp_folders import ScratchFolder
from pipeline.storage.base import Entry, Storage

_AT_THE_SAME_TIME = 2
"""Films that are being fetched; each by many requests already."""
_LOOK_S = 0.1


class _GivenUp(Exception):
    """Nobody wants this film any more."""


class _NoRoom(Exception):
    """The disk is full, or would be."""


@dataclass(slots=True, eq=False)
class _Film:
    """A film that is in the folder, or on its way there."""

    entry: Entry
    path: Path
    users: int = 0
    announced: int = 0
    """Users that have said that they will come."""
    dropped: bool = False
    fetched: Future[None] = field(default_factory=Future)


class Spool:
    """Films as local files. ``folder`` and ``limit_bytes`` are the operator's settings where not given.

    ``go_on`` is called now and then while something is fetched or waited for, and raises to give up.
    """

    def __init__(
        self,
        storage: Storage,
        limit_bytes: int | None = None,
        folder: Path | None = None,
        *,
        go_on: Callable[[], None] = lambda: None,
    ) -> None:
        self._storage = storage
        settings = tuning()
        self._limit = limit_bytes
        self._most = int(settings.spool_size)
        self._parent = folder or settings.spool
        self._go_on = go_on
        self._films: dict[tuple[str, str], _Film] = {}
        self._changed = threading.Condition()
        self._fetchers = ThreadPoolExecutor(_AT_THE_SAME_TIME, thread_name_prefix="spool")
        self._own: ScratchFolder | None = None
        self._count = 0
        self._closed = False

    def soon(self, entry: Entry) -> None:
        """Begin to fetch a film that will be wanted, if there is room. Never waits."""
        with self._changed:
            film = self._films.get(_identity(entry))
            if film is None and not self._closed and self._fits(entry):
                film = self._start(entry)
            if film is not None:
                film.announced += 1

    def forget(self, entry: Entry) -> None:
        """A film that was announced is not wanted after all."""
        with self._changed:
            film = self._films.get(_identity(entry))
            if film is not None:
                film.announced = max(0, film.announced - 1)
                if film.users == 0 and film.announced == 0:
                    self._drop(film)

    @contextmanager
    def path(self, entry: Entry) -> Iterator[Path]:
        """The film as a file, as it was listed, for as long as the context lasts.

        Waits until it is there. Raises BadInput when the film is gone or has changed; StorageUnavailable when
        it cannot be fetched for reasons that are not its own, such as a disk on which it has no room.
        """
        film = self._use(entry)
        try:
            try:
                self._wait(film)
            except _NoRoom:
                self._leave(film)
                film = self._use(entry, alone=True)
                self._wait_alone(film)
            with _told_by_its_own_name(film):
                yield film.path
        finally:
            self._leave(film)

    def close(self) -> None:
        """Give up what is being fetched and remove the folder."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._fetchers.shutdown(wait=False, cancel_futures=True)
        if self._own is not None:
            self._own.remove()

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _use(self, entry: Entry, *, alone: bool = False) -> _Film:
        with self._changed:
            while True:
                self._check()
                film = self._films.get(_identity(entry))
                if film is not None and not alone:
                    film.announced = max(0, film.announced - 1)
                    film.users += 1
                    return film
                if not self._films or (not alone and self._fits(entry)):
                    film = self._start(entry)
                    film.users = 1
                    return film
                # What waits for its turn must not keep out what has its turn.
                idle = next((film for film in reversed(self._films.values()) if film.users == 0), None)
                if idle is not None:
                    self._drop(idle)
                else:
                    self._changed.wait(_LOOK_S)

    def _leave(self, film: _Film) -> None:
        with self._changed:
            film.users -= 1
            if film.users <= 0 and (film.announced == 0 or _failed(film.fetched)) and not film.dropped:
                self._drop(film)
            self._changed.notify_all()

    def _wait(self, film: _Film) -> None:
        while True:
            self._check()
            try:
                film.fetched.result(_LOOK_S)
                return
            except TimeoutError:
                if film.fetched.done():
                    raise

    def _wait_alone(self, film: _Film) -> None:
        try:
            self._wait(film)
        except _NoRoom:
            folder, entry = film.path.parent, film.entry
            raise StorageUnavailable(
                f"there is no room in {folder.parent} for {entry.key}: it has {_in_words(entry.size)}, and"
                f" {_in_words(_free(folder))} are free; make room, or set GPUCAPT_SPOOL to a folder on a"
                " larger disk"
            ) from None

    def _fits(self, entry: Entry) -> bool:
        taken = sum(film.entry.size for film in self._films.values())
        return not self._films or taken + entry.size <= self._room()

    def _room(self) -> int:
        if self._limit is None:
            # Half of what is free: others use the disk, too.
            self._limit = min(self._most, _free(self._folder()) // 2)
        return self._limit

    def _folder(self) -> Path:
        if self._own is None:
            self._own = ScratchFolder(self._parent, setting="GPUCAPT_SPOOL")
        return self._own.path

    def _start(self, entry: Entry) -> _Film:
        self._count += 1
        # The extension may matter to whoever opens it; the rest of the name may be too long for a file.
        extension = Path(entry.name).suffix[:16]
        film = _Film(entry, self._folder() / f"{self._count}{extension}")
        self._films[_identity(entry)] = film
        film.fetched = self._fetchers.submit(self._fetch, film)
        return film

    def _drop(self, film: _Film) -> None:
        film.dropped = True
        if self._films.get(_identity(film.entry)) is film:
            del self._films[_identity(film.entry)]
        film.fetched.cancel()
        film.path.unlink(missing_ok=True)
        self._changed.notify_all()

    def _fetch(self, film: _Film) -> None:
        def go_on() -> None:
            self._check()
            if film.dropped:
                raise _GivenUp

        try:
            go_on()
            if film.entry.size > _free(film.path.parent):
                raise _NoRoom  # before others who use the disk find it full
            self._storage.download(film.entry, film.path, go_on=go_on)
            go_on()
        except BaseException as error:
            film.path.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise _NoRoom from error
            if isinstance(error, OSError):
                raise StorageUnavailable(
                    f"cannot write {film.path}: {error.strerror or error};"
                    " set GPUCAPT_SPOOL to another folder"
                ) from error
            raise

    def _check(self) -> None:
        self._go_on()
        if self._closed:
            raise _GivenUp


@contextmanager
def _told_by_its_own_name(film: _Film) -> Iterator[None]:
    """What reads the file calls it by the name that it has here, which nobody knows."""
    try:
        yield
    except BadInput as error:
        here, found, why = str(error).partition(": ")
        if found and here == film.path.name:
            raise BadInput(f"{film.entry.name}: {why}") from error
        raise


def _identity(entry: Entry) -> tuple[str, str]:
    return entry.key, entry.etag


def _failed(fetched: Future[None]) -> bool:
    return fetched.done() and (fetched.cancelled() or fetched.exception() is not None)


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _in_words(size: int) -> str:
    """A number of bytes as people say it."""
    amount = float(size)
    for unit in ("bytes", "KB", "MB", "GB", "TB"):
        if amount < 1000 or unit == "TB":
            break
        amount /= 1000
    return f"{amount:.3g} {unit}"
