"""Ten times the work: what it costs in time and in memory, each job in a process of its own."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.results import Goal, Row, skipped
from tests.benchmarks.samples import write_film, write_photographs

_FPS = 10
_FILM_SIZE = (640, 360)
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Amounts:
    """The smaller job: frames of a film, and stills. The larger one has ten times as many."""

    frames: int
    stills: int
    rounds: int = 3


@dataclass(frozen=True, slots=True)
class _Child:
    seconds: float
    peak_mib: float | None


def measure(checkpoint: Path, amounts: Amounts, scratch: Path) -> list[Row]:
    """Memory of a caption job and its time, for a film and a folder of stills and for ten times as much."""
    sources: dict[str, list[Path]] = {"video": [], "stills": []}
    for times in (1, 10):
        film = scratch / f"film-{times}" / "film.mp4"
        seconds = times * amounts.frames / 2  # a frame each half second
        sources["video"].append(write_film(film, seconds=seconds, fps=_FPS, size=_FILM_SIZE))
        folder = scratch / f"stills-{times}"
        write_photographs(folder, times * amounts.stills)
        sources["stills"].append(folder)
    rows = []
    for kind, (small, large) in sources.items():
        rounds: list[tuple[_Child, _Child]] = []
        for number in range(amounts.rounds):
            print(f"  round {number + 1}: {kind}, once and ten times", file=sys.stderr, flush=True)
            rounds.append(
                (_run(checkpoint, small, scratch / "out"), _run(checkpoint, large, scratch / "out"))
            )
        amount = amounts.frames if kind == "video" else amounts.stills
        rows.append(_time(kind, amount, rounds))
        rows.append(_memory(kind, amount, rounds))
    return rows


def _time(kind: str, amount: int, rounds: list[tuple[_Child, _Child]]) -> Row:
    ratios = [large.seconds / small.seconds for small, large in rounds]
    figures = {
        "frames": amount,
        "seconds": statistics.median(small.seconds for small, _ in rounds),
        "seconds_of_ten_times": statistics.median(large.seconds for _, large in rounds),
    }
    what = f"time of a caption job with 10 × the frames ({kind}), as a multiple"
    return Row(f"growth/{kind}/time", what, statistics.median(ratios), Goal("most", 10.5), ratios, figures)


def _memory(kind: str, amount: int, rounds: list[tuple[_Child, _Child]]) -> Row:
    name, what = f"growth/{kind}/memory", f"peak memory with 10 × the frames ({kind}), as a multiple"
    peaks = [(small.peak_mib, large.peak_mib) for small, large in rounds if small.peak_mib and large.peak_mib]
    if not peaks:
        return skipped(name, what, "this system does not tell a process its peak memory (/proc/self/status)")
    ratios = [large / small for small, large in peaks]
    figures = {
        "frames": amount,
        "peak_mib": statistics.median(small for small, _ in peaks),
        "peak_mib_of_ten_times": statistics.median(large for _, large in peaks),
    }
    return Row(name, what, statistics.median(ratios), Goal("most", 1.05), ratios, figures)


def _run(checkpoint: Path, source: Path, destination: Path) -> _Child:
    """One job in a process of its own; the first call of the model is not in its time."""
    command = [sys.executable, "-m", "tests.benchmarks.growth", *map(str, (checkpoint, source, destination))]
    done = subprocess.run(command, cwd=_ROOT, check=True, stdout=subprocess.PIPE, text=True)
    shutil.rmtree(destination)
    return _Child(**json.loads(done.stdout))


def main(checkpoint: Path, source: Path, destination: Path) -> None:
    """What the child does."""
    import numpy as np

    from model.captioner import load_captioner
    from tests.benchmarks import jobs

    captioner = load_captioner(checkpoint, precision="auto")
    batch_size = captioner.default_batch_size()
    empty = np.zeros((3, captioner.image_size, captioner.image_size), np.uint8)
    captioner.caption([empty] * batch_size)
    seconds = jobs.caption(captioner, checkpoint, source, destination, batch_size=batch_size, every=0.5)
    print(json.dumps({"seconds": seconds, "peak_mib": _peak_mib()}))


def _peak_mib() -> float | None:
    """The most memory that this process has had. getrusage would count what its parent had, too."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return None


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
