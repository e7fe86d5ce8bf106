"""`gpucapt ingest finish`: what the shards did put together, and the inputs moved away."""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from model.errors import GpucaptError
from pipeline.captioning.outcome_store import Outcomes
from pipeline.errors import BadInput
from pipeline.ingest.merge_pieces import Joiner, PieceOutcomes
from pipeline.ingest.run_folder import ModelUsed, RunFolder, RunPlan
from pipeline.records.outcome import Input, Totals
from pipeline.reports.run_files import Run, write_run_csv, write_run_report, write_summary
from pipeline.runtime.clock import now
from pipeline.runtime.config import tuning
from pipeline.runtime.signals import Interrupted, stopped_by_signals
from pipeline.state.leases import Claims
from pipeline.storage.base import Storage
from pipeline.storage.open import open_storage

_MOVES_AT_ONCE = 16
"""From and to a remote storage; each is a few requests that take long and cost little."""
_MOVES_WAITING = 256

_log = logging.getLogger("gpucapt")


def finish(url: str) -> str:
    """Merge the outcomes of a run, join what was captioned in pieces, write the run's table, move its inputs
    away, then write its summary.

    Returns what to tell people. A run with a summary is finished. Raises GpucaptError when the run never was
    planned.
    """
    folder, _ = RunFolder.parse(url)
    summary = f"runs/{folder.id}/summary.json"
    plan = folder.read_plan()
    if plan is None and folder.is_empty:
        return "there was nothing to do"
    if folder.destination.stat(summary) is not None:
        return f"finished before; see {folder.destination.url}/{summary}"
    if plan is None:
        raise GpucaptError(f"{url} never was planned; give the run that `gpucapt ingest plan` printed")
    model = folder.read_model()
    with Outcomes() as outcomes, PieceOutcomes() as pieces:
        _read_outcomes(folder, plan, outcomes, pieces)
        _join(folder, plan, model, outcomes, pieces)
        run = _run(folder, plan, model)
        write_run_csv(run, outcomes, folder.destination)
        write_run_report(run, outcomes, folder.destination)
        _move_inputs(folder, plan, _moves(folder, outcomes, pieces))
        write_summary(run, outcomes, folder.destination)
        totals = outcomes.totals
    return (
        f"{totals.captioned} sources captioned ({totals.frames} frames),{_damaged(totals)}"
        f" {totals.errors - totals.untold} set aside{_untold(totals)}{_left(totals)};"
        f" see {folder.destination.url}/{run.folder}/report.html"
    )


def _damaged(totals: Totals) -> str:
    return f" {totals.damaged} damaged," if totals.damaged else ""


def _untold(totals: Totals) -> str:
    return f", {totals.untold} without a story" if totals.untold else ""


def _left(totals: Totals) -> str:
    return f", {totals.left} left for later" if totals.left else ""


def _read_outcomes(folder: RunFolder, plan: RunPlan, outcomes: Outcomes, pieces: PieceOutcomes) -> None:
    ended = 0
    for key in folder.outcome_keys():
        ended += not key.endswith("/plan.jsonl")
        for outcome, inputs in folder.read_outcomes(key):
            (outcomes if outcome.piece is None else pieces).add(outcome, inputs)
    if ended < plan.shards:
        _log.warning(
            "%d of %d shards did not end; their inputs stay in %s for the next round",
            plan.shards - ended,
            plan.shards,
            plan.incoming,
        )


def _join(
    folder: RunFolder, plan: RunPlan, model: ModelUsed, outcomes: Outcomes, pieces: PieceOutcomes
) -> None:
    signals: list[int] = []

    def go_on() -> None:
        if signals:
            raise Interrupted(signals[0])

    with (
        stopped_by_signals(signals.append),
        Claims(folder.destination, lease_s=tuning().lease) as claims,
    ):
        archive = f"{plan.archive}/{folder.id}"
        joiner = Joiner(folder.destination, plan.settings, model, claims, go_on, films=archive)
        for source in pieces.sources():
            go_on()
            outcome = joiner.join(source, partial(pieces.inputs, source.key))
            if outcome.status == "left":
                _log.warning("%s stays: %s", json.dumps(outcome.key, ensure_ascii=False), outcome.reason)
            outcomes.add(outcome, pieces.inputs(source.key))


