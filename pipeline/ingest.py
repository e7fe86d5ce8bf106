"""The drop folder: plan what has arrived, caption it shard by shard, then move it away.

What to do is always what lies in INCOMING: an input leaves it when its outputs are there, and not before. So
each step may be killed at any point and run again, and what arrives meanwhile is for the next round.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO

from model.errors import GpucaptError
from pipeline.errors import WrongUsage
from pipeline.ingest_runs import Plan, Recorder, RunFolder, source_to_json
from pipeline.manifest import now
from pipeline.outcomes import Input, Outcome, Outcomes, Run, Status, new_run_id, write_run_csv, write_summary
from pipeline.settings import CaptionSettings, Resources
from pipeline.settling import wait_for_arrivals
from pipeline.sources import SetAside, Source, find_sources, still_entries
from pipeline.storage import Storage, is_inside, open_object, open_storage, refuse_overlap

MOST_SHARDS = 1024
"""Airflow maps a task over no more than so many."""
COST_OF_A_SOURCE = 1 << 20
"""Bytes that opening, claiming and reporting a source is taken to cost, whatever its size."""

_log = logging.getLogger("gpucapt")


@dataclass(frozen=True, slots=True)
class Planning:
    """What `gpucapt ingest plan` was asked to do. ``shards`` sets their number, else their size does.

    There are never more than ``most_shards``: they grow instead. ``wait``: first, until what is arriving has
    settled.
    """

    incoming: str
    destination: str
    settings: CaptionSettings
    settle_s: float = 10.0
    shard_size: int = 1 << 30
    shards: int | None = None
    archive: str | None = None
    failed: str | None = None
    most_shards: int = MOST_SHARDS
    wait: bool = False

    def run(self) -> dict[str, object]:
        """Write the shards of a new run; returns ``{"run": URL, "shards": [URL, …]}``.

        Where there is nothing to do nothing is written, and there are no shards. Raises WrongUsage when
        folders overlap that must not.
        """
        incoming, destination = open_storage(self.incoming), open_storage(self.destination)
        if incoming.is_remote:
            # Of a folder that was emptied nothing is left in a bucket.
            incoming.check_place()
        elif not incoming.exists():
            raise GpucaptError(
                f"INCOMING {self.incoming} does not exist; make it, or name the folder that is meant"
            )
        beside, name = open_object(self.incoming)
        archive, failed = (
            open_storage(given or f"{beside.url}/{default}").url
            for given, default in ((self.archive, "archive"), (self.failed, "failed"))
        )
        for place in (archive, failed):
            if is_inside(place, incoming.url) or is_inside(incoming.url, place):
                raise WrongUsage(f"{place} and INCOMING {self.incoming} overlap; choose another folder")
        refuse_overlap(incoming.url, destination.url)
        destination.check_place()
        if self.wait:
            wait_for_arrivals(incoming, self.settle_s)
        plan = Plan(incoming.url, archive, failed, incoming.now(), self.settle_s, 0, self.settings)
        folder = RunFolder(destination, new_run_id())
        with tempfile.TemporaryFile("w+", encoding="ascii") as found, Recorder() as refused:
            total, movable = _find(incoming, name or "incoming", plan, found, refused)
            urls = [] if total == 0 else self._cut(found, total, folder)
            if urls or movable:
                refused.record(folder, "plan")
                folder.write_plan(
                    Plan(
                        incoming.url,
                        archive,
                        failed,
                        plan.planned_at,
                        self.settle_s,
                        len(urls),
                        self.settings,
                    )
                )
        is_planned = bool(urls or movable)
        return {"run": folder.url if is_planned else folder.empty_url, "shards": urls}

    def _cut(self, found: IO[str], total: int, folder: RunFolder) -> list[str]:
        """Cut the sources, in their order, into shards of about the same cost."""
        wanted = self.shards or -(-total // self.shard_size)
        count = max(1, min(wanted, self.most_shards))
        urls: list[str] = []
        lines: list[str] = []
        before, current = 0, 0
        found.seek(0)
        for record in found:
            cost, _, line = record.rstrip("\n").partition(" ")
            # A source goes where its middle lies.
            shard = min(count - 1, (2 * before + int(cost)) * count // (2 * total))
            if shard != current and lines:
                urls.append(folder.write_shard(len(urls), lines))
                lines = []
            current = shard
            lines.append(line)
            before += int(cost)
        urls.append(folder.write_shard(len(urls), lines))
        return urls


def _find(incoming: Storage, name: str, plan: Plan, found: IO[str], refused: Recorder) -> tuple[int, bool]:
    """Write the settled sources with their costs; the total, and whether refused ones can be moved away."""
    total = 0
    movable = False
    for source in find_sources(incoming, base_name=name):
        if isinstance(source, SetAside):
            inputs = list(_inputs_of_refused(incoming, source, plan))
            _log.warning("set aside %s: %s", json.dumps(source.key, ensure_ascii=False), source.reason)
            refused.add(Outcome(source.key, "set aside", reason=" ".join(source.reason.split())), inputs)
            movable = movable or bool(inputs)
            continue
        entries = [source.entry] if source.entry else still_entries(incoming, source)
        settled = [entry.size for entry in entries if plan.is_settled(entry)]
        if settled:
            cost = COST_OF_A_SOURCE + sum(settled)
            found.write(f"{cost} {source_to_json(source)}\n")
            total += cost
    return total, movable


def _inputs_of_refused(incoming: Storage, refused: SetAside, plan: Plan) -> Iterator[Input]:
    if refused.kind is None:
        return
    entry = incoming.stat(refused.path) if refused.kind == "video" else None
    entries = [entry] if entry else still_entries(incoming, Source(refused.key, refused.kind, refused.path))
    for one in entries:
        if plan.is_settled(one):
            yield Input(one.key, one.etag, one.key, refused.reason)


def run_shard(url: str, resources: Resources, progress: str = "auto") -> str:
    """Caption the sources of a shard and record what became of each; returns what to tell people.

    Raises GpucaptError when the shard as a whole cannot be done; it can be tried again.
    """
    from pipeline.captioning import Job
    from pipeline.interruption import stopped_by_signals
    from pipeline.orders import Order
    from pipeline.progress import Progress, shown
    from pipeline.registry import resolve_model

    folder, shard = RunFolder.parse(url)
    plan = folder.read_plan()
    if shard is None or plan is None:
        raise GpucaptError(f"{url} names no shard; give one of those that `gpucapt ingest plan` printed")
    incoming = open_storage(plan.incoming)
    counts = Progress()
    with Recorder() as recorder:
        order = Order(
            incoming,
            folder.destination,
            _still_there(folder.read_shard(shard), incoming, recorder),
            plan.settings,
            resources,
            keep_missing=True,
            is_settled=plan.is_settled,
        )
        job = Job(order, resolve_model(plan.settings.model), recorder, counts)
        recorder.about(job.model.name, job.model.version)
        with stopped_by_signals(job.stop), shown(counts, progress):
            job.run()
        recorder.record(folder, shard)
    return f"{counts.sources} sources, {counts.frames} frames, {counts.set_aside} set aside"


def _still_there(sources: Iterable[Source], incoming: Storage, recorder: Recorder) -> Iterator[Source]:
    """The sources that are as they were planned; others are for the next round."""
    for source in sources:
        if source.entry is not None and incoming.stat(source.entry.key) != source.entry:
            recorder.add(Outcome(source.key, "left", reason="it changed since it was planned"), ())
        else:
            yield source


def finish(url: str) -> str:
    """Merge the outcomes of a run, write its table, move its inputs away, then write its summary.

    Returns what to tell people. A run with a summary is finished. Raises GpucaptError when the run never was
    planned.
    """
    folder, _ = RunFolder.parse(url)
    summary = f"runs/{folder.id}/summary.json"
    plan = folder.read_plan()
    if plan is None and folder.is_empty:
        return "there was nothing to do"
    if plan is None:
        raise GpucaptError(f"{url} never was planned; give the run that `gpucapt ingest plan` printed")
    if folder.destination.stat(summary) is not None:
        return f"finished before; see {folder.destination.url}/{summary}"
    with Outcomes() as outcomes:
        ended = 0
        for key in folder.outcome_keys():
            ended += not key.endswith("/plan.jsonl")
            for outcome, inputs in folder.read_outcomes(key):
                outcomes.add(outcome, inputs)
        if ended < plan.shards:
            _log.warning(
                "%d of %d shards did not end; their inputs stay in %s for the next round",
                plan.shards - ended,
                plan.shards,
                plan.incoming,
            )
        run = _run(folder, plan)
        write_run_csv(run, outcomes, folder.destination)
        _move_inputs(folder, plan)
        write_summary(run, outcomes, folder.destination)
        totals = outcomes.totals
    return (
        f"{totals.captioned} sources captioned ({totals.frames} frames), {totals.errors} set aside;"
        f" see {folder.destination.url}/{summary}"
    )


def _run(folder: RunFolder, plan: Plan) -> Run:
    name, version = folder.read_model()
    started = datetime.fromtimestamp(plan.planned_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Run(
        folder.id,
        plan.incoming,
        folder.destination.url,
        started,
        now(),
        name,
        version,
        plan.settings.of_result("video"),
    )


def _move_inputs(folder: RunFolder, plan: Plan) -> None:
    mover = _Mover(
        folder.id, open_storage(plan.incoming), open_storage(plan.archive), open_storage(plan.failed)
    )
    for key in folder.outcome_keys():
        for outcome, inputs in folder.read_outcomes(key):
            for one in inputs:
                mover.move(outcome.status, one)


@dataclass(frozen=True, slots=True)
class _Mover:
    run: str
    incoming: Storage
    archive: Storage
    failed: Storage

    def move(self, status: Status, one: Input) -> None:
        """Move a file to where it belongs, unless it is gone, or has come anew."""
        if status == "left" or not self._is_same(one):
            return
        target = f"{self.run}/{one.key}"
        try:
            if one.error is None:
                self.incoming.move(one.key, self.archive, target)
            else:
                self.failed.write(f"{target}.error.json", self._why(one))
                self.incoming.move(one.key, self.failed, target)
        except GpucaptError:
            if self._is_same(one):
                raise

    def _is_same(self, one: Input) -> bool:
        there = self.incoming.stat(one.key)
        return there is not None and there.etag == one.etag

    def _why(self, one: Input) -> bytes:
        why = {"key": one.key, "reason": one.error, "run": self.run}
        return (json.dumps(why, ensure_ascii=False, indent=2) + "\n").encode()
