"""Which frames of a video are read, at which times, and what becomes of damaged ones."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import GpucaptError
from pipeline.errors import BadInput
from pipeline.media import pyav_reader
from pipeline.media.frame import Frame
from pipeline.media.frame_choice import AtTimes
from pipeline.records.frame_selection import Selection
from tests.media import ffmpeg, pan, photograph, write_frames, write_video
from tests.videos import Track, read_video, write

ALL = Selection(every=None)


def numbers(path: Path, selection: Selection, **options: object) -> list[int | str]:
    return [frame.frame for frame in read_video(path, selection, **options)]  # type: ignore[arg-type]


def times(path: Path, selection: Selection) -> list[float | None]:
    return [frame.timestamp_s for frame in read_video(path, selection)]


def same(one: Frame, other: Frame) -> bool:
    return (one.position, one.frame, one.timestamp_s) == (
        other.position,
        other.frame,
        other.timestamp_s,
    ) and (np.array_equal(one.image, other.image))


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("films")


@pytest.fixture(scope="module")
def film(films: Path) -> Path:
    """Six seconds at 10 frames a second: 20 frames each of an astronaut, a cup of coffee and a rocket."""
    return write_video(films / "film.webm")


@pytest.fixture(scope="module")
def h264(films: Path, film: Path) -> Path:
    """The same film with B-frames and few key frames."""
    options = ["-c:v", "libx264", "-bf", "3", "-g", "250", "-pix_fmt", "yuv420p", "-crf", "18"]
    return ffmpeg(film, *options, to=films / "h264.mp4")


# Selection


@pytest.mark.parametrize("name", ["film.webm", "film.mp4", "film.avi"])
def test_every_frame_has_its_number_time_and_picture(tmp_path: Path, name: str) -> None:
    path = write_video(tmp_path / name)
    frames = list(read_video(path, ALL))
    assert [frame.position for frame in frames] == list(range(60))
    assert [frame.frame for frame in frames] == list(range(60))
    assert [frame.timestamp_s for frame in frames] == pytest.approx([n / 10 for n in range(60)], abs=0.001)
    wanted = [picture for scene in ("astronaut", "coffee", "rocket") for picture in pan(scene, 20)]
    for frame, picture in zip(frames, wanted, strict=True):
        assert frame.image.shape == (64, 96, 3) and frame.image.dtype == np.uint8
        assert np.abs(frame.image.astype(float) - picture).mean() < 16, "not this frame, or not RGB"


def test_one_frame_a_second_unless_said_otherwise(film: Path) -> None:
    assert numbers(film, Selection()) == [0, 10, 20, 30, 40, 50]


@pytest.mark.parametrize(
    ("selection", "wanted"),
    [
        (Selection(every=2), [0, 20, 40]),
        (Selection(every=2.5), [0, 25, 50]),
        # The first frame at or after each quarter of a second: 0, 0.3, 0.5, 0.8 …
        (Selection(every=0.25, max_frames=6), [0, 3, 5, 8, 10, 13]),
        (Selection(every=100), [0]),
        (Selection(every=0.001), list(range(60))),
        (Selection(fps=2), list(range(0, 60, 5))),
        (Selection(fps=0.5), [0, 20, 40]),
        (Selection(fps=30), list(range(60))),
        (Selection(fps=3, max_frames=7), [0, 4, 7, 10, 14, 17, 20]),
        (Selection(every=5, fps=1), [0, 10, 20, 30, 40, 50]),
        (Selection(max_frames=3), [0, 10, 20]),
    ],
)
def test_frames_by_time(film: Path, selection: Selection, wanted: list[int]) -> None:
    assert numbers(film, selection) == wanted


def test_milliseconds_that_a_container_rounds_do_not_cost_frames(tmp_path: Path) -> None:
    """Matroska says 33, 67, 100 … for 30 frames a second; 33 is before 33.3."""
    path = write_video(tmp_path / "film.webm", ["cat"], frames_each=45, fps=30)
    assert numbers(path, Selection(fps=30)) == list(range(45))
    assert numbers(path, Selection(fps=10)) == list(range(0, 45, 3))


@settings(deadline=None)
@given(
    gaps=st.lists(st.integers(1, 3000), max_size=40),
    start=st.integers(0, 10_000),
    every_ms=st.sampled_from([40, 500, 1000, 2500]),
)
def test_of_any_rate_the_first_frame_at_or_after_each_multiple(
    gaps: list[int], start: int, every_ms: int
) -> None:
    at_ms = [start]
    for gap in gaps:
        at_ms.append(at_ms[-1] + gap)
    choose = AtTimes(every_ms)
    chosen = [number for number, time in enumerate(at_ms) if choose(time)]
    wanted = []
    for multiple in range((at_ms[-1] - start) // every_ms + 1):
        first = next(n for n, time in enumerate(at_ms) if time - start >= multiple * every_ms)
        if first not in wanted:
            wanted.append(first)
    assert chosen == wanted


@pytest.mark.parametrize(
    "wrong",
    [
        {"every": 0},
        {"every": -1},
        {"fps": 0},
        {"every": float("nan")},
        {"fps": float("inf")},
        {"max_frames": 0},
    ],
)
def test_selections_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(GpucaptError):
        Selection(**wrong)  # type: ignore[arg-type]


def test_a_limit_stops_reading(film: Path, decoded: list[int]) -> None:
    assert numbers(film, Selection(max_frames=2)) == [0, 10]
    assert len(decoded) < 40


@pytest.mark.needs("ffmpeg")
def test_only_what_chosen_frames_need_is_decoded(films: Path, h264: Path, decoded: list[int]) -> None:
    """Of a group of pictures that holds no chosen frame nothing is."""
    path = ffmpeg(h264, "-c:v", "libx264", "-g", "10", "-bf", "0", to=films / "groups.mp4")
    assert numbers(path, Selection(every=2)) == [0, 20, 40]
    assert decoded == [0, 20, 40]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The packets that are given to the decoder, in order."""
    places: list[int] = []
    original = pyav_reader._Decoding._decoded

    def spy(decoding: object, place: int, packet: object) -> Iterator[object]:
        if packet is not None:
            places.append(place)
        yield from original(decoding, place, packet)  # type: ignore[arg-type]

    monkeypatch.setattr(pyav_reader._Decoding, "_decoded", spy)
    return places


