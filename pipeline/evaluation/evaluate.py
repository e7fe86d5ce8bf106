"""What `gpucapt evaluate` does: caption a split by beam search, score the captions, write both down.

In OUT:

    scores.json         what was evaluated, how, and the scores of the split
    captions.jsonl      one picture a line: its caption, references and scores
    evaluation.html     the scores beside published ones, the best and the worst captions with their pictures
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.words import Tokenizer, has_no_blanks, part
from pipeline.models.resolve import Model, resolve_model
from pipeline.runtime.clock import now
from pipeline.runtime.progress import log_progress
from pipeline.storage import staging
from pipeline.version import code_version

if TYPE_CHECKING:
    from model.captioner import Captioner
    from model.metrics import Scores
    from pipeline.datasets.captioned_pictures import CaptionedPictures

log = logging.getLogger(__name__)

SCORES, CAPTIONS, PAGE = "scores.json", "captions.jsonl", "evaluation.html"


@dataclass(frozen=True, slots=True)
class Evaluating:
    """How to evaluate. ``limit``: only the first so many pictures."""

    split: str = "test"
    beam_size: int = 5
    max_length: int = 40
    batch_size: int | None = None
    device: str = "auto"
    precision: str = "auto"
    limit: int | None = None


def run_evaluate(model: str, data: str, how: Evaluating, out: str | None = None) -> dict[str, float]:
    """Caption a split by beam search and score it; returns the scores, writes all of it to OUT."""
    scores: dict[str, float] = evaluate(resolve_model(model), data, how, out)["scores"]
    return scores


def evaluate(model: Model, data: str, how: Evaluating, out: str | None = None) -> dict[str, Any]:
    """As ``run_evaluate``; returns what scores.json holds."""
    from model.captioner import load_captioner

    captioner = load_captioner(model.directory, device=how.device, precision=how.precision)
    if out is not None:
        staging.check_output(out)
    with staging.input_folder(data, wanted=_of_split(how.split)) as folder:
        return _evaluate(captioner, model, folder, how, out)


def _of_split(split: str) -> Callable[[str], bool]:
    """Which files of a dataset to fetch: not the pictures of the other splits."""
    mine = f"{split.upper()}_IMAGES_"
    return lambda key: "_IMAGES_" not in key or key.startswith(mine)


def _evaluate(
    captioner: Captioner, model: Model, data: Path, how: Evaluating, out: str | None
) -> dict[str, Any]:
    from model.metrics import score_captions
    from pipeline.datasets.captioned_pictures import CaptionedPictures, tokenizer_of

    pictures = CaptionedPictures(data, how.split)
    began = time.monotonic()
    tokenizer = tokenizer_of(pictures.manifest)
    _warn_of_other_words(captioner, tokenizer)
    said = _captions(captioner, pictures, how, tokenizer)
    seconds = time.monotonic() - began
    scores = score_captions(said, pictures.references)
    manifest = pictures.manifest
    facts: dict[str, Any] = {
        "model": model.name,
        "model_version": model.version,
        "weights": model.weights,
        "dataset": manifest["base"],
        "dataset_fingerprint": manifest.get("fingerprint"),
        "split": how.split,
        "pictures": len(said),
        "limit": how.limit,
        "beam_size": how.beam_size,
        "max_length": how.max_length,
        "precision": captioner.precision,
        "seconds": round(seconds, 1),
        "evaluated_at": now(),
        "code_version": code_version(),
        "scores": {name: round(value, 4) for name, value in scores.corpus.items()},
    }
    if out is not None:
        with staging.output_folder(out) as output:
            _write(output.path, facts, said, scores, pictures)
    return facts


def _warn_of_other_words(captioner: Captioner, tokenizer: Tokenizer) -> None:
    """Characters cannot be compared with words; words become characters, where the dataset wants them."""
    says_characters = captioner.config.training.get("tokenizer") == "auto"
    if tokenizer == "words" and says_characters and any(map(has_no_blanks, captioner.vocabulary.words)):
        log.warning(
            "the model says characters where the references of this dataset have words, so it scores too low;"
            " preprocess with --tokenizer auto to compare them",
        )


def _captions(
    captioner: Captioner, pictures: CaptionedPictures, how: Evaluating, tokenizer: Tokenizer
) -> dict[str, str]:
    """The caption of each picture in words as the references', blanks between them, by its place in the
    split as text."""
    count = min(len(pictures), how.limit or len(pictures))
    size = how.batch_size or captioner.default_batch_size()
    said: dict[str, str] = {}
    report = log_progress("pictures captioned")
    for first in range(0, count, size):
        chosen = range(first, min(first + size, count))
        # As the checkpoint wants them: its size and order of channels may not be the dataset's.
        images = [captioner.prepare(one.transpose(1, 2, 0)) for one in pictures.batch(chosen)["pictures"]]
        captions = captioner.caption(images, beam_size=how.beam_size, max_length=how.max_length)
        for i, caption in zip(chosen, captions, strict=True):
            words = caption.words if tokenizer == "words" else chain.from_iterable(map(part, caption.words))
            said[str(i)] = " ".join(words)
        report(len(said), count)
    return said


def _write(
    out: Path, facts: dict[str, Any], said: dict[str, str], scores: Scores, pictures: CaptionedPictures
) -> None:
    from pipeline.evaluation.page import Captioned, sentence, write_page

    out.mkdir(parents=True, exist_ok=True)
    rows = [
        Captioned(
            int(key),
            pictures.names[int(key)],
            text,
            tuple(pictures.references[key]),
            {name: round(value, 4) for name, value in scores.pictures[key].items()},
        )
        for key, text in said.items()
    ]
    with (out / CAPTIONS).open("w", encoding="utf-8") as file:
        for row in rows:
            told = {
                "image": row.image,
                "caption": sentence(row.caption),
                "references": [sentence(text) for text in row.references],
                "scores": row.scores,
            }
            file.write(json.dumps(told, ensure_ascii=False) + "\n")
    dataset = str(pictures.manifest.get("dataset", ""))
    write_page(out / PAGE, facts, dataset, rows, lambda index: pictures.batch([index])["pictures"][0])
    # Last: who finds it finds the rest, too.
    (out / SCORES).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
