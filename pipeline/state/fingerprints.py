"""What a source consists of, and which settings and model: a source is done when this has not changed.

A fingerprint is two digests, ``<rows>-<content>``. The first, 16 hex digits, is of the model version and the
settings that change the rows: rows of stills are kept under it, so that they can be used again when other
stills join. The second, 32 hex digits, is a running digest of the name, size and ETag of each file, and of
the remaining settings; also, of stills of a kind that is read otherwise than by the first version, since
which version it is.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator
from types import TracebackType

from pipeline.records.settings import CaptionSettings
from pipeline.records.source_info import SourceKind
from pipeline.records.still_reader import read_alike_since
from pipeline.storage.base import Entry

_IN_MEMORY = 1 << 20

_SCENES_READING = 2
"""Scenes are told by time since this version; what else was read right before keeps its fingerprint."""


def rows_digest(kind: SourceKind, settings: CaptionSettings, model_version: str) -> str:
    """The first half of a fingerprint: what the rows depend on besides the files."""
    about: dict[str, object] = {
        "kind": kind,
        "model_version": model_version,
        "settings": settings.of_rows(kind),
    }
    if kind == "video" and settings.selection.scenes:
        about["reading"] = _SCENES_READING
    return _digest(about)[:16]


class Snapshot:
    """The files of a source as they were when work on it began, on disk beyond a megabyte.

    Listing once and reading by that list keeps the rows and the fingerprint about the same files, whatever
    arrives meanwhile.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY, mode="w+", encoding="ascii")  # noqa: SIM115
        self.count = 0
        self.size = 0
        try:
            self._digest = self._take_down(entries)
        except BaseException:  # the storage does not answer
            self._file.close()
            raise

    def _take_down(self, entries: Iterable[Entry]) -> str:
        """Write the files down; their digest."""
        digest = hashlib.sha256()
        for entry in entries:
            since = read_alike_since(entry.name)
            known = [entry.name, entry.size, entry.etag, *([since] if since > 1 else [])]
            digest.update(json.dumps(known).encode())
            self._file.write(json.dumps([entry.key, entry.size, entry.etag, entry.modified]) + "\n")
            self.count += 1
            self.size += entry.size
        self._file.flush()
        return digest.hexdigest()

    def __iter__(self) -> Iterator[Entry]:
        """The files in the order of the listing; one iteration at a time."""
        self._file.seek(0)
        for line in self._file:
            key, size, etag, modified = json.loads(line)
            yield Entry(key, size, etag, modified)

    def fingerprint(
        self, kind: SourceKind, settings: CaptionSettings, model_version: str, *, piece: object = None
    ) -> str:
        """The fingerprint of a source that consists of these files; or of a piece, as JSON types."""
        about: dict[str, object] = {"files": self._digest, "settings": settings.of_result(kind)}
        content = _digest(about if piece is None else {**about, "piece": piece})
        return f"{rows_digest(kind, settings, model_version)}-{content[:32]}"

    def close(self) -> None:
        """Give the disk space back."""
        self._file.close()

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
