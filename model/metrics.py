"""BLEU-1..4, METEOR, ROUGE-L and CIDEr by pycocoevalcap, on words as `tokenize` makes them.

What stands between blanks is a word, in any script. METEOR alone parts text anew, into ASCII's idea of words,
and knows the stems and synonyms of English.
"""

from __future__ import annotations

import logging
import re
import subprocess
import threading
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

log = logging.getLogger(__name__)

CaptionsByImage = Mapping[str, Sequence[str]]

_IN_ENGLISH = ("-Duser.language=en", "-Duser.country=US", "-Dfile.encoding=UTF-8")
_SEPARATORS = re.compile(r"\|{3,}")
"""Of the texts of METEOR's lines; pycocoevalcap takes them out of candidates only."""
_NO_TEXT = frozenset({"Cc", "Cs", "Zl", "Zp", "Zs"})
"""Control characters, halves of characters, and what separates."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Corpus scores by name (0 … 1, CIDEr 0 … 10) and, where the metric has them, each picture's."""

    corpus: dict[str, float]
    pictures: dict[str, dict[str, float]]


def score_captions(
    candidates: Mapping[str, str], references: CaptionsByImage, *, meteor: bool = True
) -> Scores:
    """Score one caption a picture against its references, both as words joined by blanks.

    METEOR needs Java and captions in Latin letters; without, the others are counted and a warning says that
    it is left out. Whatever separates words or lines, and what cannot be seen, is one blank.
    """
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.rouge.rouge import Rouge

    names = sorted(candidates)
    truth = {name: [_single_line(text) for text in references[name]] for name in names}
    said = {name: [_single_line(candidates[name])] for name in names}
    corpus: dict[str, float] = {}
    pictures: dict[str, dict[str, float]] = {name: {} for name in names}

    bleu, each = Bleu(4).compute_score(truth, said, verbose=0)
    for n in range(4):
        corpus[f"BLEU-{n + 1}"] = float(bleu[n])
        for name, value in zip(truth, each[n], strict=True):
            pictures[name][f"BLEU-{n + 1}"] = float(value)
    scorers = {"ROUGE-L": Rouge().compute_score, "CIDEr": _cider}
    if meteor and not _mostly_latin(truth):
        log.warning("METEOR is left out: it knows English, and these captions are in another script.")
    elif meteor and not has_java():
        log.warning("METEOR is left out: it needs Java (Debian: default-jre-headless).")
    elif meteor:
        scorers = {"METEOR": _meteor, **scorers}
    for metric, compute in scorers.items():
        total, each = compute(truth, said)
        corpus[metric] = float(total)
        for name, value in zip(truth, each, strict=True):
            pictures[name][metric] = float(value)
    return Scores(corpus, pictures)


def cider(candidates: Mapping[str, str], references: CaptionsByImage) -> float:
    """CIDEr alone: what training selects models by."""
    truth = {name: list(references[name]) for name in candidates}
    return _cider(truth, {name: [text] for name, text in candidates.items()})[0]


def _cider(truth: CaptionsByImage, said: CaptionsByImage) -> tuple[float, Sequence[float]]:
    from pycocoevalcap.cider.cider import Cider

    if not any(map(str.split, chain.from_iterable(truth.values()))):  # it looks for the commonest of no words
        return 0.0, [0.0] * len(said)
    total, each = Cider().compute_score(truth, said)
    return float(total), each


def _single_line(text: str) -> str:
    """Text as one line to Python, Java and Unicode: each of them ends lines at other characters."""
    if text.isascii() and text.isprintable() and "|||" not in text:
        return " ".join(text.split())
    kept = "".join(
        " " if unicodedata.category(char) in _NO_TEXT else char for char in _SEPARATORS.sub(" ", text)
    )
    return " ".join(kept.split())


def _mostly_latin(references: CaptionsByImage) -> bool:
    """Whether most of the captions are written in Latin letters."""
    texts = [text for several in references.values() for text in several]
    return sum(map(_is_latin, texts)) * 2 >= len(texts)


def _is_latin(text: str) -> bool:
    if text.isascii():
        return True
    letters = [char for char in text if char.isalpha()]
    return sum(unicodedata.name(char, "").startswith("LATIN") for char in letters) * 2 >= len(letters)


def _meteor(truth: CaptionsByImage, said: CaptionsByImage) -> tuple[float, list[float]]:
    from pycocoevalcap.meteor import meteor

    # As its constructor does, but for the language: METEOR writes 7.0, where a German Java reads 7,0 only.
    scorer = meteor.Meteor.__new__(meteor.Meteor)
    scorer.meteor_p = subprocess.Popen(
        ["java", *_IN_ENGLISH, "-jar", "-Xmx2G", meteor.METEOR_JAR, "-", "-", "-stdio", "-l", "en", "-norm"],
        cwd=Path(meteor.__file__).parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    scorer.lock = threading.Lock()
    try:
        total, each = scorer.compute_score(truth, said)
        return float(total), each
    finally:  # its Java process would live on, its pipes open
        scorer.lock = threading.Lock()  # for which its destructor would wait for ever after an exception
        for pipe in (scorer.meteor_p.stdin, scorer.meteor_p.stdout, scorer.meteor_p.stderr):
            pipe.close()
        scorer.meteor_p.kill()
        scorer.meteor_p.wait()


def has_java() -> bool:
    """Whether METEOR can run: whether Java works, as its file may be a version manager's shim."""
    try:
        done = subprocess.run(["java", "-version"], stdin=subprocess.DEVNULL, capture_output=True)
    except OSError:
        return False
    return done.returncode == 0
