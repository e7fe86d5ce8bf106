"""BLEU-1..4, METEOR, ROUGE-L and CIDEr by pycocoevalcap, on words as `tokenize` makes them."""

from __future__ import annotations

import logging
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

CaptionsByImage = Mapping[str, Sequence[str]]

_IN_ENGLISH = ("-Duser.language=en", "-Duser.country=US", "-Dfile.encoding=UTF-8")


@dataclass(frozen=True, slots=True)
class Scores:
    """Corpus scores by name (0 … 1, CIDEr 0 … 10) and, where the metric has them, each picture's."""

    corpus: dict[str, float]
    pictures: dict[str, dict[str, float]]


def score_captions(
    candidates: Mapping[str, str], references: CaptionsByImage, *, meteor: bool = True
) -> Scores:
    """Score one caption a picture against its references, both as words joined by blanks.

    METEOR needs Java; without it the others are counted and a warning says that it is left out.
    """
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    names = sorted(candidates)
    truth = {name: list(references[name]) for name in names}
    said = {name: [candidates[name]] for name in names}
    corpus: dict[str, float] = {}
    pictures: dict[str, dict[str, float]] = {name: {} for name in names}

    bleu, each = Bleu(4).compute_score(truth, said, verbose=0)
    for n in range(4):
        corpus[f"BLEU-{n + 1}"] = float(bleu[n])
        for name, value in zip(truth, each[n], strict=True):
            pictures[name][f"BLEU-{n + 1}"] = float(value)
    scorers = {"ROUGE-L": Rouge().compute_score, "CIDEr": Cider().compute_score}
    if meteor and has_java():
        scorers = {"METEOR": _meteor, **scorers}
    elif meteor:
        log.warning("METEOR is left out: it needs Java (Debian: default-jre-headless).")
    for metric, compute in scorers.items():
        total, each = compute(truth, said)
        corpus[metric] = float(total)
        for name, value in zip(truth, each, strict=True):
            pictures[name][metric] = float(value)
    return Scores(corpus, pictures)


def cider(candidates: Mapping[str, str], references: CaptionsByImage) -> float:
    """CIDEr alone: what training selects models by."""
    from pycocoevalcap.cider.cider import Cider

    truth = {name: list(references[name]) for name in candidates}
    total, _ = Cider().compute_score(truth, {name: [text] for name, text in candidates.items()})
    return float(total)


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
