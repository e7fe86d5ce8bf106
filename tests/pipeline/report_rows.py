"""Rows as a job would make them, for the tests of what is written from them."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from pipeline.records.row import Row, is_illustrated
from pipeline.records.source_info import SourceInfo, SourceKind
from pipeline.reports import write_outputs
from pipeline.stories import outline_story

SETTINGS: dict[str, object] = {"beam_size": 5, "every": 1.0, "skip_duplicates": False, "max_frames": None}


def info(kind: SourceKind = "video", key: str | None = None) -> SourceInfo:
    default = "trip/clip.mp4" if kind == "video" else "trip/album"
    return SourceInfo(key or default, kind, "test-model", "0123456789ab", "5b7c-91d0", SETTINGS)


def picture(number: int, size: tuple[int, int] = (64, 48)) -> bytes:
    """A small JPEG that is different for each number."""
    image = Image.new("RGB", size, (number * 37 % 256, 90, 200 - number * 11 % 200))
    ImageDraw.Draw(image).ellipse((8, 8, 40, 40), fill=(240, 220, number * 53 % 256))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG")
    return buffer.getvalue()


def attention(words: int, grid: tuple[int, int] = (4, 4)) -> bytes:
    """Maps with one strong cell a word, another one for each."""
    maps = np.zeros((words, grid[0] * grid[1]), dtype=np.uint8)
    for word in range(words):
        maps[word, word * 5 % maps.shape[1]] = 255
    return maps.tobytes()


def film_row(position: int, caption: str, *, log_prob: float = -4.0, illustrated: bool = True) -> Row:
    words = caption.split()
    row = Row(position, position * 25, float(position), caption, words, log_prob)
    if illustrated:
        row.thumbnail, row.grid, row.attention = picture(position), (4, 4), attention(len(words))
    return row


def still_row(position: int, name: str, caption: str, *, log_prob: float = -4.0) -> Row:
    words = caption.split()
    thumbnail, maps = picture(position), attention(len(words))
    return Row(position, name, None, caption, words, log_prob, "etag", maps, (4, 4), thumbnail)


def bad_still(position: int, name: str, reason: str) -> Row:
    return Row(position, name, None, "", [], 0.0, error=reason)


def long_film(count: int) -> Callable[[], Iterator[Row]]:
    """A film of ``count`` frames that never lies in memory as a whole; a new caption every 40 frames."""
    thumbnail = picture(1)
    colours, places = ("brown", "black", "white", "tan"), ("snow", "grass", "sand")
    captions = [f"a {colour} dog is running through the {place}" for colour in colours for place in places]

    def rows() -> Iterator[Row]:
        for position in range(count):
            row = film_row(position, captions[position // 40 % len(captions)], illustrated=False)
            if is_illustrated(position):
                row.thumbnail, row.grid, row.attention = thumbnail, (4, 4), attention(len(row.words))
            yield row

    return rows


@dataclass(frozen=True)
class Written:
    """The outputs of one source, read back."""

    directory: Path
    names: list[str]

    def text(self, name: str) -> str:
        return (self.directory / name).read_bytes().decode("utf-8")

    @property
    def json_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text("captions.jsonl").splitlines()]

    @property
    def json(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.text("captions.json"))
        return document

    @property
    def csv(self) -> list[list[str]]:
        return list(csv.reader(io.StringIO(self.text("captions.csv"), newline=""), strict=True))

    @property
    def page_frames(self) -> list[dict[str, Any]]:
        found = re.search(
            r'<script type="application/json" id="frames-data">(.*?)</script>', self.text("report.html"), re.S
        )
        assert found is not None
        frames: list[dict[str, Any]] = json.loads(found[1])
        return frames


def write(rows: Iterable[Row], directory: Path, source: SourceInfo | None = None) -> Written:
    """Write all outputs of ``rows`` into ``directory`` with an outline story."""
    kept = list(rows)
    kind: SourceKind = "video" if kept and kept[0].timestamp_s is not None else "stills"
    source = source or info(kind)
    story = outline_story(source, kept)
    directory.mkdir(exist_ok=True, parents=True)
    return Written(directory, write_outputs(source, lambda: iter(kept), directory, story=story))
