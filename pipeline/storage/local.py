"""A folder on this machine (or a shared file system) as a storage."""

from __future__ import annotations

import builtins
import errno
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from model.errors import GpucaptError
from pipeline.errors import BadInput, one_line
from pipeline.storage.base import Entry, Storage, Unreadable, nothing
from pipeline.storage.versions import OURS, make_name, make_newer, replace_version
from pipeline.storage.write_guard import before_change

_IN_THE_WAY = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR)

_QUOTE = "\u201b"
_TO_QUOTE = re.compile(f"{_QUOTE}(?={_QUOTE}|[89A-F][0-9A-F]|[\udc80-\udcff])|[\udc80-\udcff]")
_QUOTED = re.compile(f"{_QUOTE}({_QUOTE}|[89A-F][0-9A-F])")


def key_from_name(name: str) -> str:
    """A file's name as the key says it: valid text, whatever bytes the disk holds.

    Bytes that are not UTF-8 become a '‛' and two hexadecimal digits (the convention of rclone), so that keys
    can be printed, compared and stored in JSON, and still lead back to the file.
    """
    return _TO_QUOTE.sub(lambda m: _QUOTE + (_QUOTE if m[0] == _QUOTE else f"{ord(m[0]) - 0xDC00:02X}"), name)


def name_from_key(key: str) -> str:
    """The inverse of key_from_name."""
    return _QUOTED.sub(lambda m: _QUOTE if m[1] == _QUOTE else chr(0xDC00 + int(m[1], 16)), key)


@dataclass(slots=True)
class _OpenFolder:
    """A folder whose names are being listed."""

    start: bytes
    """What its keys begin with."""
    path: Path
    names: Iterator[bytes]
    identity: tuple[int, int] | None


