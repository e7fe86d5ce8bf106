"""HDF5 files that an earlier captioner has preprocessed, made usable where they lie.

The Show-Attend-and-Tell tutorial and what grew from it leave, for each SPLIT and with
<base> = <dataset>_<captions per image>_cap_per_img_<min word freq>_min_word_freq,

    <SPLIT>_IMAGES_<base>.hdf5      dataset `images` uint8 (I, 3, S, S), attribute `captions_per_image` (K)
    <SPLIT>_CAPTIONS_<base>.json    I * K lists of word indices, padded; caption i belongs to picture i // K
    <SPLIT>_CAPLENS_<base>.json     their lengths, both marks counted
    WORDMAP_<base>.json             word → index

Beside them come `<SPLIT>_REFERENCES_<base>.json` and `dataset.json` of `captioned_pictures.py`.
What the files do not tell: the pictures' names, words that are not in the word map, and the order of the
channels. A captioner that read its pictures by OpenCV without converting them has stored them as BGR.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from model.errors import GpucaptError
from model.vocabulary import Vocabulary
from pipeline.datasets.captioned_pictures import MANIFEST
from pipeline.datasets.hdf5_layout import CAPTIONS_PER_IMAGE, DATASET
from pipeline.errors import one_line
from pipeline.runtime.progress import OnProgress

if TYPE_CHECKING:
    import h5py

_SPLITS = ("train", "val", "test")
_BASE = re.compile(r"(?P<dataset>.+)_(?P<captions>\d+)_cap_per_img_(?P<least>\d+)_min_word_freq")
_BLOCK = 64  # pictures


@dataclass(frozen=True, slots=True)
class _Split:
    """What is known of one split's files."""

    name: str
    pictures: int
    size: int
    captions_per_image: int
    width: int
    references: list[list[str]]


def import_dataset(
    folder: Path,
    vocabulary: Callable[[Path], Vocabulary],
    channels: str = "rgb",
    progress: OnProgress = lambda done, total: None,
) -> dict[str, Any]:
    """Check the files of an earlier captioner and write what they lack beside them; returns dataset.json.

    Args:
        folder: where they lie; nothing that is there is changed.
        vocabulary: reads the word map.
        channels: the order of the channels in the HDF5 files, "rgb" or "bgr".

    Raises:
        GpucaptError: a file is missing or damaged, or does not go with the others.
    """
    base = _base_of(folder)
    words = vocabulary(folder / f"WORDMAP_{base}.json")
    splits = [_read_split(folder, name, base, words) for name in _SPLITS if _has(folder, name, base)]
    _check_together(folder, splits)
    told = _checksums(folder, base, splits, progress)
    for split in splits:
        file = _name(split.name, "REFERENCES", base)
        entries = [
            {"image": f"{split.name}-{number:06d}", "captions": captions}
            for number, captions in enumerate(split.references)
        ]
        told[file] = _write_json(folder / file, entries)
    manifest = _manifest(base, channels, splits, words, told)
    _write_json(folder / MANIFEST, manifest)
    return manifest


def _base_of(folder: Path) -> str:
    """What the names of a folder's files end with. Raises GpucaptError unless they are of one dataset."""
    if not folder.is_dir():
        raise GpucaptError(f"{folder}: there is no such folder.")
    if (folder / MANIFEST).is_file() and not _is_imported(folder / MANIFEST):
        raise GpucaptError(f"{folder} is a dataset of gpucapt preprocess already; train on it as it is.")
    found = sorted(path.name[len("WORDMAP_") : -len(".json")] for path in folder.glob("WORDMAP_*.json"))
    if not found:
        raise GpucaptError(
            f"{folder} holds no dataset of an earlier captioner: there is no WORDMAP_….json beside"
            " TRAIN_IMAGES_….hdf5."
        )
    if len(found) > 1:
        raise GpucaptError(f"{folder} holds several datasets ({', '.join(found)}); give each its own folder.")
    return found[0]


def _is_imported(manifest: Path) -> bool:
    content = _read_json(manifest)
    return isinstance(content, dict) and content.get("imported") is True


def _name(split: str, kind: str, base: str) -> str:
    return f"{split.upper()}_{kind}_{base}.{'hdf5' if kind == 'IMAGES' else 'json'}"


def _has(folder: Path, split: str, base: str) -> bool:
    """Whether a split is there. Raises GpucaptError where a part of it is missing."""
    files = [_name(split, kind, base) for kind in ("IMAGES", "CAPTIONS", "CAPLENS")]
    missing = [file for file in files if not (folder / file).is_file()]
    if missing and (split != "test" or len(missing) < len(files)):
        raise GpucaptError(f"{folder} lacks {missing[0]}; copy it there, from where the others came.")
    return not missing


