"""Many small objects one after the other, without waiting for each: some are fetched ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import BinaryIO

from pipeline.errors import BadInput
from pipeline.storage.base import Storage

_AHEAD = 16

_Opened = tuple[AbstractContextManager[Path], Path]


def opened_files(storage: Storage, keys: Iterable[str]) -> Iterator[BinaryIO]:
    """Each object as a file until the next is asked for, in the order of the keys, without absent ones."""
    with closing(_fetched(storage, keys) if storage.is_remote else _on_disk(storage, keys)) as paths:
        for path in paths:
            try:
                file = path.open("rb")
            except FileNotFoundError:  # replaced or removed since it was looked for
                continue
            with file:
                yield file


def _on_disk(storage: Storage, keys: Iterable[str]) -> Generator[Path]:
    for key in keys:
        if storage.stat(key) is not None:
            with storage.local_path(key) as path:
                yield path


def _fetched(storage: Storage, keys: Iterable[str]) -> Generator[Path]:
    def fetch(key: str) -> _Opened | None:
        context = storage.local_path(key)
        try:
            return context, context.__enter__()
        except BadInput:
            return None

    waiting: deque[Future[_Opened | None]] = deque()
    with ThreadPoolExecutor(_AHEAD, thread_name_prefix="ahead") as pool:
        try:
            for key in keys:
                waiting.append(pool.submit(fetch, key))
                if len(waiting) > _AHEAD:
                    yield from _used(waiting.popleft())
            while waiting:
                yield from _used(waiting.popleft())
        finally:
            for future in waiting:
                if not future.cancel():
                    for _ in _used(future):
                        break


def _used(future: Future[_Opened | None]) -> Iterator[Path]:
    opened = future.result()
    if opened is not None:
        context, path = opened
        try:
            yield path
        finally:
            context.__exit__(None, None, None)