class LocalStorage(Storage):
    """Files under a root folder.

    Symbolic links are followed, except where they lead back to a folder that is being listed. The names of
    one folder are sorted in memory; everything else about a listing is a stream.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            str(root).encode()
            self.url = str(root)
        except UnicodeEncodeError:
            self.url = root.as_uri()

    def path(self, key: str) -> Path:
        """Where a key lies on disk. Raises BadInput for keys that would lead elsewhere."""
        parts = key.split("/")
        if any(part in ("", ".", "..") or "\0" in part for part in parts):
            raise BadInput(f"{key!r} cannot be the name of a file in {self.url}")
        return self.root.joinpath(*map(name_from_key, parts))

    def exists(self) -> bool:
        return self.root.is_dir()

    def list(
        self, prefix: str = "", *, after: str = "", unreadable: Unreadable | None = None
    ) -> Iterator[Entry]:
        wanted, passed = prefix.encode(), after.encode()

        def may_hold(folder: bytes) -> bool:
            in_prefix = folder.startswith(wanted) or wanted.startswith(folder)
            return in_prefix and (folder > passed or passed.startswith(folder))

        for key, path in self._walk(prefix.rpartition("/")[0], may_hold, unreadable):
            if key > passed and key.startswith(wanted):
                yield from _listed(key.decode(), path, unreadable)

    def _walk(
        self, folder: str, enter: Callable[[bytes], bool], unreadable: Unreadable | None
    ) -> Iterator[tuple[bytes, Path]]:
        """The keys' bytes and paths of all that is no folder, in key order; only some folders are entered."""
        open_folders = [self._opened(folder, self._folder(folder), unreadable)]
        while open_folders:
            innermost = open_folders[-1]
            name = next(innermost.names, None)
            if name is None:
                open_folders.pop()
                continue
            key = innermost.start + name
            path = innermost.path / name_from_key(name.decode().removesuffix("/"))
            if not name.endswith(b"/"):
                yield key, path
            elif enter(key):
                identity = _identity(path)
                if identity is not None and all(identity != outer.identity for outer in open_folders):
                    open_folders.append(self._opened(key.decode()[:-1], path, unreadable))

    def _opened(self, folder: str, path: Path, unreadable: Unreadable | None) -> _OpenFolder:
        start = f"{folder}/".encode() if folder else b""
        return _OpenFolder(start, path, iter(self._names(folder, path, unreadable)), _identity(path))

    def list_folder(self, folder: str, *, after: str = "") -> Iterator[Entry]:
        path, passed = self._folder(folder), after.encode()
        for name in self._names(folder, path, None):
            if name > passed and not name.endswith(b"/"):
                text = name.decode()
                yield from _listed(f"{folder}/{text}" if folder else text, path / name_from_key(text), None)

    def _folder(self, folder: str) -> Path:
        return self.path(folder) if folder else self.root

    def _names(self, folder: str, path: Path, unreadable: Unreadable | None) -> builtins.list[bytes]:
        """The names in one folder as keys' bytes, folders with a final '/', sorted as whole keys are."""
        try:
            with os.scandir(path) as found:
                names = [
                    (key_from_name(item.name) + ("/" if _is_folder(item) else "")).encode()
                    for item in found
                    if not item.name.startswith(OURS)
                ]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            reason = f"cannot list the folder {_shown(path)}: {error.strerror}"
            if unreadable is None:
                raise GpucaptError(reason) from error
            unreadable(folder, reason)
            return []
        names.sort()
        return names

    def stat(self, key: str) -> Entry | None:
        return _entry(key, self.path(key))

    def read(self, key: str, *, etag: str | None = None) -> bytes:
        try:
            data = self.path(key).read_bytes()
        except OSError as error:
            raise BadInput(f"{key}: cannot be read: {error.strerror}") from error
        if etag is not None:
            self._check_unchanged(key, etag)
        return data

    def read_head(self, entry: Entry, size: int) -> bytes:
        try:
            with self.path(entry.key).open("rb") as file:
                data = file.read(size)
        except OSError as error:
            raise BadInput(f"{entry.key}: cannot be read: {error.strerror}") from error
        self._check_unchanged(entry.key, entry.etag)
        return data

    def download(self, entry: Entry, path: Path, *, go_on: Callable[[], None] = nothing) -> None:
        go_on()
        try:
            shutil.copyfile(self.path(entry.key), path)
        except OSError as error:
            raise BadInput(f"{entry.key}: cannot be read: {error.strerror}") from error
        self._check_unchanged(entry.key, entry.etag)

    def _check_unchanged(self, key: str, etag: str) -> None:
        there = self.stat(key)
        if there is None or there.etag != etag:
            raise BadInput(f"{key}: cannot be read: it changed since it was listed")

    @contextmanager
    def local_path(self, key: str) -> Iterator[Path]:
        yield self.path(key)

    def write(self, key: str, data: bytes) -> None:
        with self._temporary(key, data) as (temporary, path):
            temporary.replace(path)

    def upload(self, path: Path, key: str) -> None:
        target = self._target(key)
        with self._failures(key), _unfinished(target) as temporary:
            try:
                os.link(path.resolve(), temporary)
            except OSError:  # another file system, or one without links
                shutil.copyfile(path, temporary)
                os.utime(temporary, ns=(path.stat().st_mtime_ns,) * 2)
            before_change()
            temporary.replace(target)

    def create(self, key: str, data: bytes) -> Entry | None:
        with self._temporary(key, data) as (temporary, path):
            made = _entry(key, temporary)
            try:
                make_name(path, temporary)
            except FileExistsError:
                return None
            return made

    def replace(self, key: str, data: bytes, etag: str) -> Entry | None:
        there = self.stat(key)
        if there is None or there.etag != etag:
            return None
        with self._temporary(key, data) as (temporary, path):
            make_newer(temporary, int(etag))
            made = _entry(key, temporary)
            return made if replace_version(path, int(etag), temporary) else None

    def delete(self, key: str) -> None:
        before_change()
        with self._failures(key), suppress(FileNotFoundError, NotADirectoryError):
            self.path(key).unlink()

    def delete_folder(self, folder: str) -> None:
        path = self.path(folder)
        before_change()
        with self._failures(folder), suppress(FileNotFoundError, NotADirectoryError):
            if path.is_symlink():
                path.unlink()
            else:
                shutil.rmtree(path)

    def move(self, key: str, other: Storage, other_key: str) -> None:
        if not (isinstance(other, LocalStorage) and self._renamed(key, other.path(other_key))):
            super().move(key, other, other_key)

    def _renamed(self, key: str, target: Path) -> bool:
        source = self.path(key)
        if source.is_symlink():  # the link would be moved, not the file, and might point nowhere from there
            return False
        with self._failures(key):
            target.parent.mkdir(parents=True, exist_ok=True)
            before_change()
            try:
                source.rename(target)
                if os.path.lexists(source) and source.samefile(target):
                    source.unlink()  # two names of one file, which rename leaves alone
            except OSError as error:
                if error.errno in (errno.EXDEV, errno.ENOENT):
                    return False
                raise
        return True

    def check_place(self) -> None:
        for place in (self.root, self.root / "runs", self.root / ".gpucapt"):
            there = next((up for up in (place, *place.parents) if os.path.lexists(up)), place)
            if not there.is_dir():
                raise GpucaptError(f"{_shown(there)} is not a folder; move it, or choose another destination")

    def _target(self, key: str) -> Path:
        """Where a key is written to. Raises BadInput where a symbolic link leads out of the root: what lies
        there (the sources, perhaps) is not ours to overwrite."""
        path = self.path(key)
        if not path.parent.resolve().is_relative_to(self.root.resolve()):
            raise BadInput(
                f"{_shown(path.parent)} leads out of {self.url} by a symbolic link; remove the link"
            )
        return path

    @contextmanager
    def _temporary(self, key: str, data: bytes) -> Iterator[tuple[Path, Path]]:
        path = self._target(key)
        with self._failures(key), _unfinished(path) as temporary:
            temporary.write_bytes(data)
            # Etags are times, and the kernel's own move in steps of milliseconds: too coarse.
            os.utime(temporary, ns=(time.time_ns(),) * 2)
            before_change()
            yield temporary, path

    @contextmanager
    def _failures(self, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where = _shown(self.root / name_from_key(key))
            if error.errno in _IN_THE_WAY:
                raise BadInput(f"cannot write {where}: something else is in the way; move it") from error
            if error.errno == errno.ENAMETOOLONG:
                raise BadInput(f"cannot write {where}: the name is too long") from error
            advice = "; make room and try again" if error.errno == errno.ENOSPC else ""
            raise GpucaptError(f"cannot change {where}: {error.strerror or error}{advice}") from error


@contextmanager
def _unfinished(target: Path) -> Iterator[Path]:
    """A new name beside the target, gone afterwards whatever happens."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f"{OURS}{secrets.token_hex(8)}"
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _entry(key: str, path: Path) -> Entry | None:
    try:
        found = path.stat()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
            return None
        raise GpucaptError(f"cannot look at {_shown(path)}: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode):
        return None
    return Entry(key, found.st_size, str(found.st_mtime_ns), found.st_mtime)


def _listed(key: str, path: Path, unreadable: Unreadable | None) -> Iterator[Entry]:
    try:
        entry = _entry(key, path)
    except GpucaptError as error:
        if unreadable is None:
            raise
        unreadable(key, str(error))
        return
    if entry is not None:
        yield entry


def _is_folder(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_dir()
    except OSError:  # a symbolic link that leads to itself
        return False


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _shown(path: Path) -> str:
    return one_line(key_from_name(str(path)))
