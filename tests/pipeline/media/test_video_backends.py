"""What people's files show, by both backends: the right stream, times, shape, side, colours; or a refusal."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from pipeline.errors import BadInput
from pipeline.media.frame import Frame
from pipeline.media.video_reader import OpenVideo
from pipeline.records.frame_selection import Selection
from tests.videos import (
    Picture,
    Track,
    blank_packets,
    corners,
    is_colour,
    is_numbered,
    number_of,
    numbered,
    read_video,
    set_matrix,
    shows_corners,
    write,
)

pytestmark = pytest.mark.slow

ALL = Selection(every=None)
GREY = np.full((120, 120, 3), 128, np.uint8)


def film(count: int = 60, first: int = 0) -> list[Picture]:
    return [numbered(first + number) for number in range(count)]


# The same kinds, in several containers and codecs.


def interlaced_frames() -> Iterator[Picture]:
    """A bright bar that moves between the two fields of each frame."""
    for number in range(30):
        fields = [np.full((288, 352, 3), 60, np.uint8) for _ in range(2)]
        for field, picture in enumerate(fields):
            left = (2 * number + field) * 8 % 300
            picture[:, left : left + 40] = 235
        fields[0][1::2] = fields[1][1::2]
        yield fields[0]


def interlaced(path: Path) -> Path:
    codec, options = {
        ".ts": ("mpeg2video", {"flags": "+ilme+ildct", "b": "6M"}),
        ".mpg": ("mpeg2video", {"flags": "+ilme+ildct", "b": "6M", "bf": "2"}),
        ".mp4": ("libx264", {"flags": "+ilme+ildct", "x264-params": "tff=1", "crf": "10"}),
        ".mkv": ("libx264", {"flags": "+ilme+ildct", "x264-params": "bff=1", "crf": "10"}),
    }[path.suffix]
    return write(path, Track(interlaced_frames(), codec, options))


def is_deinterlaced(frame: Frame) -> bool:
    """The bar has straight edges: rows differ from the next ones no more than from those after them."""
    image = frame.image.astype(int)
    assert image.max() > 200, "a black picture"
    return bool(np.abs(image[1:] - image[:-1]).mean() < 2)


def av1(path: Path) -> Path:
    pixels = "yuv420p10le" if path.suffix == ".webm" else "yuv420p"
    return write(
        path, Track(film(), "libsvtav1", {"preset": "8", "crf": "4", "svtav1-params": "enable-tf=0"}, pixels)
    )


def cover_first(path: Path) -> Path:
    """A cover as the first stream."""
    cover = Track([GREY], "mjpeg", {}, "yuvj420p", 1, base=Fraction(1), disposition=Disposition.attached_pic)
    return write(path, cover, Track(film()))


def cover_in_user_data(path: Path) -> Path:
    """A cover in user data that stand before the tracks of an MP4, as some taggers write them."""
    write(path, Track(film()))
    data = path.read_bytes()
    start = data.index(b"moov") - 4
    (size,) = struct.unpack(">I", data[start : start + 4])
    children, at = [], start + 8
    while at < start + size:
        (length,) = struct.unpack(">I", data[at : at + 4])
        children.append(data[at : at + length])
        at += length
    jpeg = av.CodecContext.create("mjpeg", "w")
    jpeg.width = jpeg.height = 120
    jpeg.pix_fmt, jpeg.time_base = "yuvj420p", Fraction(1)
    frame = av.VideoFrame.from_ndarray(GREY).reformat(format="yuvj420p")
    picture = b"".join(bytes(packet) for packet in [*jpeg.encode(frame), *jpeg.encode(None)])
    handler = box("hdlr", struct.pack(">II4s4sIIB", 0, 0, b"mdir", b"appl", 0, 0, 0))
    cover = box("covr", box("data", struct.pack(">II", 13, 0) + picture))
    user = box("udta", box("meta", struct.pack(">I", 0) + handler + box("ilst", cover)))
    others = [child for child in children[1:] if child[4:8] != b"udta"]
    moov = box("moov", b"".join([children[0], user, *others]))
    path.write_bytes(data[:start] + moov + data[start + size :])
    return path


def box(kind: str, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind.encode() + content


def thumbnail_track_first(path: Path) -> Path:
    """A track of one frame, as a drone's camera writes it, which even is the default."""
    return write(path, Track([GREY], "mjpeg", {}, "yuvj420p", 1, base=Fraction(1)), Track(film()))


