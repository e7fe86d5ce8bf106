"""CIDEr-D on word indices: what self-critical training pays a caption with.

Vedantam, Zitnick, Parikh 2015, §5 and §6.3 ("CIDEr-D"): tf-idf vectors of 1- to 4-grams, the candidate's
clipped to the reference's, a Gaussian penalty on the difference in length. pycocoevalcap's CIDEr computes the
same on strings, for a whole corpus at a time; here document frequencies are those of the training references,
counted once, and captions are scored batch by batch. A caption ends with the index of `<end>`, so that where
a caption stops counts, too (Luo 2020, §3): without it, rewarded captions end in "a" or "with a".
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_LONGEST = 4  # words of an n-gram
_SIGMA = 6.0  # words, of the penalty on the difference in length

Gram = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Vector:
    """A caption's tf-idf weights and their norm for each n, and its number of words."""

    weights: list[dict[Gram, float]]
    norms: list[float]
    length: int


class CiderD:
    """Scores captions of the pictures that `references` describes.

    `references`: for each picture by its position, captions as word indices, all of them ended by `<end>` or
    none. Of the n-grams only those that several pictures have are remembered: the others count as unseen.
    """

    def __init__(self, references: Sequence[Sequence[Sequence[int]]]) -> None:
        self._references = references
        self._log_pictures = math.log(max(2, len(references)))
        counts: Counter[Gram] = Counter()
        for captions in references:
            counts.update({gram for words in captions for gram in _grams(words)})
        self._log_frequency = {gram: math.log(n) for gram, n in counts.items() if n > 1}

    def scores(self, picture: int, captions: Iterable[Sequence[int]]) -> list[float]:
        """The CIDEr-D of each caption of a picture, 0 … 10."""
        references = [self._vector(words) for words in self._references[picture]]
        return [self._score(self._vector(words), references) for words in captions]

    def _vector(self, words: Sequence[int]) -> _Vector:
        weights: list[dict[Gram, float]] = [{} for _ in range(_LONGEST)]
        for gram, count in Counter(_grams(words)).items():
            rarity = self._log_pictures - self._log_frequency.get(gram, 0.0)
            weights[len(gram) - 1][gram] = count * rarity
        norms = [math.sqrt(sum(value * value for value in of_n.values())) for of_n in weights]
        return _Vector(weights, norms, len(words))

    def _score(self, said: _Vector, references: Sequence[_Vector]) -> float:
        total = 0.0
        for reference in references:
            alike = 0.0
            for n in range(_LONGEST):
                norm = said.norms[n] * reference.norms[n]
                if norm:
                    theirs = reference.weights[n]
                    common = (
                        (value, theirs[gram]) for gram, value in said.weights[n].items() if gram in theirs
                    )
                    alike += sum(min(mine, other) * other for mine, other in common) / norm
            penalty = math.exp(-((said.length - reference.length) ** 2) / (2 * _SIGMA**2))
            total += penalty * alike / _LONGEST
        return 10 * total / len(references)


def _grams(words: Sequence[int]) -> Iterable[Gram]:
    for n in range(1, _LONGEST + 1):
        for first in range(len(words) - n + 1):
            yield tuple(words[first : first + n])
