"""Watching without anybody who has time for the frames: what is kept, what goes, what is counted."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from pipeline.records.frame_selection import Selection
from pipeline.streams.address import parse
from pipeline.streams.capture import MOST_WAITING, Capture
from pipeline.streams.segments import segments
from tests.pipeline.streams.cameras import NetworkCamera

pytestmark = pytest.mark.slow


def wait_for(is_so: Callable[[], object]) -> None:
    """Wait until something is so; a busy machine has its time."""
    until = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < until, "it has not come to that"
        time.sleep(0.01)


def test_frames_do_not_queue_up_when_captioning_is_slower() -> None:
    with NetworkCamera(fps=60) as camera:
        capture = Capture(parse(camera.url), Selection(0.02), patience_s=0, duration_s=60)
        capture.start()
        wait_for(lambda: capture._dropped > MOST_WAITING)  # the queue has been full for a while
        found = capture.take(1000, float("inf"))
        dropped = capture.dropped_since()
        capture.close()
    assert found is not None
    assert len(found) == MOST_WAITING
    assert dropped > MOST_WAITING
    assert time.monotonic() - found[-1].at_s < 2  # the newest stay
    assert all(later.number > earlier.number for earlier, later in pairwise(found))
    assert capture.dropped_since() == 0  # each is counted once


def test_what_was_dropped_is_told_by_its_segment() -> None:
    with NetworkCamera(fps=60) as camera:
        capture = Capture(parse(camera.url), Selection(0.02), patience_s=0, duration_s=3)
        capture.start()
        (source,) = list(_read_slowly(capture))
        capture.close()
    assert source["dropped"] > 0
    assert source["seconds"] <= 3.1


def _read_slowly(capture: Capture) -> list[dict[str, float]]:
    facts = []
    for source in segments(capture, 60, None, lambda key: True):
        assert source.feed is not None
        for batch in source.feed.batches(4):
            assert 1 <= len(batch) <= 4
            time.sleep(0.4)
        facts.append(source.feed.facts())
    return facts  # type: ignore[return-value]


@pytest.mark.parametrize("is_stopped", [True, False])
def test_what_waits_at_the_end_is_still_there_to_be_taken(is_stopped: bool) -> None:
    with NetworkCamera(fps=20, frames=None if is_stopped else 10) as camera:
        capture = Capture(parse(camera.url), Selection(0.05), patience_s=0, duration_s=30)
        capture.start()
        wait_for(lambda: len(capture._shots) >= 3)
        if is_stopped:
            capture.stop()
        while not capture.is_over:
            time.sleep(0.05)
        found = capture.take(100, float("inf"))
        assert found and len(found) >= 3
        assert capture.take(100, float("inf")) is None
        capture.close()


def test_frames_that_look_the_same_are_left_out_and_not_counted_as_dropped() -> None:
    with NetworkCamera(fps=10, frames=None) as camera:
        every = Capture(parse(camera.url), Selection(0.1), patience_s=0, duration_s=2)
        new = Capture(parse(camera.url), Selection(1.0, skip_duplicates=True), patience_s=0, duration_s=2.5)
        for capture in (every, new):
            capture.start()
        while not new.is_over:
            time.sleep(0.05)
        # The same picture comes again after ten frames, a second here.
        assert len(new.take(100, float("inf")) or []) < len(every.take(100, float("inf")) or [])
        assert new.dropped_since() == 0
        for capture in (every, new):
            capture.close()
