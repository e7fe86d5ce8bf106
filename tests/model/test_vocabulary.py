from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import GpucaptError
from model.vocabulary import END, PAD, START, UNKNOWN, Vocabulary, tokenize


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A tri-colored dog isn't here .", ["a", "tri", "colored", "dog", "isn't", "here"]),
        ("Two men, 3 dogs!", ["two", "men", "3", "dogs"]),
        ("snake_case and ümlaut", ["snake", "case", "and", "ümlaut"]),
        ("'quoted' <start>", ["quoted'", "start"]),
        (" . - ", []),
    ],
)
def test_text_becomes_lower_case_words_of_letters_digits_and_apostrophes(text: str, words: list[str]) -> None:
    assert tokenize(text) == words


@given(st.text())
def test_words_stay_the_same_when_split_again(text: str) -> None:
    words = tokenize(text)
    assert tokenize(" ".join(words)) == words


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
