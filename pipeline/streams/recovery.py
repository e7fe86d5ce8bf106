"""What a run left behind that was killed while it watched: its last segment is published as far as it came.

For as long as this worker has the claim on the stream, nobody else works on its segments.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipeline.captioning.job_spec import OutcomeSink
from pipeline.captioning.messages import Work
from pipeline.captioning.publisher import discard, publish
from pipeline.errors import BadInput
from pipeline.media.frame import Frame
from pipeline.records.outcome import Outcome
from pipeline.sources.discovery import Source
from pipeline.state.fingerprints import Snapshot
from pipeline.state.leases import Claim, ClaimLost, Claims
from pipeline.state.manifest import read_done
from pipeline.state.parts import Parts, find_segments
from pipeline.state.segment_mark import SegmentMark
from pipeline.storage.base import Storage
from pipeline.storage.write_guard import fenced

_log = logging.getLogger("gpucapt")


@dataclass(frozen=True, slots=True)
class _Gone:
    """A segment that shows nothing any more."""

    told: dict[str, object]

    def batches(self, most: int) -> Iterator[list[Frame]]:
        """Nothing."""
        return iter(())

    def facts(self) -> dict[str, object]:
        """What is still known of it."""
        return self.told


class Leftovers:
    """The segments of a stream that have rows but no manifest, as found at the beginning."""

    def __init__(
        self, destination: Storage, stream: str, claims: Claims, sink: OutcomeSink, go_on: Callable[[], None]
    ) -> None:
        self._destination = destination
        self._claims = claims
        self._sink = sink
        self._go_on = go_on
        self._left = list(find_segments(destination, stream))

    def publish(self) -> None:
        """Publish those that nobody claims.

        Others may be a worker's that lost the stream and still ends its last segment, or one's that is gone,
        which shows in time: try again later.
        """
        self._left = [(parts, key) for parts, key in self._left if not self._is_done_with(parts, key)]

    def _is_done_with(self, parts: Parts, key: str) -> bool:
        claim = self._claims.take(key)
        if claim is None:
            return False
        try:
            _publish(self._destination, parts, key, claim, self._sink, self._go_on)
        except ClaimLost:
            claim.abandon()
            return False
        claim.release()
        return True


def _publish(
    destination: Storage, parts: Parts, key: str, claim: Claim, sink: OutcomeSink, go_on: Callable[[], None]
) -> None:
    mark, done = SegmentMark.read(parts), read_done(destination, key)
    rows = parts.resume()
    last = parts.last(rows) if rows else None
    if mark is None or last is None or done is not None:
        with fenced(claim.assert_held):
            parts.remove()
        return
    facts = {**mark.facts, "seconds": last.timestamp_s or 0.0, "dropped": None, "losses": None}
    source = Source(key, "video", key, feed=_Gone(facts))
    with Snapshot(()) as snapshot:
        work = Work(source, mark.info, claim, parts, snapshot, rows)
        try:
            published = publish(work, destination, rows, go_on=go_on)
        except BadInput as error:
            discard(work, destination)
            sink.add(Outcome(key, "set aside", reason=str(error)), ())
            return
    _log.info("%s: published %d frames that an earlier run left", key, rows)
    sink.add(published.outcome(key), ())
