from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import GpucaptError
from model.vocabulary import END, PAD, START, UNKNOWN, Vocabulary


def test_a_word_needs_more_occurrences_than_the_threshold() -> None:
    captions = [["dog", "runs"], ["dog", "runs"], ["dog", "sits"]]
    vocabulary = Vocabulary.build(captions, min_word_freq=2)
    assert vocabulary.words == (PAD, "dog", UNKNOWN, START, END)


@given(st.lists(st.sampled_from(["dog", "cat", "sleeps"]), max_size=8))
def test_decoding_gives_back_what_was_encoded(words: list[str]) -> None:
    vocabulary = Vocabulary((PAD, "dog", "cat", "sleeps", UNKNOWN, START, END))
    assert vocabulary.decode(vocabulary.encode(words)) == words


def test_an_unknown_word_is_never_said() -> None:
    vocabulary = Vocabulary((PAD, "dog", UNKNOWN, START, END))
    indices = vocabulary.encode(["dog", "zebra"])
    assert indices == [3, 1, 2, 4]
    assert vocabulary.decode(indices) == ["dog"]


def test_a_vocabulary_without_its_marks_is_refused() -> None:
    with pytest.raises(GpucaptError, match="<end>"):
        Vocabulary((PAD, "dog", UNKNOWN, START))


def test_a_word_listed_twice_is_refused() -> None:
    with pytest.raises(GpucaptError, match="twice"):
        Vocabulary((PAD, "dog", "dog", UNKNOWN, START, END))
