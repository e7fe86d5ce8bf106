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
    dataset.html                    a page that shows all this
    dataset.json                    written last: dataset, settings, base, pictures (by split), words, skipped
                                    ones, fingerprint, and files: of each its size and sha256; of HDF5 files
                                    the SHA-256 of the pictures' CRC-32s (4 bytes each, big-endian)

The names and the first, second, third and fifth file are those of the Show-Attend-and-Tell tutorial, so its
readers accept them. What it has written itself is read here once `gpucapt import-dataset` has added the rest
(`import_hdf5.py`); there `channels` in dataset.json is "bgr" where the pictures are. A word is
kept when the train split has it more than `min_word_freq` times.
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
from model.words import Tokenizer
from pipeline.datasets.batch_sampler import Pick

if TYPE_CHECKING:
    import h5py

MANIFEST = "dataset.json"


class CaptionedPictures:
    """One split of a preprocessed dataset, for a torch DataLoader that asks for whole batches.

    `features`: the HDF5 file of `store_features`, read in place of the pictures. Which of a picture's views
    is read is drawn by the number that comes with its position (batch_sampler.py); without one it is
    the first, the picture as it is. `channels`: the order in which pictures are wanted, whatever it is in the
    file.
    """

    def __init__(
        self, folder: Path, split: str, *, features: Path | None = None, channels: str = "rgb"
    ) -> None:
        self.folder = folder
        self.manifest = read_manifest(folder)
        base, name = self.manifest["base"], split.upper()
        self.pictures = folder / f"{name}_IMAGES_{base}.hdf5"
        if not self.pictures.is_file():
            raise GpucaptError(f"{folder} has no {split} split ({self.pictures.name} is missing).")
        self.features = features
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
        self._turned_round = self.manifest.get("channels", "rgb") != channels
        self._file: h5py.File | None = None
        self._views: NDArray[np.float16] | None = None

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, index: int) -> dict[str, NDArray[Any]]:
        return {name: values[0] for name, values in self.batch([index]).items()}

    def __getitems__(self, picks: list[Pick]) -> dict[str, NDArray[Any]]:
        return self.batch([index for index, _ in picks], [draw for _, draw in picks])

    def batch(self, indices: Sequence[int], draws: Sequence[int] | None = None) -> dict[str, NDArray[Any]]:
        """Arrays `pictures`, `captions`, `lengths`, `index`; sorted by index, as HDF5 reads best."""
        unsorted = np.asarray(indices)
        order = np.argsort(unsorted, kind="stable")
        chosen = unsorted[order]
        drawn = np.zeros_like(chosen) if draws is None else np.asarray(draws)[order]
        lengths = self.lengths[chosen]
        captions = self.captions[chosen][:, :, : int(lengths.max()) + 1]
        pictures = self._read(chosen) if self.features is None else self._read_views(chosen, drawn)
        return {"pictures": pictures, "captions": captions, "lengths": lengths, "index": chosen}

    def _read(self, chosen: NDArray[np.int64]) -> NDArray[np.uint8]:
        import h5py

        if self._file is None:  # opened where it is used: a handle does not survive into another process
            self._file = h5py.File(self.pictures, "r", locking=False)
        # HDF5 takes every position once only; with several processes a batch may have a picture twice.
        once, places = np.unique(chosen, return_inverse=True)
        pictures: NDArray[np.uint8] = self._file["images"][once]
        if self._turned_round:
            pictures = np.ascontiguousarray(pictures[:, ::-1])
        return pictures if len(once) == len(chosen) else pictures[places]

    def _read_views(self, chosen: NDArray[np.int64], drawn: NDArray[np.int64]) -> NDArray[np.float16]:
        assert self.features is not None
        if self._views is None:
            self._views = _mapped_features(self.features)
        views: NDArray[np.float16] = self._views[chosen, drawn % self._views.shape[1]]
        return views