# Scenes


def test_one_frame_for_each_scene_its_middle(film: Path) -> None:
    assert numbers(film, Selection(scenes=True)) == [10, 30, 50]
    assert numbers(film, Selection(scenes=True, max_frames=2)) == [10, 30]


def test_a_film_without_cuts_is_one_scene(tmp_path: Path) -> None:
    path = write_video(tmp_path / "film.mp4", ["cat"], frames_each=21)
    assert numbers(path, Selection(scenes=True)) == [10]


def test_a_film_of_one_frame_is_one_scene(tmp_path: Path) -> None:
    path = write_video(tmp_path / "film.mp4", ["cat"], frames_each=1)
    assert numbers(path, Selection(scenes=True)) == [0]


# Duplicates


@pytest.fixture(scope="module")
def slides(films: Path) -> Path:
    """Slides of one second, two of them shown again right away, with the noise of coding."""
    shown = ["coffee", "coffee", "rocket", "cat", "cat", "cat", "coffee"]
    frames = (photograph(name, size=(96, 64)) for name in shown for _ in range(10))
    return write_frames(films / "slides.mp4", frames)


def test_frames_that_look_like_the_last_one_kept_are_left_out(slides: Path) -> None:
    assert numbers(slides, Selection(skip_duplicates=True)) == [0, 20, 30, 60]
    assert numbers(slides, Selection(every=None, skip_duplicates=True)) == [0, 20, 30, 60]
    assert numbers(slides, Selection(skip_duplicates=True, max_frames=3)) == [0, 20, 30]
    kept = list(read_video(slides, Selection(skip_duplicates=True)))
    assert [frame.position for frame in kept] == [0, 1, 2, 3]


def test_something_small_that_enters_is_no_duplicate(tmp_path: Path) -> None:
    empty = photograph("coffee", size=(96, 64))
    entered = empty.copy()
    entered[20:32, 40:49] = (250, 250, 250)  # under 2 % of the picture
    path = write_frames(tmp_path / "film.mp4", (frame for frame in [empty, empty, entered, entered]))
    assert numbers(path, Selection(every=None, skip_duplicates=True)) == [0, 2]


def test_a_slow_change_adds_up(tmp_path: Path) -> None:
    """Each frame looks like the one before it, but not like the last one kept."""
    path = write_frames(tmp_path / "film.mp4", pan("temple", 40))
    kept = numbers(path, Selection(every=None, skip_duplicates=True))
    assert 2 < len(kept) < 40


# Resuming and splitting