def second_is_default(path: Path) -> Path:
    preview = Track([GREY] * 60, disposition=Disposition(0))
    return write(path, preview, Track(film(), disposition=Disposition.default))


def starts_later(path: Path) -> Path:
    codec, options = (
        ("libvpx", {"deadline": "realtime"}) if path.suffix == ".webm" else ("libx264", {"bf": "0"})
    )
    times = [2000 + 40 * number for number in range(60)]
    return write(path, Track(film(), codec, options, times=times, base=Fraction(1, 1000)), sound_s=5)


def damaged(path: Path) -> Path:
    """Frames 25 to 49 of 100 are lost; key frames are 10 apart."""
    options = {"bf": "0", "g": "10", "crf": "16", "sc_threshold": "0"}
    codec = {".mp4": "libx264", ".mkv": "libx265", ".mov": "mpeg4"}[path.suffix]
    if codec == "libx265":
        options = {"x265-params": "log-level=none:keyint=10:min-keyint=10:scenecut=0:bframes=0", "crf": "12"}
    if codec == "mpeg4":
        options = {"bf": "0", "g": "10", "b": "4M", "sc_threshold": "1000000000"}
    write(path, Track(film(100), codec, options))
    return blank_packets(path, range(25, 50))


def begins_without_key(path: Path) -> Path:
    """A recording cut out of another one: fifteen frames come before the first key frame."""
    options = {"bf": "0", "g": "30", "keyint_min": "30", "sc_threshold": "0", "crf": "16"}
    whole = write(path.with_suffix(".whole.ts"), Track(film(75), "libx264", options))
    with av.open(str(whole)) as container:
        at = [packet.pos for packet in container.demux(video=0) if packet.size][15]
    path.write_bytes(whole.read_bytes()[at - at % 188 :])
    return path


MATRICES = {
    "as stored": ((1, 0, 0, 1), lambda shown: shown),
    "mirrored": ((-1, 0, 0, 1), lambda shown: shown[:, ::-1]),
    "upside down and mirrored": ((1, 0, 0, -1), lambda shown: shown[::-1]),
    "upside down": ((-1, 0, 0, -1), lambda shown: shown[::-1, ::-1]),
    "quarter": ((0, 1, -1, 0), lambda shown: np.rot90(shown, 1)),
    "three quarters": ((0, -1, 1, 0), lambda shown: np.rot90(shown, -1)),
    "quarter and mirrored": ((0, 1, 1, 0), lambda shown: shown.transpose(1, 0, 2)),
    "three quarters and mirrored": ((0, -1, -1, 0), lambda shown: np.rot90(shown, 2).transpose(1, 0, 2)),
}
"""(a, b, c, d) of the display matrix, and what is stored so that it comes out right."""


def turned(kind: str) -> Callable[[Path], Path]:
    matrix, stored = MATRICES[kind]

    def make(path: Path) -> Path:
        picture = np.ascontiguousarray(stored(corners()))
        return set_matrix(write(path, Track([picture] * 5, options={"crf": "8"})), matrix)

    return make


def anamorphic(aspect: Fraction) -> Callable[[Path], Path]:
    """A disc that is round where pixels are ``aspect`` times as wide as high."""

    def make(path: Path) -> Path:
        height, width = 240, round(360 / float(aspect))
        width -= width % 2
        down, across = np.mgrid[:height, :width]
        picture = np.full((height, width, 3), 40, np.uint8)
        picture[((across - width / 2) * float(aspect)) ** 2 + (down - 120) ** 2 < 80**2] = 235
        return write(path, Track([picture] * 5, options={"crf": "8"}, aspect=aspect))

    return make


def disc_is_round(frame: Frame) -> bool:
    bright = frame.image[..., 1] > 140
    high, wide = bright.any(axis=1).sum(), bright.any(axis=0).sum()
    return abs(int(high) - 160) <= 4 and abs(int(wide) - 160) <= 4


