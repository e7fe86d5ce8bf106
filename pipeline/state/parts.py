"""Parts: the rows of a source that are safe on storage before the source is finished.

``.gpucapt/parts/<source key>/<fingerprint>/<first>-<last>.jsonl`` holds the rows of the positions from first
to last, both included, one a line. A run that is killed goes on after the last of them. Numbers have twelve
digits, so that the order of the names is the order of the rows. Beside the parts of a piece of a source lies
``piece-<index>-of-<number>.json``, which says what the piece is and whether it is done; beside those of a
segment of a stream ``segment.json``, with all that is needed to publish them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from model.errors import GpucaptError
from pipeline.errors import BadInput, StorageUnavailable
from pipeline.records.row import Row
from pipeline.state.manifest import read_done
from pipeline.storage.base import Storage

_FOLDER = ".gpucapt/parts"
_NAME = re.compile(
    r"([0-9a-f]{16}-[0-9a-f]{32})/(?:(\d{12})-(\d{12})\.jsonl|piece-(\d+)-of-(\d+)\.json|segment\.json)"
)


@dataclass(frozen=True, slots=True)
class Part:
    """One part file: its storage key, and the positions of its first and its last row."""

    key: str
    first: int
    last: int


class Parts:
    """The parts of one source, for one fingerprint."""

    def __init__(
        self, storage: Storage, source_key: str, fingerprint: str, piece: tuple[int, int] | None = None
    ) -> None:
        self.fingerprint = fingerprint
        self.piece = piece
        """Which of how many pieces of the source they are of, if of one."""
        self._storage = storage
        self._source_key = source_key
        self._folder = f"{_FOLDER}/{source_key}/{fingerprint}"

    def write(self, rows: list[Row]) -> None:
        """Keep rows with successive positions."""
        content = "".join(row.to_json() + "\n" for row in rows).encode("ascii")
        self._storage.write(self._key(rows), content)

    def take_back(self, rows: list[Row]) -> None:
        """Remove what was still on its way when another worker finished the source."""
        done = read_done(self._storage, self._source_key)
        if done is not None and done.fingerprint == self.fingerprint:
            self._storage.delete(self._key(rows))

    def _key(self, rows: list[Row]) -> str:
        first, last = rows[0].position, rows[-1].position
        if last - first + 1 != len(rows):
            raise AssertionError(f"{len(rows)} rows cannot be those from {first} to {last}")
        return f"{self._folder}/{first:012}-{last:012}.jsonl"

    def resume(self) -> int:
        """How many rows from position 0 on are safe. Parts that are damaged or after a gap are removed."""
        end = 0
        for part in self._parts():
            if part.first <= end and self._is_whole(part):
                end = max(end, part.last + 1)
            else:
                self._storage.delete(part.key)
        return end

    def last(self, count: int) -> Row | None:
        """Of the first ``count`` rows, which are safe, the last one."""
        part = next((part for part in self._parts() if part.first < count <= part.last + 1), None)
        rows = () if part is None else self._lines(part)
        return next((row for row in rows if row.position == count - 1), None)

    def mark(self, content: bytes) -> None:
        """Say something about the piece, or the segment, that the rows are of. Removed with them."""
        self._storage.write(self._mark_key(), content)

    def read_mark(self) -> bytes | None:
        """What was last said about the piece or the segment."""
        try:
            return self._storage.read(self._mark_key())
        except BadInput:
            return None

    def _mark_key(self) -> str:
        if self.piece is None:
            return f"{self._folder}/segment.json"
        return f"{self._folder}/piece-{self.piece[0]}-of-{self.piece[1]}.json"

    def rows(self) -> Iterator[Row]:
        """The rows in order, from position 0 up to the first gap, each once."""
        return merge((part.first, part.last, self._lines(part)) for part in self._parts())

    def remove(self) -> None:
        """Remove all of them."""
        self._storage.delete_folder(self._folder)

    def _parts(self) -> list[Part]:
        found = []
        for entry in self._storage.list_folder(self._folder):
            match = _NAME.fullmatch(f"{self.fingerprint}/{entry.name}")
            if match and match[2]:
                found.append(Part(entry.key, int(match[2]), int(match[3])))
        return found

    def _lines(self, part: Part) -> Iterator[Row]:
        for line in self._storage.read(part.key).decode("ascii").splitlines():
            yield Row.from_json(line)

    def _is_whole(self, part: Part) -> bool:
        try:
            positions = [row.position for row in self._lines(part)]
        except StorageUnavailable:
            raise
        except (GpucaptError, UnicodeDecodeError):
            return False
        return positions == list(range(part.first, part.last + 1))


def merge(parts: Iterable[tuple[int, int, Iterable[Row]]]) -> Iterator[Row]:
    """The rows of parts (first, last, rows), which come by their first, in order, each position once.

    Parts overlap where a worker that was thought gone wrote one more; either worker's row will do. Ends
    before the first position that is in no part.
    """
    end = 0
    for first, last, rows in parts:
        if first > end:
            return
        if last < end:
            continue
        for row in rows:
            if row.position >= end:
                end = row.position + 1  # before the caller gives the row another position
                yield row


def find_parts(storage: Storage, source_key: str) -> list[Parts]:
    """The parts of a source and of its pieces, for every fingerprint that has some."""
    folder = f"{_FOLDER}/{source_key}/"
    found: dict[str, tuple[int, int] | None] = {}
    for entry in storage.list(folder):
        # Below the folder of a source also lie the parts of the sources inside it.
        match = _NAME.fullmatch(entry.key.removeprefix(folder))
        if match:
            found.setdefault(match[1], None)
            if match[4]:
                found[match[1]] = int(match[4]), int(match[5])
    return [Parts(storage, source_key, fingerprint, piece) for fingerprint, piece in found.items()]


def find_segments(storage: Storage, stream: str) -> Iterator[tuple[Parts, str]]:
    """The parts of each segment of a stream that has some, and the segment's key."""
    for entry in storage.list(f"{_FOLDER}/{stream}/"):
        key, _, name = entry.key.removeprefix(f"{_FOLDER}/").rpartition("/")
        segment, _, fingerprint = key.rpartition("/")
        if name == "segment.json" and _NAME.fullmatch(f"{fingerprint}/{name}"):
            yield Parts(storage, segment, fingerprint), segment