def _read_split(folder: Path, name: str, base: str, words: Vocabulary) -> _Split:
    captions = _array(folder / _name(name, "CAPTIONS", base), 2)
    lengths = _array(folder / _name(name, "CAPLENS", base), 1)
    pictures = folder / _name(name, "IMAGES", base)
    with _opened(pictures) as file:
        images = _images(pictures, file)
        count, size = images.shape[0], images.shape[2]
        each = int(file.attrs.get(CAPTIONS_PER_IMAGE, images.attrs.get(CAPTIONS_PER_IMAGE, 0)))
    if not each or len(captions) != count * each or len(lengths) != len(captions):
        raise GpucaptError(
            f"{pictures} has {count} pictures with {each} captions each, but there are {len(captions)}"
            f" captions and {len(lengths)} lengths: the files of {name} are not of one dataset."
        )
    if captions.min() < 0 or captions.max() >= len(words):
        raise GpucaptError(
            f"{folder / _name(name, 'CAPTIONS', base)} speaks of word {captions.max()}, where"
            f" WORDMAP_{base}.json has {len(words)} words: it is the word map of another dataset."
        )
    if lengths.min() < 2 or lengths.max() > captions.shape[1]:
        raise GpucaptError(f"{folder / _name(name, 'CAPLENS', base)} has lengths that no caption can have.")
    said = _in_words(captions, lengths, words)
    references = [said[first : first + each] for first in range(0, len(said), each)]
    return _Split(name, count, size, each, captions.shape[1], references)


def _in_words(captions: NDArray[np.int64], lengths: NDArray[np.int64], words: Vocabulary) -> list[str]:
    """Captions as text, `<unk>` for what the word map did not know: as long as they were."""
    return [
        " ".join(words.words[index] for index in caption[1 : length - 1].tolist())
        for caption, length in zip(captions, lengths, strict=True)
    ]


def _opened(path: Path) -> h5py.File:
    import h5py

    try:
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        raise GpucaptError(
            f"{path} cannot be read as HDF5, or is cut short ({one_line(str(error))})."
        ) from error


def _images(path: Path, file: h5py.File) -> h5py.Dataset:
    """The dataset of pictures. Raises GpucaptError where it is none."""
    images = file.get(DATASET)
    shape: tuple[int, ...] = getattr(images, "shape", ())
    if len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3] or 0 in shape or images.dtype != np.uint8:
        raise GpucaptError(f"{path} has no pictures: a dataset `images` of bytes (number, 3, side, side).")
    return images


def _array(path: Path, dimensions: int) -> NDArray[np.int64]:
    try:
        array = np.asarray(_read_json(path), dtype=np.int64)
    except (ValueError, TypeError, OverflowError) as error:
        raise GpucaptError(f"{path} is not what it should be: lists of whole numbers.") from error
    if array.ndim != dimensions or array.size == 0:
        raise GpucaptError(f"{path} is not what it should be: lists of whole numbers, all of one length.")
    return array


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise GpucaptError(f"{path} cannot be read as JSON ({one_line(str(error))}).") from error


def _check_together(folder: Path, splits: Sequence[_Split]) -> None:
    kinds = {(split.size, split.captions_per_image) for split in splits}
    if len(kinds) > 1:
        raise GpucaptError(f"{folder}: the splits differ in size of pictures or in captions of each.")


def _checksums(folder: Path, base: str, splits: Sequence[_Split], progress: OnProgress) -> dict[str, Any]:
    """Size and checksum of each file that is there; every picture is read once, so that damage shows now."""
    told: dict[str, Any] = {}
    for split in splits:
        for kind in ("CAPTIONS", "CAPLENS"):
            told[_name(split.name, kind, base)] = _told(folder / _name(split.name, kind, base))
        path = folder / _name(split.name, "IMAGES", base)
        told[path.name] = {"size": path.stat().st_size, "sha256_of_crc32s": _of_pictures(path, progress)}
    told[f"WORDMAP_{base}.json"] = _told(folder / f"WORDMAP_{base}.json")
    return told


def _of_pictures(path: Path, progress: OnProgress) -> str:
    digest = hashlib.sha256()
    with _opened(path) as file:
        images = _images(path, file)
        for first in range(0, len(images), _BLOCK):
            try:
                block = images[first : first + _BLOCK]
            except OSError as error:
                raise GpucaptError(
                    f"{path} is damaged at picture {first} ({one_line(str(error))})."
                ) from error
            for picture in block:
                digest.update(zlib.crc32(picture.tobytes()).to_bytes(4, "big"))
            progress(min(first + _BLOCK, len(images)), len(images))
    return digest.hexdigest()


def _told(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _write_json(path: Path, content: Any) -> dict[str, Any]:
    """Write a file whole or not at all; → its size and checksum."""
    fresh = path.with_name(f"{path.name}.tmp")
    try:
        fresh.write_text(json.dumps(content), encoding="utf-8")
        fresh.replace(path)
    except OSError as error:
        raise GpucaptError(f"{path} cannot be written: {error.strerror}.") from error
    return _told(path)


def _manifest(
    base: str, channels: str, splits: Sequence[_Split], words: Vocabulary, told: dict[str, Any]
) -> dict[str, Any]:
    named = _BASE.fullmatch(base)
    identity = json.dumps([channels, told], sort_keys=True).encode()
    return {
        "dataset": named["dataset"] if named else base,
        "settings": {
            "captions_per_image": splits[0].captions_per_image,
            "min_word_freq": int(named["least"]) if named else None,
            "max_length": max(split.width for split in splits) - 2,
            "image_size": splits[0].size,
        },
        "vocabulary": "given",
        "base": base,
        "imported": True,
        "channels": channels,
        "pictures": {split.name: split.pictures for split in splits},
        "words": len(words),
        "skipped": [],
        "fingerprint": hashlib.sha256(identity).hexdigest(),
        "files": told,
    }
