"""The three files that tell of a run: captions.csv, report.html, summary.json."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import IO, Protocol

from pipeline.records.outcome import Totals
from pipeline.reports.run_csv import UnsureLimits, append_to_run_csv
from pipeline.reports.run_page import MOST_REASONS, RunFacts, SourceLine, write_run_page
from pipeline.reports.tables import run_csv_header
from pipeline.runtime.temp_folders import ScratchFolder
from pipeline.storage.base import Storage
from pipeline.storage.prefetch import opened_files
from pipeline.storage.relative_urls import relative_link


class RunOutcomes(Protocol):
    """What became of the sources of a run, as its files tell it; all sorted by key."""

    totals: Totals

    def done_keys(self) -> Iterator[str]:
        """The sources whose outputs are there."""

    def errors(self) -> Iterator[tuple[str, str]]:
        """What was set aside, and why."""

    def left(self) -> Iterator[tuple[str, str]]:
        """What was left for a later run, and why."""

    def reasons(self, most: int) -> Iterator[tuple[str, int]]:
        """Why things were set aside, and how often; the commonest first."""

    def lines(self) -> Iterator[SourceLine]:
        """Each source as the run's page lists it."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run, as its files describe it. Times are UTC, as ISO 8601 writes them.

    ``seconds`` is how long it took, more exactly than the two times say it. ``left_out`` counts the files
    that were not meant, by the reason.
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
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """Where its files lie under DESTINATION."""
        return f"runs/{self.id}"


def new_run_id() -> str:
    """A name that sorts by time and that no other run has."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def write_run_csv(run: Run, outcomes: RunOutcomes, destination: Storage) -> None:
    """Write the run's captions.csv: the rows of all its sources that are done, sorted by source key."""
    with ScratchFolder() as scratch:
        path = scratch / "captions.csv"
        limits = UnsureLimits(destination)
        with path.open("wb") as file:
            file.write(run_csv_header().encode())
            # One that is being replaced by another worker just now is not there.
            for found in opened_files(destination, (f"{key}/captions.csv" for key in outcomes.done_keys())):
                append_to_run_csv(found, file, limits)
        destination.upload(path, f"{run.folder}/captions.csv")


def write_run_report(run: Run, outcomes: RunOutcomes, destination: Storage) -> None:
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
        run.left_out,
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


def write_summary(run: Run, outcomes: RunOutcomes, destination: Storage) -> None:
    """Write the run's summary.json; what is left and its errors as streams."""
    with ScratchFolder() as scratch:
        path = scratch / "summary.json"
        with path.open("w", encoding="utf-8") as file:
            _write_summary(run, outcomes, file)
        destination.upload(path, f"{run.folder}/summary.json")


def _write_summary(run: Run, outcomes: RunOutcomes, file: IO[str]) -> None:
    head: dict[str, object] = {
        "format": 2,
        "run": run.id,
        "source": run.source,
        "destination": run.destination,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "model": run.model,
        "model_version": run.model_version,
        "settings": run.settings,
        "counts": outcomes.totals.counts,
        "left_out": [{"reason": reason, "files": files} for reason, files in run.left_out.items()],
    }
    file.write("{\n")
    for name, value in head.items():
        file.write(f'"{name}": {json.dumps(value, ensure_ascii=False)},\n')
    for name, found, end in (("left", outcomes.left(), ",\n"), ("errors", outcomes.errors(), "\n}\n")):
        file.write(f'"{name}": [')
        for index, (key, reason) in enumerate(found):
            line = json.dumps({"key": key, "reason": reason}, ensure_ascii=False)
            file.write(f"{',' if index else ''}\n{line}")
        file.write(f"\n]{end}")
