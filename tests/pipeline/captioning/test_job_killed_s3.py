"""On an object store, too, nothing is lost and nothing done twice, whatever dies or sleeps meanwhile."""

from __future__ import annotations

import hashlib
import json
import math
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.media import write_video
from tests.pipeline.jobs import Rows, assert_same_rows, write_stills
from tests.pipeline.workers import Worker, wait_until
from tests.services.faults import faulty_network
from tests.services.s3 import S3Server

FILM, ALBUMS = "film.webm", ("album", "trip/album")
KEYS = (FILM, *ALBUMS)
KILLS = 20


@dataclass
class Place:
    """Where a test has its bucket, and what it knows of it."""

    server: S3Server
    bucket: str
    model: Path
    logs: Path
    workers: list[Worker] = field(default_factory=list)

    def start(self, out: str, *, incoming: str = "incoming", **environment: str) -> Worker:
        """`gpucapt caption` from the sources to a prefix."""
        options = ["--every=0.1", "--precision=fp32", "--beam-size=2", "--max-length=8", "--batch-size=4"]
        options += ["--workers=2", "--device=cpu", "--progress=none", f"--model={self.model}"]
        line = ["caption", f"s3://{self.bucket}/{incoming}", f"s3://{self.bucket}/{out}", *options]
        log = self.logs / f"{len(self.workers)}.log"
        self.workers.append(Worker(line, log, **self.server.variables(OMP_NUM_THREADS="1", **environment)))
        return self.workers[-1]

    def listed(self, prefix: str) -> dict[str, tuple[str, str]]:
        """Every object under a prefix: its ETag and when it was written."""
        pages = self.server.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=f"{prefix}/"
        )
        return {
            item["Key"].removeprefix(f"{prefix}/"): (item["ETag"], str(item["LastModified"]))
            for page in pages
            for item in page.get("Contents", [])
        }

    def asleep(self, out: str, moment: str, *, lease: int) -> tuple[str, Worker]:
        """A worker stopped when a key that begins with `moment` is there, and where its results go.

        It may end before this process is given the processor again: then another one is tried.
        """
        for attempt in range(8):
            prefix = f"{out}/{attempt}"
            worker = self.start(prefix, GPUCAPT_LEASE=str(lease))
            wait_until(partial(self._is_past, worker, prefix, moment))
            if worker.is_running and worker.stop():
                return prefix, worker
        raise AssertionError("no worker was caught at work")

    def _is_past(self, worker: Worker, prefix: str, moment: str) -> bool:
        """Whether the moment has come, or may have gone by unseen."""
        return self._has(prefix, moment) or not worker.is_running

    def _has(self, prefix: str, beginning: str) -> bool:
        return any(key.startswith(beginning) for key in self.listed(prefix))

    def outputs(self, prefix: str) -> dict[str, tuple[str, str]]:
        """The same without what belongs to runs, and without what they keep for themselves."""
        listed = self.listed(prefix).items()
        return {key: what for key, what in listed if not key.startswith(("runs/", ".gpucapt/"))}

    def read(self, key: str) -> bytes:
        """An object."""
        data: bytes = self.server.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return data

    def rows(self, out: str, key: str) -> Rows:
        """The rows of a source."""
        return [json.loads(line) for line in self.read(f"{out}/{key}/captions.jsonl").splitlines()]

    def assert_like(self, out: str, wanted: dict[str, Rows]) -> None:
        """What stands under a prefix is whole, holds the wanted rows, and nothing else is left."""
        there = self.listed(out)
        for key, rows in wanted.items():
            assert_same_rows(self.rows(out, key), rows)
            manifest = json.loads(self.read(f"{out}/{key}/manifest.json"))
            assert manifest["counts"] == {"frames": len(rows), "errors": 0}
            for file in manifest["files"]:
                assert hashlib.sha256(self.read(f"{out}/{key}/{file['name']}")).hexdigest() == file["sha256"]
        left = [key for key in there if key.startswith((".gpucapt/parts/", ".gpucapt/claims/"))]
        assert left == []
        assert not self.server.client.list_multipart_uploads(Bucket=self.bucket).get("Uploads")

    def summaries(self, out: str) -> list[dict[str, Any]]:
        """The summaries of all runs."""
        keys = [key for key in self.listed(f"{out}/runs") if key.endswith("/summary.json")]
        return [json.loads(self.read(f"{out}/runs/{key}")) for key in keys]


