"""What is there to caption: every video, and every folder that directly holds stills.

Sources are found in one pass over a sorted listing. Kinds are told by the file's extension; what has another
one is ignored, and so is what a Choice leaves out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import PurePosixPath

from model.errors import GpucaptError
from pipeline.media.frame import Feed
from pipeline.records.source_info import SourceKind
from pipeline.sources.choice import Choice, LeftOut, is_hidden
from pipeline.storage.base import Entry, Storage
from pipeline.storage.open import open_object, open_storage

# fmt: off
VIDEO_EXTENSIONS = frozenset({
    ".3g2", ".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg",
    ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv",
})
STILL_EXTENSIONS = frozenset({
    ".avif", ".bmp", ".gif", ".heic", ".heif", ".hif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm",
    ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
})
OUTPUT_NAMES = frozenset({
    "captions.jsonl", "captions.csv", "captions.json", "captions.vtt", "captions.srt", "story.md",
    "story.json", "report.html", "manifest.json",
})
# fmt: on
RESERVED = (".gpucapt", "runs")
LONGEST_KEY = 700
"""Bytes: object stores allow 1,024 for a key, and those of results and parts are longer than the source's."""


@dataclass(frozen=True, slots=True)
class Piece:
    """The ``index``-th, from 0, of ``of`` pieces of a source that are worked on apart from each other.

    Of a folder it is the stills whose names are greater than ``after`` and not greater than ``upto`` (None:
    all that follow); of a video a passage that only the video itself can tell.
    """

    index: int
    of: int
    after: str = ""
    upto: str | None = None

    def holds(self, name: str) -> bool:
        """Whether a still with this name belongs to it."""
        is_before_end = self.upto is None or name.encode() <= self.upto.encode()
        return is_before_end and name.encode() > self.after.encode()


@dataclass(frozen=True, slots=True)
class Source:
    """One video, or one folder of stills; or a piece of it."""

    key: str
    kind: SourceKind
    path: str
    """The storage key of the video, or the folder ("" is the root)."""
    entry: Entry | None = None
    """The video; or the still, where SOURCE was one still; None for a folder."""
    piece: Piece | None = None
    feed: Feed | None = field(default=None, compare=False)
    """What shows the frames of a source that is no file; its ``entry`` then only stands for it."""

    @property
    def claim_key(self) -> str:
        """What a worker claims; of a piece it is hidden below the key, so that it meets no other source."""
        return self.key if self.piece is None else f"{self.key}/.piece-{self.piece.index}-of-{self.piece.of}"


@dataclass(frozen=True, slots=True)
class SetAside:
    """Something that would have been a source but cannot be one."""

    key: str
    reason: str
    kind: SourceKind | None = None
    path: str = ""


def kind_of(name: str) -> SourceKind | None:
    """What a file is, by its extension."""
    extension = PurePosixPath(name).suffix.lower()
    if extension in VIDEO_EXTENSIONS:
        return "video"
    return "stills" if extension in STILL_EXTENSIONS else None


def find_sources(
    storage: Storage, *, base_name: str, choice: Choice | None = None, left_out: LeftOut | None = None
) -> Iterator[Source | SetAside]:
    """Every source under the root, in the order in which the listing first shows something of it.

    A key is the path under the root; the stills directly in the root go by `base_name`. What cannot have
    its key, or lies in a folder that cannot be read, comes as SetAside. `left_out` counts the videos and
    stills that `choice` leaves out, but for hidden ones.
    """
    choice = choice or Choice()
    finder = _Finder(storage, base_name, choice, left_out or LeftOut())
    unreadable: deque[SetAside] = deque()

    def tell(folder: str, reason: str) -> None:
        if choice.takes_folder(folder):
            unreadable.append(SetAside(folder or base_name, reason, None, folder))

    for entry in storage.list(unreadable=tell):
        while unreadable:
            yield unreadable.popleft()
        found = finder.see(entry)
        if found is not None:
            yield found
    yield from unreadable


