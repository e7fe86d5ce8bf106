"""Which of the files that are found are meant: what the defaults, --exclude and --include say."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from pipeline.sources.patterns import Pattern

# fmt: off
LEFT_OUT_BY_DEFAULT = (
    # NAS: thumbnails, recycle bins, snapshots
    "@eaDir/", "#recycle/", "#snapshot/", "@tmp/",  # Synology
    "@Recycle/", "@Recently-Snapshot/", ".@__thumb/", "@__thumb/",  # QNAP
    "**/appdata_*/preview/", "files_trashbin/",  # Nextcloud's data folder
    # Systems
    "$RECYCLE.BIN/", "$Recycle.Bin/", "System Volume Information/",
    "__MACOSX/", ".AppleDouble/", "Network Trash Folder/",
    "lost+found/",
    # Programs for editing and keeping pictures: previews and renders of what lies elsewhere
    "*.lrdata/",  # Lightroom
    "**/*.photoslibrary/resources/derivatives/", "**/*.photoslibrary/resources/proxies/",
    "**/*.photolibrary/Thumbnails/",  # iPhoto, Aperture
    "**/*.fcpbundle/**/Render Files/", "*.fcpcache/",  # Final Cut
    "Adobe Premiere Pro Video Previews/",
    "CacheClip/",  # Resolve
    # Cameras' cards: thumbnails and small copies of the clips beside them
    "**/M4ROOT/THMBNL/", "**/M4ROOT/SUB/", "**/XDROOT/Sub/",  # Sony
    "**/CONTENTS/ICON/", "**/CONTENTS/PROXY/",  # Panasonic P2
)
# fmt: on
"""Folders that are never somebody's material, wherever they lie; docs/formats.md lists them, too."""

_FOLDERS_REMEMBERED = 64
"""A sorted listing shows a folder's files together, but for folders within it."""


@dataclass(frozen=True, slots=True)
class _Folder:
    """What is known of all that lies in a folder."""

    by_default: str | None = None
    """Which default leaves it out."""
    excluded: str | None = None
    """Which --exclude names it or a folder around it."""
    is_included: bool = False
    """Whether an --include does."""


class Choice:
    """What people choose by patterns.

    A default leaves out a folder with all that is in it, except where an --include names that folder. Of the
    rest, an --exclude leaves out what it names and all that is in such a folder, except where an --include
    names the file or a folder around it. What is hidden (its name, or that of a folder around it, begins with
    a dot) is always left out.
    """

    def __init__(self, exclude: Iterable[str] = (), include: Iterable[str] = ()) -> None:
        """Raises GpucaptError, in one line, for what is no pattern."""
        self.exclude, self.include = tuple(exclude), tuple(include)
        self._defaults = [Pattern(text) for text in LEFT_OUT_BY_DEFAULT]
        self._exclude = [Pattern(text) for text in self.exclude]
        self._include = [Pattern(text) for text in self.include]
        self._folder = lru_cache(_FOLDERS_REMEMBERED)(self._look_at)

    def takes(self, key: str) -> bool:
        """Whether a file may be captioned."""
        return not is_hidden(key) and self.reason(key) is None

    def takes_folder(self, folder: str) -> bool:
        """Whether what lies in a folder may be captioned, as far as the folder decides it."""
        known = self._folder(folder)
        return (
            not is_hidden(folder) and known.by_default is None and (not known.excluded or known.is_included)
        )

    def reason(self, key: str) -> str | None:
        """Why a file that is not hidden is left out, for people; None where it is taken."""
        folder = self._folder(key.rpartition("/")[0])
        if folder.by_default is not None:
            return f"{folder.by_default} (by default)"
        excluded = folder.excluded or _first(self._exclude, key, is_folder=False)
        if excluded is None or folder.is_included or _first(self._include, key, is_folder=False):
            return None
        return f"{excluded} (by --exclude)"

    def _look_at(self, folder: str) -> _Folder:
        excluded, is_included = None, False
        for path in _from_the_top(folder):
            included = _first(self._include, path, is_folder=True) is not None
            by_default = _first(self._defaults, path, is_folder=True)
            if by_default is not None and not included:
                return _Folder(by_default)
            excluded = excluded or _first(self._exclude, path, is_folder=True)
            is_included = is_included or included
        return _Folder(None, excluded, is_included)


def is_hidden(key: str) -> bool:
    """Whether the name of a file, or of a folder around it, begins with a dot."""
    return key.startswith(".") or "/." in key


def _from_the_top(folder: str) -> Iterator[str]:
    """``a/b/c``: ``a``, ``a/b``, ``a/b/c``; nothing for the root."""
    parts = folder.split("/") if folder else []
    return ("/".join(parts[: depth + 1]) for depth in range(len(parts)))


def _first(patterns: Iterable[Pattern], path: str, *, is_folder: bool) -> str | None:
    return next((one.text for one in patterns if one.names(path, is_folder=is_folder)), None)


class LeftOut:
    """Counts the files that were left out, by the reason; from any thread."""

    def __init__(self, counts: dict[str, int] | None = None) -> None:
        self._counts = Counter(counts or {})
        self._lock = threading.Lock()

    def add(self, reason: str) -> None:
        """One more file."""
        with self._lock:
            self._counts[reason] += 1

    @property
    def counts(self) -> dict[str, int]:
        """How many files were left out for each reason, the commonest first."""
        with self._lock:
            return dict(sorted(self._counts.items(), key=lambda one: (-one[1], one[0])))

    def in_words(self) -> str | None:
        """A line for people; None where nothing was left out."""
        counts = self.counts
        if not counts:
            return None
        total = sum(counts.values())
        reasons = ", ".join(f"{files} {reason}" for reason, files in counts.items())
        return f"{total} {'file' if total == 1 else 'files'} left out: {reasons}"
