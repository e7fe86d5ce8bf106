"""Small captioners that have learned a little: enough that pictures differ in what is said of them."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.media.images import decode_still
from tests.media import PHOTOGRAPHS, Picture, photograph

SENTENCES = {
    "astronaut": "a woman in an orange suit smiles",
    "cat": "a cat looks at the camera",
    "coffee": "a cup of coffee with a spoon on a table",
    "rocket": "a rocket stands on a launch pad at night",
    "galaxies": "many stars in the dark sky",
    "motorcycle": "a red motorcycle in a room",
    "temple": "a temple behind a red wall and trees",
    "flower": "a red flower in a green garden",
    "officer": "a woman in a dark suit with a hat",
}
WORDS = tuple(dict.fromkeys(" ".join(SENTENCES.values()).split()))
FLICKR8K = Path(__file__).resolve().parents[5] / "shared" / "data" / "flickr8k" / "images"
"""Photographs beside the repository, where there are any."""


def photographs() -> list[Picture]:
    return [photograph(name) for name in PHOTOGRAPHS]


def more_photographs(count: int) -> list[Picture]:
    paths = sorted(FLICKR8K.glob("*.jpg"))[:count]
    return [decode_still(path.read_bytes(), path.name) for path in paths]


def sentences(index: dict[str, int], start: str, end: str) -> Tensor:
    """The photographs' sentences as indices (B, T) between both marks; behind the end, it again."""
    rows = [[start, *SENTENCES[name].split(), end] for name in PHOTOGRAPHS]
    longest = max(map(len, rows))
    return torch.tensor([[index[word] for word in [*row, *[end] * (longest - len(row))]] for row in rows])


def seasoned(network: nn.Module, pixels: Tensor) -> nn.Module:
    """Give each BatchNorm the statistics of some pictures: behind random weights all would look alike."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()(pixels)
    return network.eval()


def teach(learning: nn.Module, scores: Callable[[], Tensor], targets: Tensor, steps: int) -> None:
    """Some steps of teacher forcing, `scores` (B, T, V) for words (B, T)."""
    optimizer = torch.optim.Adam(learning.parameters(), lr=5e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(scores().flatten(0, 1), targets.flatten())
        loss.backward()
        optimizer.step()


@contextmanager
def known_as(module: str, *classes: type) -> Iterator[None]:
    """Let classes be found, and so be pickled, where an earlier captioner had them."""
    there = ModuleType(module)
    for one in classes:
        one.__module__ = module
        setattr(there, one.__name__, one)
    before = sys.modules.get(module)
    sys.modules[module] = there
    try:
        yield
    finally:
        sys.modules.pop(module)
        if before is not None:
            sys.modules[module] = before


def pickled(path: Path, module: str, value: Any, protocol: int = 4) -> Path:
    """Write a pickle of an object of a class of that module."""
    with known_as(module, type(value)), path.open("wb") as file:
        pickle.dump(value, file, protocol)
    return path


def spoken(indices: Sequence[int], words: Sequence[str], marks: Sequence[str]) -> str:
    """What was said, without its marks."""
    return " ".join(words[index] for index in indices if words[index] not in marks)
