"""A preprocessed dataset written straight away: pictures of noise and captions of made-up words."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from model.vocabulary import END, PAD, START, UNKNOWN, Vocabulary


def write_dataset(
    folder: Path, *, pictures: int, validation: int = 4, size: int = 8, words: int = 30, captions: int = 5
) -> Path:
    """Write the splits train and val; captions of 5 to 20 words. Returns the folder."""
    chooser, noise = random.Random(0), np.random.default_rng(0)
    known = [f"w{number}" for number in range(words)]
    vocabulary = Vocabulary((PAD, *known, UNKNOWN, START, END))
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in (("TRAIN", pictures), ("VAL", validation)):
        lengths = [min(20, max(5, round(chooser.gauss(10.5, 2.3)))) for _ in range(count * captions)]
        said = [chooser.choices(known, k=length) for length in lengths]
        rows = [vocabulary.encode(caption) for caption in said]
        texts = [" ".join(caption) for caption in said]
        files: dict[str, Any] = {
            "CAPTIONS": [row + [vocabulary.pad] * (52 - len(row)) for row in rows],
            "CAPLENS": [len(row) for row in rows],
            "REFERENCES": [
                {"image": f"{number}.jpg", "captions": texts[number * captions : (number + 1) * captions]}
                for number in range(count)
            ],
        }
        for name, content in files.items():
            (folder / f"{split}_{name}_made_up.json").write_text(json.dumps(content), encoding="utf-8")
        with h5py.File(folder / f"{split}_IMAGES_made_up.hdf5", "w") as file:
            file["images"] = noise.integers(0, 256, (count, 3, size, size), np.uint8)
    (folder / "WORDMAP_made_up.json").write_text(json.dumps(vocabulary.index), encoding="utf-8")
    settings = {"captions_per_image": captions, "image_size": size}
    (folder / "dataset.json").write_text(
        json.dumps({"base": "made_up", "settings": settings}), encoding="utf-8"
    )
    return folder
