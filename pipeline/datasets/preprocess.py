"""Captioned pictures to HDF5 and JSON, as `captioned_pictures.py` describes and reads them.

All is made in a folder of its own, `.preprocess` in the dataset's, which a killed run is resumed from:

    plan.json       of which inputs this is the work
    <SPLIT>.hdf5    the pictures (`hdf5_layout.py`); <SPLIT>.rows: which are there (`hdf5_workers.py`)
    files/          the rest of what is about to be published

It is checked, then moved to its place, dataset.json last. What was published before stays until then.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.errors import GpucaptError
from model.vocabulary import Vocabulary
from pipeline.datasets.annotations import Example
from pipeline.datasets.captioned_pictures import MANIFEST
from pipeline.datasets.plan import DatasetPlan, Preprocessing, plan
from pipeline.datasets.report import NAME as PAGE
from pipeline.datasets.report import write_report
from pipeline.datasets.split_writer import Kept, lay_out, write_pictures
from pipeline.errors import one_line
from pipeline.runtime.progress import OnProgress

__all__ = ["WORK", "Preprocessing", "Report", "preprocess", "write_dataset"]

WORK = ".preprocess"

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Report:
    """What came of a preprocessing run: pictures a split, words, and (name, reason) of pictures left out."""

    base: str
    pictures: dict[str, int]
    words: int
    skipped: list[tuple[str, str]]
    fingerprint: str
    """Of what the training set is: captions, vocabulary, splits and pictures, on whatever machine."""
    changed: bool
    """Whether it is another one than what was published there before."""
    near_duplicates: int = 0
    """Pairs of pictures in different splits that look the same."""


def preprocess(
    dataset: str,
    examples: Sequence[Example],
    images: str | Path,
    out: Path,
    settings: Preprocessing,
    progress: OnProgress = lambda done, total: None,
    *,
    vocabulary: Vocabulary | None = None,
) -> Report:
    """Write the dataset's files into `out`, from pictures below `images` (a folder or s3:// URL).

    Broken or missing pictures are left out and listed; more than `max_bad` of them are an error, and so is a
    train split without any picture. Nothing is done where `out` holds the same already.
    """
    planned = plan(dataset, examples, str(images), settings, vocabulary)
    published = read_published(out)
    if is_done(planned, published, lambda name: _size(out / name)):
        return report_of(published)
    return write_dataset(planned, out, out / WORK, published, progress)


def read_published(out: Path) -> dict[str, Any]:
    """dataset.json of what was published in a folder; empty where there is none that can be read."""
    try:
        return parse_published((out / MANIFEST).read_bytes())
    except OSError:
        return {}


def parse_published(data: bytes) -> dict[str, Any]:
    """A dataset.json; empty where it is none."""
    try:
        manifest = json.loads(data)
    except ValueError:
        return {}
    return manifest if isinstance(manifest, dict) else {}


def stale_files(published: dict[str, Any], out: Path) -> set[str]:
    """Files of the dataset that was there before, which the one in `out` now does not have."""
    return set(published.get("files", {})) - set(read_published(out)["files"])


def is_done(planned: DatasetPlan, published: dict[str, Any], size_of: Callable[[str], int | None]) -> bool:
    """Whether a published dataset is what is planned, and whole."""
    if published.get("inputs") != planned.inputs:
        return False
    return all(size_of(name) == told["size"] for name, told in published["files"].items())


def report_of(published: dict[str, Any]) -> Report:
    """What a published dataset says of itself."""
    skipped = [(name, reason) for name, reason in published["skipped"]]
    names = ("base", "pictures", "words", "fingerprint", "near_duplicates")
    told = {name: published[name] for name in names}
    return Report(**told, skipped=skipped, changed=False)


def write_dataset(
    planned: DatasetPlan,
    out: Path,
    work: Path,
    published: dict[str, Any],
    progress: OnProgress = lambda done, total: None,
) -> Report:
    """Do what is planned in `work` and publish it in `out`, in place of what `published` says is there."""
    with ExitStack() as stack:
        stack.enter_context(_told_as_one_line(out))
        out.mkdir(parents=True, exist_ok=True)
        work.mkdir(parents=True, exist_ok=True)
        stack.enter_context(_alone_in(work))
        _begin_or_go_on(planned, work)
        kept, skipped = write_pictures(planned, work, progress, (work / "plan.json").unlink)
        files = work / "files"
        shutil.rmtree(files, ignore_errors=True)
        files.mkdir()
        words = planned.vocabulary or _vocabulary(planned, kept)
        told = _write_captions(planned, kept, words, files)
        told |= {_images(split, planned.base): _of_pictures(some) for split, some in kept.items()}
        fingerprint = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
        changed = published.get("fingerprint") != fingerprint
        counts = {split: len(some.rows) for split, some in kept.items()}
        report = Report(planned.base, counts, len(words), skipped, fingerprint, changed)
        told[PAGE], report.near_duplicates = _write_page(files, planned, kept, words, report)
        _write_json(files / MANIFEST, _manifest(planned, report, told))
        _publish(files, {_images(split, planned.base): some.path for split, some in kept.items()}, out, work)
        for name in stale_files(published, out):
            (out / name).unlink(missing_ok=True)
        shutil.rmtree(work, ignore_errors=True)
    return report


@contextmanager
def _alone_in(work: Path) -> Iterator[None]:
    """One run at a time. The lock ends with the process that holds it, however that ends."""
    with (work / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise GpucaptError(
                f"{work.parent}: another gpucapt preprocess is writing there; wait for it, or name another"
                " folder."
            ) from error
        except OSError:
            log.debug("%s is on a disk that knows no locks", work)
        yield


@contextmanager
def _told_as_one_line(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or one_line(str(error))
        raise GpucaptError(f"{error.filename or out} cannot be written: {reason}.") from error


def _begin_or_go_on(planned: DatasetPlan, work: Path) -> None:
    """Keep what a run of the same inputs left; throw away what another one left."""
    path = work / "plan.json"
    inputs = json.dumps({"inputs": planned.inputs})
    if path.is_file() and path.read_text(encoding="utf-8") == inputs:
        return
    path.unlink(missing_ok=True)
    for left in work.iterdir():
        if left.is_dir():
            shutil.rmtree(left)
        elif left.name != "lock":
            left.unlink()
    lay_out(planned, work)
    fresh = work / "plan.new"
    fresh.write_text(inputs, encoding="utf-8")
    fresh.replace(path)


def _vocabulary(planned: DatasetPlan, kept: dict[str, Kept]) -> Vocabulary:
    captions = (caption for example in kept["train"].examples for caption in example.captions)
    return Vocabulary.build(captions, planned.settings.min_word_freq)


def _write_captions(
    planned: DatasetPlan, kept: dict[str, Kept], vocabulary: Vocabulary, files: Path
) -> dict[str, dict[str, Any]]:
    """Write the JSON files; → by name their size and checksum."""
    settings, base = planned.settings, planned.base
    width = settings.max_length + 2
    told: dict[str, dict[str, Any]] = {}

    def write(name: str, content: Any) -> None:
        told[f"{name}_{base}.json"] = _write_json(files / f"{name}_{base}.json", content)

    for split, some in kept.items():
        chosen = [
            caption
            for example in some.examples
            for caption in _choose(example, settings.captions_per_image, settings.seed)
        ]
        encoded = [vocabulary.encode(caption) for caption in chosen]
        padded = [row + [vocabulary.pad] * (width - len(row)) for row in encoded]
        write(f"{split.upper()}_CAPTIONS", padded)
        write(f"{split.upper()}_CAPLENS", [len(row) for row in encoded])
        references = [
            {"image": one.image, "captions": [" ".join(words) for words in one.captions]}
            for one in some.examples
        ]
        write(f"{split.upper()}_REFERENCES", references)
    write("WORDMAP", vocabulary.index)
    return told


def _choose(example: Example, count: int, seed: int) -> list[tuple[str, ...]]:
    """`count` captions: a sample when there are more, repetitions when there are fewer.

    The choice depends on the picture alone, not on what else is in the data set.
    """
    captions = list(example.captions)
    if len(captions) == count:
        return captions
    chooser = random.Random(f"{seed}/{example.image}")
    if len(captions) > count:
        return chooser.sample(captions, count)
    return [*captions, *chooser.choices(captions, k=count - len(captions))]


def _images(split: str, base: str) -> str:
    return f"{split.upper()}_IMAGES_{base}.hdf5"


def _of_pictures(some: Kept) -> dict[str, Any]:
    """Size and checksum of a file of pictures.

    The checksum is of the pictures' CRC-32s, which are known by now: reading the file once more for its own
    SHA-256 would cost a core a fifth of what decoding the pictures does.
    """
    crc32s = b"".join(row.crc32.to_bytes(4, "big") for row in some.rows)
    return {"size": some.path.stat().st_size, "sha256_of_crc32s": hashlib.sha256(crc32s).hexdigest()}


def _manifest(planned: DatasetPlan, report: Report, files: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {
        "dataset": planned.dataset,
        "settings": planned.settings.of_result(),
        "vocabulary": "train" if planned.vocabulary is None else "given",
        "base": report.base,
        "pictures": report.pictures,
        "words": report.words,
        "skipped": report.skipped,
        "captionless": planned.captionless,
        "near_duplicates": report.near_duplicates,
        "fingerprint": report.fingerprint,
        "inputs": planned.inputs,
        "files": files,
    }


def _write_page(
    files: Path, planned: DatasetPlan, kept: dict[str, Kept], words: Vocabulary, report: Report
) -> tuple[dict[str, Any], int]:
    """Write the page that shows the dataset; → its size and checksum, and the near-duplicates."""
    path = files / PAGE
    pairs = write_report(path, planned, kept, words, report.skipped, report.fingerprint)
    data = path.read_bytes()
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}, pairs


def _write_json(path: Path, content: Any) -> dict[str, Any]:
    """Write a file; → its size and checksum."""
    data = json.dumps(content).encode("utf-8")
    path.write_bytes(data)
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _publish(files: Path, pictures: dict[str, Path], out: Path, work: Path) -> None:
    """Move all to its place; the manifest, which says that the rest is whole, goes first and comes last."""
    (work / "plan.json").unlink(missing_ok=True)  # from here on there is nothing to go on with
    (out / MANIFEST).unlink(missing_ok=True)
    for name, path in pictures.items():
        shutil.move(path, out / name)
    for path in sorted(files.iterdir(), key=lambda path: path.name == MANIFEST):
        shutil.move(path, out / path.name)


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None
