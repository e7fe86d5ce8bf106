"""Rows of stills outlive a run: what arrives later joins them.

The merged rows of a folder stay in ``.gpucapt/stills/<source key>/<rows digest>.jsonl``, sorted by file
name. A row belongs to a file name and an ETag: as long as both are the same it is used again, a replaced
still is captioned anew, and the row of a still that is gone is dropped (or kept, where the drop folder has
moved the still to its archive). A still that an earlier version could not read, or read otherwise, is read
again; see ``records.still_reader``.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from itertools import groupby

from pipeline.records.row import Row, illustration_stride, is_illustrated
from pipeline.records.still_reader import STILL_READER, read_alike_since
from pipeline.storage.base import Entry, Storage


def saved_key(source_key: str, rows_digest: str) -> str:
    """Where the rows of a folder of stills are kept under DESTINATION."""
    return f".gpucapt/stills/{source_key}/{rows_digest}.jsonl"


def saved_rows(storage: Storage, source_key: str, rows_digest: str) -> Iterator[Row]:
    """The rows that the folder has, in the order of their names; none when it is new."""
    key = saved_key(source_key, rows_digest)
    if storage.stat(key) is None:
        return
    with storage.local_path(key) as path, path.open(encoding="ascii") as file:
        for line in file:
            yield Row.from_json(line)


def join(
    entries: Iterable[Entry],
    saved: Iterable[Row],
    unfinished: Iterable[Row] = (),
    *,
    keep_missing: bool = False,
    reuse: bool = True,
    reuse_errors: bool = True,
    reuse_outdated: bool = True,
) -> Iterator[Entry | Row]:
    """What a folder consists of now, in the order of the names: known rows, and stills to caption.

    Args:
        entries: the stills that are there, sorted by name.
        saved: the rows of the last time, sorted by name.
        unfinished: rows that a run left behind which never finished, sorted by name.
        keep_missing: keep saved rows whose still is gone; bad ones go all the same.
        reuse: whether a still that has not changed keeps its row.
        reuse_errors: whether a still that was bad, and has not changed, is taken to be bad again.
        reuse_outdated: whether that is so where an earlier version found it bad, and whether a still that an
            earlier version read otherwise keeps its row.
    """

    def fits(row: Row) -> bool:
        return (reuse_errors or row.error is None) and (reuse_outdated or is_current(row))

    known = _by_name(saved, unfinished)
    name, rows = next(known, _NO_MORE)
    for entry in entries:
        wanted = entry.name.encode()
        while rows and name < wanted:
            yield from _missing(rows, keep_missing)
            name, rows = next(known, _NO_MORE)
        if rows and name == wanted:
            same = [row for _, row in rows if reuse and row.etag == entry.etag and fits(row)]
            yield max(same, key=is_current, default=entry)
            name, rows = next(known, _NO_MORE)
        else:
            yield entry
    while rows:
        yield from _missing(rows, keep_missing)
        name, rows = next(known, _NO_MORE)


class KnownStills:
    """Which stills have a row; asked about them in the order of their names."""

    def __init__(self, rows: Iterable[Row], *, count_errors: bool) -> None:
        self._rows = iter(rows)
        self._row: Row | None = None
        self._count_errors = count_errors

    def have(self, entry: Entry) -> bool:
        """Whether there is a row of this very still, by this version of reading."""
        name = entry.name.encode()
        while self._row is None or name_of(self._row) < name:
            self._row = next(self._rows, None)
            if self._row is None:
                return False
        row = self._row
        is_same = (row.frame, row.etag) == (entry.name, entry.etag) and is_current(row)
        return is_same and (self._count_errors or row.error is None)


def is_current(row: Row) -> bool:
    """Whether this version would find the still of a row bad, or give the same picture of it."""
    if row.error is not None:
        return row.reader >= STILL_READER
    return row.reader >= read_alike_since(str(row.frame))


def has_outdated(rows: Iterable[Row]) -> bool:
    """Whether some stills are to be read again by this version."""
    return not all(map(is_current, rows))


_Known = tuple[bytes, list[tuple[bool, Row]]]
_NO_MORE: _Known = (b"", [])


def _by_name(saved: Iterable[Row], unfinished: Iterable[Row]) -> Iterator[_Known]:
    marked = heapq.merge(_marked(saved, True), _marked(unfinished, False), key=lambda known: known[0])
    for name, group in groupby(marked, key=lambda known: known[0]):
        yield name, [(was_saved, row) for _, was_saved, row in group]


def _marked(rows: Iterable[Row], was_saved: bool) -> Iterator[tuple[bytes, bool, Row]]:
    for row in rows:
        yield name_of(row), was_saved, row


def name_of(row: Row) -> bytes:
    """What rows of stills are sorted by: the file name's UTF-8 bytes."""
    return str(row.frame).encode()


def _missing(rows: list[tuple[bool, Row]], keep_missing: bool) -> Iterator[Row]:
    if keep_missing:
        yield from [row for was_saved, row in rows if was_saved and row.error is None][:1]


class Illustrations:
    """Which rows keep their picture when positions shift: one in each run of rows as long as the stride.

    For rows that never shift these are the multiples of the stride, as in ``row.is_illustrated``.
    """

    def __init__(self) -> None:
        self._last = (0, -1)

    def new(self, position: int) -> None:
        """A row that is captioned now has its picture if it begins a run."""
        if is_illustrated(position):
            self._is_first(position)

    def keep(self, row: Row) -> None:
        """Take the picture and the attention from a row whose neighbour has them already."""
        if (row.thumbnail or row.attention) and not self._is_first(row.position):
            row.thumbnail = row.attention = row.grid = None

    def _is_first(self, position: int) -> bool:
        stride = illustration_stride(position)
        run = (stride, position // stride)
        was, self._last = self._last, run
        return was != run