@pytest.fixture(scope="module")
def place(s3_server: S3Server, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A bucket with a film of 48 frames and two folders of 9 stills."""
    source = tmp_path_factory.mktemp("incoming")
    write_video(source / FILM, ("cat", "coffee", "rocket"), frames_each=16)
    for number, album in enumerate(ALBUMS):
        write_stills(source / album, 9, first=20 * number)
    place = Place(s3_server, s3_server.make_bucket(), tiny_model, tmp_path_factory.mktemp("logs"))
    for path in source.rglob("*"):
        if path.is_file():
            name = str(path.relative_to(source))
            s3_server.client.upload_file(str(path), place.bucket, f"incoming/{name}")
    yield place
    for worker in place.workers:
        worker.kill()


@dataclass(frozen=True)
class Undisturbed:
    """What comes out when nothing happens, and how long that takes."""

    rows: dict[str, Rows]
    seconds: float


@pytest.fixture(scope="module")
def undisturbed(place: Place) -> Undisturbed:
    first = place.start("first")  # the process that all others are copies of loads torch
    assert first.end() == 0, first.said()
    started = time.monotonic()
    worker = place.start("undisturbed")
    assert worker.end() == 0, worker.said()
    rows = {key: place.rows("undisturbed", key) for key in KEYS}
    place.assert_like("undisturbed", rows)
    assert [len(rows[key]) for key in KEYS] == [48, 9, 9]
    return Undisturbed(rows, time.monotonic() - started)


@pytest.mark.slow
def test_workers_that_are_killed_at_any_moment_leave_what_an_undisturbed_run_leaves(
    place: Place, undisturbed: Undisturbed
) -> None:
    """Twenty SIGKILLs, up to three for one destination, every other time with two workers at work."""
    chance = random.Random(7)
    kills = rounds = 0
    while kills < KILLS:
        rounds += 1
        out = f"killed/{rounds}"
        for _ in range(3):
            workers = [place.start(out) for _ in range(1 + rounds % 2)]
            time.sleep(chance.uniform(0.05, 1.0) * undisturbed.seconds)
            kills += sum(worker.kill() for worker in workers)
        last = place.start(out)
        assert last.end() == 0, last.said()
        place.assert_like(out, undisturbed.rows)
        assert place.summaries(out), "the table of the run is there, whoever wrote it"


MOMENTS = {
    "it has claimed a source": ".gpucapt/claims/",
    "it has written a part": ".gpucapt/parts/",
    "it is writing outputs": f"{FILM}/captions",
    "a source is done": "album/manifest.json",
}


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_worker_that_sleeps_while_another_takes_over_changes_nothing_when_it_wakes(
    place: Place, undisturbed: Undisturbed, moment: str
) -> None:
    out, sleeper = place.asleep(f"asleep/{moment}", MOMENTS[moment], lease=2)
    other = place.start(out, GPUCAPT_LEASE="2")
    assert other.end() == 0, other.said()
    before = place.outputs(out)
    sleeper.wake()
    assert sleeper.end() == 0, sleeper.said()
    assert place.outputs(out) == before
    place.assert_like(out, undisturbed.rows)


@pytest.mark.slow
def test_a_worker_that_slept_while_nobody_came_goes_on(place: Place, undisturbed: Undisturbed) -> None:
    out, sleeper = place.asleep("slept", ".gpucapt/parts/", lease=1)
    time.sleep(1.5)
    sleeper.wake()
    assert sleeper.end() == 0, sleeper.said()
    place.assert_like(out, undisturbed.rows)


@pytest.mark.slow
@pytest.mark.parametrize("after_requests", [10, 35, 65])
def test_a_storage_that_breaks_down_ends_the_run_and_costs_no_source(
    place: Place, undisturbed: Undisturbed, after_requests: int
) -> None:
    out = f"broken/{after_requests}"
    with faulty_network(place.server.endpoint) as network:
        through = {"AWS_ENDPOINT_URL": network.endpoint, "GPUCAPT_S3_DEADLINE": "1"}
        worker = place.start(out, **through)
        wait_until(lambda: len(network.requests) >= after_requests)
        network.fail("break", times=math.inf)
        assert worker.end() == 1, worker.said()
        [said] = [line for line in worker.said().splitlines() if line.startswith("gpucapt: ")]
        assert "the storage does not work" in said
    assert place.summaries(out) == [], "nothing was set aside"
    again = place.start(out)
    assert again.end() == 0, again.said()
    place.assert_like(out, undisturbed.rows)


@pytest.mark.slow
def test_a_signal_ends_a_run_that_waits_for_a_film_and_leaves_nothing_of_it(
    place: Place, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    out, spool = "signalled", tmp_path / "spool"
    with faulty_network(place.server.endpoint) as network:
        network.fail("hang", times=math.inf, method="GET", contains=f"/{place.bucket}/incoming/{FILM}")
        worker = place.start(out, AWS_ENDPOINT_URL=network.endpoint, GPUCAPT_SPOOL=str(spool))
        wait_until(lambda: list(spool.glob("*/*.webm")))
        worker.terminate()
        assert worker.end(within_s=40) == 128 + signal.SIGTERM, worker.said()
    assert "stopped by SIGTERM" in worker.said() and "Traceback" not in worker.said()
    assert list(spool.iterdir()) == []
    assert [key for key in place.listed(out) if key.startswith(".gpucapt/claims/")] == []
    again = place.start(out)
    assert again.end() == 0, again.said()
    place.assert_like(out, undisturbed.rows)
