"""Temporary folders that do not outlive their process for long, however it ends.

Each lies beside a lock file that its process keeps locked for as long as it lives; so what a killed one left
behind is told from what another is using, and is swept by the next process that makes one in the same place.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import IO

from pipeline.errors import StorageUnavailable

_PREFIX, _LOCK = "gpucapt-scratch-", ".lock"


class ScratchFolder:
    """A new folder of this user's own below ``parent``; None is the folder for temporary files.

    ``setting`` is what to change where none can be made, which raises StorageUnavailable.
    """

    def __init__(self, parent: Path | None = None, *, setting: str = "TMPDIR") -> None:
        try:
            parent = parent or Path(tempfile.gettempdir())
            parent.mkdir(parents=True, exist_ok=True)
            _sweep(parent)
            self._lock, self.path = _locked_folder(parent)
        except OSError as error:
            raise StorageUnavailable(
                f"nothing can be kept in {parent or 'the temporary folder'} meanwhile:"
                f" {error.strerror}; set {setting} to another folder"
            ) from error

    def remove(self) -> None:
        """Remove the folder, then the lock, so that neither is ever left without the other."""
        shutil.rmtree(self.path, ignore_errors=True)
        if not self.path.exists():  # else the next process sweeps it
            Path(self._lock.name).unlink(missing_ok=True)
        self._lock.close()

    def __enter__(self) -> Path:
        return self.path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


def _locked_folder(parent: Path) -> tuple[IO[bytes], Path]:
    while True:
        path = parent / f"{_PREFIX}{secrets.token_hex(8)}"
        lock = path.with_name(path.name + _LOCK).open("xb")
        with suppress(OSError):  # where there are no locks nobody sweeps
            fcntl.flock(lock, fcntl.LOCK_EX)
        # Between the two steps before, somebody who sweeps may have had it.
        if os.fstat(lock.fileno()).st_nlink:
            path.mkdir(mode=0o700)
            return lock, path
        lock.close()


@cache
def _sweep(parent: Path) -> None:
    """Remove what processes of this user left behind that are gone."""
    for lock in parent.glob(f"{_PREFIX}*{_LOCK}"):
        with suppress(OSError), open(lock, "rb", opener=_as_it_is) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            folder = lock.with_name(lock.name.removesuffix(_LOCK))
            if _is_ours(os.fstat(file.fileno()), stat.S_ISREG):
                _remove_if_ours(folder)
                lock.unlink()


def _as_it_is(path: str, flags: int) -> int:
    """Open what anybody may have put there: no link is followed, no pipe waited for."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _remove_if_ours(folder: Path) -> None:
    with suppress(FileNotFoundError):
        if _is_ours(folder.lstat(), stat.S_ISDIR):
            shutil.rmtree(folder, ignore_errors=True)


def _is_ours(found: os.stat_result, is_kind: Callable[[int], bool]) -> bool:
    return found.st_uid == os.getuid() and is_kind(found.st_mode)
