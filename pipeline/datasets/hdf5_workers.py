"""Pictures into the rows of HDF5 files, by all cores, with a journal that a killed run is resumed from."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from model.errors import GpucaptError
from pipeline.datasets.picture_sources import read_picture
from pipeline.errors import BadInput
from pipeline.runtime.malloc import keep_freed_memory
from pipeline.runtime.socket_paths import shorten_socket_paths

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")

_BLOCK = 32
"""Pictures that a process is given at a time: much less to say than to do."""
_FEW = 256
"""Up to so many pictures threads do it: processes would take longer to start than the work."""
_AHEAD = 3
"""Blocks that wait for each process, so that none waits for us."""


@dataclass(frozen=True, slots=True)
class StoredRow:
    """What came of a picture: checksum and perceptual hash of what is stored, or why there is nothing."""

    crc32: int = 0
    dhash: int = 0
    """64 bits that change little where the picture does; see `dhash`."""
    reason: str = ""

    @property
    def is_good(self) -> bool:
        return not self.reason


@dataclass(frozen=True, slots=True)
class PictureTask:
    """How pictures become rows: from which folder, at which size, by how many threads of each process."""

    images: str
    size: int
    threads: int = 1


def write_rows(
    work: PictureTask, target: Path, names: Sequence[str], offsets: Sequence[int]
) -> list[StoredRow]:
    """Read, decode, resize and write pictures to their places in a file; runs in any process.

    Raises GpucaptError where the file cannot be written; that is no picture's fault.
    """
    try:
        with target.open("r+b") as file:
            one = partial(_write_row, work, file.fileno())
            if work.threads == 1:
                return list(map(one, names, offsets))
            with ThreadPoolExecutor(work.threads) as pool:
                return list(pool.map(one, names, offsets))
    except OSError as error:
        raise GpucaptError(f"{target} cannot be written: {error.strerror}.") from error


def _write_row(work: PictureTask, file: int, name: str, offset: int) -> StoredRow:
    from model.preprocessing import Preparation
    from pipeline.media.images import decode_still

    try:
        picture = Preparation(work.size)(decode_still(read_picture(work.images, name), name))
    except FileNotFoundError:
        return StoredRow(reason="the file is missing.")
    except (BadInput, OSError) as error:
        # Whoever tells the reason names the picture, too.
        return StoredRow(reason=str(error).removeprefix(f"{name}: "))
    data = picture.data.cast("B")
    while data.nbytes:
        written = os.pwrite(file, data, offset)
        data, offset = data[written:], offset + written
    return StoredRow(zlib.crc32(picture.data), dhash(picture))


def dhash(picture: NDArray[np.uint8]) -> int:
    """64 bits that stay the same, or nearly, when a picture is resized, compressed again or made brighter.

    Each says whether one of 9 x 8 fields of the picture is darker than the next in its row (Krawetz, "Kind
    of Like That", 2013). `picture` is (3, height, width); its green is taken for its brightness.
    """
    import cv2
    import numpy as np

    # In two steps: to average whole blocks of pixels first is four times as fast.
    side = picture.shape[1] // max(1, picture.shape[1] // 32)
    smaller = cv2.resize(picture[1], (side, side), interpolation=cv2.INTER_AREA)
    small = np.asarray(cv2.resize(smaller, (9, 8), interpolation=cv2.INTER_AREA))
    return int.from_bytes(np.packbits(small[:, :-1] < small[:, 1:]).tobytes())


def check_rows(target: Path, offsets: Sequence[int], length: int, crc32s: Sequence[int]) -> list[int]:
    """The positions (of those given) of the rows that do not hold what was written; runs in any process."""
    wrong = []
    with target.open("rb") as file:
        for position, (offset, crc32) in enumerate(zip(offsets, crc32s, strict=True)):
            if zlib.crc32(os.pread(file.fileno(), length, offset)) != crc32:
                wrong.append(position)
    return wrong


class Journal:
    """Which rows of a file are written: a line each, added after the row; a torn line counts as none."""

    def __init__(self, path: Path, count: int) -> None:
        self.rows: list[StoredRow | None] = [None] * count
        self._read(path)
        self._file = path.open("a", encoding="utf-8")
        self._file.write("\n")  # after a line that a killed run left unfinished

    def _read(self, path: Path) -> None:
        if not path.is_file():
            return
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                number, crc32, bits, reason = json.loads(line)
                self.rows[int(number)] = StoredRow(int(crc32), int(bits), str(reason))
            except (ValueError, TypeError, IndexError):
                continue

    def add(self, numbers: Iterable[int], rows: Iterable[StoredRow]) -> None:
        """Note rows that are written."""
        for number, row in zip(numbers, rows, strict=True):
            self.rows[number] = row
            self._file.write(json.dumps([number, row.crc32, row.dhash, row.reason]) + "\n")
        self._file.flush()

    def missing(self) -> list[int]:
        """The rows that are not written yet, and those that could not be: what was wrong may be mended."""
        return [number for number, row in enumerate(self.rows) if row is None or not row.is_good]

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def blocks(numbers: Sequence[T]) -> Iterator[Sequence[T]]:
    """What a process is given at a time."""
    return (numbers[first : first + _BLOCK] for first in range(0, len(numbers), _BLOCK))


@contextmanager
def workers(count: int, pictures: int) -> Iterator[Executor]:
    """Who does the work: `count` processes, or as many threads for a few pictures.

    Processes, because what Python does between decoding and writing would otherwise be done by one core.
    They end when this one does, even when it is killed.
    """
    if pictures <= _FEW or count == 1:
        with ThreadPoolExecutor(count) as threads:
            yield threads
        return
    shorten_socket_paths()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [*_main_module(), __name__, "model.preprocessing", "pipeline.media.images", "cv2", "PIL.Image"]
    )
    others = multiprocessing.active_children()
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_begin)
    try:
        yield pool
    except BrokenProcessPool as error:
        raise GpucaptError(
            "a process that prepared pictures was killed, perhaps for want of memory; run the same command to"
            " go on, with fewer --workers"
        ) from error
    except BaseException:  # such as Ctrl-C: what they are at will be done again
        for child in multiprocessing.active_children():
            if child not in others:
                child.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _main_module() -> list[str]:
    """What each process would import anew because the one that starts it has; it is done once for all."""
    specification = sys.modules["__main__"].__spec__
    return [specification.name] if specification else ["pipeline.cli.main"]


def _begin() -> None:
    """In each process: leave Ctrl-C to the one that asked, and end when it is gone."""
    import cv2

    keep_freed_memory()
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    asker = multiprocessing.parent_process()

    def watch() -> None:
        if asker is not None:
            asker.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def run_all(
    pool: Executor,
    count: int,
    jobs: Iterable[Callable[[], T]],
    done: Callable[[T], None],
) -> None:
    """Run jobs, which are pickled, by `count` processes, and give `done` each result as it comes."""
    waiting: set[Future[T]] = set()
    for job in jobs:
        if len(waiting) >= _AHEAD * count:
            finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                done(future.result())
        waiting.add(pool.submit(job))
    while waiting:
        finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        for future in finished:
            done(future.result())
