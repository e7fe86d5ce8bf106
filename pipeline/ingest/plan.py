"""`gpucapt ingest plan`: what has settled in the drop folder, cut into shards of about the same cost."""

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import IO

from model.errors import GpucaptError
from pipeline.errors import WrongUsage
from pipeline.ingest.retention import remove_old_runs
from pipeline.ingest.run_folder import Recorder, RunFolder, RunPlan, source_from_json, source_to_json
from pipeline.ingest.settle import wait_for_arrivals
from pipeline.ingest.told_archived import ToldArchived
from pipeline.models.resolve import pinned
from pipeline.records.outcome import Input, Outcome
from pipeline.records.settings import CaptionSettings
from pipeline.reports.run_files import new_run_id
from pipeline.sources.choice import Choice, LeftOut
from pipeline.sources.discovery import SetAside, Source, find_sources, still_entries
from pipeline.sources.recordings import NO_RECORDING, is_known_text
from pipeline.sources.splitting import COST_OF_A_STILL, Cut, cut_film, cut_folder
from pipeline.storage.base import Entry, Storage
from pipeline.storage.open import is_inside, open_object, open_storage, refuse_overlap
from pipeline.storage.within_reach import WithinReach

MOST_SHARDS = 1024
"""Airflow maps a task over no more than so many."""
SHARD_SIZE = 512 << 20
"""A quarter of an hour of film, as a rule: some ten GPUs share a long one, and what each of them must do
first (start, fetch the film, look through its packets) takes less time than captioning its piece."""
COST_OF_A_SOURCE = 1 << 20
"""Bytes that opening, claiming and reporting a source is taken to cost, whatever its size."""
LOOK_AGAIN_S = 1.0
"""After so long files on disk are looked at again: one that has changed is still being written."""

_log = logging.getLogger("gpucapt")


