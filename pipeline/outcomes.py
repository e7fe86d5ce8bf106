"""What became of each source of a run, and the two files that tell it.

However many sources there are, they are kept on disk, not in memory.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import IO, Any, Literal, Self

from pipeline.ahead import opened_files
from pipeline.reports import append_to_run_csv, run_csv_header
from pipeline.scratch import ScratchFolder
from pipeline.source_info import Kind
from pipeline.storage import Storage

Status = Literal["captioned", "already done", "set aside", "left"]


@dataclass(frozen=True, slots=True)
class PieceDone:
    """What finishing a source must know of one of its pieces; the last three once it is captioned."""

    index: int
    of: int
    kind: Kind
    fingerprint: str = ""
    rows: int = 0
    ran_on: bool = False
    """Whether a film's piece, for damage in it, holds everything up to the film's end."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a source or a piece. ``reason`` says why one was set aside, or left for the next run."""

    key: str
    status: Status
    frames: int = 0
    reason: str | None = None
    piece: PieceDone | None = None

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Outcome:
        """The inverse of ``asdict``."""
        piece = fields.get("piece")
        return cls(**{**fields, "piece": None if piece is None else PieceDone(**piece)})


@dataclass(frozen=True, slots=True)
class Input:
    """A file that a source consists of: its key under SOURCE, its ETag, and why it cannot be used, if so.

    ``name`` is how errors name it: by the source key and the file's name.
    """

    key: str
    etag: str
    name: str
    error: str | None = None
    size: int = 0
    modified: float = 0.0


@dataclass(slots=True)
class Totals:
    """Counts over a run; ``errors`` counts what was set aside, sources and single stills."""

    captioned: int = 0
    already_done: int = 0
    set_aside: int = 0
    left: int = 0
    frames: int = 0
    errors: int = 0

    @property
    def done(self) -> int:
        """Sources whose outputs are there."""
        return self.captioned + self.already_done

    @property
    def sources(self) -> int:
        """All sources that were found."""
        return self.done + self.set_aside + self.left


class OnDisk:
    """Tables that this process keeps on disk, in a file that the system removes whatever happens to it."""

    def __init__(self, tables: str) -> None:
        # No name: SQLite makes a file that is gone as soon as it is open.
        self._database = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._database.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {tables}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()


class Outcomes(OnDisk):
    """The outcomes of one run, from any thread; read back sorted by key."""

    def __init__(self) -> None:
        super().__init__(
            "CREATE TABLE sources (key TEXT PRIMARY KEY, status TEXT) WITHOUT ROWID;"
            "CREATE TABLE errors (key TEXT, reason TEXT, PRIMARY KEY (key, reason)) WITHOUT ROWID;"
        )
        self._lock = threading.Lock()
        self.totals = Totals()

    def add(self, outcome: Outcome, inputs: Iterable[Input]) -> None:
        """Record an outcome. The bad ones among the inputs of a source that was captioned are errors too."""
        with self._lock:
            self._count(outcome)
            self._database.execute(
                "INSERT OR REPLACE INTO sources VALUES (?, ?)", (outcome.key, outcome.status)
            )
            if outcome.status == "set aside":
                self._add_error(outcome.key, outcome.reason or "")
            if outcome.status in ("captioned", "set aside"):
                for one in inputs:
                    if one.error is not None and one.name != outcome.key:
                        self._add_error(one.name, one.error)

    def errors(self) -> Iterator[tuple[str, str]]:
        """What was set aside and why, sorted by key."""
        yield from self._database.execute("SELECT key, reason FROM errors ORDER BY key, reason")

    def status_of(self, key: str) -> Status | None:
        """What became of a source."""
        found = self._database.execute("SELECT status FROM sources WHERE key = ?", (key,)).fetchone()
        return None if found is None else found[0]

    def reason_of(self, key: str) -> str | None:
        """Why a source as a whole was set aside."""
        found = self._database.execute("SELECT reason FROM errors WHERE key = ?", (key,)).fetchone()
        return None if found is None else found[0]

    def done_keys(self) -> Iterator[str]:
        """The sources whose outputs are there, sorted."""
        found = self._database.execute(
            "SELECT key FROM sources WHERE status IN ('captioned', 'already done') ORDER BY key"
        )
        return (key for (key,) in found)

    def _count(self, outcome: Outcome) -> None:
        totals = self.totals
        totals.captioned += outcome.status == "captioned"
        totals.already_done += outcome.status == "already done"
        totals.set_aside += outcome.status == "set aside"
        totals.left += outcome.status == "left"
        totals.frames += outcome.frames if outcome.status == "captioned" else 0

    def _add_error(self, key: str, reason: str) -> None:
        added = self._database.execute("INSERT OR IGNORE INTO errors VALUES (?, ?)", (key, reason))
        self.totals.errors += added.rowcount


@dataclass(frozen=True, slots=True)
class Run:
    """A run, as its summary describes it. Times are UTC, as ISO 8601 writes them."""

    id: str
    source: str
    destination: str
    started_at: str
    finished_at: str
    model: str
    model_version: str
    settings: dict[str, object]

    @property
    def folder(self) -> str:
        """Where its files lie under DESTINATION."""
        return f"runs/{self.id}"


def new_run_id() -> str:
    """A name that sorts by time and that no other run has."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def write_run_csv(run: Run, outcomes: Outcomes, destination: Storage) -> None:
    """Write the run's captions.csv: the rows of all its sources that are done, sorted by source key."""
    with ScratchFolder() as scratch:
        path = scratch / "captions.csv"
        with path.open("wb") as file:
            file.write(run_csv_header().encode())
            # One that is being replaced by another worker just now is not there.
            for found in opened_files(destination, (f"{key}/captions.csv" for key in outcomes.done_keys())):
                append_to_run_csv(found, file)
        destination.upload(path, f"{run.folder}/captions.csv")


def write_summary(run: Run, outcomes: Outcomes, destination: Storage) -> None:
    """Write the run's summary.json; its errors as a stream."""
    with ScratchFolder() as scratch:
        path = scratch / "summary.json"
        with path.open("w", encoding="utf-8") as file:
            _write_summary(run, outcomes, file)
        destination.upload(path, f"{run.folder}/summary.json")


def _write_summary(run: Run, outcomes: Outcomes, file: IO[str]) -> None:
    totals = outcomes.totals
    head: dict[str, object] = {
        "format": 1,
        "run": run.id,
        "source": run.source,
        "destination": run.destination,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "model": run.model,
        "model_version": run.model_version,
        "settings": run.settings,
        "counts": {
            "sources": totals.sources,
            "captioned": totals.captioned,
            "already_done": totals.already_done,
            "set_aside": totals.set_aside,
            "left": totals.left,
            "frames": totals.frames,
            "errors": totals.errors,
        },
    }
    file.write("{\n")
    for name, value in head.items():
        file.write(f'"{name}": {json.dumps(value, ensure_ascii=False)},\n')
    file.write('"errors": [')
    for index, (key, reason) in enumerate(outcomes.errors()):
        line = json.dumps({"key": key, "reason": reason}, ensure_ascii=False)
        file.write(f"{',' if index else ''}\n{line}")
    file.write("\n]\n}\n")
