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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from model.errors import GpucaptError
from model.vocabulary import Vocabulary

if TYPE_CHECKING:
    import h5py

MANIFEST = "dataset.json"


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
