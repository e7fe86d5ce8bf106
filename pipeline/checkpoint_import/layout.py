"""How the earlier captioners laid out their files: one `Layout` each, tried in turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from pipeline.errors import BadInput


@dataclass(frozen=True, slots=True)
class LoadedFile:
    """A file as it was read: what people call it, and what it holds (see `unpickling.read_checkpoint`)."""

    name: str
    content: Any


@dataclass(frozen=True, slots=True)
class VocabularyFile:
    """A vocabulary file: what people call it, and its words at their indices, marks named as in the file."""

    name: str
    words: list[str]


@dataclass(frozen=True, slots=True)
class Imported:
    """A checkpoint of ours: config.json without "format", tensors by our names, words with our marks."""

    config: dict[str, Any]
    tensors: dict[str, Tensor]
    words: list[str]


class Layout(Protocol):
    """Takes the files, if they are of its captioner, and turns them into a checkpoint; None if they are not.

    Raises BadInput, naming the file, for files that are of it but lack something or do not fit each other.
    """

    def __call__(self, files: Sequence[LoadedFile], vocabulary: VocabularyFile | None) -> Imported | None: ...


def required(
    vocabulary: VocabularyFile | None, size: int, file: LoadedFile, looks_like: str
) -> VocabularyFile:
    """The vocabulary, if it is there and has as many words as the network: `size`."""
    if vocabulary is None:
        raise BadInput(
            f"{file.name} needs its vocabulary: name it too. It lies beside the checkpoint and is called"
            f" {looks_like}."
        )
    if len(vocabulary.words) != size:
        raise BadInput(
            f"{vocabulary.name} has {len(vocabulary.words)} words, {file.name} was trained with {size}: they"
            f" do not belong together. Give the {looks_like} of that training."
        )
    return vocabulary


def with_our_marks(words: Sequence[str], ours: dict[str, str]) -> list[str]:
    """The words, those named in `ours` (`{"<SOS>": "<start>"}`) by our names for them."""
    return [ours.get(word, word) for word in words]
