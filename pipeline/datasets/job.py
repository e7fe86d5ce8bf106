"""What `gpucapt preprocess` does, between the command line and `pipeline/datasets/preprocess.py`."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.errors import GpucaptError
from model.vocabulary import END, PAD, START, UNKNOWN, Vocabulary
from pipeline.errors import one_line
from pipeline.runtime.config import tuning
from pipeline.runtime.cpu_limits import available_cores
from pipeline.runtime.progress import log_progress
from pipeline.storage import staging
from pipeline.storage.open import is_s3, open_object, open_storage

if TYPE_CHECKING:
    from pipeline.datasets.plan import DatasetPlan
    from pipeline.datasets.preprocess import Report

_READERS = 16
"""Pictures of an object store that are read at the same time: that is waiting, as a rule."""

_MARKS = {"<PAD>": PAD, "<SOS>": START, "<EOS>": END, "<UNK>": UNKNOWN}
"""How some call them."""

log = logging.getLogger(__name__)


def run_preprocess(
    dataset: str,
    images: str,
    out: str,
    *,
    vocabulary: str | None = None,
    splits: str | None = None,
    name: str | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Annotations and their pictures → HDF5 and JSON in OUT; paths or s3:// URLs.

    Returns:
        What other programs want to know: `dataset`, `fingerprint`, `pictures`, `changed`.
    """
    from pipeline.datasets.annotations import as_file_name, read_annotations
    from pipeline.datasets.plan import Preprocessing, plan
    from pipeline.datasets.preprocess import is_done, report_of
    from pipeline.datasets.splits import parse_shares

    began = time.monotonic()
    if splits is not None:
        settings["splits"] = parse_shares(splits)
    if is_s3(images):
        settings["threads"] = max(1, _READERS // settings.get("workers", available_cores()))
    wanted = Preprocessing(**settings)
    with _annotation_files(dataset) as paths:
        found = read_annotations(paths, wanted.tokenizer)
    words = None if vocabulary is None else read_vocabulary(vocabulary)
    called = as_file_name(name) if name else found.dataset
    planned = plan(called, found.examples, images, wanted, words)
    place = _Place(out)
    published = place.published()
    if published.get("imported"):
        raise GpucaptError(f"{out} holds the files of an earlier captioner; name another folder.")
    if is_done(planned, published, place.size_of):
        report = report_of(published)
        log.info("%s holds this dataset already: nothing to do", out)
    else:
        report = place.write(planned, published)
        for image, reason in report.skipped:
            log.warning("left out %s: %s", image, reason)
        if report.near_duplicates:
            log.warning(
                "%d pairs of pictures in different splits look the same; dataset.html shows them",
                report.near_duplicates,
            )
        counts = ", ".join(f"{split} {count}" for split, count in report.pictures.items())
        log.info("%s: %s; %d words; %.0f s", out, counts, report.words, time.monotonic() - began)
    return {
        "dataset": out,
        "fingerprint": report.fingerprint,
        "pictures": report.pictures,
        "changed": report.changed,
    }


def run_import_dataset(folder: str, channels: str) -> dict[str, Any]:
    """Make an earlier captioner's HDF5 files usable where they lie; returns what ``run_preprocess`` does."""
    from pipeline.datasets.import_hdf5 import import_dataset

    if is_s3(folder):
        raise GpucaptError(
            f"{folder}: files of an earlier captioner are imported where they lie; fetch them."
        )
    began = time.monotonic()
    manifest = import_dataset(
        staging.local(folder),
        lambda path: read_vocabulary(str(path)),
        channels,
        log_progress("pictures read"),
    )
    counts = ", ".join(f"{split} {count}" for split, count in manifest["pictures"].items())
    log.info("%s: %s; %d words; %.0f s", folder, counts, manifest["words"], time.monotonic() - began)
    return {"dataset": folder, "fingerprint": manifest["fingerprint"], "pictures": manifest["pictures"]}


@contextmanager
def _annotation_files(url: str) -> Iterator[list[Path]]:
    """The files that DATASET means: one, several with commas between them, or COCO's in a folder."""
    several = url.split(",")
    if len(several) > 1 and all(one.endswith(".json") for one in several):
        with ExitStack() as stack:
            yield [stack.enter_context(staging.input_file(one)) for one in several]
    elif _is_folder(url):
        with staging.input_folder(url, wanted=_is_captions) as folder:
            found = sorted(path for path in folder.iterdir() if _is_captions(path.name))
            if not found:
                raise GpucaptError(
                    f"{url} is a folder without COCO's captions_*.json; name a file of captions."
                )
            yield found
    else:
        with staging.input_file(url) as path:
            yield [path]


def _is_captions(key: str) -> bool:
    return key.startswith("captions_") and key.endswith(".json")


def _is_folder(url: str) -> bool:
    if not is_s3(url):
        return staging.local(url).is_dir()
    storage, key = open_object(url)
    return url.endswith("/") or not key or storage.stat(key) is None


def read_vocabulary(url: str) -> Vocabulary:
    """A word map (word → index), the vocabulary.json of a checkpoint, or an earlier captioner's pickle."""
    with staging.input_file(url) as path:
        if _is_pickle(path):
            return _pickled_vocabulary(path)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise GpucaptError(f"{path}: there is no such vocabulary.") from error
        except (OSError, ValueError) as error:
            raise GpucaptError(f"{path} is not a vocabulary ({one_line(str(error))}).") from error
        if isinstance(content, dict) and isinstance(content.get("words"), list):
            return Vocabulary(tuple(map(str, content["words"])))
        if not isinstance(content, dict) or sorted(map(str, content.values())) != sorted(
            map(str, range(len(content)))
        ):
            raise GpucaptError(
                f"{path} is not a vocabulary: neither a word map with the indices 0, 1, 2 … nor the"
                " vocabulary.json of a checkpoint."
            )
        return Vocabulary(tuple(sorted(content, key=content.__getitem__)))


def _is_pickle(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(1) == b"\x80"


def _pickled_vocabulary(path: Path) -> Vocabulary:
    """The words of a pickle, nothing of which is run, with the marks as they are called here."""
    from pipeline.checkpoint_import.unpickling import read_vocabulary as read_pickle

    words = [_MARKS.get(word, word) for word in read_pickle(path)]
    return Vocabulary(tuple(words if PAD in words else [PAD, *words]))


class _Place:
    """Where the dataset goes: a folder, or a prefix of a bucket by way of one."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._storage = open_storage(url) if is_s3(url) else None

    def published(self) -> dict[str, Any]:
        """dataset.json of what is there; empty without one."""
        from pipeline.datasets.captioned_pictures import MANIFEST
        from pipeline.datasets.preprocess import parse_published, read_published

        if self._storage is None:
            return read_published(staging.local(self.url))
        return parse_published(self._storage.read(MANIFEST)) if self._storage.stat(MANIFEST) else {}

    def size_of(self, name: str) -> int | None:
        """Bytes of one of its files; None without it."""
        if self._storage is None:
            path = staging.local(self.url) / name
            return path.stat().st_size if path.is_file() else None
        found = self._storage.stat(name)
        return found.size if found else None

    def write(self, planned: DatasetPlan, published: dict[str, Any]) -> Report:
        """Do what is planned. A run that is killed goes on from what it left, on the same machine."""
        from pipeline.datasets.preprocess import WORK, stale_files, write_dataset

        progress = log_progress("pictures")
        with staging.output_folder(self.url) as output:
            if output.storage is None:
                return write_dataset(planned, output.path, output.path / WORK, published, progress)
            report = write_dataset(planned, output.path, _work_folder(self.url), published, progress)
            output.save()
            for name in stale_files(published, output.path):
                output.storage.delete(name)
            return report


def _work_folder(url: str) -> Path:
    """A folder that the next run for the same place finds again; nobody else's."""
    parent = tuning().spool or Path(tempfile.gettempdir())
    parent.mkdir(parents=True, exist_ok=True)
    mark = hashlib.sha256(url.rstrip("/").encode("utf-8", "surrogateescape")).hexdigest()[:16]
    folder = parent / f"gpucapt-preprocess-{os.getuid()}-{mark}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise GpucaptError(f"{folder} belongs to somebody else; set GPUCAPT_SPOOL to a folder of your own.")
    return folder
