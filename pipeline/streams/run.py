"""`gpucapt caption` of a camera or a stream: one run, from the first frame to the last segment."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from model.errors import GpucaptError
from pipeline.captioning.job import Job
from pipeline.captioning.job_spec import Order
from pipeline.captioning.outcome_store import Outcomes
from pipeline.captioning.run import conclude
from pipeline.models.resolve import resolve_model
from pipeline.records.outcome import Input, Outcome
from pipeline.records.settings import CaptionSettings, Resources
from pipeline.reports.run_files import Run, new_run_id
from pipeline.runtime.clock import now
from pipeline.runtime.config import tuning
from pipeline.runtime.progress import Progress, shown
from pipeline.runtime.signals import stopped_by_signals
from pipeline.state.leases import Claim, ClaimLost, Claims
from pipeline.state.manifest import manifest_key
from pipeline.storage.local import LocalStorage
from pipeline.storage.open import open_storage
from pipeline.stories.job_storyteller import check_provider
from pipeline.streams.address import Address
from pipeline.streams.camera import check_device
from pipeline.streams.capture import Capture, check_selection
from pipeline.streams.recovery import Leftovers
from pipeline.streams.segments import segments

_log = logging.getLogger("gpucapt")

_LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """How a stream is watched, all in seconds.

    ``segment_s`` is the length of a segment; ``duration_s`` when to stop, None for never; ``patience_s`` for
    how long a stream that was lost is looked for.
    """

    segment_s: float = 60.0
    duration_s: float | None = None
    patience_s: float = 300.0

    def __post_init__(self) -> None:
        if not 1 <= self.segment_s < float("inf"):
            raise GpucaptError(f"segment must be a number of seconds, at least 1, not {self.segment_s:g}")
        if self.duration_s is not None and not self.duration_s > 0:
            raise GpucaptError(f"duration must be a number of seconds above 0, not {self.duration_s:g}")
        if not self.patience_s >= 0:
            raise GpucaptError(f"reconnect must be a number of seconds, or 0, not {self.patience_s:g}")


class _Told:
    """Says of each segment that it is there, beside taking note of it."""

    def __init__(self, outcomes: Outcomes) -> None:
        self._outcomes = outcomes

    def add(self, outcome: Outcome, inputs: Iterable[Input]) -> None:
        self._outcomes.add(outcome, inputs)
        if outcome.status == "captioned":
            _log.info("%s is there: %d frames", outcome.key, outcome.frames)


@dataclass(frozen=True, slots=True)
class StreamRun:
    """What `gpucapt caption` was asked to do, of a stream."""

    address: Address
    destination: str
    settings: CaptionSettings
    resources: Resources
    stream: StreamSettings
    progress: str = "auto"

    def run(self) -> int:
        """Caption until the stream is over, its time is, or a signal comes; returns the exit code."""
        check_provider(self.settings.story)
        check_selection(self.settings.selection)
        check_device(self.address)  # of a network only opening tells, which may be had but once
        model = resolve_model(self.settings.model)
        destination = open_storage(self.destination)
        destination.check_place()
        capture = Capture(
            self.address,
            self.settings.selection,
            patience_s=self.stream.patience_s,
            duration_s=self.stream.duration_s,
        )
        started, began, progress = now(), time.monotonic(), Progress()
        with (
            Outcomes() as outcomes,
            Claims(destination, lease_s=tuning().lease) as claims,
            stopped_by_signals(capture.stop),
        ):
            claim = self._claim(claims, capture.go_on)
            sink = _Told(outcomes)
            leftovers = Leftovers(destination, self.address.name, claims, sink, capture.go_on)
            leftovers.publish()

            def is_free(key: str) -> bool:
                try:
                    claim.check()  # as long as it holds nobody else watches
                except ClaimLost as error:
                    raise GpucaptError(f"another process has taken over {self.address.name}") from error
                leftovers.publish()
                return destination.stat(manifest_key(key)) is None

            found = segments(capture, self.stream.segment_s, self.settings.selection.max_frames, is_free)
            # A stream's frames lie in no storage.
            nowhere = LocalStorage(Path(os.devnull))
            job = Job(
                Order(nowhere, destination, found, self.settings, self.resources), model, sink, progress
            )
            job.model.load()  # before the first frame, which would not wait for it
            try:
                capture.start()
                with shown(progress, self.progress):
                    job.run()
            finally:
                capture.close()
            leftovers.publish()
            claim.release()
            if outcomes.totals.sources == 0:
                raise GpucaptError(f"{self.address.shown} has shown no frame that could be captioned")
            run = Run(
                new_run_id(),
                self.address.shown,
                destination.url,
                started,
                now(),
                job.model.name,
                job.model.version,
                self.settings.of_result("video"),
                time.monotonic() - began,
            )
            return conclude(run, outcomes, destination)

    def _claim(self, claims: Claims, go_on: Callable[[], None]) -> Claim:
        """The right to watch the stream: two that did would caption it twice. Raises GpucaptError."""
        until, told = time.monotonic() + 1.5 * tuning().lease, False
        # Below its name, and hidden, so that it meets no source of that name.
        while (claim := claims.take(f"{self.address.name}/.stream")) is None:
            if time.monotonic() > until:
                raise GpucaptError(
                    f"another process captions {self.address.name} into {self.destination}; end that one, or"
                    " give this stream another name by --stream-name"
                )
            if not told:
                _log.info("waiting: another process captions %s, or did", self.address.name)
                told = True
            go_on()
            time.sleep(_LOOK_S)
        return claim
