"""From the parts of a source to its outputs, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipeline.captioning.messages import Work
from pipeline.errors import BadInput
from pipeline.records.row import Row
from pipeline.reports import write_outputs
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

_STORYTELLER = Storyteller()
"""One a process, so that all sources know of an endpoint that is down."""


@dataclass(frozen=True, slots=True)
class Published:
    """What a source has come to. ``untold`` is why it has no story, where it should have one."""

    counts: Counts
    untold: str | None = None


def publish(
    work: Work,
    destination: Storage,
    total: int | None,
    *,
    go_on: Callable[[], None],
    uploaders: Executor | None = None,
    rows: Iterator[Row] | None = None,
) -> Published:
    """Merge the parts of a source, write its outputs, then the manifest, then remove the parts.

    ``rows``: all of them, where they are not simply those of the parts; how many, if known, says ``total``.

    Between the removal of an old manifest and the new one the source counts as not done. ``go_on`` is called
    now and then and raises to end the work early. With ``uploaders`` the outputs are uploaded together.

    Raises BadInput when not one frame could be used, ClaimLost when another worker took the source over.
    """
    feed = work.source.feed
    with ScratchFolder() as scratch:
        merged = scratch / "rows.jsonl"
        counts, first_error = _merge(work.parts.rows() if rows is None else rows, merged, go_on)
        found = counts.frames + counts.errors
        if total not in (None, found):
            raise RuntimeError(f"{work.info.key}: {counts} of {total} rows are in the parts")
        if found == 0:
            raise BadInput(f"{work.info.key}: there is no frame in it")
        if counts.frames == 0:
            raise BadInput(f"none of the {found} stills can be used; the first: {first_error}")
        outputs = scratch / "outputs"
        outputs.mkdir()
        story, untold = _STORYTELLER.tell(work.info, _rows(merged, go_on), go_on)
        names = write_outputs(
            work.info,
            lambda: _rows(merged, go_on),
            outputs,
            story=story,
            film=work.film if feed is None else None,
        )
        files = tuple(describe(outputs / name) for name in names)
        manifest = Manifest(work.info, counts, files, None if feed is None else feed.facts())
        _put(work, destination, merged, outputs, manifest, uploaders)
    discard(work, destination)
    return Published(counts, untold)


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


def _merge(rows: Iterator[Row], path: Path, go_on: Callable[[], None]) -> tuple[Counts, str | None]:
    frames = errors = 0
    first_error = None
    with path.open("w", encoding="ascii") as file:
        for row in rows:
            go_on()
            file.write(row.to_json() + "\n")
            if row.error is None:
                frames += 1
            else:
                errors += 1
                first_error = first_error or row.error
    return Counts(frames, errors), first_error


def _rows(path: Path, go_on: Callable[[], None]) -> Iterator[Row]:
    with path.open(encoding="ascii") as file:
        for line in file:
            go_on()
            yield Row.from_json(line)
