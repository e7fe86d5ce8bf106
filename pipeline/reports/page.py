"""report.html: one file that shows a source's story, its confidence and at most 300 of its frames.

The page asks nothing of the network but the film itself, where that lies beside it: pictures are data URLs,
subtitles are in the page, and its Content-Security-Policy allows only films from where the page lies and the
style and the script written into it, by their digests. Text from outside reaches it escaped by Jinja,
or as JSON in a data block that the script puts on the page as text.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pipeline.records.row import MAX_ILLUSTRATED, Row, illustration_stride
from pipeline.records.source_info import SourceInfo
from pipeline.records.video_facts import VideoFacts
from pipeline.reports.assets import asset, csp_hash, shown, shown_settings, template
from pipeline.reports.damage import damage_line
from pipeline.reports.film import PageCues, chapters, film_json
from pipeline.reports.series import Series
from pipeline.reports.text import printable, script_json, single_spaced
from pipeline.stories import Story

MOST_LISTED_ERRORS = 200

_FILE_LABELS = {
    "captions.csv": "CSV",
    "captions.json": "JSON",
    "captions.jsonl": "JSON Lines",
    "captions.vtt": "WebVTT",
    "captions.srt": "SRT",
    "story.md": "Story",
}


class PageData:
    """What the page says of the source as a whole, gathered while its rows pass by."""

    def __init__(self, unsure_below: float) -> None:
        self.unsure_below = unsure_below
        self.frames = 0
        self.errors = 0
        self.listed_errors: list[tuple[str, str]] = []
        self.low = 0
        self.last_position = 0
        self.end_s: float | None = None
        self.has_scenes = False
        self.series = Series()
        self.cues = PageCues()
        self._total = 0.0

    def add(self, row: Row) -> None:
        """Take the next row of the source."""
        if row.error is not None:
            self.errors += 1
            if len(self.listed_errors) < MOST_LISTED_ERRORS:
                name = shown(row.frame)
                self.listed_errors.append((name, shown(row.error).removeprefix(f"{name}: ")))
            return
        sure = row.confidence
        self.frames += 1
        self.low += sure < self.unsure_below
        self._total += sure
        self.last_position = row.position
        self.has_scenes = row.end_s is not None
        self.end_s = row.timestamp_s if row.end_s is None else row.end_s
        self.series.add(_x(row), sure)
        self.cues.add(row)

    @property
    def mean(self) -> float:
        """The mean confidence of all captions; 0 when there is none."""
        return self._total / self.frames if self.frames else 0.0


def write_page(
    info: SourceInfo,
    rows: Callable[[], Iterator[Row]],
    data: PageData,
    path: Path,
    *,
    story: Story | None,
    files: list[str],
    facts: VideoFacts,
    film: Sequence[str] | None = (),
) -> None:
    """Write the report page of a source to ``path``; ``files`` lie beside it and are linked to.

    ``film``: relative URLs where a video may lie, besides its own name beside the page; None: there is no
    film of it. ``facts`` are of a video.
    """
    is_film = info.kind == "video" and film is not None
    style = asset("report.css")
    scripts = ("drawing.js", "report_film.js", "report.js") if is_film else ("drawing.js", "report.js")
    script = "".join(asset(name) for name in scripts)
    stream = template("report.html.j2").stream(
        style=style,
        style_hash=csp_hash(style),
        script=script,
        script_hash=csp_hash(script),
        title=_title(info, story),
        key=shown(info.key),
        info=info,
        model=shown(f"{info.model} {info.model_version}"),
        data=data,
        length=None if data.end_s is None else clock(data.end_s),
        damage=damage_line(facts),
        film=film_json(film or (), chapters(rows), data.cues) if is_film and data.frames else None,
        paragraphs=[] if story is None else [printable(text) for text in story.paragraphs],
        settings=shown_settings(info.settings),
        files=[(name, _FILE_LABELS[name]) for name in _FILE_LABELS if name in files],
        # Filled while the page is written, since only then it is known how many frames had a picture.
        frames=_frame_objects(shown_rows(rows(), data.last_position)),
        plot=script_json({"kind": info.kind, "low": data.unsure_below, "series": data.series.points()}),
    )
    with path.open("w", encoding="utf-8", newline="") as file:
        for piece in stream:
            file.write(piece)


def shown_rows(rows: Iterator[Row], last_position: int) -> Iterator[Row]:
    """Yield the rows that the page shows: those with a picture, evenly chosen, at most 300."""
    stride = illustration_stride(last_position)
    following = 0
    shown = 0
    for row in rows:
        if row.error is None and row.thumbnail and row.position >= following and shown < MAX_ILLUSTRATED:
            yield row
            shown += 1
            following = (row.position // stride + 1) * stride


def clock(seconds: float) -> str:
    """Return a time as players show it: ``0:07``, ``12:30``, ``1:02:03``."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _frame_objects(rows: Iterator[Row]) -> Iterator[str]:
    for row in rows:
        frame: dict[str, object] = {
            "position": row.position,
            "x": _x(row),
            "frame": single_spaced(row.frame) if isinstance(row.frame, str) else row.frame,
            "time": row.timestamp_s,
            "caption": row.caption,
            "words": row.words,
            "confidence": row.confidence,
            "picture": base64.b64encode(row.thumbnail or b"").decode("ascii"),
        }
        if row.end_s is not None:
            frame["end"] = row.end_s
        if row.attention and row.grid and len(row.attention) == len(row.words) * row.grid[0] * row.grid[1]:
            frame["attention"] = base64.b64encode(row.attention).decode("ascii")
            frame["grid"] = list(row.grid)
        yield script_json(frame)


def _x(row: Row) -> float:
    return row.position + 1 if row.timestamp_s is None else round(row.timestamp_s, 3)


def _title(info: SourceInfo, story: Story | None) -> str:
    return shown(story.title if story else info.name) or "Captions"
