"""The caption job as `gpucapt caption` runs it, with a model that is loaded already."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import time
from pathlib import Path
from unittest.mock import patch

from model.captioner import Captioner
from pipeline.captioning.run import CaptionRun
from pipeline.records.frame_selection import Selection
from pipeline.records.settings import CaptionSettings, Resources


def caption(
    captioner: Captioner,
    checkpoint: Path,
    source: Path | str,
    destination: Path | str,
    *,
    batch_size: int,
    every: float | None = 1.0,
) -> float:
    """Caption SOURCE, beam 5, all outputs written, and return the seconds that it took.

    Loading the model is a cost of the start, not of the work, so the job gets `captioner`, made of
    `checkpoint`; all else is its own. Raises RuntimeError when it did not caption everything.
    """
    settings = CaptionSettings(
        Selection(every=every), beam_size=5, precision=captioner.precision, model=str(checkpoint)
    )
    resources = Resources(device=str(captioner.device), batch_size=batch_size)
    run = CaptionRun(str(source), str(destination), settings, resources, progress="none")
    logging.getLogger("gpucapt").setLevel(logging.WARNING)
    with patch("model.captioner.load_captioner", return_value=captioner) as load:
        started = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            code = run.run()
        took = time.perf_counter() - started
    if code or not load.called:
        raise RuntimeError(f"the caption job ended with {code}")
    return took


def captions(destination: Path) -> dict[str, str]:
    """Frame → caption, of the one source in DESTINATION."""
    (path,) = destination.rglob("captions.jsonl")
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return {str(row["frame"]): row["caption"] for row in rows}
