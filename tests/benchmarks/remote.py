"""The caption job on an object store against the same job on disk, listings, and the start of a worker."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from model.captioner import load_captioner
from tests.benchmarks import jobs
from tests.benchmarks.measuring import Contender, in_turns
from tests.benchmarks.results import Goal, Row, skipped
from tests.benchmarks.samples import write_photographs
from tests.services.s3 import S3Server, fill, running_server, why_not

_ROOT = Path(__file__).parents[2]
_FEW_KEYS = 1000


@dataclass(frozen=True, slots=True)
class Amounts:
    """How many photographs, some 200 KB each."""

    stills: int
    batch_size: int | None = None
    rounds: int = 3


@dataclass(frozen=True, slots=True)
class KeyAmounts:
    """How many keys are listed."""

    keys: int
    rounds: int = 1


@dataclass(frozen=True, slots=True)
class StartAmounts:
    """How often a worker is started."""

    rounds: int = 3


def measure(name: str, checkpoint: Path, amounts: Amounts, most: float, scratch: Path) -> list[Row]:
    """The job with source and destination on an object store of this machine, against both on disk."""
    row, what = (
        f"s3/{name}/time",
        f"caption job on an S3 server of this machine ({name}), of its time on disk",
    )
    if reason := why_not():
        return [skipped(row, what, reason)]
    paths = write_photographs(scratch / "stills", amounts.stills)
    captioner = load_captioner(checkpoint, precision="auto")
    batch_size = amounts.batch_size or captioner.default_batch_size()
    first = write_photographs(scratch / "first", batch_size)[0].parent
    out = scratch / "out"
    with _server() as server:
        bucket = server.make_bucket()
        _upload(server, bucket, paths)
        runs = iter(range(1000))

        def on_disk() -> float:
            took = jobs.caption(captioner, checkpoint, scratch / "stills", out, batch_size=batch_size)
            shutil.rmtree(out)
            return took

        def on_s3() -> float:
            destination = f"s3://{bucket}/out/{next(runs)}"
            return jobs.caption(
                captioner, checkpoint, f"s3://{bucket}/stills", destination, batch_size=batch_size
            )

        jobs.caption(captioner, checkpoint, first, out, batch_size=batch_size)  # sets up the kernels
        shutil.rmtree(out)
        rates = in_turns(
            [Contender("disk", amounts.stills, on_disk), Contender("s3", amounts.stills, on_s3)],
            amounts.rounds,
        )
    ratios = rates.ratios("disk", "s3")
    figures = {
        "pictures": amounts.stills,
        "picture_bytes": statistics.fmean(path.stat().st_size for path in paths),
        "disk_pictures_a_s": rates.median("disk"),
        "s3_pictures_a_s": rates.median("s3"),
        "precision": captioner.precision,
        "device": str(captioner.device),
    }
    return [Row(row, what, statistics.median(ratios), Goal("most", most), ratios, figures)]


@contextmanager
def _server() -> Iterator[S3Server]:
    """A server, and this process's environment set to use it."""
    with running_server() as server, patch.dict(os.environ, server.variables()):
        yield server


def _upload(server: S3Server, bucket: str, paths: list[Path]) -> None:
    client = server.client

    def put(path: Path) -> None:
        client.put_object(Bucket=bucket, Key=f"stills/{path.name}", Body=path.read_bytes())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, paths))


def measure_listing(amounts: KeyAmounts) -> list[Row]:
    """What looking for sources among very many keys costs in memory, in a process of its own."""
    row, what = "listing/memory", f"MB that a process grows by while it lists {amounts.keys} keys"
    if reason := why_not():
        return [skipped(row, what, reason)]
    samples: list[float] = []
    figures: dict[str, float] = {"keys": amounts.keys}
    with _server() as server:
        bucket = server.make_bucket()
        fill(server, bucket, (f"few/{_key(number)}" for number in range(_FEW_KEYS)))
        fill(server, bucket, (f"many/{_key(number)}" for number in range(amounts.keys)))
        for _ in range(amounts.rounds):
            command = [sys.executable, "-m", "tests.benchmarks.remote", bucket]
            done = subprocess.run(command, cwd=_ROOT, check=True, stdout=subprocess.PIPE, text=True)
            found = json.loads(done.stdout)
            samples.append(found.pop("grown_mb"))
            figures.update(found)
    return [Row(row, what, statistics.median(samples), Goal("most", 50), samples, figures)]


def _key(number: int) -> str:
    """Nine folders of a hundred stills each, then a hundred films; and so on."""
    place = f"{number // 1000:05}/{number // 100 % 10}"
    return f"{place}/{number % 100:03}.jpg" if number // 100 % 10 < 9 else f"{place}/{number % 100:03}.mp4"


def measure_start(models: dict[str, Path], amounts: StartAmounts, scratch: Path) -> list[Row]:
    """From the start of `gpucapt ingest shard` to its end, for a shard of one photograph."""
    incoming = write_photographs(scratch / "incoming", 1)[0].parent
    rows = []
    for name, checkpoint in models.items():
        samples = []
        for number in range(amounts.rounds):
            out = scratch / f"out-{name}-{number}"
            planned = _gpucapt("ingest", "plan", incoming, out, "--settle=0", f"--model={checkpoint}")
            [shard] = json.loads(planned.splitlines()[-1])["shards"]
            started = time.perf_counter()
            _gpucapt("ingest", "shard", shard)
            samples.append(time.perf_counter() - started)
        what = f"seconds from a worker task's start to its end, with one picture to caption ({name})"
        figures = {"checkpoint_mb": (checkpoint / "model.safetensors").stat().st_size / 1e6}
        row = f"start/{name}/seconds"
        rows.append(Row(row, what, statistics.median(samples), Goal("most", 15), samples, figures))
    return rows


def _gpucapt(*arguments: str | Path) -> str:
    command = [sys.executable, "-m", "pipeline.cli.main", *map(str, arguments)]
    done = subprocess.run(command, cwd=_ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def main(bucket: str) -> None:
    """What the process does that lists."""
    from pipeline.sources.discovery import find_sources
    from pipeline.storage.open import open_storage

    def sources(prefix: str) -> int:
        return sum(1 for _ in find_sources(open_storage(f"s3://{bucket}/{prefix}"), base_name="source"))

    few = sources("few")
    before = _peak_mb()
    started = time.perf_counter()
    many = sources("many")
    seconds = time.perf_counter() - started
    said = {"grown_mb": _peak_mb() - before, "sources_of_1000_keys": few, "sources": many, "seconds": seconds}
    print(json.dumps(said))


def _peak_mb() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024 / 1e6


if __name__ == "__main__":
    main(sys.argv[1])
