"""Beginning in the middle of a film gives what beginning at its start gives; so do the passages of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.media import pyav_reader
from pipeline.media.frame import Frame, Passage
from pipeline.media.video_index import index_of
from pipeline.records.frame_selection import Selection
from tests.media import ffmpeg, pan, write_frames, write_video
from tests.videos import Track, blank_packets, number_of, numbered, read_video, write

pytestmark = [pytest.mark.needs("ffmpeg"), pytest.mark.slow]

ALL = Selection(every=None)
SELECTIONS = [ALL, Selection(every=0.5), Selection(every=0.7), Selection(fps=3), Selection(every=2.5)]

VARIABLE = ["-vf", "select='not(mod(n,7))+not(mod(n,3))+between(n,20,40)'", "-fps_mode", "vfr"]
X264 = ["-c:v", "libx264", "-pix_fmt", "yuv420p"]
KINDS: dict[str, list[str]] = {
    "h264.mp4": [*X264, "-bf", "3", "-g", "12"],
    "h264.ts": [*X264, "-bf", "2", "-g", "12"],
    "h264.avi": [*X264, "-bf", "2", "-g", "12"],
    "open-gop.mkv": [*X264, "-x264-params", "open-gop=1:keyint=12:bframes=3"],
    "refresh.ts": [*X264, "-x264-params", "intra-refresh=1:keyint=12:bframes=0"],
    "variable.mp4": [*VARIABLE, *X264, "-bf", "2", "-g", "9"],
    "variable.webm": [*VARIABLE, "-c:v", "libvpx", "-g", "9"],
    "one-key.mkv": [*X264, "-g", "1000"],
    "h265.mp4": ["-c:v", "libx265", "-x265-params", "log-level=error:keyint=12", "-pix_fmt", "yuv420p"],
    "vp8.webm": ["-c:v", "libvpx", "-g", "10", "-auto-alt-ref", "1", "-lag-in-frames", "10"],
    "vp9.webm": ["-c:v", "libvpx-vp9", "-g", "10"],
    "motion.avi": ["-c:v", "mjpeg"],
    "mpeg4.mp4": ["-c:v", "mpeg4", "-bf", "2", "-g", "10"],
    "mpeg4.avi": ["-c:v", "mpeg4", "-bf", "2", "-g", "10"],
    "mpeg2.mpg": ["-c:v", "mpeg2video", "-bf", "2"],
    "edited.mp4": ["-ss", "1.3", "-c", "copy"],
    "hurt.mp4": [*X264, "-bf", "2", "-g", "12", "-movflags", "+faststart"],
    "lossy.ts": [*X264, "-bf", "2", "-g", "12"],
    "torn.mkv": [*X264, "-g", "12"],
}
EXACT = {"h264.mp4", "h264.ts", "variable.mp4", "variable.webm", "h265.mp4", "vp8.webm", "vp9.webm"} | {
    "motion.avi",
    "mpeg4.mp4",
}
"""Those that are begun in the middle; the others mostly are decoded from the start."""
DAMAGED = {"hurt.mp4", "lossy.ts", "torn.mkv"}
"""How decoders make up for what is missing may differ even between two readings from the start."""


@pytest.fixture(scope="module")
def film_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A film of 80 small frames at 10 a second, of the kind that is named."""
    folder = tmp_path_factory.mktemp("films")
    plain = write_video(folder / "plain.mp4", ("astronaut", "coffee", "rocket", "cat"), size=(64, 48))
    with_key_frames = ffmpeg(plain, *X264, "-bf", "3", "-g", "12", to=folder / "key-frames.mp4")

    @cache
    def make(kind: str) -> Path:
        path = folder / kind
        if kind == "edited.mp4":  # its packets begin before its first frame
            return ffmpeg(with_key_frames, *KINDS[kind], to=path)
        ffmpeg(plain, *KINDS[kind], to=path)
        data = bytearray(path.read_bytes())
        if kind in ("hurt.mp4", "lossy.ts"):
            data[len(data) * 3 // 4 : len(data) * 3 // 4 + 600] = bytes(600)
        if kind == "torn.mkv":
            del data[len(data) * 2 // 3 :]
        path.write_bytes(data)
        return path

    return make


@pytest.fixture(scope="module")
def whole_of(film_of: Callable[[str], Path]) -> Callable[[str, Selection], list[Frame]]:
    """The frames of a film that is read from its start to its end."""

    @cache
    def read(kind: str, selection: Selection) -> list[Frame]:
        return list(read_video(film_of(kind), selection))

    return read


def same(some: list[Frame], others: list[Frame], *, pixels: bool = True) -> bool:
    def plain(frames: list[Frame]) -> list[tuple[object, ...]]:
        return [(frame.position, frame.frame, frame.timestamp_s) for frame in frames]

    return plain(some) == plain(others) and all(
        np.array_equal(one.image, other.image) for one, other in zip(some, others, strict=True) if pixels
    )


def joined(path: Path, selection: Selection, of: int) -> list[Frame]:
    """The frames of all passages, put together."""
    frames = []
    for index in range(of):
        frames += list(read_video(path, selection, passage=Passage(index, of)))
    return frames


@pytest.fixture
def begun_at(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The packets at which decoding began."""
    begun: list[int] = []
    original = pyav_reader._Decoding._stretches

    def spy(decoding: object, numbers: object) -> Iterator[tuple[int, int]]:
        for first, last in original(decoding, numbers):  # type: ignore[arg-type]
            begun.append(first)
            yield first, last

    monkeypatch.setattr(pyav_reader._Decoding, "_stretches", spy)
    return begun


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("selection", SELECTIONS[:2], ids=["all", "every"])
def test_passages_put_together_are_the_film(
    film_of: Callable[[str], Path],
    whole_of: Callable[[str, Selection], list[Frame]],
    kind: str,
    selection: Selection,
    begun_at: list[int],
) -> None:
    whole = whole_of(kind, selection)
    assert len(whole) > 5
    for of in (2, 5):
        assert same(joined(film_of(kind), selection, of), whole, pixels=kind not in DAMAGED)
    if kind in EXACT:
        assert len(set(begun_at)) >= 4, "decoded from the start, all of it"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in DAMAGED])
def test_what_is_left_out_on_the_way_changes_no_pixel(
    film_of: Callable[[str], Path], whole_of: Callable[[str, Selection], list[Frame]], kind: str
) -> None:
    whole = {frame.frame: frame for frame in whole_of(kind, ALL)}
    for every in (0.3, 1.1, 2.0):
        for frame in read_video(film_of(kind), Selection(every=every)):
            assert frame.timestamp_s == whole[frame.frame].timestamp_s
            assert np.array_equal(frame.image, whole[frame.frame].image)


@settings(deadline=None, max_examples=40)
@given(
    kind=st.sampled_from(
        ["h264.mp4", "variable.mp4", "variable.webm", "h265.mp4", "h264.avi", "one-key.mkv"]
    ),
    selection=st.sampled_from(SELECTIONS),
    of=st.integers(1, 90),
    which=st.integers(0, 88),
)
def test_any_two_passages_that_meet_lose_and_repeat_nothing(
    film_of: Callable[[str], Path],
    whole_of: Callable[[str, Selection], list[Frame]],
    kind: str,
    selection: Selection,
    of: int,
    which: int,
) -> None:
    path, whole = film_of(kind), whole_of(kind, selection)
    count = index_of(path).count
    two = [Passage(which % of, of), Passage(which % of + 1, of)][: 2 if which % of + 1 < of else 1]
    first, end = two[0].cut(count)[0], two[-1].cut(count)[1]
    wanted = [frame for frame in whole if first <= int(frame.frame) < end]
    found = [frame for passage in two for frame in read_video(path, selection, passage=passage)]
    assert same(found, wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_known_need_not_be_decoded_again(
    film_of: Callable[[str], Path],
    whole_of: Callable[[str, Selection], list[Frame]],
    kind: str,
    begun_at: list[int],
) -> None:
    for selection in (ALL, Selection(every=0.5)):
        whole = whole_of(kind, selection)
        for first in (1, len(whole) // 2, len(whole) - 1, len(whole)):
            last = whole[first - 1]
            known = (int(last.frame), float(last.timestamp_s or 0))
            rest = read_video(film_of(kind), selection, first_position=first, after=known)
            assert same(list(rest), whole[first:], pixels=kind not in DAMAGED)
    assert len(set(begun_at)) > 1 or kind not in EXACT


def test_the_rest_of_a_passage_ends_where_the_passage_does(
    film_of: Callable[[str], Path], whole_of: Callable[[str, Selection], list[Frame]]
) -> None:
    for kind in ("h264.mp4", "h264.avi"):
        whole = list(read_video(film_of(kind), ALL, passage=Passage(1, 3)))
        last = whole[9]
        known = (int(last.frame), float(last.timestamp_s or 0))
        rest = list(read_video(film_of(kind), ALL, first_position=10, after=known, passage=Passage(1, 3)))
        assert same(rest, whole[10:])


def test_what_is_known_of_another_film_is_not_believed(
    film_of: Callable[[str], Path], whole_of: Callable[[str, Selection], list[Frame]]
) -> None:
    rest = list(read_video(film_of("h264.mp4"), ALL, first_position=30, after=(31, 3.1)))
    assert same(rest, whole_of("h264.mp4", ALL)[30:])


@pytest.mark.parametrize("of", [2, 3, 5, 8])
@pytest.mark.parametrize("every_s", [0.04, 0.4, 1.0, 2.4])
def test_passages_that_meet_in_damage_lose_and_repeat_nothing(
    tmp_path: Path, of: int, every_s: float
) -> None:
    """What takes the place of a frame that cannot be decoded may belong to the next passage."""
    options = {"bf": "2", "g": "10", "crf": "16", "sc_threshold": "0"}
    path = write(tmp_path / "film.mp4", Track([numbered(number) for number in range(100)], options=options))
    blank_packets(path, range(28, 62))
    selection = Selection(every=every_s)
    whole = list(read_video(path, selection))
    assert sum(frame.gap is not None for frame in whole) >= 1
    assert same(joined(path, selection, of), whole)
    gaps = [frame.gap for frame in joined(path, selection, of)]
    assert gaps == [frame.gap for frame in whole]


@pytest.mark.parametrize("of", [1, 2, 3, 7])
def test_scenes_are_the_same_in_passages(tmp_path: Path, of: int) -> None:
    """Also where cuts follow each other so fast that not all of them count."""
    lengths = [20, 3, 3, 3, 30, 12, 5, 25]
    names = ["astronaut", "coffee", "rocket", "cat"]
    frames = (frame for number, length in enumerate(lengths) for frame in pan(names[number % 4], length))
    path = write_frames(tmp_path / "film.webm", frames)
    whole = list(read_video(path, Selection(scenes=True)))
    assert len(whole) >= 4
    parts = joined(path, Selection(scenes=True), of)
    assert [(one.frame, one.timestamp_s, one.end_s) for one in parts] == [
        (one.frame, one.timestamp_s, one.end_s) for one in whole
    ]
    assert [frame.end_s for frame in whole[:-1]] == [frame.timestamp_s for frame in whole[1:]]


def test_more_passages_than_frames(tmp_path: Path) -> None:
    path = write_video(tmp_path / "film.webm", ("cat",), frames_each=3)
    assert same(joined(path, ALL, 10), list(read_video(path, ALL)))


def test_frames_that_are_decoded_early_and_shown_later_are_there(
    film_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """In VP9 a packet may say no more than: now show that one."""
    path = tmp_path / "film.webm"
    options = ["-c:v", "libvpx-vp9", "-auto-alt-ref", "6", "-lag-in-frames", "25"]
    options += ["-passlogfile", str(tmp_path / "log")]
    ffmpeg(film_of("h264.mp4"), *options, "-pass", "1", to=tmp_path / "first.webm")
    ffmpeg(film_of("h264.mp4"), *options, "-pass", "2", to=path)
    with av.open(str(path)) as container:
        assert min(packet.size for packet in container.demux(video=0) if packet.size) < 5
    assert [frame.frame for frame in read_video(path, ALL)] == list(range(80))
    assert same(joined(path, ALL, 5), list(read_video(path, ALL)))


def test_no_picture_is_taken_that_depends_on_one_that_is_lost(tmp_path: Path) -> None:
    """Also where another one is lost before those that the first one spoiled have come."""
    options = {"bf": "2", "g": "100", "crf": "16", "sc_threshold": "0"}
    path = write(tmp_path / "film.mp4", Track([numbered(number) for number in range(100)], options=options))
    blank_packets(path, range(54, 55))
    blank_packets(path, range(56, 57))
    for selection in (ALL, Selection(every=0.12), Selection(every=1)):
        for frame in read_video(path, selection):
            assert number_of(frame.image) == frame.frame
