"""A text of a person's own as the beginning of a story: prose as it is, a list of captions as sentences."""

from __future__ import annotations

import re

from model.words import letter
from pipeline.stories.english import Phrase

_LONGEST_CAPTION = 20
_ENDS = (".", "!", "?", "…", "”", '"', ":", ";", "。", "！", "？", "।")
_BETWEEN_SENTENCES = re.compile(r"(?<=[.!?…।])\s+|(?<=[。！？])\s*")


def sentence(text: str) -> str:
    """Return a line as a sentence: it begins with a capital and ends with a stop."""
    line = " ".join(text.split()).rstrip(",;:")
    line = line[:1].upper() + line[1:]
    return line if line.endswith(_ENDS) else f"{line}."


def sentences_of(text: str) -> list[str]:
    """Return the sentences of a text, at least one."""
    parts = _BETWEEN_SENTENCES.split(" ".join(opening_of_text(text).split()))
    return [part for part in parts if part] or [sentence(text)]


def words_of(line: str) -> list[str]:
    """Return the words of a line in lower case, without what stands between them."""
    return re.findall(rf"(?:{letter()})+(?:['’-](?:{letter()})+)*", line.lower())


def opening_of_text(text: str) -> str:
    """Return a text as the first turn of a story: paragraphs of prose, or captions in a row."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    filled = [line for line in lines if line]
    if len(filled) > 1 and all(_is_caption(line) for line in filled):
        return " ".join(_in_a_row(line, at, len(filled)) for at, line in enumerate(filled))
    blocks = re.split(r"\n\s*\n", text)
    return "\n\n".join(sentence(block) for block in blocks if block.strip())


def _is_caption(line: str) -> bool:
    return not line.endswith(_ENDS) and len(line.split()) <= _LONGEST_CAPTION


def _in_a_row(line: str, at: int, count: int) -> str:
    clause = Phrase.parse(line.split()).clause() or line
    if at == 0:
        return sentence(f"first, {clause}")
    if at == count - 1:
        return sentence(f"in the end, {clause}")
    return sentence(f"{('then', 'after that', 'next')[(at - 1) % 3]}, {clause}")