def transparent(path: Path) -> Path:
    """A red square on nothing, under which green is hidden."""
    rgba = np.zeros((120, 160, 4), np.uint8)
    rgba[..., :3] = (0, 255, 0)
    rgba[30:90, 40:120] = (220, 30, 30, 255)
    codec, options, pixels = {
        ".webm": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "crf": "10"}, "yuva420p"),
        ".mov": ("prores_ks", {"profile": "4444"}, "yuva444p10le"),
        ".avi": ("ffv1", {}, "yuva420p"),
    }[path.suffix]
    frames = [av.VideoFrame.from_ndarray(rgba, format="rgba") for _ in range(5)]
    return write(path, Track(frames, codec, options, pixels))


def is_on_white(frame: Frame) -> bool:
    image = frame.image
    return is_colour(image[60, 80], (220, 30, 30)) and is_colour(image[10, 10], (255, 255, 255), 12)


PATCHES = {(1.0, 1.0, 1.0): 251, (0.18, 0.18, 0.18): 118, (0.5, 0.5, 0.5): 188, (0.02, 0.02, 0.02): 39}
"""Light, as a share of diffuse white, and what it is in sRGB (white is rolled off a little)."""


def hdr(curve: int) -> Callable[[Path], Path]:
    """Patches of grey in 10 bits, by the curve with this number (H.273), written as limited range."""

    def make(path: Path) -> Path:
        light = np.array([patch[0] for patch in PATCHES])
        if curve == 16:
            power = (light * 203 / 10000) ** 0.1593017578125
            signal = ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375
        else:
            scene = light * 0.26496256
            signal = np.where(
                scene <= 1 / 12,
                np.sqrt(3 * scene),
                0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073,
            )
        luma = np.repeat(np.round(64 + 876 * signal), 32).astype("<u2")
        return write(
            path, Track([hdr_frame(luma) for _ in range(3)], "libx265", hdr_options(curve), "yuv420p10le")
        )

    return make


def hdr_options(curve: int) -> dict[str, str]:
    return {
        "x265-params": f"colorprim=9:transfer={curve}:colormatrix=9:range=limited:log-level=none",
        "crf": "4",
    }


