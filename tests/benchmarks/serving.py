"""The server: how soon one picture is answered, how much of the job's speed many clients get, its memory."""

from __future__ import annotations

import http.client
import io
import itertools
import os
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from PIL import Image

from model.captioner import load_captioner
from pipeline.runtime.cpu_limits import available_cores
from tests.benchmarks import jobs
from tests.benchmarks.measuring import Contender, in_turns
from tests.benchmarks.results import Goal, Row, skipped
from tests.benchmarks.samples import write_photographs
from tests.services.gpucapt_server import running

CLIENTS = 16
_BOUNDARY = "boundary-of-the-benchmark"
_SETTLED = 0.1
"""The share of all requests after which memory is looked at first."""


@dataclass(frozen=True, slots=True)
class Amounts:
    """Photographs that the job and the clients have captioned each, requests one after the other, and
    requests of small pictures over which memory is watched."""

    pictures: int
    single: int
    requests: int
    rounds: int = 3


@dataclass(slots=True)
class _Answers:
    """What clients have seen: seconds of each request, and how many were not answered well."""

    seconds: list[float] = field(default_factory=list)
    failed: int = 0


def measure(checkpoint: Path, amounts: Amounts, scratch: Path) -> list[Row]:
    """All rows; server and job on the same machine in turns, the clients beside the server."""
    captioner = load_captioner(checkpoint)
    folder = scratch / "stills"
    bodies = [_form(path.read_bytes()) for path in write_photographs(folder, amounts.pictures)]
    options = ("--model", checkpoint, "--device", str(captioner.device), "--precision", captioner.precision)
    threads = os.environ.get("OMP_NUM_THREADS", str(available_cores()))
    with running(*options, OMP_NUM_THREADS=threads) as server:
        crowd = _Answers()
        alone = _Answers()

        def run_job() -> float:
            out = scratch / "out"
            size = captioner.default_batch_size()
            seconds = jobs.caption(captioner, checkpoint, folder, out, batch_size=size)
            shutil.rmtree(out)
            return seconds

        def run_clients() -> None:
            _ask(server.url, bodies, CLIENTS, crowd)

        def run_one() -> None:
            _ask(server.url, itertools.islice(itertools.cycle(bodies), amounts.single), 1, alone)

        _ask(server.url, bodies[: 2 * CLIENTS], CLIENTS, _Answers())
        contenders = [
            Contender("job", amounts.pictures, run_job),
            Contender("16 clients", amounts.pictures, run_clients),
            Contender("one client", amounts.single, run_one),
        ]
        rates = in_turns(contenders, amounts.rounds)
        memory = _memory(server.url, amounts.requests, server.memory_kb)
    single, p99 = statistics.median(alone.seconds), _percentile(crowd.seconds, 0.99)
    shares = rates.ratios("16 clients", "job")
    failed = crowd.failed + alone.failed
    asked = len(crowd.seconds) + len(alone.seconds) + failed
    facts = {"pictures": amounts.pictures, "cores": available_cores(), "device": str(captioner.device)}
    return [
        Row(
            "serve/latency",
            "milliseconds from a request to its answer, one photograph, warm (median)",
            1000 * single,
            Goal("most", 150),
            figures={**facts, "p99_ms": 1000 * _percentile(alone.seconds, 0.99)},
        ),
        Row(
            "serve/of job",
            "pictures a second of 16 clients at once, as a share of the caption job's",
            statistics.median(shares),
            Goal("least", 0.8),
            shares,
            {
                **facts,
                "clients_pictures_a_s": rates.median("16 clients"),
                "job_pictures_a_s": rates.median("job"),
            },
        ),
        Row(
            "serve/p99",
            "99th percentile of their waiting, as a multiple of one client's median",
            p99 / single,
            Goal("most", 20),
            figures={"p99_ms": 1000 * p99, "median_ms": 1000 * statistics.median(crowd.seconds)},
        ),
        Row(
            "serve/answered",
            "share of the requests that were answered well",
            1 - failed / asked,
            Goal("least", 1),
        ),
        memory,
    ]


def _memory(url: str, requests: int, memory_kb: Callable[[], int | None]) -> Row:
    name, what = (
        "serve/memory",
        f"memory after {requests} requests, as a multiple of that after a tenth of them",
    )
    print(f"  {requests} requests", file=sys.stderr, flush=True)
    bodies = [_form(_small(number)) for number in range(32)]
    answers = _Answers()
    first = max(1, round(requests * _SETTLED))
    _ask(url, itertools.islice(itertools.cycle(bodies), first), CLIENTS, answers)
    before = memory_kb()
    _ask(url, itertools.islice(itertools.cycle(bodies), requests - first), CLIENTS, answers)
    after = memory_kb()
    if before is None or after is None:
        return skipped(name, what, "this system does not tell the memory of a process (/proc/…/status)")
    figures = {"mib_before": before / 1024, "mib_after": after / 1024, "failed": answers.failed}
    return Row(name, what, after / before, Goal("most", 1.05), figures=figures)


def _ask(url: str, bodies: Iterable[bytes], clients: int, answers: _Answers) -> None:
    """Send all of it by so many clients, each of which asks again once it is answered."""
    waiting, lock = iter(bodies), threading.Lock()
    place = urlsplit(url)
    headers = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}

    def client() -> None:
        # Of the standard library: what the clients do is taken from the server's cores.
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=300)
        while True:
            with lock:
                body = next(waiting, None)
            if body is None:
                connection.close()
                return
            began = time.perf_counter()
            connection.request("POST", "/v1/captions", body, headers)
            response = connection.getresponse()
            response.read()
            took = time.perf_counter() - began
            with lock:
                if response.status == 200:
                    answers.seconds.append(took)
                else:
                    answers.failed += 1

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _form(data: bytes) -> bytes:
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="a.jpg"\r\n\r\n'
    return head.encode() + data + f"\r\n--{_BOUNDARY}--\r\n".encode()


def _small(number: int) -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").rotate(number * 11).convert("RGB").save(file, "JPEG")
    return file.getvalue()


def _percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]
