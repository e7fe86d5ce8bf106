"""Just enough English grammar to build sentences of captions.

A caption is a clause ("a dog runs through the snow"), a noun phrase with a participle ("a man climbing a
wall") or a plain noun phrase ("a man in a red shirt"). ``Phrase`` finds out which, and says it in the form
that a sentence needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from model.words import has_no_blanks, join
from pipeline.stories.lexicon import (
    ADJECTIVES,
    DETERMINERS,
    DOUBLED,
    IRREGULAR_PLURALS,
    LONE_NOUNS,
    LOOSE_ENDS,
    PLURAL_STARTS,
    PREPOSITIONS,
    SINGULARS_IN_S,
    SUBORDINATORS,
    TO_BE,
    VERBS,
)

_SOUNDS_LIKE_VOWEL = ("hour", "honest", "honor", "honour", "heir")
_SOUNDS_LIKE_CONSONANT = ("uni", "use", "usual", "euro", "one", "once", "ewe", "ukulele", "utensil")


def participle(verb: str) -> str:
    """Return the -ing form: "run" → "running"."""
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if verb in DOUBLED:
        return verb + verb[-1] + "ing"
    if verb.endswith("e") and not verb.endswith("ee"):
        return verb[:-1] + "ing"
    return verb + "ing"


def third_person(verb: str) -> str:
    """Return the form after "he" or "it": "carry" → "carries"."""
    return {"have": "has", "ski": "skis"}.get(verb) or _with_s(verb, o_takes_es=True)


def plural(noun: str) -> str:
    """Return the plural: "woman" → "women", "puppy" → "puppies"."""
    return IRREGULAR_PLURALS.get(noun) or _with_s(noun, o_takes_es=False)


def article(word: str) -> str:
    """Return "a" or "an" as it is said before ``word``."""
    if word.startswith(_SOUNDS_LIKE_VOWEL):
        return "an"
    return "an" if word[:1] in "aeiou" and not word.startswith(_SOUNDS_LIKE_CONSONANT) else "a"


def _with_s(word: str, *, o_takes_es: bool) -> str:
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return word[:-1] + "ies"
    if word.endswith(("s", "x", "z", "ch", "sh")) or (o_takes_es and word.endswith("o")):
        return word + "es"
    return word + "s"


_SINGULAR = {many: one for one, many in IRREGULAR_PLURALS.items()}
_PARTICIPLES = {participle(verb): verb for verb in VERBS}
_NO_VERB_AFTER = DETERMINERS | ADJECTIVES | PREPOSITIONS | {"and", "or"}
_SMALL_WORDS = (DETERMINERS | TO_BE | PREPOSITIONS | {"and", "or", "there"}) - PLURAL_STARTS
_THIRDS = {third_person(verb): verb for verb in VERBS}


def is_plural_noun(word: str) -> bool:
    """Whether ``word`` looks like a plural; only meant for nouns."""
    regular = word.endswith("s") and not word.endswith("ss") and word not in SINGULARS_IN_S
    return regular or word in _SINGULAR


def root(word: str) -> str:
    """Return what forms of one word have in common: "runs", "running" → "run"; "dogs" → "dog"."""
    verb = _PARTICIPLES.get(word) or _THIRDS.get(word) or _SINGULAR.get(word)
    if verb is not None:
        return verb
    if is_plural_noun(word):
        return word[:-3] + "y" if word.endswith("ies") else word[:-1]
    return word


@lru_cache(maxsize=1024)
def content_words(words: tuple[str, ...]) -> frozenset[str]:
    """Return the roots of the words that carry the meaning, for comparing captions."""
    return frozenset(root(word) for word in words if word not in _SMALL_WORDS)


def tidy(words: Sequence[str]) -> list[str]:
    """Return a caption's words mended: no trailing fragment, "a" and "an" right, "lying" for "laying"."""
    kept = [word.lower() for word in words if any(character.isalnum() for character in word)]
    if kept[:2] in (["there", "is"], ["there", "are"]):
        kept = kept[2:]
    while len(kept) > 1 and kept[-1] in LOOSE_ENDS:
        kept.pop()
    if next((word for word in kept if word not in ADJECTIVES), None) in LONE_NOUNS:
        kept.insert(0, "a")
    for index, (word, following) in enumerate(pairwise(kept)):
        if word in ("a", "an"):
            kept[index] = article(following)
        elif word == "laying" and following in PREPOSITIONS:
            kept[index] = "lying"
    return _without_doubles(kept)


def _without_doubles(words: list[str]) -> list[str]:
    """Return the words with "a dog and a dog" as "two dogs" at the beginning, and as "a dog" further on.

    Captioners say a thing twice when they see two of it, or when they do not know how to go on.
    """
    for middle, word in enumerate(words):
        for length in range(4, 1, -1):
            start = middle - length
            thing = words[max(start, 0) : middle]
            if word != "and" or start < 0 or thing != words[middle + 1 : middle + 1 + length]:
                continue
            if thing[0] not in ("a", "an"):
                continue
            rest = words[middle + 1 + length :]
            said = ["two", *thing[1:-1], plural(thing[-1])] if start == 0 else thing
            return _without_doubles([*words[:start], *said, *rest])
    return words


