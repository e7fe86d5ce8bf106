"""A small captioned dataset made of the photographs that come inside wheels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

from tests.media import photograph

SUBJECTS = {
    "astronaut": "a smiling astronaut in an orange suit",
    "cat": "a cat looks at the camera",
    "coffee": "a cup of coffee on a wooden table",
    "rocket": "a rocket stands on its launch pad",
    "temple": "a temple with a curved roof",
    "flower": "a red flower in the sun",
}
ENDINGS = ("", " today", " in the picture", " up close", " seen from afar")


def make_dataset(folder: Path, *, per_subject: int = 5, size: int = 96) -> tuple[Path, Path]:
    """Write a Karpathy JSON and its pictures (windows of each photograph); → (JSON, folder of pictures)."""
    pictures = folder / "pictures"
    pictures.mkdir(parents=True)
    images: list[dict[str, Any]] = []
    for subject, text in SUBJECTS.items():
        wide = photograph(subject, size=(size + 8 * per_subject, size))
        for number in range(per_subject):
            name = f"{subject} {number}.jpg"
            Image.fromarray(wide[:, 8 * number : 8 * number + size]).save(pictures / name)
            split = {per_subject - 1: "test", per_subject - 2: "val", 0: "restval"}.get(number, "train")
            sentences = [{"raw": f"{text}{end}.", "tokens": f"{text}{end}".split()} for end in ENDINGS]
            images.append({"filename": name, "split": split, "sentences": sentences})
    path = folder / "dataset.json"
    path.write_text(json.dumps({"dataset": "mini", "images": images}))
    return path, pictures
