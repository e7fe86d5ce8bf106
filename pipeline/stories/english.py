"""Just enough English grammar to build sentences of captions.

A caption is a clause ("a dog runs through the snow"), a noun phrase with a participle ("a man climbing a wall") or a
plain noun phrase ("a man in a red shirt"). ``Phrase`` finds out which, and says it in the form that a sentence needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_VERBS = """
aim appear approach attempt balance bark bat battle begin bend bike bite block blow board bounce bow box break build
camp carry carve cast catch chase chat cheer chew clap clean climb collect come compete cook cover crawl cross crouch
cry cut cycle dance dangle dig dive drag draw dribble drink drive drop eat embrace enjoy enter examine exit face fall
feed fetch fight fish fix flip float fly fold follow gallop gather gaze get give glide go grab graze greet grin grind
guard hang have help hide hike hit hold hop hug hurdle inspect jog jump kayak keep kick kiss kneel land laugh lay lead
lean leap leave lick lie lift listen look lounge make march meet mount move nap open overlook paddle paint park pass
pedal perform pet pick pitch play point pose pour practice prepare pretend pull push put race raise reach read relax
rest retrieve return ride roll row run sail sell serve set shake share shoot shop shovel show sing sip sit skate
skateboard ski skip sled sleep slide smell smile smoke sniff snowboard speak spin splash spray sprint squat stand
stare step stick stir stretch stroll strum surf swim swing tackle take talk taste teach throw tie toss touch train
travel trot try tug turn type use visit wade wag wait wakeboard walk wash watch wave wear wink work wrestle write yawn
yell
""".split()

_DOUBLED = set(
    "bat begin chat clap cut dig drag drop flip get grab hit hop hug jog nap pet put run set shop sip sit skip sled "
    "spin squat step stir strum swim tug wag".split()
)

_TO_BE = {"is", "are", "was", "were"}
_SUBORDINATORS = {"that", "who", "which", "while", "as", "because", "so", "when", "where", "after", "before"}
_PREPOSITIONS = set(
    "about above across against along among around at behind below beneath beside between by down for from in inside "
    "into near next of off on onto out outside over past through to toward towards under up upon with without".split()
)
_PLURAL_STARTS = set(
    "two three four five six seven eight nine ten eleven twelve several many some few both multiple numerous various "
    "these those".split()
)
_DETERMINERS = _PLURAL_STARTS | set("a an the one another each every his her their its this no".split())
_ADJECTIVES = set(
    "black white red blue green yellow orange brown gray grey pink purple tan blond blonde golden silver dark light "
    "bright colorful colourful striped spotted plaid young old older elderly little small big large huge tall short "
    "long happy wet dirty muddy snowy grassy sandy rocky empty busy wooden other different same asian african american "
    "female male furry fluffy bald shirtless barefoot".split()
)
_IRREGULAR = {
    "man": "men", "woman": "women", "child": "children", "person": "people", "foot": "feet", "tooth": "teeth",
    "mouse": "mice", "goose": "geese", "sheep": "sheep", "fish": "fish", "deer": "deer", "leaf": "leaves",
    "knife": "knives", "wolf": "wolves", "loaf": "loaves", "shelf": "shelves", "wife": "wives", "skis": "skis",
    "fireman": "firemen", "policeman": "policemen", "snowman": "snowmen", "gentleman": "gentlemen",
}  # fmt: skip
_SINGULAR = {plural: singular for singular, plural in _IRREGULAR.items()}
_ENDS_IN_S = {"dress", "grass", "bus", "glass", "tennis", "class", "cross", "boss", "his", "its", "christmas", "this"}
_DANGLING = _PREPOSITIONS | _DETERMINERS | _TO_BE | {"and", "or", "while", "that", "as"}
_DANGLING -= {"down", "up", "off", "out", "inside", "outside", "by", "past", "over", "around", "through", "along"}

_SOUNDS_LIKE_VOWEL = ("hour", "honest", "honor", "honour", "heir")
_SOUNDS_LIKE_CONSONANT = ("uni", "use", "usual", "euro", "one", "once", "ewe", "ukulele", "utensil")


def participle(verb: str) -> str:
    """Return the -ing form: "run" → "running"."""
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if verb in _DOUBLED:
        return verb + verb[-1] + "ing"
    if verb.endswith("e") and not verb.endswith("ee"):
        return verb[:-1] + "ing"
    return verb + "ing"


def third_person(verb: str) -> str:
    """Return the form after "he" or "it": "carry" → "carries"."""
    return {"have": "has", "ski": "skis"}.get(verb) or _with_s(verb, o_takes_es=True)


def plural(noun: str) -> str:
    """Return the plural: "woman" → "women", "puppy" → "puppies"."""
    return _IRREGULAR.get(noun) or _with_s(noun, o_takes_es=False)


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


_PARTICIPLES = {participle(verb): verb for verb in _VERBS}
_THIRDS = {third_person(verb): verb for verb in _VERBS}
_BASES = set(_VERBS)


def is_plural_noun(word: str) -> bool:
    """Whether ``word`` looks like a plural; only meant for nouns."""
    return word in _SINGULAR or (word.endswith("s") and not word.endswith("ss") and word not in _ENDS_IN_S)


def root(word: str) -> str:
    """Return what forms of one word have in common: "runs", "running" → "run"; "dogs" → "dog"."""
    verb = _PARTICIPLES.get(word) or _THIRDS.get(word) or _SINGULAR.get(word)
    if verb is not None:
        return verb
    if is_plural_noun(word):
        return word[:-3] + "y" if word.endswith("ies") else word[:-1]
    return word


def content_words(words: Sequence[str]) -> frozenset[str]:
    """Return the roots of the words that carry the meaning, for comparing captions."""
    small = _DETERMINERS | _TO_BE | _PREPOSITIONS | {"and", "or", "there"}
    small -= _PLURAL_STARTS
    return frozenset(root(word) for word in words if word not in small)


def tidy(words: Sequence[str]) -> list[str]:
    """Return a caption's words mended: no trailing fragment, "a" and "an" right, an article before a lone noun."""
    kept = [word.lower() for word in words if any(character.isalnum() for character in word)]
    if kept[:2] in (["there", "is"], ["there", "are"]):
        kept = kept[2:]
    while len(kept) > 1 and kept[-1] in _DANGLING:
        kept.pop()
    if kept and kept[0] in _LONE_NOUNS:
        kept.insert(0, "a")
    for index, word in enumerate(kept[:-1]):
        if word in ("a", "an"):
            kept[index] = article(kept[index + 1])
    return kept