@pytest.mark.parametrize(
    "selection",
    [
        ALL,
        Selection(),
        Selection(fps=3),
        Selection(scenes=True),
        Selection(every=None, skip_duplicates=True),
        Selection(every=0.5, skip_duplicates=True, max_frames=4),
        Selection(every=None, max_frames=30),
    ],
)
@pytest.mark.parametrize("name", ["film", "slides"])
def test_a_resumed_run_reads_the_same_frames(
    request: pytest.FixtureRequest, name: str, selection: Selection
) -> None:
    path = request.getfixturevalue(name)
    undisturbed = list(read_video(path, selection))
    for first in {
        0,
        1,
        2,
        len(undisturbed) // 2,
        len(undisturbed) - 1,
        len(undisturbed),
        len(undisturbed) + 5,
    }:
        resumed = list(read_video(path, selection, first_position=first))
        assert len(resumed) == max(0, len(undisturbed) - first)
        assert all(map(same, resumed, undisturbed[first:]))


# What ffmpeg can make


@pytest.mark.needs("ffmpeg")
def test_b_frames_come_in_the_order_in_which_they_are_shown(film: Path, h264: Path) -> None:
    original, coded = list(read_video(film, ALL)), list(read_video(h264, ALL))
    assert [frame.timestamp_s for frame in coded] == pytest.approx([frame.timestamp_s for frame in original])
    for one, other in zip(original, coded, strict=True):
        assert np.abs(one.image.astype(float) - other.image).mean() < 6


@pytest.mark.needs("ffmpeg")
@pytest.mark.parametrize("extension", ["mp4", "mkv", "ts"])
def test_a_variable_frame_rate_keeps_its_times(films: Path, h264: Path, extension: str) -> None:
    kept = [0, 1, 2, 9, 10, 11, 30, 31, 47, 48, 49, 59]
    chosen = "+".join(f"eq(n,{n})" for n in kept)
    options = ["-vf", f"select='{chosen}'", "-fps_mode", "vfr", "-c:v", "libx264", "-bf", "2"]
    path = ffmpeg(h264, *options, to=films / f"vfr.{extension}")
    assert times(path, ALL) == pytest.approx([n / 10 for n in kept], abs=0.001)
    assert times(path, Selection()) == pytest.approx([0, 1.0, 3.0, 4.7, 5.9], abs=0.001)
    assert numbers(path, Selection()) == [0, 4, 6, 8, 11]


@pytest.mark.parametrize(("matrix", "turns"), [((0, 1, -1, 0), -1), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)])
def test_a_film_from_a_turned_phone_is_upright(
    tmp_path: Path, matrix: tuple[int, int, int, int], turns: int
) -> None:
    """MP4 says in its track header how the picture is to be turned; (0, 1, -1, 0) is a quarter clockwise."""
    plain = write_video(tmp_path / "plain.mp4", ["cat"], frames_each=1)
    data = bytearray(plain.read_bytes())
    at = data.index(b"tkhd") + 44
    a, b, c, d = (value << 16 for value in matrix)
    data[at : at + 20] = struct.pack(">5i", a, b, 0, c, d)
    (tmp_path / "turned.mp4").write_bytes(data)
    (before,), (after,) = read_video(plain, ALL), read_video(tmp_path / "turned.mp4", ALL)
    assert np.array_equal(after.image, np.rot90(before.image, turns))


@pytest.mark.needs("ffmpeg")
def test_a_stream_without_times_gets_them_from_its_rate(films: Path, h264: Path) -> None:
    path = ffmpeg(h264, "-c:v", "mpeg4", "-bf", "2", to=films / "untimed.avi")
    found = times(path, ALL)
    assert len(found) == 60
    assert np.diff(np.array(found, dtype=float)) == pytest.approx(0.1, abs=0.001)


@pytest.mark.needs("ffmpeg")
def test_a_stream_that_changes_its_size_goes_on(films: Path, h264: Path) -> None:
    small = ffmpeg(h264, "-vf", "scale=48:32", "-c:v", "libx264", to=films / "small.ts")
    large = ffmpeg(h264, "-c:v", "libx264", to=films / "large.ts")
    both = films / "both.ts"
    both.write_bytes(large.read_bytes() + small.read_bytes())
    frames = list(read_video(both, ALL))
    assert len(frames) == 120
    assert [frame.image.shape for frame in frames] == [(64, 96, 3)] * 60 + [(32, 48, 3)] * 60
    for one, other in zip(frames[:60], frames[60:], strict=True):
        enlarged = cv2.resize(other.image, (96, 64))
        assert np.abs(one.image.astype(float) - enlarged).mean() < 25
    rising = pairwise([float(frame.timestamp_s or 0) for frame in frames])
    assert all(one < other for one, other in rising), "the second half's own times begin at 0 again"


