"""Reading frames: videos against ffmpeg, pictures into HDF5 against what the cores could do."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from model.preprocessing import Preparation
from pipeline.datasets.annotations import Example
from pipeline.datasets.preprocess import Preprocessing, preprocess
from pipeline.media.decoder import FrameDecoder
from pipeline.media.images import decode_still
from pipeline.media.video_reader import OpenVideo
from pipeline.records.frame_selection import Selection
from tests.benchmarks.captioning import on_one_core
from tests.benchmarks.measuring import Contender, in_turns
from tests.benchmarks.results import Goal, Row, skipped
from tests.benchmarks.samples import write_film, write_photographs
from tests.media import has_ffmpeg

_FPS = 25
_FILM_SIZE = (1280, 720)
_CLOSE = 3.0
"""Mean difference, of 255, up to which two decoders' frames are the same: they round colours differently."""


@dataclass(frozen=True, slots=True)
class FilmAmounts:
    """How long the film is, in seconds, and how often it is read."""

    seconds: float
    rounds: int = 5


def measure_video(amounts: FilmAmounts, scratch: Path) -> list[Row]:
    """Frames from a film against ffmpeg decoding the same file to the same frames."""
    chosen = {"every second": Selection(every=1.0), "every frame": Selection(every=None)}
    names = {how: f"video/{how}" for how in chosen}
    what = "frames of a 720p H.264 film a second, as a share of ffmpeg's ({})"
    if not has_ffmpeg():
        reason = "ffmpeg is not installed here"
        return [skipped(name, what.format(how), reason) for how, name in names.items()]
    film = write_film(scratch / "film.mp4", seconds=amounts.seconds, fps=_FPS, size=_FILM_SIZE)
    frames = round(amounts.seconds * _FPS)
    with FrameDecoder() as decoder:
        contenders = [
            contender
            for how, selection in chosen.items()
            for contender in (
                Contender(f"ours, {how}", frames, partial(_read, decoder, film, selection)),
                Contender(f"ffmpeg, {how}", frames, partial(_ffmpeg, film, _FPS if selection.every else 1)),
            )
        ]
        rates = in_turns(contenders, amounts.rounds)
    rows = []
    for how in chosen:
        ratios = rates.ratios(f"ours, {how}", f"ffmpeg, {how}")
        figures = {
            "frames_a_s": rates.median(f"ours, {how}"),
            "ffmpeg_frames_a_s": rates.median(f"ffmpeg, {how}"),
            "frames": frames,
        }
        goal = Goal("least", 0.9)
        rows.append(Row(names[how], what.format(how), statistics.median(ratios), goal, ratios, figures))
    return [*rows, _same_frames(film)]


def _read(decoder: FrameDecoder, film: Path, selection: Selection) -> None:
    for _ in decoder.frames(film, selection):
        pass


BASELINE = "GPUCAPT_BENCH_BASELINE"
"""A Python interpreter in whose environment an earlier version is installed."""

_BASELINE_SIZE = (1920, 1080)
_READ_ONCE = """
import sys, time
from pathlib import Path
try:
    from pipeline.media.decoder import FrameDecoder
    from pipeline.records.frame_selection import Selection
    read = FrameDecoder().frames
except ImportError:  # the first version
    from pipeline.frames import Selection, read_video as read
film, selection = Path(sys.argv[1]), Selection(every=float(sys.argv[2]))
for _ in range(2):  # the first time all is loaded
    began = time.perf_counter()
    count = sum(1 for _ in read(film, selection))
    seconds = time.perf_counter() - began
print(seconds)
"""


def measure_video_baseline(amounts: FilmAmounts, scratch: Path) -> list[Row]:
    """Frames from a film against an earlier version, each in a process of its own, in turns."""
    goals = {1.0: 1.6, 10.0: 3.0}
    names = {every: f"video-baseline/every {every:g} s" for every in goals}
    what = "frames of a 1080p H.264 film with B-frames, every {:g} s, against the earlier version"
    baseline = os.environ.get(BASELINE)
    if baseline is None or not has_ffmpeg():
        reason = f"{BASELINE} names no interpreter" if has_ffmpeg() else "ffmpeg is not installed here"
        return [skipped(name, what.format(every), reason) for every, name in names.items()]
    seconds = 3 * amounts.seconds
    film = write_film(scratch / "film.mp4", seconds=seconds, fps=_FPS, size=_BASELINE_SIZE, preset="medium")
    rows = []
    for every, goal in goals.items():
        contenders = [
            Contender(name, seconds * _FPS, partial(_seconds_of, python, film, every))
            for name, python in (("ours", sys.executable), ("earlier", baseline))
        ]
        ratios = in_turns(contenders, amounts.rounds).ratios("ours", "earlier")
        rows.append(
            Row(names[every], what.format(every), statistics.median(ratios), Goal("least", goal), ratios)
        )
    return rows


