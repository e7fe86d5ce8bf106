"""Captioned pictures as HDF5 and JSON: written by `gpucapt preprocess`, read by training.

In the dataset's folder, for each SPLIT of TRAIN, VAL, TEST and with
<base> = <dataset>_<captions per image>_cap_per_img_<min word freq>_min_word_freq:

    <SPLIT>_IMAGES_<base>.hdf5      dataset `images` uint8 (I, 3, size, size), RGB, one picture a chunk;
                                    attribute `captions_per_image` (K)
    <SPLIT>_CAPTIONS_<base>.json    I * K lists of word indices, `<start>` … `<end>`, padded with `<pad>` to
                                    the longest length allowed + 2; caption i belongs to picture i // K
    <SPLIT>_CAPLENS_<base>.json     I * K lengths, both marks counted
    <SPLIT>_REFERENCES_<base>.json  I objects {"image": file name, "captions": all its captions, in words}
    WORDMAP_<base>.json             word → index: `<pad>` 0, the words 1 …, then `<unk>`, `<start>`, `<end>`
    dataset.json                    base, image size, counts, skipped pictures; written last

The names and the first, second, third and fifth file are those of the Show-Attend-and-Tell tutorial, so its
readers accept them. A word is kept when the train split has it more than `min_word_freq` times.
"""

from __future__ import annotations

import json
import os
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from model.errors import GpucaptError
from model.preparation import Preparation
from model.vocabulary import Vocabulary, tokenize
from pipeline.errors import BadInput
from pipeline.images import decode_still

if TYPE_CHECKING:
    import h5py

SPLITS = ("train", "val", "test")
MANIFEST = "dataset.json"


@dataclass(frozen=True, slots=True)
class Example:
    """A picture's file name, its split and its captions in words."""

    image: str
    split: str
    captions: tuple[tuple[str, ...], ...]


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


def read_karpathy(path: Path) -> tuple[str, list[Example]]:
    """Read Karpathy's JSON: the dataset's name and its examples; `restval` counts as train."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        examples = []
        for image in content["images"]:
            split = "train" if image["split"] == "restval" else image["split"]
            if split not in SPLITS:
                raise GpucaptError(f"{path}: picture {image['filename']!r} is in an unknown split {split!r}.")
            captions = tuple(tuple(_words(sentence)) for sentence in image["sentences"])
            name = "/".join(filter(None, (image.get("filepath"), image["filename"])))
            examples.append(Example(name, split, captions))
        return str(content.get("dataset", path.stem)), examples
    except FileNotFoundError as error:
        raise GpucaptError(f"{path}: there is no such dataset file.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise GpucaptError(
            f"{path} is not a dataset in Karpathy's JSON format ({type(error).__name__}: {error})."
        ) from error


def _words(sentence: dict[str, Any]) -> list[str]:
    tokens = sentence.get("tokens")
    return tokenize(sentence["raw"] if tokens is None else " ".join(tokens))


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


class CaptionedPictures:
    """One split of a preprocessed dataset, for a torch DataLoader that asks for whole batches.

    `features`: the HDF5 file of `store_features`, read in place of the pictures; one of its versions
    (as they are, mirrored) is drawn for each picture when `draw` is set, else the first is taken.
    """

    def __init__(self, folder: Path, split: str, *, features: Path | None = None, draw: bool = False) -> None:
        self.folder = folder
        self.manifest = read_manifest(folder)
        base, name = self.manifest["base"], split.upper()
        self.pictures = folder / f"{name}_IMAGES_{base}.hdf5"
        if not self.pictures.is_file():
            raise GpucaptError(f"{folder} has no {split} split ({self.pictures.name} is missing).")
        self.features = features
        self.draw = draw
        count = int(self.manifest["settings"]["captions_per_image"])
        captions = np.asarray(_read_json(folder / f"{name}_CAPTIONS_{base}.json"), dtype=np.int64)
        lengths = np.asarray(_read_json(folder / f"{name}_CAPLENS_{base}.json"), dtype=np.int64)
        self.captions = captions.reshape(-1, count, captions.shape[1])
        self.lengths = lengths.reshape(-1, count) - 1  # words to predict: all but `<start>`
        self.names: list[str] = []
        self.references: dict[str, list[str]] = {}
        for index, entry in enumerate(_read_json(folder / f"{name}_REFERENCES_{base}.json")):
            self.names.append(entry["image"])
            self.references[str(index)] = entry["captions"]
        self._file: h5py.File | None = None

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, index: int) -> dict[str, NDArray[Any]]:
        return {name: values[0] for name, values in self.batch([index]).items()}

    def __getitems__(self, indices: list[int]) -> dict[str, NDArray[Any]]:
        return self.batch(indices)

    def batch(self, indices: Sequence[int]) -> dict[str, NDArray[Any]]:
        """Arrays `pictures`, `captions`, `lengths`, `index`; sorted by index, as HDF5 reads best."""
        chosen = np.sort(np.asarray(indices))
        lengths = self.lengths[chosen]
        captions = self.captions[chosen][:, :, : int(lengths.max()) + 1]
        return {"pictures": self._read(chosen), "captions": captions, "lengths": lengths, "index": chosen}

    def _read(self, chosen: NDArray[np.int64]) -> NDArray[Any]:
        import h5py

        if self._file is None:  # opened where it is used: a handle does not survive into another process
            self._file = h5py.File(self.features or self.pictures, "r")
        if self.features is None:
            pictures: NDArray[Any] = self._file["images"][chosen]
            return pictures
        data = self._file["features"]
        versions = (
            np.random.randint(data.shape[1], size=len(chosen)) if self.draw else np.zeros(len(chosen), int)
        )
        return np.stack([data[i, v] for i, v in zip(chosen, versions, strict=True)])


def store_features(
    encode: Callable[[NDArray[np.uint8]], NDArray[np.float16]],
    data: CaptionedPictures,
    path: Path,
    *,
    mirrored: bool,
    batch_size: int = 32,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Encode a split's pictures once: dataset `features` fp16 (I, versions, rows, columns, channels)."""
    import h5py

    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".part")
    with h5py.File(fresh, "w") as file:
        stored: Any = None
        for first in range(0, len(data), batch_size):
            pictures = data.batch(range(first, min(first + batch_size, len(data))))["pictures"]
            versions = [encode(pictures)]
            if mirrored:
                versions.append(encode(np.ascontiguousarray(pictures[:, :, :, ::-1])))
            block = np.stack(versions, axis=1)
            if stored is None:
                stored = file.create_dataset(
                    "features", (len(data), *block.shape[1:]), "float16", chunks=(1, 1, *block.shape[2:])
                )
            stored[first : first + len(block)] = block
            progress(first + len(block), len(data))
    fresh.rename(path)


def read_manifest(folder: Path) -> dict[str, Any]:
    """dataset.json of a preprocessed dataset."""
    path = folder / MANIFEST
    if not path.is_file():
        raise GpucaptError(
            f"{folder} is not a preprocessed dataset: it lacks {MANIFEST}. Run gpucapt preprocess first."
        )
    manifest: dict[str, Any] = _read_json(path)
    return manifest


def read_wordmap(folder: Path) -> Vocabulary:
    """The dataset's vocabulary."""
    index: dict[str, int] = _read_json(folder / f"WORDMAP_{read_manifest(folder)['base']}.json")
    return Vocabulary(tuple(sorted(index, key=index.__getitem__)))


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise GpucaptError(f"{path} is missing; run gpucapt preprocess again.") from error