@pytest.mark.needs("ffmpeg")
def test_a_film_of_sound_alone_is_bad(films: Path) -> None:
    path = films / "sound.mp4"
    command = ["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", "sine=d=1", str(path)]
    subprocess.run(command, check=True)
    with pytest.raises(BadInput, match=r"sound\.mp4"):
        list(read_video(path, Selection()))


# Damage


def test_a_film_that_breaks_off_gives_the_frames_before(film: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.webm"
    cut.write_bytes(film.read_bytes()[: film.stat().st_size // 2])
    whole, rest = list(read_video(film, ALL)), list(read_video(cut, ALL))
    assert 10 < len(rest) < 50
    assert all(map(same, rest[:-1], whole))


@pytest.mark.needs("ffmpeg")
def test_damage_in_the_middle_does_not_end_the_film(films: Path, h264: Path) -> None:
    path = ffmpeg(h264, "-c:v", "libx264", "-g", "10", "-movflags", "+faststart", to=films / "hurt.mp4")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 600] = random.Random(0).randbytes(600)
    path.write_bytes(data)
    found = times(path, ALL)
    assert found[-1] == pytest.approx(5.9, abs=0.001)


BAD_FILMS = {
    "empty.mp4": b"",
    "text.mp4": b"this is a text and no film\n" * 40,
    "header.mp4": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom",
    "playlist.mp4": b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfilm.webm\n#EXT-X-ENDLIST\n",
    "list.mp4": b"ffconcat version 1.0\nfile film.webm\n",
    "line\nbreak.avi": b"RIFF\0\0\0\0AVI LIST",
}


@pytest.mark.parametrize("name", BAD_FILMS)
def test_what_is_no_film_is_bad_in_one_line(film: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "film.webm").write_bytes(film.read_bytes())
    (tmp_path / name).write_bytes(BAD_FILMS[name])
    for selection in (Selection(), Selection(scenes=True)):
        with pytest.raises(BadInput) as caught:
            list(read_video(tmp_path / name, selection))
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith(name.replace("\n", "\\n"))


def test_a_film_that_is_gone_is_bad(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"gone\.mp4.*No such file"):
        list(read_video(tmp_path / "gone.mp4", Selection()))


def test_nothing_reaches_stderr_from_below(film: Path, tmp_path: Path) -> None:
    for name, data in BAD_FILMS.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "cut.webm").write_bytes(film.read_bytes()[: film.stat().st_size // 3])
    (tmp_path / "picture.mp4").write_bytes(cv2.imencode(".jpg", photograph("cat"))[1].tobytes())
    script = """
import sys
from pathlib import Path
from pipeline.errors import BadInput
from pipeline.media.video_reader import OpenVideo
from pipeline.records.frame_selection import Selection
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        print(sum(1 for _ in OpenVideo(path).frames(Selection())))
    except BadInput as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == len(BAD_FILMS) + 2


@pytest.mark.parametrize(
    "name", [b"caf\xe9.webm", "🎬 'a' %03d.webm".encode(), b"two\nlines.webm", b"http:--x.webm"]
)
def test_a_film_of_any_name_is_read(film: Path, tmp_path: Path, name: bytes) -> None:
    path = tmp_path / os.fsdecode(name)
    path.write_bytes(film.read_bytes())
    assert len(numbers(path, Selection())) == 6


def test_a_reader_that_is_left_early_closes_the_film(film: Path) -> None:
    for _ in range(3):
        frames = read_video(film, ALL)
        list(islice(frames, 2))
        frames.close()  # type: ignore[attr-defined]
    opened = {link.resolve() for link in Path("/proc/self/fd").iterdir()}
    assert film.resolve() not in opened


def test_scenes_of_recordings_of_other_sizes_that_were_joined(tmp_path: Path) -> None:
    parts = [
        write(tmp_path / f"{width}.ts", Track(pan(name, 40, size=(width, 64))))
        for name, width in (("cat", 96), ("rocket", 160))
    ]
    both = tmp_path / "both.ts"
    both.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert numbers(both, Selection(scenes=True)) == [20, 60]


def test_a_film_of_headers_alone_is_bad_in_one_line(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.mkv", Track(pan("cat", 10)))
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.read_bytes().index(b"\x1f\x43\xb6\x75") + 14])
    with pytest.raises(BadInput, match=r"cut\.mkv: not one frame"):
        list(read_video(cut, Selection()))


def test_more_frames_a_second_than_there_can_be_are_all_frames(film: Path) -> None:
    assert numbers(film, Selection(fps=1e308)) == list(range(60))
