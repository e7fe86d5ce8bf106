"""captions.vtt and captions.srt: a video's captions as subtitles, one cue for as long as a caption stays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.records.row import Row
from pipeline.records.source_info import SourceInfo
from pipeline.reports.tables import TableWriter
from pipeline.reports.text import printable, single_spaced
from pipeline.stories.shots import ShotMaker, SteadyShot


@dataclass(frozen=True, slots=True)
class Cue:
    """A caption with the time it is shown, in whole milliseconds; ``end_ms > start_ms``."""

    start_ms: int
    end_ms: int
    text: str


class CueMaker:
    """Turns the rows of a video, in order, into cues.

    A cue is a shot with its surest caption; successive shots with the same one are one cue. A shot without
    a caption has no cue, nor has one that is over when it begins: of several frames with the same timestamp
    (or an earlier one, in a damaged stream) the last is shown.
    """

    def __init__(self) -> None:
        self._shots = ShotMaker()
        self._held: Cue | None = None

    def add(self, row: Row) -> Cue | None:
        """Take the next row; return a cue when one is known to be whole."""
        return self._joined(self._shots.add(row))

    def finish(self) -> list[Cue]:
        """Return the cues that are left, two at most."""
        left = [self._joined(self._shots.finish()), self._held]
        return [cue for cue in left if cue is not None]

    def _joined(self, shot: SteadyShot | None) -> Cue | None:
        """Hold the cue of a shot and return the one held before, unless they are one."""
        text = "" if shot is None else single_spaced(shot.row.caption)
        if shot is None or not text or shot.end_ms <= shot.start_ms:
            return None
        held, cue = self._held, Cue(shot.start_ms, shot.end_ms, text)
        if held is not None and held.text == cue.text and held.end_ms == cue.start_ms:
            self._held = Cue(held.start_ms, cue.end_ms, text)
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
            cue = self._maker.add(row)
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
