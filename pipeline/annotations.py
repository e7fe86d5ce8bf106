"""Captions of pictures, as data sets publish them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.errors import GpucaptError
from model.vocabulary import tokenize

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Example:
    """A picture's file name, its split and its captions in words."""

    image: str
    split: str
    captions: tuple[tuple[str, ...], ...]


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