def _seconds_of(python: str, film: Path, every: float) -> float:
    command = [python, "-c", _READ_ONCE, str(film), str(every)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True, cwd=film.parent).stdout)


def _ffmpeg_command(film: Path, step: int, *output: str) -> list[str]:
    filters = f"select=not(mod(n\\,{step})),format=rgb24"
    return ["ffmpeg", "-nostdin", "-v", "error", "-i", str(film), "-vf", filters, "-vsync", "vfr", *output]


def _ffmpeg(film: Path, step: int) -> None:
    subprocess.run(_ffmpeg_command(film, step, "-f", "null", "-"), check=True)


def _same_frames(film: Path) -> Row:
    """Whether the comparison is fair: the same frames, of the same content."""
    command = _ffmpeg_command(film, _FPS, "-f", "rawvideo", "pipe:")
    raw = subprocess.run(command, check=True, capture_output=True).stdout
    width, height = _FILM_SIZE
    theirs = np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)
    ours = [frame.image for frame in OpenVideo(film).frames(Selection(every=1.0))]
    same = sum(_difference(a, b) <= _CLOSE for a, b in zip(ours, theirs, strict=False))
    value = same / max(len(ours), len(theirs))
    what = "share of frames that are ffmpeg's"
    return Row("video/same frames", what, value, Goal("least", 1.0), figures={"compared": len(theirs)})


def _difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    return float(np.abs(a.astype(np.int16) - b.astype(np.int16)).mean())


@dataclass(frozen=True, slots=True)
class PictureAmounts:
    """How many photographs are decoded, how many times as many go into HDF5, and how often that is done."""

    pictures: int
    rounds: int = 5
    times: int = 4
    """A dataset has thousands of pictures: with a few hundred, what is measured is how processes start."""


def measure_hdf5(amounts: PictureAmounts, scratch: Path) -> list[Row]:
    """`gpucapt preprocess` against cores x one core's decoding and resizing, and against a serial loop."""
    paths = write_photographs(scratch / "photographs", amounts.pictures)
    caption = ("a", "picture", "that", "somebody", "took", "somewhere")
    many = _linked(paths, amounts.times, scratch / "many")
    examples = [Example(path.name, None, (caption,) * 5) for path in many]
    settings = Preprocessing(min_word_freq=0)
    cores = settings.workers

    def ours() -> None:
        shutil.rmtree(scratch / "dataset", ignore_errors=True)  # what is there already is not made again
        preprocess("benchmark", examples, many[0].parent, scratch / "dataset", settings)

    def one_core() -> None:
        prepare = Preparation(settings.image_size)
        with on_one_core():
            for path in paths:
                prepare(decode_still(path.read_bytes(), path.name))

    def serial() -> None:
        _write_serially(scratch / "serial.hdf5", paths, settings.image_size)

    count = len(paths)
    rates = in_turns(
        [
            Contender("preprocess", len(many), ours),
            Contender("one core", count, one_core),
            Contender("serial", count, serial),
        ],
        amounts.rounds,
    )
    shutil.rmtree(scratch / "dataset")
    of_cores = [ratio / cores for ratio in rates.ratios("preprocess", "one core")]
    of_serial = rates.ratios("preprocess", "serial")
    figures = {
        "pictures_a_s": rates.median("preprocess"),
        "one_core_pictures_a_s": rates.median("one core"),
        "serial_pictures_a_s": rates.median("serial"),
        "workers": cores,
        "cores": os.cpu_count(),
        "pictures": len(many),
    }
    return [
        Row(
            "hdf5/of cores",
            "HDF5 preprocessing as a share of cores × one core's decoding and resizing",
            statistics.median(of_cores),
            Goal("least", 0.9),
            of_cores,
            figures,
        ),
        Row(
            "hdf5/times serial",
            "HDF5 preprocessing against a loop that reads, resizes and stores one picture at a time",
            statistics.median(of_serial),
            Goal("least", 1.0),
            of_serial,
            figures,
        ),
    ]


def _linked(paths: list[Path], times: int, folder: Path) -> list[Path]:
    """Each file under several names."""
    folder.mkdir()
    linked = [folder / f"{number}-{path.name}" for number in range(times) for path in paths]
    for number, path in enumerate(linked):
        path.hardlink_to(paths[number % len(paths)])
    return linked


def _write_serially(target: Path, paths: list[Path], size: int) -> None:
    """Pictures into HDF5 as earlier captioners do it."""
    prepare = Preparation(size)
    with h5py.File(target, "w") as file:
        images = file.create_dataset("images", (len(paths), 3, size, size), dtype="uint8")
        for i, path in enumerate(paths):
            images[i] = prepare(decode_still(path.read_bytes(), path.name))