def _mapped_features(path: Path) -> NDArray[np.float16]:
    """The dataset `features` of a file that `store_features` wrote, as the system maps it: read when it is
    used.
    """
    import h5py

    with h5py.File(path, "r", locking=False) as file:
        data = file["features"]
        return np.memmap(path, np.float16, "r", offset=data.id.get_offset(), shape=data.shape)


Encode = Callable[[NDArray[np.uint8], int], NDArray[np.float16]]
"""Pictures (B, 3, S, S) and the position of the first → features of their views (B, views, rows, columns,
channels).
"""


def store_features(
    encode: Encode,
    data: CaptionedPictures,
    path: Path,
    *,
    made_by: str,
    batch_size: int = 32,
    share: tuple[int, int] = (0, 1),
    meet: Callable[[], None] = lambda: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Encode a split's pictures once: dataset `features` fp16 (I, views, rows, columns, channels), unchunked.

    `made_by` tells encoder, views and pictures apart; a file that was made by the same is kept. Of several
    processes each encodes its `share` (which of how many) into the same file; `meet` waits for all of them.
    """
    fresh = path.with_suffix(".part")
    number, parts = share
    known = _made_by(path) == made_by
    meet()  # before one of them changes what the others look at
    if known:
        return
    if number == 0:
        first = encode(data.batch([0])["pictures"], 0)
        _lay_out(fresh, (len(data), *first.shape[1:]), made_by)
    meet()
    offset, row = _place_of_features(fresh)
    with fresh.open("r+b") as file:
        for begin in range(number * batch_size, len(data), parts * batch_size):
            end = min(begin + batch_size, len(data))
            file.seek(offset + begin * row)
            file.write(np.ascontiguousarray(encode(data.batch(range(begin, end))["pictures"], begin)).data)
            progress(end, len(data))
    meet()
    if number == 0:
        fresh.replace(path)
    meet()


def _made_by(path: Path) -> str | None:
    import h5py

    if not path.is_file():
        return None
    with h5py.File(path, "r", locking=False) as file:
        made_by: str | None = file.attrs.get("made_by")
        return made_by


def _lay_out(path: Path, shape: tuple[int, ...], made_by: str) -> None:
    """A file with room for all features, in one piece."""
    import h5py

    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", locking=False) as file:
        file.attrs["made_by"] = made_by
        layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        kind = h5py.h5t.py_create(np.dtype(np.float16))
        h5py.h5d.create(file.id, b"features", kind, h5py.h5s.create_simple(shape), layout)


def _place_of_features(path: Path) -> tuple[int, int]:
    """Where in a file the features begin, and how many bytes a picture's take."""
    import h5py

    with h5py.File(path, "r", locking=False) as file:
        data = file["features"]
        return int(data.id.get_offset()), data.nbytes // data.shape[0]


def read_manifest(folder: Path) -> dict[str, Any]:
    """dataset.json of a preprocessed dataset."""
    path = folder / MANIFEST
    if not path.is_file():
        earlier = any(folder.glob("WORDMAP_*.json"))
        cure = "gpucapt import-dataset makes an earlier captioner's files usable" if earlier else ""
        raise GpucaptError(
            f"{folder} is not a preprocessed dataset: it lacks {MANIFEST}."
            f" {cure or 'Run gpucapt preprocess first'}."
        )
    manifest: dict[str, Any] = _read_json(path)
    return manifest


def tokenizer_of(manifest: dict[str, Any]) -> Tokenizer:
    """By which a dataset's captions were made words. Earlier ones do not say: they took what stands between
    blanks."""
    return "auto" if manifest["settings"].get("tokenizer") == "auto" else "words"


def read_wordmap(folder: Path) -> Vocabulary:
    """The dataset's vocabulary."""
    index: dict[str, int] = _read_json(folder / f"WORDMAP_{read_manifest(folder)['base']}.json")
    return Vocabulary(tuple(sorted(index, key=index.__getitem__)))


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise GpucaptError(f"{path} is missing; run gpucapt preprocess again.") from error
