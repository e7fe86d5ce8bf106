"""The caption job on stills against the encoder alone and against the plain loop."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from model.captioner import Captioner, load_captioner, load_network
from model.precision import Precision
from pipeline.media.images import decode_still, thumbnail
from tests.benchmarks import jobs, plain_loop
from tests.benchmarks.machine import bf16_kind
from tests.benchmarks.measuring import Contender, Rates, in_turns
from tests.benchmarks.results import Goal, Row
from tests.benchmarks.samples import write_photographs

PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")


@dataclass(frozen=True, slots=True)
class Amounts:
    """How many photographs: the job and the encoder take `batches` batches in each precision, the plain loop
    `plain` of the same photographs. `batch_size` None is the job's own choice."""

    batches: dict[Precision, int]
    plain: int
    batch_size: int | None = None
    rounds: int = 3


@dataclass(frozen=True, slots=True)
class Goals:
    """What the job has to reach with one model."""

    of_encoder: float | None = None
    of_plain_loop: dict[str, float] | None = None
    """By precision; bf16 counts where the hardware multiplies it."""


@dataclass(frozen=True, slots=True)
class _Stills:
    folder: Path
    paths: list[Path]
    prepared: list[NDArray[np.uint8]]


def measure(name: str, checkpoint: Path, amounts: Amounts, goals: Goals, scratch: Path) -> list[Row]:
    """All rows of one model, measured in turns."""
    captioners = {p: load_captioner(checkpoint, precision=p) for p in PRECISIONS}
    any_captioner = captioners["fp32"]
    batch_size = amounts.batch_size or any_captioner.default_batch_size()
    stills = {
        precision: _stills(scratch / f"stills-{precision}", count * batch_size, any_captioner)
        for precision, count in amounts.batches.items()
    }
    plain = _Plain(checkpoint, any_captioner.device, stills["fp32"].paths[: amounts.plain])
    found: dict[str, dict[str, str]] = {}
    contenders = [Contender("plain loop", len(plain.paths), plain.run)]
    for precision, captioner in captioners.items():
        pictures = stills[precision]
        run_encoder = _encoder_run(captioner, pictures.prepared, batch_size)
        run_job = _job_run(captioner, checkpoint, pictures.folder, scratch / "out", batch_size, found)
        contenders.append(Contender(f"encoder {precision}", len(pictures.paths), run_encoder))
        contenders.append(Contender(f"job {precision}", len(pictures.paths), run_job))
        captioner.caption(pictures.prepared[:batch_size])  # the first call sets up the kernels
    plain.warm_up()
    rates = in_turns(contenders, amounts.rounds)
    rows = []
    for precision, captioner in captioners.items():
        pictures = stills[precision]
        parts = _parts(captioner, pictures, batch_size)
        facts = {"pictures": len(pictures.paths), "batch_size": batch_size, "device": str(captioner.device)}
        rows += _rows(name, precision, rates, goals, {**facts, **parts})
    rows.append(_same_captions(name, found["fp32"], plain.captions))
    return rows


def _rows(name: str, precision: str, rates: Rates, goals: Goals, figures: dict[str, Any]) -> list[Row]:
    how = f"{precision}, emulated" if precision == "bf16" and bf16_kind() == "emulated" else precision
    job, encoder = f"job {precision}", f"encoder {precision}"
    speeds = {
        "job_pictures_a_s": rates.median(job),
        "encoder_pictures_a_s": rates.median(encoder),
        "plain_loop_pictures_a_s": rates.median("plain loop"),
    }
    of_encoder = rates.ratios(job, encoder)
    of_plain = rates.ratios(job, "plain loop")
    times_plain = (goals.of_plain_loop or {}).get(precision)
    if precision == "bf16" and bf16_kind() == "emulated":
        times_plain = None
    return [
        Row(
            f"{name}/{precision}/of encoder",
            f"caption job, beam 5, as a share of its encoder alone ({how})",
            statistics.median(of_encoder),
            Goal("least", goals.of_encoder) if goals.of_encoder else None,
            of_encoder,
            {**speeds, **figures},
        ),
        Row(
            f"{name}/{precision}/times plain loop",
            f"caption job ({how}) against one picture at a time in fp32",
            statistics.median(of_plain),
            Goal("least", times_plain) if times_plain else None,
            of_plain,
            speeds,
        ),
    ]