def hdr_frame(luma: np.ndarray) -> av.VideoFrame:
    frame = av.VideoFrame(len(luma), 64, "yuv420p10le")
    for plane, row in zip(frame.planes, (luma, luma[::2] * 0 + 512, luma[::2] * 0 + 512), strict=True):
        rows = np.zeros((plane.height, plane.line_size // 2), "<u2")
        rows[:, : len(row)] = row
        plane.update(rows.tobytes())
    frame.colorspace, frame.color_range, frame.color_primaries = 9, 1, 9
    return frame


def has_right_greys(frame: Frame) -> bool:
    found = [frame.image[32, 16 + 32 * place] for place in range(len(PATCHES))]
    return all(is_colour(pixel, (grey,) * 3, 6) for pixel, grey in zip(found, PATCHES.values(), strict=True))


def joined(path: Path) -> Path:
    """Two recordings one behind the other; the clock of the second begins anew."""
    parts = [path.with_name(f"{number}.part.ts") for number in range(2)]
    for part, first in zip(parts, (0, 40), strict=True):
        write(part, Track(film(40, first), options={"bf": "2", "g": "20"}))
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def leaps_ahead(path: Path) -> Path:
    """The clock of the second half is twenty hours ahead."""
    times = [number + (20 * 3600 * 25 if number >= 40 else 0) for number in range(80)]
    return write(path, Track(film(80), options={"bf": "0", "g": "20"}, times=times))


def one_time_off(path: Path) -> Path:
    """The time of frame 30 lies ten hours ahead; it was sent in its turn."""

    def change(number: int, packet: av.Packet) -> av.Packet:
        if number == 30:
            packet.pts += 10 * 3600 * 25
        return packet

    return write(path, Track(film(60), options={"bf": "0", "g": "10", "crf": "16"}, change=change))


def empty_packets(path: Path) -> Path:
    """A screen recorder's: where nothing changes for ten seconds, packets are empty."""
    times = [*range(50), *range(300, 350)]
    codec, pixels = ("mjpeg", "yuvj420p") if path.stem.endswith("jpeg") else ("mpeg4", "yuv420p")
    return write(path, Track(film(100), codec, {"b": "4M", "q:v": "2"}, pixels, times=times), format="avi")


@dataclass(frozen=True)
class Case:
    make: Callable[[Path], Path]
    check: Callable[[list[Frame]], None]
    opencv: str | None = None
    """Why OpenCV cannot."""


def shows(first: int, count: int, *, at_s: float = 0.0) -> Callable[[list[Frame]], None]:
    """All frames show the numbers from ``first`` on, one after the other, 25 a second from ``at_s`` on."""

    def check(frames: list[Frame]) -> None:
        assert [number_of(frame.image) for frame in frames] == list(range(first, first + count))
        assert all(is_numbered(frame.image) for frame in frames)
        times = [at_s + number / 25 for number in range(count)]
        assert [frame.timestamp_s for frame in frames] == pytest.approx(times, abs=0.03)
        assert np.diff(times) == pytest.approx(np.diff([frame.timestamp_s for frame in frames]), abs=0.0015)

    return check


def each(fits: Callable[[Frame], bool]) -> Callable[[list[Frame]], None]:
    def check(frames: list[Frame]) -> None:
        assert len(frames) >= 3
        assert all(map(fits, frames))

    return check


def gap_is_left_out(frames: list[Frame]) -> None:
    shown = [number_of(frame.image) for frame in frames]
    assert shown == [*range(25), *range(50, 100)]
    assert [frame.frame for frame in frames] == shown, "packets that cannot be decoded are numbered, too"
    gaps = [frame.gap for frame in frames if frame.gap is not None]
    assert gaps == [pytest.approx((1.0, 2.0))]


def from_first_key(frames: list[Frame]) -> None:
    assert [number_of(frame.image) for frame in frames] == list(range(30, 75))
    assert frames[0].frame == 15 and frames[0].gap is None


def goes_on(frames: list[Frame]) -> None:
    shows(0, 80)(frames)


def has_leapt(frames: list[Frame]) -> None:
    assert [number_of(frame.image) for frame in frames] == list(range(80))
    assert [frames[number].timestamp_s for number in (39, 40, 79)] == pytest.approx(
        [1.56, 72001.6, 72003.16], abs=0.03
    )


def outlier_is_last(frames: list[Frame]) -> None:
    assert [number_of(frame.image) for frame in frames] == [*range(30), *range(31, 60), 30]
    assert [frame.frame for frame in frames] == list(range(60))
    assert frames[-1].timestamp_s == pytest.approx(36001.2)
    assert frames[-2].timestamp_s == pytest.approx(2.36)


def empty_are_left_out(frames: list[Frame]) -> None:
    assert [number_of(frame.image) for frame in frames] == list(range(100))
    assert [frames[number].timestamp_s for number in (49, 50, 99)] == pytest.approx([1.96, 12.0, 13.96])


CASES: dict[str, Case] = {
    **{
        f"interlaced{kind}": Case(interlaced, each(is_deinterlaced), "deinterlace")
        for kind in (".ts", ".mpg", ".mp4", ".mkv")
    },
    "av1.mp4": Case(av1, shows(0, 60), "av1"),
    "av1-ten-bits.webm": Case(av1, shows(0, 60), "av1"),
    "cover.mp4": Case(cover_first, shows(0, 60)),
    "cover.mkv": Case(cover_first, shows(0, 60), "first of several"),
    "cover-in-user-data.mp4": Case(cover_in_user_data, shows(0, 60), "first of several"),
    "thumbnail.mp4": Case(thumbnail_track_first, shows(0, 60), "first of several"),
    "thumbnail.mkv": Case(thumbnail_track_first, shows(0, 60), "first of several"),
    "default.mp4": Case(second_is_default, shows(0, 60), "first of several"),
    "default.mkv": Case(second_is_default, shows(0, 60), "first of several"),
    **{
        f"later{kind}": Case(starts_later, shows(0, 60, at_s=2.0))
        for kind in (".mp4", ".mkv", ".ts", ".webm")
    },
    "damaged.mp4": Case(damaged, gap_is_left_out),
    "damaged.mkv": Case(damaged, gap_is_left_out),
    "damaged.mov": Case(damaged, gap_is_left_out),
    "no-key.ts": Case(begins_without_key, from_first_key, "without a key frame"),
    **{
        f"{kind}.mp4": Case(
            turned(kind),
            each(lambda frame: shows_corners(frame.image)),
            "mirror" if "mirrored" in kind else None,
        )
        for kind in MATRICES
    },
    "mirrored.mov": Case(turned("mirrored"), each(lambda frame: shows_corners(frame.image)), "mirror"),
    "wide.mp4": Case(anamorphic(Fraction(64, 45)), each(disc_is_round), "square"),
    "narrow.mkv": Case(anamorphic(Fraction(9, 16)), each(disc_is_round), "square"),
    **{
        f"transparent{kind}": Case(transparent, each(is_on_white), "transparency")
        for kind in (".webm", ".mov", ".avi")
    },
    "pq.mp4": Case(hdr(16), each(has_right_greys), "HDR"),
    "hlg.mkv": Case(hdr(18), each(has_right_greys), "HDR"),
    "joined.ts": Case(joined, goes_on),
    "leap.ts": Case(leaps_ahead, has_leapt),
    "outlier.mp4": Case(one_time_off, outlier_is_last, "far off"),
    "outlier.mov": Case(one_time_off, outlier_is_last, "far off"),
    "empty.avi": Case(empty_packets, empty_are_left_out),
    "empty-jpeg.avi": Case(empty_packets, empty_are_left_out),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The file of a case."""
    folder = tmp_path_factory.mktemp("cases")

    def make(name: str) -> Path:
        path = folder / name
        return path if path.exists() else CASES[name].make(path)

    return make


@pytest.mark.parametrize("backend", ["auto", "pyav", "opencv"])
@pytest.mark.parametrize("name", CASES)
def test_a_backend_shows_what_players_show_or_refuses(
    made: Callable[[str], Path], name: str, backend: str
) -> None:
    case, path = CASES[name], made(name)
    if backend == "opencv" and case.opencv is not None:
        with pytest.raises(BadInput, match=rf"{name.split('.')[0]}.*{case.opencv}.*--video-backend"):
            list(read_video(path, ALL, backend=backend))
        return
    case.check(list(read_video(path, ALL, backend=backend)))


@pytest.mark.parametrize("backend", ["pyav", "opencv"])
@pytest.mark.parametrize(
    "selection", [Selection(every=0.2), Selection(every=1), Selection(every=1.2)], ids=str
)
def test_a_gap_is_told_whichever_frames_are_chosen(
    made: Callable[[str], Path], backend: str, selection: Selection
) -> None:
    frames = list(read_video(made("damaged.mp4"), selection, backend=backend))
    assert [frame.gap for frame in frames if frame.gap is not None] == [pytest.approx((1.0, 2.0))]


def test_a_gap_is_told_where_the_frame_after_it_is_left_out(tmp_path: Path) -> None:
    """It looks like the one before the gap."""
    options = {"bf": "0", "g": "10", "crf": "16", "sc_threshold": "0"}
    path = write(tmp_path / "film.mp4", Track([GREY] * 100, options=options))
    video = OpenVideo(blank_packets(path, range(25, 50)))
    frames = list(video.frames(Selection(every=None, skip_duplicates=True)))
    assert [frame.frame for frame in frames] == [0]
    assert video.facts.gaps == (pytest.approx((1.0, 2.0)),)


def test_auto_says_which_backend_and_why(made: Callable[[str], Path]) -> None:
    video = OpenVideo(made("default.mp4"))
    assert video.facts.backend == "pyav" and video.facts.why


def test_a_codec_that_nothing_decodes_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "strange.mp4", Track(film(5)))
    path.write_bytes(path.read_bytes().replace(b"avc1", b"xyz1"))
    with pytest.raises(BadInput, match=r"strange\.mp4.*codec, xyz1; convert it"):
        OpenVideo(path)
