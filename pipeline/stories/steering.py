"""What a person's line asks of the provider ``outline``, as far as words can be known by their forms."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.stories.english import Phrase, content_words, participle, root
from pipeline.stories.lexicon import (
    ADJECTIVES,
    DETERMINERS,
    LEADS,
    ORDERS,
    PREPOSITIONS,
    SMALL_TALK,
    TO_BE,
    VERBS,
    WORDS_FOR_BEGINNING,
    WORDS_FOR_END,
    WORDS_FOR_MORE,
    WORDS_FOR_SHORT,
)
from pipeline.stories.outline_texts import sentence
from pipeline.stories.scenes import Scene

Wish = Literal["short", "more", "beginning", "end"]

_WISHES: dict[str, Wish] = {
    **dict.fromkeys(WORDS_FOR_SHORT, "short"),
    **dict.fromkeys(WORDS_FOR_MORE, "more"),
    **dict.fromkeys(WORDS_FOR_BEGINNING, "beginning"),
    **dict.fromkeys(WORDS_FOR_END, "end"),
}
_NO_TOPICS = DETERMINERS | PREPOSITIONS | TO_BE | ORDERS | SMALL_TALK | frozenset(_WISHES)


@dataclass(frozen=True, slots=True)
class Steering:
    """A line taken apart.

    ``statement`` is the line as a sentence, where it tells something by itself. ``wants`` is what it asks for
    by a word such as "shorter". ``scenes`` show what it names, which ``named`` says with articles;
    ``unknown`` are the words that no scene has.
    """

    statement: str | None
    wants: Wish | None
    scenes: tuple[Scene, ...]
    named: str
    unknown: str

    @classmethod
    def parse(cls, line: str, scenes: Sequence[Scene]) -> Steering:
        """Compare a line with what scenes show."""
        words = re.findall(r"[^\W_]+(?:['’-][^\W_]+)*", line.lower())
        topics = [word for word in dict.fromkeys(words) if word not in _NO_TOPICS]
        shown = [content_words(scene.words) for scene in scenes]
        known = [word for word in topics if any(root(word) in roots for roots in shown)]
        roots = {root(word) for word in known}
        found = tuple(scene for scene, has in zip(scenes, shown, strict=True) if roots & has)
        wants = next((_WISHES[word] for word in words if word in _WISHES), None)
        return cls(
            statement=sentence(line) if _is_statement(line, words) else None,
            wants=None if found else wants,
            scenes=found,
            named=" and ".join(_named(word) for word in known[:3]),
            unknown=", ".join(topics[:3]) or line,
        )


def _is_statement(line: str, words: list[str]) -> bool:
    """Whether a line tells something ("then a storm comes"), rather than asking for it ("more of it")."""
    if len(words) < 3 or line.rstrip().endswith("?") or words[0] in ORDERS or words[0] in _WISHES:
        return False
    if line.rstrip().endswith((".", "!", "…")):
        return True
    while words and words[0] in LEADS:
        words = words[1:]
    return Phrase.parse(words).finite


def _named(word: str) -> str:
    if word in ADJECTIVES:
        return f"what is {word}"
    if root(word) in VERBS:
        return participle(root(word))
    return f"the {word}"
