"""Waiting once, and for no longer than it takes, so that what wakes a drop folder is also what it finds."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from pipeline.ingest.plan import Planning
from pipeline.ingest.settle import COARSE_S, wait_for_arrivals
from pipeline.records.settings import CaptionSettings
from pipeline.storage.open import open_storage
from tests.pipeline.jobs import write_stills

pytestmark = pytest.mark.slow


SETTLE_S = 1.5


def shards(tmp_path: Path, *, wait: bool, most_shards: int = 1024, shards: int | None = None) -> int:
    """How many shards a plan of ``in`` has."""
    planning = Planning(
        str(tmp_path / "in"),
        str(tmp_path / "out"),
        CaptionSettings(),
        SETTLE_S,
        shards=shards,
        wait=wait,
        most_shards=most_shards,
    )
    found = planning.run()["shards"]
    assert isinstance(found, list)
    return len(found)


def test_what_has_just_arrived_is_planned_by_the_run_that_it_woke(tmp_path: Path) -> None:
    write_stills(tmp_path / "in" / "album", 2)
    assert shards(tmp_path, wait=False) == 0
    assert shards(tmp_path, wait=True) == 1


def test_what_has_settled_waits_for_nobody(tmp_path: Path) -> None:
    write_stills(tmp_path / "in" / "album", 2)
    for path in (tmp_path / "in" / "album").iterdir():
        os.utime(path, (time.time() - 60, time.time() - 60))
    assert wait_for_arrivals(open_storage(str(tmp_path / "in")), SETTLE_S) == 0.0


def test_a_time_far_ahead_is_no_reason_to_wait(tmp_path: Path) -> None:
    path = write_stills(tmp_path / "in" / "album", 1) / "000.png"
    os.utime(path, (time.time() + 86_400, time.time() + 86_400))
    assert wait_for_arrivals(open_storage(str(tmp_path / "in")), SETTLE_S) == 0.0


def test_a_steady_stream_of_files_does_not_keep_the_first_ones_waiting(tmp_path: Path) -> None:
    folder = tmp_path / "in" / "album"
    write_stills(folder, 1)
    stop = threading.Event()

    def send() -> None:
        for number in range(1000):
            (folder / f"more-{number}.png").write_bytes((folder / "000.png").read_bytes())
            if stop.wait(0.1):
                return

    sender = threading.Thread(target=send)
    sender.start()
    try:
        assert wait_for_arrivals(open_storage(str(tmp_path / "in")), SETTLE_S) <= SETTLE_S + COARSE_S
    finally:
        stop.set()
        sender.join()


def test_shards_grow_before_there_are_more_than_wanted(tmp_path: Path) -> None:
    for number in range(6):
        write_stills(tmp_path / "in" / f"album-{number}", 1)
    assert shards(tmp_path, wait=True, shards=6) == 6
    assert shards(tmp_path, wait=False, shards=6, most_shards=4) == 4
