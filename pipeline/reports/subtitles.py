"""captions.vtt and captions.srt: a video's captions as subtitles, one cue for as long as a caption stays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.records.row import Row
from pipeline.records.source_info import SourceInfo
from pipeline.reports.tables import TableWriter
from pipeline.reports.text import printable, single_spaced

LAST_CUE_MS = 2000
"""How long the last caption stays when nothing tells how far apart the frames are."""

_LAST_CUE_BOUNDS_MS = (500, 10_000)


@dataclass(frozen=True, slots=True)
class Cue:
    """A caption with the time it is shown, in whole milliseconds; ``end_ms > start_ms``."""

    start_ms: int
    end_ms: int
    text: str


class CueMaker:
    """Turns the frames of a video, in order, into cues.

    A cue lasts until the next frame with another caption. A frame without a caption ends the cue before it.
    Of several frames with the same timestamp (or an earlier one, in a damaged stream) the last is shown. The
    last cue lasts one more frame distance.
    """

    def __init__(self) -> None:
        self._start: int | None = None
        self._text = ""
        self._time = 0
        self._gap = LAST_CUE_MS
        self._held: Cue | None = None

    def add(self, timestamp_s: float, caption: str) -> Cue | None:
        """Take the next frame; return a cue when one is known to be whole."""
        now = max(round(timestamp_s * 1000), 0)
        text = single_spaced(caption)
        if self._start is None:
            self._start = self._time = now
            self._text = text
            return None
        now = max(now, self._time)
        self._gap = now - self._time or self._gap
        self._time = now
        if text == self._text:
            return None
        ended = self._end_cue(now)
        self._start, self._text = now, text
        return ended

    def finish(self) -> list[Cue]:
        """Return the cues that are left, two at most."""
        low, high = _LAST_CUE_BOUNDS_MS
        ended = self._end_cue(self._time + min(max(self._gap, low), high))
        return [cue for cue in (ended, self._held) if cue is not None]

    def _end_cue(self, end: int) -> Cue | None:
        """Hold the cue that ends now and return the one held before, unless they are one."""
        if self._start is None or not self._text or end <= self._start:
            return None
        held, cue = self._held, Cue(self._start, end, self._text)
        if held is not None and held.text == cue.text and held.end_ms == cue.start_ms:
            self._held = Cue(held.start_ms, end, cue.text)
            return None
        self._held = cue
        return held


class _Subtitles(TableWriter):
    def __init__(self, info: SourceInfo, directory: Path) -> None:
        super().__init__(info, directory)
        self._maker = CueMaker()
        self._number = 0

    def add(self, row: Row) -> None:
        if row.timestamp_s is not None:
            cue = self._maker.add(row.timestamp_s, row.caption)
            if cue is not None:
                self._write_cue(cue)

    def close(self, set_aside: Iterator[Row]) -> None:
        for cue in self._maker.finish():
            self._write_cue(cue)
        super().close(set_aside)

    def _write_cue(self, cue: Cue) -> None:
        self._number += 1
        self.write(self.format(self._number, cue))

    def format(self, number: int, cue: Cue) -> str:
        raise NotImplementedError


class WebVtt(_Subtitles):
    name = "captions.vtt"

    def __init__(self, info: SourceInfo, directory: Path) -> None:
        super().__init__(info, directory)
        self.write("WEBVTT\n")

    def format(self, number: int, cue: Cue) -> str:
        times = f"{clock(cue.start_ms, '.')} --> {clock(cue.end_ms, '.')}"
        return f"\n{number}\n{times}\n{escape_vtt(cue.text)}\n"


class Srt(_Subtitles):
    name = "captions.srt"

    def format(self, number: int, cue: Cue) -> str:
        blank = "\n" if number > 1 else ""
        # SubRip knows no escapes; an arrow in the text would look like a line of times.
        text = printable(cue.text).replace("-->", "->")
        return f"{blank}{number}\n{clock(cue.start_ms, ',')} --> {clock(cue.end_ms, ',')}\n{text}\n"


def clock(milliseconds: int, point: str) -> str:
    """Return ``HH:MM:SS`` with milliseconds after ``point``; hours grow past two digits where they must."""
    seconds, ms = divmod(milliseconds, 1000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:02}:{minute:02}:{second:02}{point}{ms:03}"


def escape_vtt(text: str) -> str:
    """Return ``text`` as WebVTT wants it; escaping '>' also takes care of the arrow of a timing line."""
    return printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