@dataclass(frozen=True, slots=True)
class Phrase:
    """A caption taken apart: its words, and where its verb is (``None``: there is none)."""

    words: tuple[str, ...]
    verb: int | None
    finite: bool

    @classmethod
    def parse(cls, words: Sequence[str]) -> Phrase:
        """Find the verb of a caption's words."""
        tidied = tidy(words)
        finite = _finite_verb(tidied)
        return cls(tuple(tidied), _loose_participle(tidied) if finite is None else finite, finite is not None)

    @property
    def subject(self) -> tuple[str, ...]:
        """The words before the verb; all of them when there is none."""
        return self.words if self.verb is None else self.words[: self.verb]

    @property
    def is_plural(self) -> bool:
        """Whether the subject takes "are"."""
        return _subject_is_plural(self.subject)

    def clause(self, *, known: bool = False) -> str:
        """Return it with a finite verb: "a man is climbing a wall", "we see a man in a red shirt".

        ``known`` begins it with "the".
        """
        words = self._begin(known)
        shift = len(words) - len(self.words)
        to_be = "are" if self.is_plural else "is"
        if self.verb is None:
            return f"we see {join(words)}"
        if not self.finite:
            words.insert(self.verb + shift, to_be)
        return join(words)

    def noun_phrase(self) -> str:
        """Return it as something that can be shown or seen: "a man climbing a wall"."""
        words = list(self.words)
        if self.verb is None or not self.finite:
            return join(words)
        verb = words[self.verb]
        if verb in TO_BE:
            following = words[self.verb + 1] if self.verb + 1 < len(words) else ""
            if following in _PARTICIPLES or following in PREPOSITIONS or following.endswith(("ed", "ing")):
                del words[self.verb]
            else:
                words.insert(self.verb, "that")
            return join(words)
        forms = _THIRDS if verb in _THIRDS else {base: base for base in VERBS}
        for index in range(self.verb, len(words)):
            joined = index == self.verb or words[index - 1] in ("and", "then")
            if joined and words[index] in forms:
                words[index] = participle(forms[words[index]])
        return join(words)

    def _begin(self, known: bool) -> list[str]:
        words = list(self.words)
        if not known or not words or has_no_blanks(words[0]):
            return words
        if words[0] in ("a", "an", "one", "some", "another"):
            words[0] = "the"
        elif words[0] not in DETERMINERS or words[0] in PLURAL_STARTS:
            words.insert(0, "the")
        return words


def _finite_verb(words: Sequence[str]) -> int | None:
    for index in range(1, len(words)):
        word, before = words[index], words[index - 1]
        if word in SUBORDINATORS:
            return None
        if word in TO_BE:
            return index
        # After a participle comes its object: "a man holding sticks", "a dog playing catch".
        if before in _PARTICIPLES or not _may_be_verb(words, index):
            continue
        subject_is_plural = _subject_is_plural(words[:index])
        if word in _THIRDS and not subject_is_plural:
            return index
        of_many = is_plural_noun(before) and (subject_is_plural or _is_crowd(words))
        if word in VERBS and (of_many or (subject_is_plural and "and" in words[:index])):
            return index
    return None


def _loose_participle(words: Sequence[str]) -> int | None:
    for index in range(1, len(words)):
        if words[index] in SUBORDINATORS:
            return None
        if words[index] in _PARTICIPLES and _may_be_verb(words, index):
            return index
    return None


def _may_be_verb(words: Sequence[str], index: int) -> bool:
    """Whether a verb can stand at ``index``: not after "a", "with" or "red", but after "in red" it can."""
    before = words[index - 1]
    clothed = before in ADJECTIVES and index > 1 and words[index - 2] == "in"
    return clothed or before not in _NO_VERB_AFTER


def _is_crowd(words: Sequence[str]) -> bool:
    return len(words) > 3 and words[0] in ("a", "the") and words[2] == "of"


def _subject_is_plural(subject: Sequence[str]) -> bool:
    if not subject:
        return False
    if subject[0] in PLURAL_STARTS or tuple(subject[:3]) in (("a", "lot", "of"), ("a", "couple", "of")):
        return True
    head: list[str] = []
    for index, word in enumerate(subject):
        if word in PREPOSITIONS or word in _PARTICIPLES or word in SUBORDINATORS:
            break
        if word == "and" and index and index + 1 < len(subject):
            described = ADJECTIVES & {subject[index - 1], subject[index + 1]}
            if not described:
                return True
        head.append(word)
    if not head or head[0] in ("a", "an", "one", "another", "each", "every", "this"):
        return False
    return is_plural_noun(head[-1])
