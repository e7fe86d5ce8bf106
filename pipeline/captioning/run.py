"""`gpucapt caption`: one run, from its command line to its exit code."""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import dataclass, field

from model.errors import GpucaptError
from pipeline.captioning.job import Job
from pipeline.captioning.job_spec import Order
from pipeline.captioning.outcome_store import UNTOLD, Outcomes
from pipeline.errors import one_line
from pipeline.models.resolve import resolve_model
from pipeline.records.outcome import Totals
from pipeline.records.settings import CaptionSettings, Resources
from pipeline.reports.run_files import Run, new_run_id, write_run_csv, write_run_report, write_summary
from pipeline.runtime.clock import now
from pipeline.runtime.progress import Progress, shown
from pipeline.runtime.signals import stopped_by_signals
from pipeline.sources.choice import Choice, LeftOut
from pipeline.sources.discovery import open_source
from pipeline.storage.base import Storage
from pipeline.storage.open import location, open_storage
from pipeline.stories.job_storyteller import check_provider

DONE, FAILED, SOME_SET_ASIDE = 0, 1, 3

_ERRORS_SHOWN = 20

_log = logging.getLogger("gpucapt")


@dataclass(frozen=True, slots=True)
class CaptionRun:
    """What `gpucapt caption` was asked to do."""

    source: str
    destination: str
    settings: CaptionSettings
    resources: Resources
    overwrite: bool = False
    retry_failed: bool = False
    progress: str = "auto"
    choice: Choice = field(default_factory=Choice)

    def run(self) -> int:
        """Caption everything in SOURCE that is not done; returns the exit code."""
        check_provider(self.settings.story)
        model = resolve_model(self.settings.model)
        left_out = LeftOut()
        storage, sources = open_source(self.source, self.choice, left_out)
        destination = open_storage(self.destination)
        destination.check_place()
        order = Order(
            storage,
            destination,
            sources,
            self.settings,
            self.resources,
            overwrite=self.overwrite,
            retry_failed=self.retry_failed,
            choice=self.choice,
            left_out=left_out,
        )
        started, began, progress = now(), time.monotonic(), Progress()
        with Outcomes() as outcomes:
            job = Job(order, model, outcomes, progress)
            with stopped_by_signals(job.stop), shown(progress, self.progress):
                job.run()
            told = left_out.in_words()
            if outcomes.totals.sources == 0:
                nothing = f"there is nothing to caption in {self.source}: no video and no picture"
                raise GpucaptError(f"{nothing}; {told}" if told else nothing)
            if told:
                _log.info("%s", told)
            run = Run(
                new_run_id(),
                location(self.source),
                destination.url,
                started,
                now(),
                job.model.name,
                job.model.version,
                self.settings.of_result("video"),
                time.monotonic() - began,
                left_out.counts,
            )
            return conclude(run, outcomes, destination, is_news=_is_untold(destination))


def _is_untold(destination: Storage) -> bool:
    """Whether the latest run has not said how it ended, or there was none.

    One that was killed after its last source left no summary, which is the last file of a run. Names of runs
    sort by time.
    """
    latest, told = "", False
    for entry in destination.list("runs/"):
        run = entry.key.split("/")[1]
        told = entry.name == "summary.json" or (told and run == latest)
        latest = run
    return not told


def conclude(run: Run, outcomes: Outcomes, destination: Storage, *, is_news: bool = False) -> int:
    """Write what is to be said of a run, if there is any news, and tell it; the exit code."""
    totals = outcomes.totals
    summary = "nothing new"
    if totals.captioned or totals.errors or is_news:
        write_run_csv(run, outcomes, destination)
        write_run_report(run, outcomes, destination)
        write_summary(run, outcomes, destination)
        summary = f"see {destination.url}/{run.folder}/report.html"
    print_errors(outcomes)
    print(f"{in_words(totals)}; {summary}")
    return exit_code(totals)


def exit_code(totals: Totals) -> int:
    """What a run's end says to whoever started it."""
    if totals.done == 0:
        return FAILED
    return SOME_SET_ASIDE if totals.errors else DONE


def in_words(totals: Totals) -> str:
    """The counts of a run as a person says them."""
    parts = [f"captioned {_count(totals.captioned, 'source')} ({_count(totals.frames, 'frame')})"]
    if totals.damaged:
        parts.append(f"{totals.damaged} damaged")
    if totals.already_done:
        parts.append(f"{totals.already_done} already done")
    if totals.errors > totals.untold:
        parts.append(f"{totals.errors - totals.untold} set aside")
    if totals.untold:
        parts.append(f"{totals.untold} without a story")
    if totals.left:
        parts.append(f"{totals.left} left for later")
    return ", ".join(parts)


def print_errors(outcomes: Outcomes) -> None:
    """Tell on the standard error what was set aside or left, as far as that is read by people."""
    for index, (key, reason) in enumerate(outcomes.errors()):
        if index == _ERRORS_SHOWN:
            print(f"gpucapt: … and {outcomes.totals.errors - index} more", file=sys.stderr)
            break
        what = f"no story for {key.removesuffix(UNTOLD)}" if key.endswith(UNTOLD) else f"set aside {key}"
        print(f"gpucapt: {on_one_line(what)}: {reason}", file=sys.stderr)
    for index, (key, reason) in enumerate(outcomes.left()):
        if index == _ERRORS_SHOWN:
            print(f"gpucapt: … and {outcomes.totals.left - index} more left", file=sys.stderr)
            break
        print(f"gpucapt: left {on_one_line(key)}: {reason}", file=sys.stderr)


def on_one_line(text: str) -> str:
    """Text as a terminal may show it: what controls it is escaped, line breaks become blanks."""
    return one_line(" ".join(text.split()))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
