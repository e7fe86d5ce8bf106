"""What the report plays a film with: where it may lie, its scenes as chapters, its captions as subtitles."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from model.words import join
from pipeline.records.row import Row
from pipeline.reports.subtitles import Cue, CueMaker
from pipeline.reports.text import printable, script_json, single_spaced
from pipeline.stories.scenes import condense, find_scenes
from pipeline.stories.shots import shots

MOST_CHAPTERS = 40
_FEWEST_CHAPTERS = 3
_CHAPTER_S = 3.0
"""Chapters are this long on average, at least: shorter ones nobody would go to."""
MOST_CUES = 20_000
"""Five and a half hours of another caption every second; what comes after them is in captions.vtt."""


@dataclass(frozen=True, slots=True)
class Chapter:
    """A scene of the film: when it begins and ends, in seconds, and the caption that tells it."""

    start_s: float
    end_s: float
    text: str


class PageCues:
    """The cues that the page itself carries, gathered while the rows pass by; at most 20,000."""

    def __init__(self) -> None:
        self._maker = CueMaker()
        self._cues: list[Cue] = []
        self.is_whole = True

    def add(self, row: Row) -> None:
        """Take the next row of the film."""
        if row.timestamp_s is not None:
            self._keep(self._maker.add(row))

    def finish(self) -> list[Cue]:
        """Return the cues, after the last row."""
        for cue in self._maker.finish():
            self._keep(cue)
        return self._cues

    def _keep(self, cue: Cue | None) -> None:
        if cue is None:
            return
        if len(self._cues) < MOST_CUES:
            self._cues.append(cue)
        else:
            self.is_whole = False


def chapters(rows: Callable[[], Iterator[Row]]) -> list[Chapter]:
    """Return the scenes of a film in order, those that its story is told from; the shortest are joined."""
    scenes = find_scenes(shots(rows()))
    length = scenes[-1].end - scenes[0].start if scenes else 0.0
    scenes = condense(scenes, max(_FEWEST_CHAPTERS, min(MOST_CHAPTERS, round(length / _CHAPTER_S))))
    return [Chapter(scene.start, scene.end, _sentence(scene.words)) for scene in scenes]


def film_json(places: Iterable[str], found: Iterable[Chapter], cues: PageCues) -> Iterator[str]:
    """Yield, piece by piece, the JSON of the page's data block for the film.

    ``places`` are relative URLs, tried one after the other. Chapters are ``[start, end, text]`` in seconds,
    cues ``[start, end, text]`` in milliseconds; ``until`` tells where cues end before the film does.
    """
    kept = cues.finish()
    listed = [[round(one.start_s, 3), round(one.end_s, 3), one.text] for one in found]
    until = None if cues.is_whole else kept[-1].end_ms
    head = {"places": list(places), "chapters": listed, "until": until}
    yield f'{script_json(head)[:-1]},"cues":['
    for index, cue in enumerate(kept):
        yield ("," if index else "") + script_json([cue.start_ms, cue.end_ms, printable(cue.text)])
    yield "]}"


def _sentence(words: Iterable[str]) -> str:
    text = printable(single_spaced(join(words)))
    return text[:1].upper() + text[1:]
