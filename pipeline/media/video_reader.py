"""Reading a video: the backend that is right for it, and its selected frames, all of them or a part."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from pipeline.errors import BadInput
from pipeline.media.frame import Decoded, Frame, KnownFrame, Passage
from pipeline.media.frame_choice import Signature, chosen_by_time
from pipeline.media.opencv_reader import OpenCVReader, why_not
from pipeline.media.probe import best_first, candidates, context_of, facts_of, open_container
from pipeline.media.pyav_reader import PyAVReader, is_mirrored
from pipeline.media.scenes import SceneSpan, scenes
from pipeline.media.video_index import VideoIndex, index_of
from pipeline.records.frame_selection import Selection
from pipeline.records.video_facts import Gap, VideoBackend, VideoFacts, join_gaps

_LATE_S = 0.001
"""A picture that begins later than the sound had other times."""


class VideoReader(Protocol):
    """What decodes a video: one interface, two backends."""

    gap_at_end: Gap | None
    """What could not be decoded after the last frame; known when ``frames`` has ended."""

    def frames(self, wanted: Sequence[int], *, width: int | None = None) -> Iterator[Decoded]:
        """The frames with these numbers, which rise; wider ones are made as narrow as ``width``.

        Where one cannot be decoded, the first one after it that can takes its place and that of all wanted
        ones up to itself.
        """


class OpenVideo:
    """A video that is read by one backend."""

    def __init__(self, path: Path, backend: str = "auto") -> None:
        """``backend`` is opencv, pyav, or auto.

        Raises BadInput for what is no video, and where the backend that is asked for shows it wrongly.
        """
        self._path = path
        self._gaps: list[Gap] = []
        """Those before frames that are not handed on."""
        self._index = index_of(path)
        if not self._index.count:
            raise BadInput(f"{path.name}: not one frame of this video can be decoded")
        self.backend, self.why, self._reader = _reader(path, self._index, backend)

    @property
    def facts(self) -> VideoFacts:
        """What decodes it and why; after ``frames`` has ended also what could not be decoded at the end.

        Other gaps come with the frames after them, if these are handed on.
        """
        at_end = self._reader.gap_at_end
        return VideoFacts(self.backend, self.why, join_gaps([*self._gaps, *([at_end] if at_end else [])]))

    @property
    def seconds(self) -> float:
        """How long it lasts, by the times of its frames."""
        return self._index.end_s - self._index.times_s[0]

    def frames(
        self,
        selection: Selection,
        *,
        first_position: int = 0,
        after: KnownFrame | None = None,
        passage: Passage | None = None,
    ) -> Iterator[Frame]:
        """The selected frames, or those of a passage, from ``first_position`` on, in order.

        Args:
            selection: which frames.
            first_position: so many selected frames of the passage are passed over.
            after: the last one of these, which lets reading begin there, without what comes before.
            passage: only this part of the video; only for selections that can be split.

        Raises:
            BadInput: when not one frame can be decoded. A damaged video gives what decodes.
        """
        first, end = (0, self._index.count) if passage is None else passage.cut(self._index.count)
        chosen = self._chosen(selection, first, end)
        known = after[0] if after is not None and chosen.has(after, first_position) else None
        begin = chosen.begin if known is None else known + 1
        passed_over, most = 0 if known is None else first_position, selection.max_frames
        last: Signature | None = None
        if most is not None and first_position >= most:
            return
        for decoded in self._reader.frames(chosen.wanted(begin, known)):
            if decoded.number >= chosen.end:
                return  # it takes the place of a frame of this passage, but belongs to the next one
            signature = Signature(decoded.image)
            is_alike = last is not None and signature.is_like(last)
            if decoded.number < begin:
                last = signature
                continue
            is_left_out = is_alike and selection.skip_duplicates
            if is_left_out or not chosen.stands_for_its_own(decoded.number):
                self._gaps += [] if decoded.gap is None else [decoded.gap]
                continue
            last = signature
            if passed_over >= first_position:
                place = passed_over if selection.skip_duplicates else chosen.place(decoded.number)
                yield chosen.frame(place, decoded, is_alike)
            passed_over += 1
            if passed_over == most:
                return
        if not passed_over and passage is None:
            raise BadInput(f"{self._path.name}: not one frame of this video can be decoded")

    def _chosen(self, selection: Selection, first: int, end: int) -> _Chosen:
        index = self._index
        if selection.scenes:
            found = list(scenes(self._reader, index.times_s, index.end_s, index.first, first, end))
            return _ChosenScenes(index.times_s, found)
        numbers = chosen_by_time(index.times_s, index.first, selection.interval_s)
        return _Chosen(index.times_s, numbers, first, end, counts=not selection.skip_duplicates)


class _Chosen:
    """The frames that a selection chooses, and which of them belong to a passage."""

    def __init__(
        self, times_s: array[float], numbers: array[int], begin: int, end: int, *, counts: bool = True
    ) -> None:
        self._times_s = times_s
        self._numbers = numbers
        self._counts = counts
        """Whether all that are chosen are also handed on."""
        self.begin = begin
        """The first frame of the passage."""
        self.end = end
        """The one after its last."""

    def has(self, known: KnownFrame, count: int) -> bool:
        """Whether this frame is the last of the first ``count``, and where it was when its row was written.

        In a damaged video it may not be, since fewer frames than were chosen are handed on.
        """
        number, timestamp_s = known
        return (
            count > 0
            and self.begin <= number < self.end
            and abs(self._times_s[number] - timestamp_s) < 1e-3
            and (not self._counts or self.place(number) - self.place(self.begin - 1) == count)
        )

    def place(self, number: int) -> int:
        """The place, from 0, of a frame among the chosen ones; of another the place of the one before."""
        return bisect_right(self._numbers, number) - 1

    def stands_for_its_own(self, number: int) -> bool:
        """Whether a frame may be handed on in the place of one that cannot be decoded."""
        return True

    def wanted(self, begin: int, known: int | None) -> Sequence[int]:
        """What is to be decoded: those from ``begin`` on, and the one before.

        That one is there to be compared with; and where it cannot be decoded, what takes its place may lie
        behind ``begin``.
        """
        start = bisect_left(self._numbers, begin)
        rest = self._numbers[start : bisect_left(self._numbers, self.end)]
        if known is not None:
            return array("q", [known]) + rest
        return self._numbers[max(0, start - 1) : start] + rest

    def frame(self, position: int, decoded: Decoded, is_alike: bool) -> Frame:
        """The frame as it is handed on."""
        number = decoded.number
        return Frame(
            position,
            number,
            self._times_s[number],
            decoded.image,
            is_alike=is_alike,
            gap=decoded.gap,
        )


class _ChosenScenes(_Chosen):
    """The middle frames of scenes, which stand for these."""

    def __init__(self, times_s: array[float], found: list[SceneSpan]) -> None:
        middles = array("q", (scene.middle for scene in found))
        super().__init__(times_s, middles, middles[0] if found else 0, len(times_s))
        self._scenes = found

    def has(self, known: KnownFrame, count: int) -> bool:
        """Whether this frame is the middle of the last of the first ``count`` scenes here."""
        return 0 < count <= len(self._numbers) and known[0] == self._numbers[count - 1]

    def stands_for_its_own(self, number: int) -> bool:
        """Whether a frame lies in the scene that it stands for: the next one has a frame of its own."""
        scene = self._scene_of(number)
        return number >= scene.middle and self._times_s[number] < scene.end_s

    def frame(self, position: int, decoded: Decoded, is_alike: bool) -> Frame:
        """The frame with the times of its scene."""
        scene = self._scene_of(decoded.number)
        return Frame(
            position,
            decoded.number,
            self._times_s[scene.first],
            decoded.image,
            end_s=scene.end_s,
            gap=decoded.gap,
        )

    def _scene_of(self, number: int) -> SceneSpan:
        at = bisect_right(self._scenes, number, key=lambda scene: scene.first) - 1
        return self._scenes[max(0, at)]


def is_shown_otherwise(path: Path) -> bool:
    """Whether gpucapt showed a video wrongly before it knew of what players do, as far as its headers tell.

    Raises BadInput for what is no video.
    """
    with open_container(path) as container:
        streams = best_first(candidates(container))
        if not streams or context_of(streams[0]) is None:
            return False
        facts = facts_of(container, streams[0])
        starts_s = float((streams[0].start_time or 0) * (streams[0].time_base or 0))
        is_late = starts_s - (container.start_time or 0) / 1_000_000 > _LATE_S
    is_special = facts.is_interlaced or facts.has_alpha or facts.is_hdr
    if is_late or is_special or not (facts.is_first and facts.is_square):
        return True
    return is_mirrored(path, facts.index)


def _reader(path: Path, index: VideoIndex, backend: str) -> tuple[VideoBackend, str, VideoReader]:
    """The backend, why it is this one, and what reads."""
    if backend == "opencv":
        reason = why_not(index, is_mirrored=is_mirrored(path, index.facts.index))
        if reason is not None:
            raise BadInput(
                f"{path.name}: OpenCV would not show this video as it is: {reason};"
                " leave --video-backend at auto"
            )
        return "opencv", "asked for", OpenCVReader(path, index)
    why = "asked for" if backend == "pyav" else "reads every kind right, and decodes only what is wanted"
    return "pyav", why, PyAVReader(path, index)
