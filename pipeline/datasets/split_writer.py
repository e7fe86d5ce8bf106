"""The pictures of all splits into their HDF5 files: written, gone on with, and checked, by all cores."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from model.errors import GpucaptError
from pipeline.datasets import hdf5_layout as store
from pipeline.datasets.annotations import Example
from pipeline.datasets.hdf5_workers import (
    Journal,
    PictureTask,
    StoredRow,
    blocks,
    check_rows,
    run_all,
    workers,
    write_rows,
)
from pipeline.datasets.plan import DatasetPlan
from pipeline.runtime.progress import OnProgress

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Kept:
    """A split's pictures as they are stored, in their order."""

    path: Path
    examples: list[Example]
    rows: list[StoredRow]


@dataclass(slots=True)
class _Split:
    """A split in the making."""

    path: Path
    examples: list[Example]
    journal: Journal
    offsets: list[int]

    @property
    def bad(self) -> list[tuple[str, str]]:
        """Pictures that could not be had, with the reasons."""
        found = zip(self.examples, self.journal.rows, strict=True)
        return [(example.image, row.reason) for example, row in found if row and not row.is_good]


@dataclass(frozen=True, slots=True)
class _Block:
    """Rows of a split that one process writes."""

    split: str
    numbers: list[int]
    rows: list[StoredRow]


def file_of(work: Path, split: str) -> Path:
    """Where a split's pictures are written to."""
    return work / f"{split.upper()}.hdf5"


def lay_out(plan: DatasetPlan, work: Path) -> None:
    """Make the files that the pictures go into. Raises GpucaptError where the disk has no room for them."""
    needed = plan.count * store.picture_bytes(plan.settings.image_size)
    free = shutil.disk_usage(work).free
    if free < needed:
        raise GpucaptError(
            f"{work.parent}: the pictures take {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; make"
            " room, or use another disk (OUT, or where that is in a bucket GPUCAPT_SPOOL)."
        )
    for split, examples in plan.splits.items():
        store.lay_out(
            file_of(work, split), len(examples), plan.settings.image_size, plan.settings.captions_per_image
        )


def write_pictures(
    plan: DatasetPlan, work: Path, progress: OnProgress, before_gaps_are_closed: Callable[[], None]
) -> tuple[dict[str, Kept], list[tuple[str, str]]]:
    """Write what is not there yet into the files of `lay_out`, and check all of it.

    Returns:
        The splits that have pictures, and (name, reason) of the pictures left out.

    Raises:
        GpucaptError: more than `max_bad` pictures cannot be used, or none of the train split can, or a file
            does not hold what was written.
    """
    splits = {
        split: _Split(file_of(work, split), examples, _journal(work, split, len(examples)), [])
        for split, examples in plan.splits.items()
    }
    for split in splits.values():
        split.offsets = store.offsets_of(split.path)
    left = sum(len(split.journal.missing()) for split in splits.values())
    with workers(plan.settings.workers, left) as pool:
        _write(plan, splits, pool, progress, left)
        kept, skipped = _close_gaps(plan, splits, before_gaps_are_closed)
        _check(plan, kept, pool)
    return kept, skipped


def _journal(work: Path, split: str, count: int) -> Journal:
    return Journal(work / f"{split.upper()}.rows", count)


def _write(
    plan: DatasetPlan, splits: dict[str, _Split], pool: Executor, progress: OnProgress, left: int
) -> None:
    settings = plan.settings
    there = plan.count - left
    if there:
        log.info("going on: %d of %d pictures are there already", there, plan.count)
    bad = 0
    at = there

    def jobs() -> Iterator[Callable[[], _Block]]:
        work = PictureTask(plan.images, settings.image_size, settings.threads)
        for name, split in splits.items():
            for numbers in blocks(split.journal.missing()):
                names = [split.examples[number].image for number in numbers]
                offsets = [split.offsets[number] for number in numbers]
                yield partial(_write_block, work, split.path, name, list(numbers), names, offsets)

    def note(block: _Block) -> None:
        nonlocal bad, at
        splits[block.split].journal.add(block.numbers, block.rows)
        failed = [
            (number, row) for number, row in zip(block.numbers, block.rows, strict=True) if not row.is_good
        ]
        bad += len(failed)
        if bad > settings.max_bad:
            number, row = failed[-1]
            raise GpucaptError(
                f"More than {settings.max_bad} pictures cannot be used, the last one"
                f" {splits[block.split].examples[number].image!r}: {row.reason} "
                "Is the folder of pictures the right one? --max-bad sets the limit."
            )
        at += len(block.rows)
        progress(at, plan.count)

    try:
        run_all(pool, settings.workers, jobs(), note)
    finally:
        for split in splits.values():
            split.journal.close()


def _write_block(
    work: PictureTask, path: Path, split: str, numbers: list[int], names: list[str], offsets: list[int]
) -> _Block:
    return _Block(split, numbers, write_rows(work, path, names, offsets))


def _close_gaps(
    plan: DatasetPlan, splits: dict[str, _Split], before: Callable[[], None]
) -> tuple[dict[str, Kept], list[tuple[str, str]]]:
    skipped = [bad for split in splits.values() for bad in split.bad]
    if skipped:
        before()
    kept: dict[str, Kept] = {}
    for name, split in splits.items():
        rows = [row for row in split.journal.rows if row is not None]
        order = store.keep_only(split.path, [row.is_good for row in rows])
        if order:
            kept[name] = Kept(split.path, [split.examples[n] for n in order], [rows[n] for n in order])
    if "train" not in kept:
        name, reason = splits["train"].bad[-1]
        raise GpucaptError(
            f"No picture of the train split of {plan.dataset!r} can be used, the last one {name!r}: {reason} "
            "Is the folder of pictures the right one?"
        )
    return kept, skipped


def _check(plan: DatasetPlan, kept: dict[str, Kept], pool: Executor) -> None:
    """Compare what the files hold, where HDF5 says that it lies, with what was decoded."""
    length = store.picture_bytes(plan.settings.image_size)

    def jobs() -> Iterator[Callable[[], tuple[Path, list[int]]]]:
        for split in kept.values():
            offsets = store.offsets_of(split.path)
            if len(offsets) != len(split.rows):
                raise GpucaptError(f"{split.path} has {len(offsets)} pictures instead of {len(split.rows)}.")
            for numbers in blocks(range(len(offsets))):
                some = [split.rows[n].crc32 for n in numbers]
                yield partial(_check_block, split.path, [offsets[n] for n in numbers], length, some)

    def note(found: tuple[Path, list[int]]) -> None:
        path, wrong = found
        if wrong:
            (path.parent / "plan.json").unlink(missing_ok=True)
            raise GpucaptError(
                f"{path} does not hold what was written to it; is the disk sound? Run the same command again."
            )

    run_all(pool, plan.settings.workers, jobs(), note)


def _check_block(path: Path, offsets: list[int], length: int, crc32s: list[int]) -> tuple[Path, list[int]]:
    return path, check_rows(path, offsets, length, crc32s)
