"""The one way in which text becomes words, and words become text again.

A word is a run of letters, digits, their combining marks and apostrophes, in lower case and in Unicode's
composed form (NFC). Scripts that put no blanks between words have no such runs: there each character as
readers see it (a letter with its marks: a grapheme cluster) is a word, as is usual for captions in Chinese.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from typing import Literal

Tokenizer = Literal["auto", "words"]
"""`auto`: characters in scripts without blanks, words in all others. `words`: what stands between blanks in
every script, for captions that somebody has parted into words.
"""
DEFAULT_TOKENIZER: Tokenizer = "auto"

# Blocks, as in a class of a regular expression. Of Han, planes 2 and 3 hold nothing else.
_CHINESE_JAPANESE = (
    "\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c\u3041-\u30ff\u3105-\u312f\u31a0-\u31bf\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U0001aff0-\U0001b16f\U00020000-\U0003ffff"
)
# Thai, Lao, Myanmar, Khmer, Tai Le, New Tai Lue, Tai Tham, Tai Viet: there a blank ends a phrase.
_SOUTH_EAST_ASIAN = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aad\ua9e0-\ua9ff\uaa60-\uaadf"
)
_WITHOUT_BLANKS = _CHINESE_JAPANESE + _SOUTH_EAST_ASIAN

# Letters to Unicode, but a part of the one before: AM of Thai and Lao, voicing of narrow katakana.
_LIKE_MARKS = "\u0e33\u0eb3\uff9e\uff9f"
# Of Khmer, Myanmar and Tai Tham: the next consonant is written below the one before.
_STACKERS = "\u17d2\u1039\u1a60"
# Persian and languages of India are spelt with them.
_JOINERS = "\u200c\u200d"
# Soft hyphens, directions of writing, variants of a character's look: the word is the same without.
_INVISIBLE = re.compile(
    "[\u00ad\u061c\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufe00-\ufe0f\ufeff\U000e0100-\U000e01ef]"
)
_ASCII_WORD = re.compile("[a-z0-9][a-z0-9']*")
_OF_SCRIPT_WITHOUT_BLANKS = re.compile(f"[{_WITHOUT_BLANKS}]")
_NO_BLANK = re.compile(
    f"(?<=[{_CHINESE_JAPANESE}]) | (?=[{_CHINESE_JAPANESE}])|(?<=[{_WITHOUT_BLANKS}]) (?=[{_WITHOUT_BLANKS}])"
)


def tokenize(text: str, tokenizer: Tokenizer = DEFAULT_TOKENIZER) -> list[str]:
    """Split a sentence into words.

    "A tri-colored dog isn't here." → a, tri, colored, dog, isn't, here; "一只狗" → 一, 只, 狗
    """
    lower = text.lower()
    if lower.isascii():  # the same, sooner
        return _ASCII_WORD.findall(lower)
    visible = unicodedata.normalize("NFC", _INVISIBLE.sub("", lower)).replace("_", " ")
    runs = _run().findall(_apostrophe().sub("'", visible))
    if tokenizer == "words":
        return runs
    return [word for run in runs for word in _characters(run)]


def part(word: str) -> list[str]:
    """Part a word of any tokenizer as `auto` does, where that leaves nothing of it out."""
    parts = _characters(word)
    return parts if "".join(parts) == word else [word]


def has_no_blanks(text: str) -> bool:
    """Whether something of a text is in a script that puts no blanks between words."""
    return not text.isascii() and _OF_SCRIPT_WITHOUT_BLANKS.search(text) is not None


def join(words: Iterable[str]) -> str:
    """Write words as a sentence: with blanks between them, but where their script has none."""
    text = " ".join(words)
    return text if text.isascii() else _NO_BLANK.sub("", text)


@cache
def letter() -> str:
    """Return a regular expression for a letter or digit with the marks that belong to it."""
    return rf"[^\W_][{_marks()}]*"


@cache
def _run() -> re.Pattern[str]:
    """Letters, digits, their marks and apostrophes, in any script, of text without underscores."""
    return re.compile(rf"\w(?:[\w{_marks()}']+|[{_JOINERS}]+(?=[\w{_marks()}]))*")


def _characters(run: str) -> list[str]:
    """Part a run where a script without blanks begins, goes on or ends."""
    if not has_no_blanks(run):
        return [run]
    return [found.rstrip(_JOINERS) for found in _part().findall(run)]


@cache
def _part() -> re.Pattern[str]:
    here, marks = f"[{_WITHOUT_BLANKS}]", f"{_marks()}{_JOINERS}"
    below = rf"(?<=[{_STACKERS}])\w"
    return re.compile(
        rf"(?={here})\w(?:[{marks}{_LIKE_MARKS}]|{below})*|(?!{here})\w(?:(?!{here})[\w{marks}'])*"
    )


@cache
def _apostrophe() -> re.Pattern[str]:
    """What is written ' in words. At their end it may be a quotation mark."""
    return re.compile(rf"[\u2019\u02bc\uff07](?<=[\w{_marks()}].)(?=[^\W_])")


@cache
def _marks() -> str:
    """Return Unicode's combining marks, as in a class; beyond plane 1 there are only invisible ones."""
    return "".join(
        chr(code) for code in range(0x300, 0x20000) if unicodedata.category(chr(code)).startswith("M")
    )
