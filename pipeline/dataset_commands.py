"""What `gpucapt preprocess` does, between the command line and `pipeline/preprocessing.py`."""

from __future__ import annotations

import logging
import time
from typing import Any

from pipeline import places
from pipeline.cores import available_cores
from pipeline.progress import log_progress
from pipeline.storage import is_s3

_READERS = 16
"""Pictures of an object store that are read at the same time: that is waiting, as a rule."""

log = logging.getLogger(__name__)


def run_preprocess(dataset: str, images: str, out: str, **settings: Any) -> None:
    """DATASET (Karpathy's JSON) and its folder of pictures → HDF5 and JSON in OUT; paths or s3:// URLs."""
    from pipeline.annotations import read_karpathy
    from pipeline.preprocessing import Preprocessing, preprocess

    with places.input_file(dataset) as file:
        name, examples = read_karpathy(file)
    read = places.reader(images)
    if is_s3(images) and "workers" not in settings:
        settings["workers"] = max(_READERS, available_cores())
    began = time.monotonic()
    with places.output_folder(out) as output:
        report = preprocess(
            name, examples, read, output.path, Preprocessing(**settings), log_progress("pictures")
        )
    for image, reason in report.skipped:
        log.warning("left out %s: %s", image, reason)
    counts = ", ".join(f"{split} {count}" for split, count in report.pictures.items())
    log.info("%s: %s; %d words; %.0f s", out, counts, report.words, time.monotonic() - began)
