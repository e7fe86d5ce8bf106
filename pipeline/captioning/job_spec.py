"""What a job is asked to do, and whom it tells what became of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.records.outcome import Input, Outcome
from pipeline.records.row import Row
from pipeline.records.settings import CaptionSettings, Resources
from pipeline.sources.choice import Choice, LeftOut
from pipeline.sources.discovery import SetAside, Source
from pipeline.state.fingerprints import Snapshot
from pipeline.state.still_rows import name_of
from pipeline.storage.base import Entry, Storage


class OutcomeSink(Protocol):
    """Who is told what became of each source; called from several threads."""

    def add(self, outcome: Outcome, inputs: Iterable[Input]) -> None:
        """Record one outcome, with the files that the source consisted of, as far as they are known."""


def _always(entry: Entry) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Order:
    """What a job is to do."""

    storage: Storage
    destination: Storage
    sources: Iterable[Source | SetAside]
    settings: CaptionSettings
    resources: Resources
    overwrite: bool = False
    """Caption sources that are done, too, and all of their frames."""
    retry_failed: bool = False
    """Look again at stills that were set aside."""
    keep_missing: bool = False
    """Keep the rows of stills that are gone: the drop folder has archived them."""
    films: str | None = None
    """The folder or bucket prefix in which films will lie when all is done; None: where they are read."""
    is_settled: Callable[[Entry], bool] = _always
    """Whether a still may be used already; the others are taken as not there."""
    choice: Choice = field(default_factory=Choice)
    """Which stills of a folder are meant."""
    left_out: LeftOut = field(default_factory=LeftOut)
    """Counts the files that turn out to be no recordings."""


def still_name(source: Source, name: str) -> str:
    """How errors name one still of a source."""
    return source.key if source.entry is not None else f"{source.key}/{name}"


def inputs_of(
    source: Source, snapshot: Snapshot, rows: Iterable[Row], *, otherwise: str | None = None
) -> Iterator[Input]:
    """The files of a source, those that could not be used with the reason that their row gives.

    Both the snapshot and the rows are sorted by file name. ``otherwise`` is the reason for files without a
    row.
    """
    known = iter(rows)
    row = next(known, None)
    for entry in snapshot:
        name = entry.name.encode()
        while row is not None and name_of(row) < name:
            row = next(known, None)
        fits = row is not None and row.frame == entry.name and row.etag == entry.etag
        error = row.error if row is not None and fits else otherwise
        shown = still_name(source, entry.name)
        yield Input(entry.key, entry.etag, shown, error, entry.size, entry.modified)
