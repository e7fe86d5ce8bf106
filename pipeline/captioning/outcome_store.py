"""What became of each source of a run, kept on disk: there may be more of them than memory holds."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

from pipeline.records.outcome import Input, Outcome, Status, Totals
from pipeline.reports.run_page import SourceLine
from pipeline.runtime.on_disk import OnDisk

UNTOLD = "/story.json"
"""What follows a source key where errors speak of its story."""


class Outcomes(OnDisk):
    """The outcomes of one run, from any thread; read back sorted by key."""

    def __init__(self) -> None:
        super().__init__(
            "CREATE TABLE sources (key TEXT PRIMARY KEY, status TEXT, frames INTEGER, errors INTEGER,"
            " reason TEXT, untold INTEGER, undecoded_s REAL) WITHOUT ROWID;"
            "CREATE TABLE errors (key TEXT, reason TEXT, why TEXT, PRIMARY KEY (key, reason)) WITHOUT ROWID;"
        )
        self._lock = threading.Lock()
        self.totals = Totals()

    def add(self, outcome: Outcome, inputs: Iterable[Input]) -> None:
        """Record an outcome. The bad ones among the inputs of a source that was captioned are errors too."""
        with self._lock:
            self._count(outcome)
            self._database.execute(
                "INSERT OR REPLACE INTO sources VALUES (?, ?, ?, 0, ?, ?, ?)",
                (
                    outcome.key,
                    outcome.status,
                    outcome.frames,
                    outcome.reason,
                    outcome.untold is not None,
                    outcome.undecoded_s,
                ),
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

    def left(self) -> Iterator[tuple[str, str]]:
        """What was left for a later run and why, sorted by key."""
        yield from self._database.execute(
            "SELECT key, COALESCE(reason, '') FROM sources WHERE status = 'left' ORDER BY key"
        )

    def reasons(self, most: int) -> Iterator[tuple[str, int]]:
        """Why things were set aside, without their names, and how often; the commonest first."""
        yield from self._database.execute(
            "SELECT why, COUNT(*) FROM errors GROUP BY why ORDER BY COUNT(*) DESC, why LIMIT ?", (most,)
        )

    def lines(self) -> Iterator[SourceLine]:
        """Each source as the run's page lists it, sorted by key."""
        found = self._database.execute(
            "SELECT key, status, frames, errors, reason, untold, undecoded_s FROM sources ORDER BY key"
        )
        for key, status, frames, errors, reason, untold, undecoded_s in found:
            yield SourceLine(key, status, frames, errors, reason, bool(untold), undecoded_s)

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
        totals.damaged += outcome.status == "captioned" and outcome.undecoded_s > 0
        totals.frames += outcome.frames if outcome.status == "captioned" else 0

    def _add_error(self, key: str, reason: str) -> None:
        why = reason.removeprefix(f"{key.rpartition('/')[2]}: ")
        added = self._database.execute("INSERT OR IGNORE INTO errors VALUES (?, ?, ?)", (key, reason, why))
        self.totals.errors += added.rowcount
