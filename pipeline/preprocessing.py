"""Captioned pictures to HDF5 and JSON, as `pipeline/datasets.py` describes and reads them."""

from __future__ import annotations

import json
import os
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.errors import GpucaptError
from model.preparation import Preparation
from model.vocabulary import Vocabulary
from pipeline.annotations import SPLITS, Example
from pipeline.datasets import MANIFEST
from pipeline.errors import BadInput
from pipeline.images import decode_still


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """Settings of `gpucapt preprocess`; the defaults are the earlier captioners'."""

    captions_per_image: int = 5
    min_word_freq: int = 5
    max_length: int = 50
    image_size: int = 256
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    max_bad: int = 100
    seed: int = 123


@dataclass(slots=True)
class Report:
    """What came of a preprocessing run: pictures a split, words, and (name, reason) of pictures left out."""

    base: str
    pictures: dict[str, int]
    words: int
    skipped: list[tuple[str, str]]


def preprocess(
    dataset: str,
    examples: Sequence[Example],
    images: Path | Callable[[str], bytes],
    out: Path,
    settings: Preprocessing,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Write the dataset's files into `out`. `images` is the folder of the pictures, or reads them by name.

    Broken or missing pictures are left out and listed; more than `max_bad` of them are an error, and so is a
    train split without any picture.
    """
    usable = [kept for kept in (_usable(example, settings.max_length) for example in examples) if kept]
    base = f"{dataset}_{settings.captions_per_image}_cap_per_img_{settings.min_word_freq}_min_word_freq"
    train = [example for example in usable if example.split == "train"]
    if not train:
        raise GpucaptError(f"Dataset {dataset!r} has no captioned picture in its train split.")
    vocabulary = Vocabulary.build((c for e in train for c in e.captions), settings.min_word_freq)
    out.mkdir(parents=True, exist_ok=True)
    (out / MANIFEST).unlink(missing_ok=True)
    report = Report(base, {}, len(vocabulary), [])
    total, done = len(usable), 0
    for split in SPLITS:
        chosen = [example for example in usable if example.split == split]
        if not chosen:
            continue

        def advance(n: int, before: int = done) -> None:
            progress(before + n, total)

        report.pictures[split] = _write_split(
            out, split, base, chosen, images, vocabulary, settings, report, advance
        )
        done += len(chosen)
        if split == "train" and not report.pictures[split]:
            name, reason = report.skipped[-1]
            raise GpucaptError(
                f"No picture of the train split of {dataset!r} can be used, the last one {name!r}: {reason} "
                "Is the folder of pictures the right one?"
            )
    _write_json(out / f"WORDMAP_{base}.json", vocabulary.index)
    manifest = {"dataset": dataset, "settings": asdict(settings), **asdict(report)}
    _write_json(out / MANIFEST, manifest)
    return report


def _usable(example: Example, max_length: int) -> Example | None:
    captions = tuple(c for c in example.captions if 0 < len(c) <= max_length)
    return Example(example.image, example.split, captions) if captions else None


def _write_split(
    out: Path,
    split: str,
    base: str,
    examples: Sequence[Example],
    images: Path | Callable[[str], bytes],
    vocabulary: Vocabulary,
    settings: Preprocessing,
    report: Report,
    advance: Callable[[int], None],
) -> int:
    import h5py

    target = out / f"{split.upper()}_IMAGES_{base}.hdf5"
    fresh = target.with_suffix(".part")
    size, count = settings.image_size, settings.captions_per_image
    kept: list[Example] = []
    with h5py.File(fresh, "w") as file:
        data = file.create_dataset(
            "images",
            (len(examples), 3, size, size),
            "uint8",
            chunks=(1, 3, size, size),
            maxshape=(None, 3, size, size),
        )
        data.attrs["captions_per_image"] = file.attrs["captions_per_image"] = count
        read = _prepared(examples, images, Preparation(size), settings.workers)
        for number, (example, result) in enumerate(read, start=1):
            if isinstance(result, str):
                report.skipped.append((example.image, result))
                _check_limit(report, settings.max_bad)
            else:
                data[len(kept)] = result
                kept.append(example)
            advance(number)
        data.resize(len(kept), axis=0)
    fresh.rename(target)
    chooser = random.Random(f"{settings.seed}/{split}")
    chosen = [caption for example in kept for caption in _choose(example.captions, count, chooser)]
    encoded = [vocabulary.encode(caption) for caption in chosen]
    width = settings.max_length + 2
    padded = [row + [vocabulary.pad] * (width - len(row)) for row in encoded]
    _write_json(out / f"{split.upper()}_CAPTIONS_{base}.json", padded)
    _write_json(out / f"{split.upper()}_CAPLENS_{base}.json", [len(row) for row in encoded])
    references = [{"image": e.image, "captions": [" ".join(c) for c in e.captions]} for e in kept]
    _write_json(out / f"{split.upper()}_REFERENCES_{base}.json", references)
    return len(kept)


def _choose(captions: Sequence[tuple[str, ...]], count: int, chooser: random.Random) -> list[tuple[str, ...]]:
    """`count` captions: a sample when there are more, repetitions when there are fewer."""
    if len(captions) >= count:
        return chooser.sample(list(captions), count) if len(captions) > count else list(captions)
    return [*captions, *chooser.choices(list(captions), k=count - len(captions))]


def _check_limit(report: Report, limit: int) -> None:
    if len(report.skipped) > limit:
        name, reason = report.skipped[-1]
        raise GpucaptError(
            f"More than {limit} pictures cannot be used, the last one {name!r}: {reason} "
            "Is the folder of pictures the right one? --max-bad sets the limit."
        )


def _prepared(
    examples: Sequence[Example],
    images: Path | Callable[[str], bytes],
    prepare: Preparation,
    workers: int,
) -> Iterator[tuple[Example, NDArray[np.uint8] | str]]:
    """Each example with its prepared picture, or with the reason why there is none; in order."""

    read = images if callable(images) else lambda name: (images / name).read_bytes()

    def load(example: Example) -> NDArray[np.uint8] | str:
        try:
            return prepare(decode_still(read(example.image), example.image))
        except FileNotFoundError:
            return "the file is missing."
        except (BadInput, OSError) as error:
            # Whoever tells the reason names the picture, too.
            return str(error).removeprefix(f"{example.image}: ")

    waiting: deque[tuple[Example, Future[NDArray[np.uint8] | str]]] = deque()
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for example in examples:
            waiting.append((example, pool.submit(load, example)))
            if len(waiting) > 4 * max(1, workers):  # no further ahead: memory stays bounded
                first, future = waiting.popleft()
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()


def _write_json(path: Path, content: Any) -> None:
    fresh = path.with_suffix(".part")
    fresh.write_text(json.dumps(content), encoding="utf-8")
    fresh.replace(path)
