"""Word vectors from a file, as GloVe writes them, to begin training with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.errors import GpucaptError
from model.vocabulary import END, PAD, START, UNKNOWN, Vocabulary

MARKS = (PAD, UNKNOWN, START, END)
SAMPLE = 8
"""How many missing words a log line names."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many of a vocabulary's words a file has vectors for; the four marks are not counted."""

    words: int
    missing: tuple[str, ...]

    @property
    def found(self) -> int:
        return self.words - len(self.missing)

    def __str__(self) -> str:
        """One line for the log."""
        share = self.found / max(1, self.words)
        line = f"vectors for {self.found:,} of {self.words:,} words ({share:.1%})"
        if self.missing:
            more = ", …" if len(self.missing) > SAMPLE else ""
            line += f"; the others begin with their own: {', '.join(self.missing[:SAMPLE])}{more}"
        return line


def read_glove(path: Path, vocabulary: Vocabulary, size: int) -> tuple[Tensor, Coverage]:
    """Read the vectors (V, size) of a vocabulary's words from GloVe's text file: a word and `size` numbers
    a line (Pennington et al. 2014; fastText's `.vec` and word2vec's text files are the same after a line
    with two numbers).

    The file is read line by line and never held whole. Words that are missing from it, and the marks, get
    random vectors of the same mean and spread in each dimension as the words that are there; `<pad>` gets
    zeros. GpucaptError where the file cannot be read, is of another size, is damaged, or has none of the
    words.
    """
    wanted = {word.encode(): i for i, word in enumerate(vocabulary.words)}
    found: dict[int, NDArray[np.float32]] = {}
    for number, line in _lines(path):
        if not number:
            _check(line, size, path)
        index = wanted.get(line.partition(b" ")[0])
        # Every word is there once or not at all, but a file may have been put together from several.
        if index is None or index in found:
            continue
        word, *values = line.rsplit(b" ", size)
        # Some files have words with spaces in them: "at name@example.org" is not "at".
        if b" " not in word:
            found[index] = _vector(values, size, f"{path}, vector {number + 1}")
    words = [word for word in vocabulary.words if word not in MARKS]
    missing = tuple(word for word in words if vocabulary.index[word] not in found)
    if len(missing) == len(words):
        raise GpucaptError(f"{path} has no vector for any of the {len(words):,} words of the vocabulary.")
    return _filled(found, vocabulary, size), Coverage(len(words), missing)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The vectors' lines, counted from 0."""
    try:
        with path.open("rb") as file:
            first = file.readline()
            if first.startswith((b"PK", b"\x1f\x8b")):
                raise GpucaptError(f"{path} is packed: unpack it and give the text file in it.")
            counts = len(first.split()) == 2
            for number, line in enumerate(file if counts else chain([first], file)):
                yield number, line.rstrip()
    except OSError as error:
        raise GpucaptError(f"{path}: word vectors cannot be read from it ({error.strerror}).") from error


def _check(line: bytes, size: int, path: Path) -> None:
    """Look at the first line, so that a wrong file is told at once."""
    _, *values = line.split(b" ")
    try:
        count = len([float(value) for value in values])
    except ValueError:
        count = 0
    if not count:
        raise GpucaptError(
            f"{path} does not hold word vectors as GloVe writes them, a word and its numbers a line."
        )
    if count != size:
        raise GpucaptError(
            f"{path} has vectors of {count} numbers, and the recipe's embedding_size is {size}: "
            f"set it to {count}."
        )


def _vector(values: list[bytes], size: int, where: str) -> NDArray[np.float32]:
    try:
        vector = np.array([float(value) for value in values], dtype=np.float32)
    except ValueError:
        vector = np.empty(0, dtype=np.float32)
    if len(vector) != size or not np.isfinite(vector).all():
        raise GpucaptError(f"{where}: it is not a word and {size} numbers; get the file again.")
    return vector


def _filled(found: dict[int, NDArray[np.float32]], vocabulary: Vocabulary, size: int) -> Tensor:
    known = torch.from_numpy(np.stack(list(found.values())))
    spread = known.std(dim=0, correction=0)
    vectors = known.mean(dim=0) + spread * torch.randn(len(vocabulary), size)
    vectors[list(found)] = known
    vectors[vocabulary.pad] = 0
    return vectors
