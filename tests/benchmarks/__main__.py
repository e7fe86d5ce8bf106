"""`python -m tests.benchmarks`: measure, print a table, write JSON."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from tests.benchmarks import captioning, growth, machine, reading, remote, results, serving, training
from tests.benchmarks.samples import bundled_or_like_it, random_checkpoint

_RESNEXT_GOALS = captioning.Goals(of_encoder=0.85, of_plain_loop={"fp32": 2.5, "bf16": 8.0})


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much work every case is."""

    bundled: captioning.Amounts
    resnext: captioning.Amounts
    film: reading.FilmAmounts
    pictures: reading.PictureAmounts
    growth: growth.Amounts
    s3_bundled: remote.Amounts
    s3_resnext: remote.Amounts
    listing: remote.KeyAmounts
    start: remote.StartAmounts
    train: training.Amounts
    serve: serving.Amounts


def full_sizes() -> Sizes:
    """Minutes a case; where bf16 is emulated, it gets less to do."""
    if torch.cuda.is_available():
        bundled = captioning.Amounts({"fp32": 16, "bf16": 16}, plain=128, rounds=5)
        resnext = captioning.Amounts({"fp32": 8, "bf16": 16}, plain=64, rounds=5)
    else:
        emulated = machine.bf16_kind() == "emulated"
        bundled = captioning.Amounts({"fp32": 16, "bf16": 4 if emulated else 16}, plain=64, rounds=5)
        resnext = captioning.Amounts({"fp32": 4, "bf16": 1 if emulated else 4}, plain=16, rounds=3)
    return Sizes(
        bundled,
        resnext,
        reading.FilmAmounts(seconds=40),
        reading.PictureAmounts(500),
        growth.Amounts(frames=192, stills=64),
        remote.Amounts(1000),
        # A thousand would take the better part of an hour without a GPU.
        remote.Amounts(1000 if torch.cuda.is_available() else 96),
        remote.KeyAmounts(100_000),
        remote.StartAmounts(),
        training.Amounts(),
        serving.Amounts(pictures=256, single=40, requests=10_000),
    )


def quick_sizes() -> Sizes:
    """Enough to see that everything runs, and what is grossly wrong."""
    return Sizes(
        captioning.Amounts({"fp32": 4, "bf16": 1}, plain=16, rounds=2),
        captioning.Amounts({"fp32": 2, "bf16": 1}, plain=4, batch_size=4, rounds=1),
        reading.FilmAmounts(seconds=8, rounds=2),
        reading.PictureAmounts(60, rounds=2),
        growth.Amounts(frames=32, stills=16, rounds=1),
        remote.Amounts(100, rounds=1),
        remote.Amounts(8, rounds=1),
        remote.KeyAmounts(5000),
        remote.StartAmounts(rounds=1),
        training.Amounts(steps=3, rounds=1),
        serving.Amounts(pictures=48, single=8, requests=200, rounds=1),
    )


Case = Callable[[Sizes, Path], list[results.Row]]


def _bundled(sizes: Sizes, scratch: Path) -> list[results.Row]:
    checkpoint = bundled_or_like_it(scratch / "model")
    return captioning.measure("bundled", checkpoint, sizes.bundled, captioning.Goals(), scratch)


def _resnext(sizes: Sizes, scratch: Path) -> list[results.Row]:
    # As many words as COCO's captions leave
    checkpoint = random_checkpoint(scratch / "model", "resnext101_32x8d", words=9490)
    return captioning.measure("resnext101_32x8d", checkpoint, sizes.resnext, _RESNEXT_GOALS, scratch)


def _video(sizes: Sizes, scratch: Path) -> list[results.Row]:
    return reading.measure_video(sizes.film, scratch)


def _video_baseline(sizes: Sizes, scratch: Path) -> list[results.Row]:
    return reading.measure_video_baseline(sizes.film, scratch)


def _hdf5(sizes: Sizes, scratch: Path) -> list[results.Row]:
    return reading.measure_hdf5(sizes.pictures, scratch)


def _growth(sizes: Sizes, scratch: Path) -> list[results.Row]:
    return growth.measure(bundled_or_like_it(scratch / "model"), sizes.growth, scratch)


def _s3_bundled(sizes: Sizes, scratch: Path) -> list[results.Row]:
    return remote.measure("bundled", bundled_or_like_it(scratch / "model"), sizes.s3_bundled, 1.3, scratch)


def _s3_resnext(sizes: Sizes, scratch: Path) -> list[results.Row]:
    checkpoint = random_checkpoint(scratch / "model", "resnext101_32x8d", words=9490)
    return remote.measure("resnext101_32x8d", checkpoint, sizes.s3_resnext, 1.1, scratch)


def _listing(sizes: Sizes, scratch: Path) -> list[results.Row]:
    return remote.measure_listing(sizes.listing)


def _start(sizes: Sizes, scratch: Path) -> list[results.Row]:
    models = {
        "bundled": bundled_or_like_it(scratch / "bundled"),
        "resnext101_32x8d": random_checkpoint(scratch / "resnext", "resnext101_32x8d", words=9490),
    }
    return remote.measure_start(models, sizes.start, scratch)


def _train(sizes: Sizes, scratch: Path) -> list[results.Row]:
    return training.measure(sizes.train, scratch)


def _serve(sizes: Sizes, scratch: Path) -> list[results.Row]:
    return serving.measure(bundled_or_like_it(scratch / "model"), sizes.serve, scratch)


CASES: dict[str, Case] = {
    "bundled": _bundled,
    "resnext101_32x8d": _resnext,
    "video": _video,
    "video-baseline": _video_baseline,
    "hdf5": _hdf5,
    "growth": _growth,
    "s3-bundled": _s3_bundled,
    "s3-resnext101_32x8d": _s3_resnext,
    "listing": _listing,
    "start": _start,
    "train": _train,
    "serve": _serve,
}


def run(cases: list[str], sizes: Sizes) -> list[results.Row]:
    """The rows of some cases, each with a folder of its own for what it needs."""
    rows = []
    for name in cases:
        print(f"{name} …", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="gpucapt-bench-") as scratch:
            rows += CASES[name](sizes, Path(scratch))
    return rows


def with_rounds(sizes: Sizes, rounds: int) -> Sizes:
    """The same work, so many times."""
    changed = {
        field.name: dataclasses.replace(getattr(sizes, field.name), rounds=rounds)
        for field in dataclasses.fields(sizes)
    }
    return Sizes(**changed)


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="make bench ARGS='…'", description="Measure the speed and the memory of gpucapt."
    )
    parser.add_argument("--quick", action="store_true", help="small sizes; the numbers then mean little")
    parser.add_argument("--only", action="append", choices=CASES, metavar="NAME", help=", ".join(CASES))
    parser.add_argument("--repetitions", type=int, metavar="N", help="rounds of every case")
    parser.add_argument("--out", type=Path, default=Path("build/bench.json"), metavar="FILE")
    chosen = parser.parse_args(arguments)
    sizes = quick_sizes() if chosen.quick else full_sizes()
    if chosen.repetitions:
        sizes = with_rounds(sizes, chosen.repetitions)
    facts = machine.facts()
    cases = chosen.only or list(CASES)
    rows = run(cases, sizes)
    options = {"quick": chosen.quick, "cases": cases, "sizes": dataclasses.asdict(sizes)}
    results.write(chosen.out, facts, options, rows)
    print(f"{facts['cpu']}, {facts['cores']} cores, GPU: {facts['gpu']}, bf16: {facts['bf16']}")
    print(results.table(rows), results.figures(rows), chosen.out, sep="\n\n")


if __name__ == "__main__":
    main()