def _same_captions(name: str, ours: dict[str, str], plain: dict[str, str]) -> Row:
    same = sum(ours[picture] == caption for picture, caption in plain.items())
    words = [len(caption.split()) for caption in ours.values()]
    figures = {
        "compared": len(plain),
        "different_captions": len(set(ours.values())),
        "words_a_caption": statistics.fmean(words),
        "shortest": min(words),
        "longest": max(words),
    }
    what = "share of captions that are the plain loop's, word for word"
    return Row(f"{name}/fp32/same captions", what, same / len(plain), Goal("least", 1.0), figures=figures)


class _Plain:
    """The plain loop over some files, which keeps the captions."""

    def __init__(self, checkpoint: Path, device: torch.device, paths: list[Path]) -> None:
        self._config, self._vocabulary, network = load_network(checkpoint)
        self._network = network.to(device)
        self._device = device
        self.paths = paths
        self.captions: dict[str, str] = {}

    def warm_up(self) -> None:
        """Caption one picture, so that the kernels are set up."""
        self._caption(self.paths[0])

    def run(self) -> None:
        """Caption all files."""
        for path in self.paths:
            self.captions[path.name] = self._caption(path)

    def _caption(self, path: Path) -> str:
        return plain_loop.caption_file(
            path, self._config, self._vocabulary, self._network, device=self._device
        )


def _stills(folder: Path, count: int, captioner: Captioner) -> _Stills:
    paths = write_photographs(folder, count)
    return _Stills(folder, paths, [captioner.prepare(_decoded(path)) for path in paths])


def _decoded(path: Path) -> NDArray[np.uint8]:
    return decode_still(path.read_bytes(), path.name)


def _encoder_run(
    captioner: Captioner, prepared: list[NDArray[np.uint8]], batch_size: int
) -> Callable[[], None]:
    batches = [
        torch.from_numpy(np.stack(prepared[first : first + batch_size]))
        for first in range(0, len(prepared), batch_size)
    ]

    def run() -> None:
        for pixels in batches:
            captioner.encode(pixels)
        _synchronise(captioner)

    return run


def _job_run(
    captioner: Captioner,
    checkpoint: Path,
    source: Path,
    destination: Path,
    batch_size: int,
    found: dict[str, dict[str, str]],
) -> Callable[[], float]:
    def run() -> float:
        took = jobs.caption(captioner, checkpoint, source, destination, batch_size=batch_size)
        found[captioner.precision] = jobs.captions(destination)
        shutil.rmtree(destination)
        return took

    return run


def _parts(captioner: Captioner, stills: _Stills, batch_size: int) -> dict[str, float]:
    """What one picture costs in each part of the job, each part alone: milliseconds."""
    pixels = torch.from_numpy(np.stack(stills.prepared[:batch_size]))
    features = captioner.encode(pixels)
    few = stills.paths[:8]

    def encode() -> None:
        captioner.encode(pixels)
        _synchronise(captioner)

    def search() -> None:
        captioner.search(features)
        _synchronise(captioner)

    def read() -> None:
        for path in few:
            image = _decoded(path)
            captioner.prepare(image)
            thumbnail(image)

    with on_one_core():
        reading = _milliseconds(read, len(few))
    return {
        "encode_ms": _milliseconds(encode, batch_size),
        "search_ms": _milliseconds(search, batch_size),
        "read_resize_thumbnail_ms_of_one_core": reading,
    }


def _milliseconds(run: Callable[[], None], pictures: int) -> float:
    times = []
    for _ in range(3):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times) / pictures


def _synchronise(captioner: Captioner) -> None:
    if captioner.device.type == "cuda":
        torch.cuda.synchronize(captioner.device)


class on_one_core:
    """Keep OpenCV to the calling thread meanwhile."""

    def __enter__(self) -> None:
        self._threads = cv2.getNumThreads()
        cv2.setNumThreads(1)

    def __exit__(self, *error: object) -> None:
        cv2.setNumThreads(self._threads)
