"""Stories from the captions.json of this version, of the one before, and of one to come."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model.errors import GpucaptError
from pipeline.stories.files import read_story, tell_story
from tests.pipeline.report_rows import film_row, write

FORMAT_1 = {
    "format": 1, "source": "clip.mp4", "kind": "video", "model": "test-model",
    "model_version": "0123456789ab", "fingerprint": "5b7c-91d0", "settings": {},
    "rows": [
        {"source": "clip.mp4", "frame": at * 25, "timestamp_s": float(at), "caption": "a dog runs",
         "log_prob": -3.0, "model": "test-model", "model_version": "0123456789ab",
         "words": ["a", "dog", "runs"]}
        for at in range(4)
    ],
    "errors": [], "counts": {"frames": 4, "errors": 0},
}  # fmt: skip
"""As version c5029aa wrote it."""


def last_scene(folder: Path, content: dict[str, Any]) -> tuple[float, float]:
    """When the last scene of the story begins and ends."""
    (folder / "captions.json").write_text(json.dumps(content), encoding="utf-8")
    tell_story(folder / "captions.json", folder / "story.json")
    timeline = read_story(str(folder / "story.json")).timeline
    assert timeline is not None
    return timeline.scenes[-1].start, timeline.scenes[-1].end


def test_captions_of_format_1_are_told(tmp_path: Path) -> None:
    assert last_scene(tmp_path, FORMAT_1) == (0.0, 4.0)


def test_captions_of_scenes_are_told_to_the_end_of_the_last(tmp_path: Path) -> None:
    rows = [film_row(0, "a dog runs"), film_row(1, "two cats on a sofa")]
    for row, start, end in zip(rows, (0.0, 8.0), (8.0, 20.5), strict=True):
        row.timestamp_s, row.end_s = start, end
    assert last_scene(tmp_path, write(rows, tmp_path).json) == (8.0, 20.5)


def test_captions_of_a_later_version_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(GpucaptError, match=r"captions\.json was written by a later version of gpucapt"):
        last_scene(tmp_path, {**FORMAT_1, "format": 3})