def _run(folder: RunFolder, plan: RunPlan, model: ModelUsed) -> Run:
    started = datetime.fromtimestamp(plan.planned_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Run(
        folder.id,
        plan.incoming,
        folder.destination.url,
        started,
        now(),
        model.name,
        model.version,
        plan.settings.of_result("video"),
        max(time.time() - plan.planned_at, 0.0),
        folder.read_left_out(),
    )


def _move_inputs(folder: RunFolder, plan: RunPlan, moves: Iterable[Input]) -> None:
    mover = _Mover(
        folder.id, open_storage(plan.incoming), open_storage(plan.archive), open_storage(plan.failed)
    )
    if not any(storage.is_remote for storage in (mover.incoming, mover.archive, mover.failed)):
        for one in moves:
            mover.move(one)
        return
    waiting: deque[Future[None]] = deque()
    with ThreadPoolExecutor(_MOVES_AT_ONCE, thread_name_prefix="move") as pool:
        try:
            for one in moves:
                waiting.append(pool.submit(mover.move, one))
                if len(waiting) >= _MOVES_WAITING:
                    waiting.popleft().result()
            while waiting:
                waiting.popleft().result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _moves(folder: RunFolder, outcomes: Outcomes, pieces: PieceOutcomes) -> Iterator[Input]:
    """The files to be moved away, each once; with an error those that could not be used."""
    for key in folder.outcome_keys():
        for outcome, inputs in folder.read_outcomes(key):
            if outcome.piece is None and outcome.status != "left":
                yield from inputs
    for source in pieces.sources():
        status = outcomes.status_of(source.key)
        if status != "left":
            reason = outcomes.reason_of(source.key) if status == "set aside" else None
            yield from (replace(one, error=one.error or reason) for one in pieces.inputs(source.key))


@dataclass(frozen=True, slots=True)
class _Mover:
    run: str
    incoming: Storage
    archive: Storage
    failed: Storage

    def move(self, one: Input) -> None:
        """Move a file to where it belongs, unless it is gone, or has come anew."""
        if not self._is_same(one):
            return
        target = f"{self.run}/{one.key}"
        place = self.archive if one.error is None else self.failed
        if self._is_taken(place, target, one):
            _log.warning("%s/%s stays: %s/%s is another file", self.incoming.url, one.key, place.url, target)
            return
        try:
            if one.error is not None:
                self.failed.write(f"{target}.error.json", self._why(one))
            self.incoming.move(one.key, place, target)
        except BadInput as error:  # what is in the way of one file must not keep the others
            _log.warning("%s/%s stays: %s", self.incoming.url, one.key, error)
            if one.error is not None:
                self.failed.delete(f"{target}.error.json")
        except GpucaptError:
            if self._is_same(one):
                raise

    def _is_same(self, one: Input) -> bool:
        there = self.incoming.stat(one.key)
        # The same bytes sent again are another sending, though an object store gives them the same ETag.
        return there is not None and there.etag == one.etag and abs(there.modified - one.modified) < 1

    def _is_taken(self, place: Storage, target: str, one: Input) -> bool:
        """Whether something else lies where a file is to go (a copy of it may, since the last try)."""
        there = place.stat(target)
        if there is None or (there.size == one.size and "-" in f"{there.etag}{one.etag}"):
            return False  # the ETags of objects that were put in parts say little
        return (there.size, there.etag) != (one.size, one.etag)

    def _why(self, one: Input) -> bytes:
        why = {"key": one.key, "reason": one.error, "run": self.run}
        return (json.dumps(why, ensure_ascii=False, indent=2) + "\n").encode()
