"""What `gpucapt evaluate` does: caption a split by beam search, score the captions, write both down."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import places
from pipeline.checkpoints import checkpoint_folder
from pipeline.progress import log_progress

if TYPE_CHECKING:
    from model.captioner import Captioner
    from model.metrics import Scores
    from pipeline.datasets import CaptionedPictures


def run_evaluate(
    model: str,
    data: str,
    *,
    split: str = "test",
    beam_size: int = 5,
    max_length: int = 40,
    out: str | None = None,
    batch_size: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    limit: int | None = None,
) -> dict[str, float]:
    """Caption a split by beam search and score it; prints the scores, writes them and the captions to OUT."""
    from model.captioner import load_captioner

    captioner = load_captioner(checkpoint_folder(model), device=device, precision=precision)
    if out is not None:
        places.check_output(out)
    with places.input_folder(data, wanted=_of_split(split)) as folder:
        return _evaluate(captioner, folder, split, beam_size, max_length, out, batch_size, limit)


def _of_split(split: str) -> Callable[[str], bool]:
    """Which files of a dataset to fetch: not the pictures of the other splits."""
    mine = f"{split.upper()}_IMAGES_"
    return lambda key: "_IMAGES_" not in key or key.startswith(mine)


def _evaluate(
    captioner: Captioner,
    data: Path,
    split: str,
    beam_size: int,
    max_length: int,
    out: str | None,
    batch_size: int | None,
    limit: int | None,
) -> dict[str, float]:
    from model.metrics import score_captions
    from pipeline.datasets import CaptionedPictures

    pictures = CaptionedPictures(data, split)
    count = min(len(pictures), limit or len(pictures))
    size = batch_size or captioner.default_batch_size()
    said: dict[str, str] = {}
    began = time.monotonic()
    report = log_progress("pictures captioned")
    for first in range(0, count, size):
        chosen = range(first, min(first + size, count))
        captions = captioner.caption(
            list(pictures.batch(chosen)["pictures"]), beam_size=beam_size, max_length=max_length
        )
        said.update({str(i): caption.text for i, caption in zip(chosen, captions, strict=True)})
        report(len(said), count)
    seconds = time.monotonic() - began
    scores = score_captions(said, pictures.references)
    result = {name: round(value, 4) for name, value in scores.corpus.items()}
    if out is not None:
        facts = {
            "model": captioner.name,
            "model_version": captioner.version,
            "dataset": pictures.manifest["base"],
            "split": split,
            "pictures": count,
            "beam_size": beam_size,
            "max_length": max_length,
            "precision": captioner.precision,
            "seconds": round(seconds, 1),
            "scores": result,
        }
        with places.output_folder(out) as output:
            _write_scores(output.path, facts, said, scores, pictures)
    return result


def _write_scores(
    out: Path, facts: dict[str, Any], said: dict[str, str], scores: Scores, pictures: CaptionedPictures
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "scores.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    with (out / "captions.jsonl").open("w", encoding="utf-8") as file:
        for key, text in said.items():
            row = {
                "image": pictures.names[int(key)],
                "caption": text,
                "references": pictures.references[key],
                "scores": {name: round(value, 4) for name, value in scores.pictures[key].items()},
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
