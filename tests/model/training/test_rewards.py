"""CIDEr-D on word indices is what pycocoevalcap says of the words."""

from __future__ import annotations

import random

import pytest

from model.training.rewards import CiderD

pytest.importorskip("pycocoevalcap")

WORDS = [
    "a",
    "the",
    "dog",
    "cat",
    "man",
    "boat",
    "runs",
    "sits",
    "on",
    "in",
    "grass",
    "water",
    "red",
    "big",
    "two",
]


def caption(chooser: random.Random) -> list[str]:
    return chooser.choices(WORDS, k=chooser.randint(2, 12))


def test_the_reward_is_pycocoevalcaps_cider() -> None:
    from pycocoevalcap.cider.cider import Cider

    chooser = random.Random(3)
    references = [[caption(chooser) for _ in range(chooser.randint(1, 5))] for _ in range(12)]
    said = [caption(chooser) if i % 3 else list(references[i][0]) for i in range(12)]
    said[4] = ["zebra"]  # a word that no reference has
    index = {word: i for i, word in enumerate([*WORDS, "zebra"])}
    reward = CiderD([[[index[word] for word in words] for words in captions] for captions in references])
    ours = [reward.scores(i, [[index[word] for word in words]])[0] for i, words in enumerate(said)]
    truth = {i: [" ".join(words) for words in captions] for i, captions in enumerate(references)}
    _, theirs = Cider().compute_score(truth, {i: [" ".join(words)] for i, words in enumerate(said)})
    assert ours == pytest.approx(list(theirs))
    assert max(ours) > 1


def test_an_empty_reference_and_an_unseen_picture_are_no_error() -> None:
    assert CiderD([[[]], [[1, 2]]]).scores(0, [[1, 2], []]) == [0.0, 0.0]
