"""Files that are made, or replaced, on a condition with one winner: without locks, which not all disks have.

Lustre is often mounted without locks, or with such that hold on one machine only, and NFS may be; but on all
of them a name is made once. So each version of a file has turns to replace it, which are names beside it:
whoever makes the first one may rename it over the file. Where its maker was killed before that, the next turn
counts after a minute; who comes back to a turn too late leaves the file alone.
"""

from __future__ import annotations

import errno
import hashlib
import os
from itertools import count
from pathlib import Path

from model.errors import GpucaptError
from pipeline.errors import one_line
from pipeline.runtime.clock import clock_s

OURS = ".gpucapt-tmp-"
"""Names that begin with this are unfinished writes; no listing shows them."""

_TURN_S = 60.0
"""A turn that lies unused for longer was taken by a process that is gone."""

_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP)


def make_name(name: Path, file: Path) -> None:
    """Give a file a second name.

    Raises FileExistsError where that is taken, other OSErrors, and GpucaptError on file systems that cannot.
    """
    try:
        os.link(file, name)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        raise GpucaptError(
            f"{one_line(str(name.parent))} is on a file system without hard links, by which workers agree who"
            " does what; choose another destination"
        ) from error


def make_newer(file: Path, than_ns: int) -> None:
    """Give a file a later time of modification; some file systems know whole seconds only, or even ones."""
    for step_ns in (1, 10**9, 2 * 10**9):
        if file.stat().st_mtime_ns > than_ns:
            return
        os.utime(file, ns=(than_ns + step_ns,) * 2)


def replace_version(path: Path, version_ns: int, new: Path) -> bool:
    """Rename a new file over one with this time of modification; False where that has changed.

    The new file keeps its own name, too. Raises as ``make_name``.
    """
    began = clock_s()
    turn, passed = _take_turn(path, version_ns, new)
    if turn is None:
        return False
    if not _is_version(path, version_ns):  # then the turn means nothing to anybody
        turn.unlink(missing_ok=True)
        return False
    if clock_s() - began > _TURN_S / 4:
        return False
    try:
        turn.replace(path)
    except FileNotFoundError:  # passed over, and cleared away
        return False
    for one in passed:
        one.unlink(missing_ok=True)
    return True


def _take_turn(path: Path, version_ns: int, new: Path) -> tuple[Path | None, list[Path]]:
    """The turn that is ours, if there is one, and those before it that nobody uses any more."""
    version = hashlib.sha256(f"{version_ns} {path.name}".encode(errors="surrogateescape")).hexdigest()[:16]
    passed: list[Path] = []
    for number in count():
        turn = path.with_name(f"{OURS}{version}-{number}")
        try:
            make_name(turn, new)
        except FileExistsError:
            if not _is_unused(turn, new):
                break
            passed.append(turn)
        else:
            return turn, passed
    return None, passed


def _is_version(path: Path, version_ns: int) -> bool:
    try:
        return path.stat().st_mtime_ns == version_ns
    except FileNotFoundError:
        return False


def _is_unused(turn: Path, new: Path) -> bool:
    """Whether a turn was taken long before the new file was made, by the file system's own clock."""
    try:
        return turn.stat().st_ctime + _TURN_S < new.stat().st_ctime
    except FileNotFoundError:  # it was used this moment
        return False
