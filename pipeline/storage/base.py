"""Where sources come from and results go: one small interface over folders (and object stores).

A key is text relative to the storage's root, its parts joined by '/'. The interface promises what an object
store can keep: listings are streams sorted by the UTF-8 bytes of the whole key ('a-b/x' comes before 'a/x'),
a written object is whole or absent, an object can be created or replaced on a condition with exactly one
winner, and folders exist only as far as something is in them.
"""

from __future__ import annotations

import hashlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from model.errors import GpucaptError
from pipeline.storage.write_guard import fenced


def nothing() -> None:
    """For callers that never give up."""


Unreadable = Callable[[str, str], None]
"""Told of what a listing leaves out (a folder or file that cannot be looked at, a key that could be no file):
its key and one line that says why."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One object: its key, its size in bytes, a tag that changes with its content, its age."""

    key: str
    size: int
    etag: str
    """Of local files the time of modification in nanoseconds, of objects the store's, without quotes."""
    modified: float = field(compare=False)
    """Seconds since the epoch, by the storage's clock. Not part of what an object is: object stores tell it
    more or less exactly, depending on how they are asked."""
    may_be_archived: bool = field(default=False, compare=False)
    """Whether it may be out of reach; ``Storage.why_archived`` tells."""

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rpartition("/")[2]


class Storage(ABC):
    """Objects by key. Every method raises GpucaptError, in one line, when the storage itself fails."""

    url: str
    is_remote: bool = False
    """Whether `local_path` means a transfer."""

    @abstractmethod
    def exists(self) -> bool:
        """Whether the root is there: a folder on disk, a prefix with something under it."""

    @abstractmethod
    def check_place(self) -> None:
        """Raises GpucaptError where results cannot lie here because something else does; makes nothing."""

    @abstractmethod
    def list(
        self, prefix: str = "", *, after: str = "", unreadable: Unreadable | None = None
    ) -> Iterator[Entry]:
        """Every object whose key begins with `prefix` and is greater than `after`, in key order.

        What cannot be looked at is told to `unreadable` and left out; without it, it is an error. Keys that
        could be no file are left out either way.
        """

    @abstractmethod
    def list_folder(self, folder: str, *, after: str = "") -> Iterator[Entry]:
        """The objects directly in `folder` ("" is the root) with names after `after`, in key order."""

    @abstractmethod
    def stat(self, key: str) -> Entry | None:
        """The object, or None where there is none."""

    def why_archived(self, entry: Entry) -> str | None:
        """Why an object cannot be read until it is restored, in some words; None where it can be."""
        return None

    @abstractmethod
    def read(self, key: str, *, etag: str | None = None) -> bytes:
        """The whole object.

        Raises BadInput when it is absent, or has another etag than the one given; Archived, as all that
        reads, when it must be restored first.
        """

    @abstractmethod
    def read_head(self, entry: Entry, size: int) -> bytes:
        """The first `size` bytes of an object as it was listed, or all where it has fewer.

        They are not checked against the object's checksum. Raises BadInput when the object is gone or has
        changed.
        """

    @abstractmethod
    def download(self, entry: Entry, path: Path, *, go_on: Callable[[], None] = nothing) -> None:
        """Put the object, as it was listed, into a file; checked for length and checksum.

        ``go_on`` is called now and then, from any thread, and raises to give up. Raises BadInput when the
        object is gone or has changed.
        """

    @abstractmethod
    def local_path(self, key: str) -> AbstractContextManager[Path]:
        """A real file with the object's content, for as long as the context lasts; not to be written to."""

    @abstractmethod
    def write(self, key: str, data: bytes) -> None:
        """Put an object, replacing one that is there. Readers see the old or the new, never a part."""

    @abstractmethod
    def upload(self, path: Path, key: str) -> None:
        """As write, from a local file. The file stays the caller's, to be removed but no longer changed."""

    @abstractmethod
    def create(self, key: str, data: bytes) -> Entry | None:
        """Put an object only where there is none. Of several callers exactly one wins; the rest get None."""

    @abstractmethod
    def replace(self, key: str, data: bytes, etag: str) -> Entry | None:
        """Put an object only while the one there still has this etag; None when it changed or is gone."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object; absent is fine."""

    @abstractmethod
    def delete_folder(self, folder: str) -> None:
        """Remove every object under `folder`; absent is fine."""

    def now(self) -> float:
        """The time by the storage's clock, for comparing with `Entry.modified`."""
        return time.time()

    def move(self, key: str, other: Storage, other_key: str) -> None:
        """Copy to another storage, verify the copy, then delete: the object is never in neither place.

        Raises GpucaptError, and leaves the object where it was, when the copy differs or when the object
        changed meanwhile. Nothing is put at the other key once the object has changed. What does lie there
        stays: when two move the same object at the same time, it may be all that is left of it.
        """
        before = self.stat(key)
        if before is None:
            raise GpucaptError(f"{self.url}/{key} is gone and cannot be moved")
        changed = f"{self.url}/{key} changed while it was moved to {other.url}/{other_key}"

        def check() -> None:
            with fenced(nothing):  # looking may be a request, too
                if self.stat(key) != before:
                    raise GpucaptError(changed)

        with self.local_path(key) as path:
            wanted = sha256(path)
            with fenced(check):
                other.upload(path, other_key)
        with other.local_path(other_key) as path:
            if sha256(path) != wanted:
                raise GpucaptError(changed)
        check()
        self.delete(key)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