@dataclass(frozen=True, slots=True)
class Planning:
    """What `gpucapt ingest plan` was asked to do. ``shards`` sets their number, else their size does.

    A film or a folder larger than ``shard_size`` is cut into pieces. There are never more shards than
    ``most_shards``: they grow instead. ``wait``: first, until what is arriving has settled.
    """

    incoming: str
    destination: str
    settings: CaptionSettings
    settle_s: float = 10.0
    shard_size: int = SHARD_SIZE
    shards: int | None = None
    archive: str | None = None
    failed: str | None = None
    most_shards: int = MOST_SHARDS
    wait: bool = False
    choice: Choice = field(default_factory=Choice)

    def run(self) -> dict[str, object]:
        """Write the shards of a new run; returns ``{"run": URL, "shards": [URL, …]}``.

        Where there is nothing to do nothing is written, and there are no shards; there are none either where
        all that is new to tell is that inputs are archived. Raises WrongUsage when folders overlap that must
        not.
        """
        incoming, destination = open_storage(self.incoming), open_storage(self.destination)
        self._check_incoming(incoming)
        beside, name = open_object(self.incoming)
        archive, failed = (
            open_storage(given or f"{beside.url.rstrip('/')}/{default}").url
            for given, default in ((self.archive, "archive"), (self.failed, "failed"))
        )
        for place in (archive, failed):
            if is_inside(place, incoming.url) or is_inside(incoming.url, place):
                raise WrongUsage(f"{place} and INCOMING {self.incoming} overlap; choose another folder")
        refuse_overlap(incoming.url, destination.url)
        destination.check_place()
        remove_old_runs(destination, time.time())
        if self.wait:
            wait_for_arrivals(incoming, self.settle_s)
        plan = RunPlan(
            incoming.url,
            archive,
            failed,
            incoming.now(),
            self.settle_s,
            0,
            self.settings,
            exclude=self.choice.exclude,
            include=self.choice.include,
        )
        folder = RunFolder(destination, new_run_id())
        left_out = LeftOut()
        with Recorder() as refused, _Found(incoming, plan) as found:
            archived = ToldArchived(destination, incoming.url)
            movable = self._find(incoming, name or "incoming", found, refused, left_out, archived)
            if told := left_out.in_words():
                _log.info("%s", told)
                refused.leave_out(left_out.counts)
            plan = found.look_again(0.0 if incoming.is_remote else min(LOOK_AGAIN_S, self.settle_s))
            urls = self._shards(found, folder) if found.total else []
            is_planned = bool(urls or movable or archived.is_news)
            if is_planned:
                refused.record(folder, "plan")
                # Whoever is promoted from now on, all shards use the same model.
                settings = (
                    replace(plan.settings, model=pinned(plan.settings.model)) if urls else plan.settings
                )
                folder.write_plan(replace(plan, shards=len(urls), settings=settings))
            archived.keep()
            if archived.count:
                _log.info(
                    "%d files in %s stay: they are archived; restore them", archived.count, incoming.url
                )
        return {"run": folder.url if is_planned else folder.empty_url, "shards": urls}

    def _check_incoming(self, incoming: Storage) -> None:
        if incoming.is_remote:
            # Of a folder that was emptied nothing is left in a bucket.
            incoming.check_place()
        elif not incoming.exists():
            raise GpucaptError(
                f"INCOMING {self.incoming} does not exist; make it, or name the folder that is meant"
            )

    def _find(
        self,
        incoming: Storage,
        name: str,
        found: _Found,
        refused: Recorder,
        left_out: LeftOut,
        archived: ToldArchived,
    ) -> bool:
        """Take down what has settled; whether something is refused that can be moved away."""
        movable = False
        for source in find_sources(incoming, base_name=name, choice=self.choice, left_out=left_out):
            if isinstance(source, SetAside):
                _log.warning("set aside %s: %s", json.dumps(source.key, ensure_ascii=False), source.reason)
                inputs = _Inputs(incoming, source, found.plan, self.choice)
                refused.add(Outcome(source.key, "set aside", reason=" ".join(source.reason.split())), inputs)
                movable = movable or inputs.found
                continue
            if source.entry is not None and is_known_text(incoming, source.entry):
                left_out.add(NO_RECORDING)
                continue
            entries = [source.entry] if source.entry else still_entries(incoming, source, self.choice)
            usable = WithinReach(incoming, found.settled(entries))
            is_empty = True
            for cost, piece in self._cut(source, iter(usable)):
                found.add(cost + COST_OF_A_SOURCE, piece)
                is_empty = False
            archived.add(source.key, usable)
            if is_empty and usable.out_of_reach is not None:  # else its shard tells
                _, reason = usable.out_of_reach
                refused.add(Outcome(source.key, "left", reason=reason), ())
        return movable

    def _cut(self, source: Source, settled: Iterator[Entry]) -> Iterable[Cut]:
        if source.kind == "video":
            can_be_split = self.settings.selection.can_be_split
            size = self.shard_size if can_be_split else source.entry.size if source.entry else 1
            return (cut for _ in settled for cut in cut_film(source, max(1, size), self.most_shards))
        if self.settings.selection.max_frames is not None:
            cost = sum(entry.size + COST_OF_A_STILL for entry in settled)
            return [(cost, source)] if cost else []
        return cut_folder(source, settled, self.shard_size)

    def _shards(self, found: _Found, folder: RunFolder) -> list[str]:
        """Cut the sources, in their order, into shards of about the same cost."""
        wanted = self.shards or -(-found.total // self.shard_size)
        count = max(1, min(wanted, self.most_shards))
        urls: list[str] = []
        lines: list[str] = []
        before, current = 0, 0
        for cost, line in found.lines():
            # A source goes where its middle lies.
            shard = min(count - 1, (2 * before + cost) * count // (2 * found.total))
            if shard != current and lines:
                urls.append(folder.write_shard(len(urls), lines))
                lines = []
            current = shard
            lines.append(line)
            before += cost
        urls.append(folder.write_shard(len(urls), lines))
        return urls


class _Found:
    """What planning found, on disk: sources with their costs, and each local file as it was then."""

    def __init__(self, incoming: Storage, plan: RunPlan) -> None:
        self.plan = plan
        self.total = 0
        self._incoming = incoming
        self._sources: IO[str] = tempfile.TemporaryFile("w+", encoding="ascii")  # noqa: SIM115
        self._files: IO[str] = tempfile.TemporaryFile("w+", encoding="ascii")  # noqa: SIM115

    def settled(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Those that have settled, and remember them."""
        for entry in filter(self.plan.is_settled, entries):
            if not self._incoming.is_remote:  # objects appear whole
                self._files.write(json.dumps([entry.key, entry.size, entry.etag]) + "\n")
            yield entry

    def add(self, cost: int, source: Source) -> None:
        """Take down a source or a piece."""
        self._sources.write(f"{cost} {source_to_json(source)}\n")
        self.total += cost

    def look_again(self, after_s: float) -> RunPlan:
        """Look at local files a second time; the plan, which leaves those alone that have changed."""
        if self._files.tell():
            time.sleep(after_s)
        self._files.seek(0)
        growing = []
        for line in self._files:
            key, size, etag = json.loads(line)
            there = self._incoming.stat(key)
            if there is not None and (there.size, there.etag) != (size, etag):
                growing.append(key)
        self.plan = replace(self.plan, growing=tuple(growing))
        if growing:
            self.total = sum(cost for cost, _ in self.lines())
        return self.plan

    def lines(self) -> Iterator[tuple[int, str]]:
        """The sources, one a line, with their costs; films that grow are left out."""
        self._sources.seek(0)
        for record in self._sources:
            cost, _, line = record.rstrip("\n").partition(" ")
            film = source_from_json(line).entry if self.plan.growing else None
            if film is None or film.key not in self.plan.growing:
                yield int(cost), line

    def __enter__(self) -> _Found:
        return self

    def __exit__(self, *_: object) -> None:
        self._sources.close()
        self._files.close()


class _Inputs:
    """The files of what cannot be a source, as far as they have settled."""

    def __init__(self, incoming: Storage, refused: SetAside, plan: RunPlan, choice: Choice) -> None:
        self._incoming, self._refused, self._plan, self._choice = incoming, refused, plan, choice
        self.found = False
        """Whether there were any, after going through them."""

    def __iter__(self) -> Iterator[Input]:
        refused = self._refused
        if refused.kind is None:
            return
        entry = self._incoming.stat(refused.path) if refused.kind == "video" else None
        folder = Source(refused.key, refused.kind, refused.path)
        for one in [entry] if entry else still_entries(self._incoming, folder, self._choice):
            if self._plan.is_settled(one):
                self.found = True
                yield Input(one.key, one.etag, one.key, refused.reason, one.size, one.modified)
