"""Vocabularies of earlier captioners: words by index, and what can be wrong with them."""

from __future__ import annotations

from typing import Any

from pipeline.checkpoint_import.pickles import Module
from pipeline.errors import BadInput


def words_of(content: Any, name: str) -> list[str] | None:
    """The words at their indices, if a file's content is meant as a vocabulary.

    Raises BadInput, calling the file `name` and telling the first fault, for a vocabulary that is broken.
    """
    if isinstance(content, Module):
        known = (content.state.get(kind) for kind in ("stoi", "word2idx"))
        content = next((one for one in known if isinstance(one, dict)), None)
    elif isinstance(content, dict) and not all(
        isinstance(one, int | float | str | None) for one in content.values()
    ):
        return None
    if not isinstance(content, dict) or not content:
        return None
    words: list[str | None] = [None] * len(content)
    for word, index in content.items():
        fault = _fault(word, index, words)
        if fault:
            raise BadInput(f"{name} is not a vocabulary: {fault}; get it again, as the training wrote it.")
        words[index] = word
    return [word for word in words if word is not None]


def _fault(word: Any, index: Any, words: list[str | None]) -> str | None:
    """What is wrong with an entry. The index is looked at before anything is done with it: a file can choose
    numbers on which a dictionary would take for ever."""
    if type(word) is not str or type(index) is str:
        return "it should have words with their indices, and has texts instead of indices"
    if type(index) is not int:
        return f"the index of {_quoted(word)} is no whole number"
    if not 0 <= index < len(words):
        return f"the index of {_quoted(word)} is none of 0 to {len(words) - 1}, one for each word"
    there = words[index]
    return None if there is None else f"{_quoted(there)} and {_quoted(word)} have the same index, {index}"


def _quoted(word: str) -> str:
    return repr(word[:40])
