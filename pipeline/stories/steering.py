"""What a person's line asks of the provider ``outline``, as far as words can be known by their forms."""

from __future__ import annotations

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
    SPEAKERS,
    TO_BE,
    VERBS,
    WORDS_FOR_BEGINNING,
    WORDS_FOR_END,
    WORDS_FOR_MORE,
    WORDS_FOR_SHORT,
)
from pipeline.stories.outline_texts import sentence, words_of

Wish = Literal["short", "more", "beginning", "end"]

_WISHES: dict[str, Wish] = {
    **dict.fromkeys(WORDS_FOR_SHORT, "short"),
    **dict.fromkeys(WORDS_FOR_MORE, "more"),
    **dict.fromkeys(WORDS_FOR_BEGINNING, "beginning"),
    **dict.fromkeys(WORDS_FOR_END, "end"),
}
_POLITE = frozenset({"please", "want", "would", "could", "should", "can"})
_NO_TOPICS = DETERMINERS | PREPOSITIONS | TO_BE | ORDERS | SMALL_TALK | frozenset(_WISHES)


@dataclass(frozen=True, slots=True)
class Steering:
    """A line taken apart.

    ``statement`` is the line as a sentence, where it tells something by itself. ``wants`` is what it asks for
    by a word such as "shorter". ``found`` are the places, from 0, of the captions that show what it names,
    which ``named`` says with articles; ``unknown`` is what none of them shows.
    """

    statement: str | None
    wants: Wish | None
    found: tuple[int, ...]
    named: str
    unknown: str

    @classmethod
    def parse(cls, line: str, captions: Sequence[Sequence[str]]) -> Steering:
        """Compare a line with the words of captions."""
        words = words_of(line)
        topics = [word for word in dict.fromkeys(words) if word not in _NO_TOPICS]
        shown = [content_words(tuple(caption)) for caption in captions]
        known = [word for word in topics if any(root(word) in roots for roots in shown)]
        roots = {root(word) for word in known}
        found = tuple(place for place, has in enumerate(shown) if roots & has)
        wants = next((_WISHES[word] for word in words if word in _WISHES), None)
        return cls(
            statement=sentence(line) if _is_statement(line, words) else None,
            wants=None if found else wants,
            found=found,
            named=_named(words, known[:3]),
            unknown=" or ".join(topics) if 0 < len(topics) < 3 else f"“{line}”",
        )


def _is_statement(line: str, words: list[str]) -> bool:
    """Whether a line tells something ("then a storm comes"), rather than asking for it ("more of it")."""
    if len(words) < 2 or line.endswith("?") or words[0] in ORDERS or words[0] in _WISHES:
        return False
    if _POLITE & set(words):
        return False
    if line.endswith((".", "!", "…")):
        return True
    while words and words[0] in LEADS:
        words = words[1:]
    if len(words) < 2 or words[0] in SPEAKERS:
        return len(words) > 1
    return Phrase.parse(words).finite or _has_object(words)


def _has_object(words: list[str]) -> bool:
    """Whether something does something to something: a noun, a word that may be a verb, an article."""
    no_verbs = PREPOSITIONS | DETERMINERS | ADJECTIVES | {"and", "or"}
    return words[0] in DETERMINERS and any(
        following in DETERMINERS and word not in no_verbs and before not in no_verbs
        for before, word, following in zip(words, words[1:], words[2:], strict=False)
    )


def _named(words: list[str], known: list[str]) -> str:
    """The things that a line names, as one speaks of them: "the red jacket and running"."""
    groups: list[list[str]] = []
    for word in known:
        adjacent = groups and groups[-1][-1] in ADJECTIVES and f"{groups[-1][-1]} {word}" in " ".join(words)
        if adjacent:
            groups[-1].append(word)
        else:
            groups.append([word])
    return " and ".join(_thing(group) for group in groups)


def _thing(group: list[str]) -> str:
    if group[-1] in ADJECTIVES:
        return f"what is {' and '.join(group)}"
    if root(group[-1]) in VERBS and len(group) == 1:
        return participle(root(group[-1]))
    return f"the {' '.join(group)}"