_LONE_NOUNS = set("man woman boy girl dog cat child baby person couple group crowd horse bird car bike".split())


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
        """Return it with a finite verb: "a man is climbing a wall"; ``known`` begins it with "the"."""
        words = self._begin(known)
        shift = len(words) - len(self.words)
        to_be = "are" if self.is_plural else "is"
        if self.verb is None:
            return " ".join(["there", to_be, *self.words])
        if not self.finite:
            words.insert(self.verb + shift, to_be)
        return " ".join(words)

    def noun_phrase(self) -> str:
        """Return it as something that can be shown or seen: "a man climbing a wall"."""
        words = list(self.words)
        if self.verb is None or not self.finite:
            return " ".join(words)
        verb = words[self.verb]
        if verb in _TO_BE:
            following = words[self.verb + 1] if self.verb + 1 < len(words) else ""
            if following in _PARTICIPLES or following in _PREPOSITIONS or following.endswith(("ed", "ing")):
                del words[self.verb]
            else:
                words.insert(self.verb, "that")
            return " ".join(words)
        forms = {base: base for base in _BASES} if self.is_plural else _THIRDS
        for index in range(self.verb, len(words)):
            joined = index == self.verb or words[index - 1] in ("and", "then")
            if joined and words[index] in forms:
                words[index] = participle(forms[words[index]])
        return " ".join(words)

    def _begin(self, known: bool) -> list[str]:
        words = list(self.words)
        if not known or not words:
            return words
        if words[0] in ("a", "an", "one", "some", "another"):
            words[0] = "the"
        elif words[0] not in _DETERMINERS or words[0] in _PLURAL_STARTS:
            words.insert(0, "the")
        return words


def _finite_verb(words: Sequence[str]) -> int | None:
    for index in range(1, len(words)):
        word, before = words[index], words[index - 1]
        if word in _SUBORDINATORS:
            return None
        if word in _TO_BE:
            return index
        if before in _DETERMINERS or before in _ADJECTIVES or before in _PREPOSITIONS or before in ("and", "or"):
            continue
        if before in _PARTICIPLES:  # "a man holding sticks", "a dog playing catch": an object, not the verb
            continue
        subject_is_plural = _subject_is_plural(words[:index])
        if word in _THIRDS and not subject_is_plural:
            return index
        if word in _BASES and is_plural_noun(before) and (subject_is_plural or _is_crowd(words)):
            return index
    return None


def _loose_participle(words: Sequence[str]) -> int | None:
    for index in range(1, len(words)):
        word, before = words[index], words[index - 1]
        if word in _SUBORDINATORS:
            return None
        if word in _PARTICIPLES and before not in _DETERMINERS | _ADJECTIVES | _PREPOSITIONS | {"and", "or"}:
            return index
    return None


def _is_crowd(words: Sequence[str]) -> bool:
    return len(words) > 3 and words[0] in ("a", "the") and words[2] == "of"


def _subject_is_plural(subject: Sequence[str]) -> bool:
    if not subject:
        return False
    if subject[0] in _PLURAL_STARTS or tuple(subject[:3]) in (("a", "lot", "of"), ("a", "couple", "of")):
        return True
    head: list[str] = []
    for index, word in enumerate(subject):
        if word in _PREPOSITIONS or word in _PARTICIPLES or word in _SUBORDINATORS:
            break
        if word == "and" and index and index + 1 < len(subject):
            described = _ADJECTIVES & {subject[index - 1], subject[index + 1]}
            if not described:
                return True
        head.append(word)
    if not head or head[0] in ("a", "an", "one", "another", "each", "every", "this"):
        return False
    return is_plural_noun(head[-1])
