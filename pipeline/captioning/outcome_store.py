"""What became of each source of a run, and the three files that tell it.

However many sources there are, they are kept on disk, not in memory.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import IO, Self

from pipeline.records.outcome import Input, Outcome, Status, Totals
from pipeline.reports import append_to_run_csv, run_csv_header
from pipeline.reports.run_page import MOST_REASONS, RunFacts, SourceLine, write_run_page
from pipeline.runtime.temp_folders import ScratchFolder
from pipeline.storage.base import Storage
from pipeline.storage.prefetch import opened_files
from pipeline.storage.relative_urls import relative_link

UNTOLD = "/story.json"
"""What follows a source key where errors speak of its story."""


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
            "CREATE TABLE sources (key TEXT PRIMARY KEY, status TEXT, frames INTEGER, errors INTEGER,"
            " reason TEXT, untold INTEGER) WITHOUT ROWID;"
            "CREATE TABLE errors (key TEXT, reason TEXT, why TEXT, PRIMARY KEY (key, reason)) WITHOUT ROWID;"
        )
        self._lock = threading.Lock()
        self.totals = Totals()

    def add(self, outcome: Outcome, inputs: Iterable[Input]) -> None:
        """Record an outcome. The bad ones among the inputs of a source that was captioned are errors too."""
        with self._lock:
            self._count(outcome)
            self._database.execute(
                "INSERT OR REPLACE INTO sources VALUES (?, ?, ?, 0, ?, ?)",
                (outcome.key, outcome.status, outcome.frames, outcome.reason, outcome.untold is not None),
            )
            if outcome.status == "set aside":
                self._add_error(outcome.key, outcome.reason or "")
            if outcome.untold is not None:
                self._add_error(f"{outcome.key}{UNTOLD}", outcome.untold)
                self.totals.untold += 1
            before = self.totals.errors
            if outcome.status in ("captioned", "set aside"):
                for one in inputs:
                    if one.error is not None and one.name != outcome.key:
                        self._add_error(one.name, one.error)
            if self.totals.errors > before:
                self._database.execute(
                    "UPDATE sources SET errors = ? WHERE key = ?", (self.totals.errors - before, outcome.key)
                )

    def errors(self) -> Iterator[tuple[str, str]]:
        """What was set aside and why, sorted by key."""
        yield from self._database.execute("SELECT key, reason FROM errors ORDER BY key, reason")

    def reasons(self, most: int) -> Iterator[tuple[str, int]]:
        """Why things were set aside, without their names, and how often; the commonest first."""
        yield from self._database.execute(
            "SELECT why, COUNT(*) FROM errors GROUP BY why ORDER BY COUNT(*) DESC, why LIMIT ?", (most,)
        )

    def lines(self) -> Iterator[SourceLine]:
        """Each source as the run's page lists it, sorted by key."""
        found = self._database.execute(
            "SELECT key, status, frames, errors, reason, untold FROM sources ORDER BY key"
        )
        for key, status, frames, errors, reason, untold in found:
            yield SourceLine(key, status, frames, errors, reason, bool(untold))

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
        why = reason.removeprefix(f"{key.rpartition('/')[2]}: ")
        added = self._database.execute("INSERT OR IGNORE INTO errors VALUES (?, ?, ?)", (key, reason, why))
        self.totals.errors += added.rowcount


@dataclass(frozen=True, slots=True)
class Run:
    """A run, as its files describe it. Times are UTC, as ISO 8601 writes them.

    ``seconds`` is how long it took, more exactly than the two times say it.
    """

    id: str
    source: str
    destination: str
    started_at: str
    finished_at: str
    model: str
    model_version: str
    settings: dict[str, object]
    seconds: float

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


def write_run_report(run: Run, outcomes: Outcomes, destination: Storage) -> None:
    """Write the run's report.html: counts, what was set aside and why, a link to each source's report."""
    facts = RunFacts(
        run.id,
        run.source,
        run.destination,
        run.started_at,
        run.finished_at,
        run.seconds,
        f"{run.model} {run.model_version}".strip(),
        run.settings,
        outcomes.totals.counts,
        outcomes.totals.untold,
    )
    with ScratchFolder() as scratch:
        path = scratch / "report.html"
        lines = (_linked(line, run, destination.url) for line in outcomes.lines())
        write_run_page(facts, lines, outcomes.errors(), outcomes.reasons(MOST_REASONS), path)
        destination.upload(path, f"{run.folder}/report.html")


def _linked(line: SourceLine, run: Run, url: str) -> SourceLine:
    """The page makes the link of the key, except where a name on disk may have bytes that are no text."""
    if line.key.isascii():
        return line
    return replace(line, link=relative_link(url, run.folder, url, f"{line.key}/report.html"))


def write_summary(run: Run, outcomes: Outcomes, destination: Storage) -> None:
    """Write the run's summary.json; its errors as a stream."""
    with ScratchFolder() as scratch:
        path = scratch / "summary.json"
        with path.open("w", encoding="utf-8") as file:
            _write_summary(run, outcomes, file)
        destination.upload(path, f"{run.folder}/summary.json")


def _write_summary(run: Run, outcomes: Outcomes, file: IO[str]) -> None:
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
        "counts": outcomes.totals.counts,
    }
    file.write("{\n")
    for name, value in head.items():
        file.write(f'"{name}": {json.dumps(value, ensure_ascii=False)},\n')
    file.write('"errors": [')
    for index, (key, reason) in enumerate(outcomes.errors()):
        line = json.dumps({"key": key, "reason": reason}, ensure_ascii=False)
        file.write(f"{',' if index else ''}\n{line}")
    file.write("\n]\n}\n")
