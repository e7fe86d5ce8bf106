"""Words and their indices."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from model.errors import GpucaptError

PAD, UNKNOWN, START, END = "<pad>", "<unk>", "<start>", "<end>"

_NOT_IN_WORDS = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_JOINERS = "\u200c\u200d"
"""Of the formatting characters, those that Persian and the languages of India are spelt with."""


def _is_odd(word: str) -> bool:
    """Whether it would change lines, colours or direction of the text around it, or cannot be written."""
    return not word.isprintable() and any(
        unicodedata.category(char) in _NOT_IN_WORDS and char not in _JOINERS for char in word
    )


@dataclass(frozen=True)
class Vocabulary:
    """Words by index.

    The layout is the one that the Show-Attend-and-Tell family uses: padding first, then the words,
    then `<unk>`, `<start>` and `<end>`; a vocabulary read from elsewhere may have them anywhere.
    """

    words: Sequence[str]
    index: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        index = {word: i for i, word in enumerate(self.words)}
        if len(index) != len(self.words):
            raise GpucaptError("The vocabulary lists a word twice; every word needs one index.")
        missing = [mark for mark in (PAD, UNKNOWN, START, END) if mark not in index]
        if missing:
            raise GpucaptError(f"The vocabulary lacks {', '.join(missing)}.")
        odd = next(filter(_is_odd, self.words), None)
        if odd is not None:
            raise GpucaptError(
                f"The vocabulary has {odd[:40]!r} as a word; control and formatting characters are in none."
            )
        object.__setattr__(self, "index", index)

    @classmethod
    def build(cls, captions: Iterable[Sequence[str]], min_word_freq: int = 5) -> Vocabulary:
        """The words that occur more than `min_word_freq` times, in order of first appearance."""
        counts = Counter(word for caption in captions for word in caption)
        kept = [word for word, count in counts.items() if count > min_word_freq]
        return cls((PAD, *kept, UNKNOWN, START, END))

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def pad(self) -> int:
        return self.index[PAD]

    @cached_property
    def unknown(self) -> int:
        return self.index[UNKNOWN]

    @cached_property
    def start(self) -> int:
        return self.index[START]

    @cached_property
    def end(self) -> int:
        return self.index[END]

    def encode(self, words: Iterable[str]) -> list[int]:
        """Word indices between `<start>` and `<end>`; words that are not known become `<unk>`."""
        return [self.start, *(self.index.get(word, self.unknown) for word in words), self.end]

    def decode(self, indices: Iterable[int]) -> list[str]:
        """The words of `indices` up to `<end>`, without any of the four marks."""
        words = []
        for i in indices:
            if i == self.end:
                break
            if i not in (self.pad, self.unknown, self.start):
                words.append(self.words[i])
        return words