class _Finder:
    """Remembers no more of the listing than the folders that are open at the current key."""

    def __init__(self, storage: Storage, base_name: str, choice: Choice, left_out: LeftOut) -> None:
        self._storage = storage
        self._base_name = base_name
        self._choice = choice
        self._left_out = left_out
        self._open_folders: list[str] = []
        self._videos: list[str] = []
        self._root_seen = False
        self._root_has_stills: bool | None = None

    def see(self, entry: Entry) -> Source | SetAside | None:
        key = entry.key
        kind = kind_of(entry.name)
        if kind is None or is_hidden(key):
            return None
        reason = self._choice.reason(key)
        if reason is not None:
            self._left_out.add(reason)
            return None
        if kind == "video":
            self._forget_before(key)
            self._videos.append(key)
            return self._checked(Source(key, kind, key, entry))
        folder = key.rpartition("/")[0]
        if folder == "":
            if self._root_seen:
                return None
            self._root_seen = True
            return self._checked(Source(self._base_name, kind, ""))
        self._forget_before(key)
        if folder in self._open_folders:
            return None
        self._open_folders.append(folder)
        return self._checked(Source(folder, kind, folder))

    def _forget_before(self, key: str) -> None:
        """Drop the folders and videos that no later key can begin with."""
        while self._open_folders and not key.startswith(self._open_folders[-1] + "/"):
            self._open_folders.pop()
        while self._videos and not key.startswith(self._videos[-1]):
            self._videos.pop()

    def _checked(self, source: Source) -> Source | SetAside:
        reason = self._reason_against(source)
        return SetAside(source.key, reason, source.kind, source.path) if reason else source

    def _reason_against(self, source: Source) -> str | None:
        parts = source.key.split("/")
        if parts[0] in RESERVED:
            return f"the name {parts[0]} is reserved for gpucapt's own files; rename it"
        if len(source.key.encode()) > LONGEST_KEY:
            return f"its name, folders included, is longer than {LONGEST_KEY} bytes; shorten it"
        clash = next((part for part in parts[1:] if part in OUTPUT_NAMES), None)
        if clash:
            return f"a folder named {clash} would lie where results are written; rename it"
        if source.kind == "stills" and source.path and source.key in self._videos:
            return f"the video {source.key} has the same name as this folder; rename one of them"
        if source.path and source.key == self._base_name and self._stills_in_root():
            return f"the stills directly in SOURCE go by the name {source.key} too; rename one of them"
        return None

    def _stills_in_root(self) -> bool:
        if self._root_has_stills is None:
            in_root = Source(self._base_name, "stills", "")
            self._root_has_stills = any(still_entries(self._storage, in_root, self._choice))
        return self._root_has_stills


def still_entries(storage: Storage, source: Source, choice: Choice | None = None) -> Iterator[Entry]:
    """The stills of one source or piece that `choice` takes, sorted by name; SOURCE itself in any case."""
    if source.entry is not None:
        return iter((source.entry,))
    chosen, piece = choice or Choice(), source.piece
    found = storage.list_folder(source.path, after="" if piece is None else piece.after)
    if piece is not None:
        found = takewhile(lambda entry: piece.holds(entry.name), found)
    return (entry for entry in found if kind_of(entry.name) == "stills" and chosen.takes(entry.key))


def open_source(
    url: str, choice: Choice | None = None, left_out: LeftOut | None = None
) -> tuple[Storage, Iterator[Source | SetAside]]:
    """SOURCE as people name it: a folder of anything, a folder of stills, or one file.

    `choice` and `left_out` are about what is found in a folder, as in `find_sources`. Raises GpucaptError
    when nothing is there, or when it is one file of a kind that cannot be captioned.
    """
    folder = open_storage(url)
    parent, name = open_object(url)
    if folder.exists():
        return folder, find_sources(folder, base_name=name or "source", choice=choice, left_out=left_out)
    entry = parent.stat(name) if name else None
    if entry is None:
        raise GpucaptError(f"SOURCE {url} does not exist; name a folder, a video or a picture")
    kind = kind_of(name)
    if kind is None:
        raise GpucaptError(
            f"SOURCE {url} has an extension of neither a video nor a picture; name another file"
        )
    return parent, iter((Source(name, kind, name if kind == "video" else "", entry),))
