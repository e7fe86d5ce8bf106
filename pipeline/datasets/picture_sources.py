"""The folder, or prefix of a bucket, that a data set's pictures lie in."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath, PureWindowsPath

from model.errors import GpucaptError
from pipeline.errors import BadInput
from pipeline.storage import staging
from pipeline.storage.open import is_s3, open_storage


@functools.cache
def _reader(url: str) -> Callable[[str], bytes]:
    """One a process, with its connections."""
    return staging.reader(url)


def read_picture(url: str, name: str) -> bytes:
    """A picture's file. Raises BadInput, or OSError for local ones; GpucaptError when the storage fails."""
    if leads_out(name):
        raise BadInput(f"{name}: the name leads out of the folder of pictures.")
    try:
        return _reader(url)(name)
    except (BadInput, FileNotFoundError) as error:
        if not PureWindowsPath(name).is_absolute():
            raise
        raise BadInput(
            f"{name}: a path on a Windows machine; name pictures as they lie below the folder of pictures."
        ) from error


def leads_out(name: str) -> bool:
    """Whether a name is that of a file elsewhere; annotations come from anywhere and name what they like."""
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts


class PictureFolder:
    """What is there, as it is now. Raises GpucaptError when there is no such folder."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._remote: dict[str, str] | None = None
        if is_s3(url):
            entries = open_storage(url).list()
            self._remote = {entry.key: f"{entry.size} {entry.etag}" for entry in entries}
            if not self._remote:
                raise GpucaptError(f"{url}: there is nothing there.")
        elif not staging.local(url).is_dir():
            raise GpucaptError(f"{url}: there is no such folder of pictures.")

    def has_folders(self, names: Iterable[str]) -> dict[str, bool]:
        """Of the first part of each name (`val2014` of `val2014/x.jpg`) whether it is there."""
        firsts = {name.partition("/")[0] for name in names if "/" in name}
        if self._remote is None:
            return {first: (staging.local(self.url) / first).is_dir() for first in firsts}
        there = {key.partition("/")[0] for key in self._remote if "/" in key}
        return {first: first in there for first in firsts}

    def states(self, names: Iterable[str]) -> list[str]:
        """What changes when a picture does: size and time of change, or ETag. Empty when it is not there."""
        if self._remote is not None:
            return [self._remote.get(name, "") for name in names]
        folder = staging.local(self.url)
        return [_state(folder, name) for name in names]

    def with_slashes(self, name: str) -> str:
        """A name as Windows writes it (`train\\000.png`) as it is here; where a file has that very name, it.

        Whole paths of a Windows machine (`C:\\…`, `\\\\server\\…`) stay what they are, and are nowhere here.
        """
        if name.startswith("/") or not ("\\" in name or PureWindowsPath(name).drive):
            return name
        # Annotations may name a folder before it that is not there (`in_folders`).
        if any(self.states(filter(None, (name, name.partition("/")[2])))):
            return name
        path = PureWindowsPath(name)
        return str(path) if path.is_absolute() else PurePosixPath(name.replace("\\", "/")).as_posix()

    def relative(self, name: str) -> str:
        """A name below the folder, where annotations give a whole path into it."""
        if self._remote is None and name.startswith("/"):
            try:
                return Path(name).relative_to(staging.local(self.url).absolute()).as_posix()
            except ValueError:
                return name
        return name


def _state(folder: Path, name: str) -> str:
    try:
        found = (folder / name).stat()
    except (OSError, ValueError):
        return ""
    return f"{found.st_size} {found.st_mtime_ns}"
