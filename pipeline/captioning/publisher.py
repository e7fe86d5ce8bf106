"""From the parts of a source to its outputs, whole or not at all."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipeline.captioning.messages import Work
from pipeline.captioning.shown_order import ShownOrder
from pipeline.errors import BadInput
from pipeline.records.outcome import Outcome
from pipeline.records.row import Row
from pipeline.records.video_facts import Gap, VideoFacts, facts_together, join_gaps
from pipeline.reports import write_outputs
from pipeline.reports.damage import damage_line
from pipeline.runtime.temp_folders import ScratchFolder
from pipeline.sources.discovery import OUTPUT_NAMES
from pipeline.state.conditional_upload import all_done, put_content, put_file
from pipeline.state.leases import Claim, ClaimLost, Claims, claimed_keys
from pipeline.state.manifest import NAME as MANIFEST
from pipeline.state.manifest import Counts, Manifest, describe, manifest_key, read_done
from pipeline.state.parts import Parts, find_parts
from pipeline.state.still_rows import saved_key
from pipeline.storage.base import Storage
from pipeline.storage.write_guard import fenced
from pipeline.stories.job_storyteller import Storyteller

_log = logging.getLogger("gpucapt")

_STORYTELLER = Storyteller()
"""One a process, so that all sources know of an endpoint that is down."""


@dataclass(frozen=True, slots=True)
class Published:
    """What a source has come to. ``untold`` is why it has no story, where it should have one."""

    counts: Counts
    untold: str | None
    undecoded_s: float

    def outcome(self, key: str) -> Outcome:
        """The same as the run tells it."""
        frames = self.counts.frames
        return Outcome(key, "captioned", frames, untold=self.untold, undecoded_s=self.undecoded_s)


@dataclass(frozen=True, slots=True)
class _Merged:
    counts: Counts
    first_error: str | None
    gaps: tuple[Gap, ...]


def publish(
    work: Work,
    destination: Storage,
    total: int | None,
    *,
    go_on: Callable[[], None],
    uploaders: Executor | None = None,
    rows: Iterator[Row] | None = None,
    facts: VideoFacts | None = None,
) -> Published:
    """Merge the parts of a source, write its outputs, then the manifest, then remove the parts.

    ``rows``: all of them, where they are not simply those of the parts; how many, if known, says ``total``.
    ``facts`` of a video are what reading it found out, besides the gaps that the rows tell.

    Between the removal of an old manifest and the new one the source counts as not done. ``go_on`` is called
    now and then and raises to end the work early. With ``uploaders`` the outputs are uploaded together.

    Raises BadInput when not one frame could be used, ClaimLost when another worker took the source over.
    """
    feed = work.source.feed
    with ScratchFolder() as scratch, ShownOrder() as order:
        path = scratch / "rows.jsonl"
        merged = _merge(work.parts.rows() if rows is None else rows, path, order, go_on)
        counts = merged.counts
        found = counts.frames + counts.errors
        if total not in (None, found):
            raise RuntimeError(f"{work.info.key}: {counts} of {total} rows are in the parts")
        if found == 0:
            raise BadInput(f"{work.info.key}: there is no frame in it")
        if counts.frames == 0:
            raise BadInput(f"none of the {found} stills can be used; the first: {merged.first_error}")
        facts = facts_together([facts, VideoFacts(gaps=merged.gaps)])
        if (damage := damage_line(facts)) is not None:
            _log.warning("%s: %s", json.dumps(work.info.key, ensure_ascii=False), damage)
        outputs = scratch / "outputs"
        outputs.mkdir()
        shown = partial(_rows, path, go_on, order if order.is_another else None)
        story, untold = _STORYTELLER.tell(work.info, shown(), go_on)
        names = write_outputs(
            work.info,
            partial(_rows, path, go_on),
            outputs,
            shown=shown if order.is_another else None,
            story=story,
            film=work.film if feed is None else None,
            facts=facts,
        )
        files = tuple(describe(outputs / name) for name in names)
        segment = None if feed is None else feed.facts()
        manifest = Manifest(work.info, counts, files, segment, facts.undecoded_s)
        _put(work, destination, path, outputs, manifest, uploaders)
    discard(work, destination)
    return Published(counts, untold, facts.undecoded_s)


def discard(work: Work, destination: Storage) -> None:
    """Remove the parts of a source, those of earlier fingerprints too."""
    work.claim.check()
    for parts in find_parts(destination, work.info.key):
        with fenced(work.claim.assert_held):
            parts.remove()


def sweep(destination: Storage, claims: Claims) -> None:
    """Tidy up behind workers that were killed after the manifest of a source, before their claim was gone."""
    for key in claimed_keys(destination):
        claim = claims.take(key)
        if claim is None:
            continue
        done = read_done(destination, key)
        if done is not None:
            with suppress(ClaimLost), fenced(claim.assert_held):
                Parts(destination, key, done.fingerprint).remove()
        claim.release()


def _put(
    work: Work,
    destination: Storage,
    merged: Path,
    outputs: Path,
    manifest: Manifest,
    uploaders: Executor | None,
) -> None:
    key, claim, names = work.info.key, work.claim, [file.name for file in manifest.files]
    claim.check()
    there = {entry.name: entry for entry in destination.list_folder(key)}
    if MANIFEST in there:
        with fenced(claim.assert_held):
            destination.delete(manifest_key(key))
    files = [(outputs / name, f"{key}/{name}", there.get(name)) for name in names]
    if work.info.kind == "stills":
        rows_key = saved_key(key, work.rows_digest)
        files.insert(0, (merged, rows_key, destination.stat(rows_key)))
    tasks = [partial(put_file, destination, claim, *file) for file in files]
    old = OUTPUT_NAMES.intersection(there) - {*names, MANIFEST}
    tasks += [partial(_delete, destination, claim, f"{key}/{name}") for name in sorted(old)]
    all_done(tasks, uploaders)
    put_content(destination, claim, manifest.to_json(), manifest_key(key), None)


def _delete(destination: Storage, claim: Claim, key: str) -> None:
    claim.check()
    with fenced(claim.assert_held):
        destination.delete(key)


def _merge(rows: Iterator[Row], path: Path, order: ShownOrder, go_on: Callable[[], None]) -> _Merged:
    frames = errors = start = 0
    first_error = None
    gaps: list[Gap] = []
    with path.open("w", encoding="ascii") as file:
        for row in rows:
            go_on()
            order.add(row, start)
            start += file.write(row.to_json() + "\n")
            if row.error is None:
                frames += 1
                gaps += [] if row.gap is None else [row.gap]
            else:
                errors += 1
                first_error = first_error or row.error
    return _Merged(Counts(frames, errors), first_error, join_gaps(gaps))


def _rows(path: Path, go_on: Callable[[], None], order: ShownOrder | None = None) -> Iterator[Row]:
    """The rows of the file, in the order that is given or as they lie."""
    if order is None:
        with path.open(encoding="ascii") as file:
            for line in file:
                go_on()
                yield Row.from_json(line)
    else:
        for row in order.rows(path):
            go_on()
            yield row
