"""The job: sources in, outputs out, with reading, captioning and writing at the same time.

    readers ──chunks──▶ captions ──chunks──▶ writer ──parts──▶ publishers
    (decode, resize)    (the model)          (rows)            (outputs, manifest)

Each arrow is bounded, so memory does not grow with the length of a film or the number of sources. An error in
any thread ends them all; what is captioned by then is flushed first, and the claims are released.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.captioning.batcher import AdaptiveCaptioner, Batcher, Slot, fill
from pipeline.captioning.job_spec import Order, OutcomeSink, inputs_of
from pipeline.captioning.messages import Chunk, End, Failed, Message, Work
from pipeline.captioning.prefetch import Fetcher
from pipeline.captioning.publisher import discard, publish, sweep
from pipeline.captioning.row_writer import Writer
from pipeline.captioning.scheduler import InFlight, Intake
from pipeline.errors import BadInput
from pipeline.models.lazy_model import LazyModel
from pipeline.models.resolve import Model
from pipeline.records.outcome import Input, Outcome, PieceDone
from pipeline.runtime.bounded_queue import Channel, Stopped
from pipeline.runtime.config import tuning
from pipeline.runtime.progress import Progress
from pipeline.runtime.signals import Interrupted
from pipeline.sources.discovery import Piece
from pipeline.state.conditional_upload import THREADS as UPLOADERS
from pipeline.state.leases import ClaimLost, Claims
from pipeline.state.piece_marks import Mark
from pipeline.state.still_rows import saved_rows
from pipeline.storage.write_guard import fenced

if TYPE_CHECKING:
    from model.captioner import Captioner

_log = logging.getLogger("gpucapt")

_CHUNKS_WAITING = 3
_PUBLISHERS, _REMOTE_PUBLISHERS = 2, 8
"""To publish to a remote storage is mostly to wait for it."""
_GRACE_S = 5.0
"""How long a run that ends early waits for what its threads are in the middle of."""


def _unwatched(chunk: Chunk) -> None:
    """For jobs that nobody watches."""


class Job:
    """One run over an order's sources."""

    def __init__(
        self,
        order: Order,
        model: Model | LazyModel,
        sink: OutcomeSink,
        progress: Progress,
        watch: Callable[[Chunk], None] = _unwatched,
    ) -> None:
        """``model`` may be one that others use, too. ``watch`` is told of chunks as they are captioned."""
        self._order = order
        self._sink = sink
        self._progress = progress
        self._watch = watch
        if not isinstance(model, LazyModel):
            model = LazyModel(model, order.settings, order.resources, tell=True)
        self.model = model
        self._stop = threading.Event()
        self._signal: int | None = None
        self._error: BaseException | None = None
        self._in_flight = InFlight()
        self._chunks: Channel[Message] = Channel(_CHUNKS_WAITING, self._stop)
        self._results: Channel[Chunk | End | Failed] = Channel(_CHUNKS_WAITING, self._stop)
        self._publishing: set[Future[None]] = set()
        self._publishers = _REMOTE_PUBLISHERS if order.destination.is_remote else _PUBLISHERS
        self._uploaders: ThreadPoolExecutor | None = None

    def stop(self, signal_number: int) -> None:
        """End the run early, because of a signal; may be called from a signal handler."""
        self._signal = signal_number
        self._stop.set()

    def run(self) -> None:
        """Work through all sources.

        Raises GpucaptError when the run as a whole cannot go on, Interrupted after ``stop``.
        """
        workers = self._order.resources.workers
        with (
            Claims(self._order.destination, lease_s=tuning().lease) as claims,
            Fetcher(self._order.storage, self._go_on) as fetcher,
        ):
            decoders = ThreadPoolExecutor(workers, thread_name_prefix="decode")
            publishers = ThreadPoolExecutor(self._publishers, thread_name_prefix="publish")
            if self._order.destination.is_remote:
                self._uploaders = ThreadPoolExecutor(UPLOADERS, thread_name_prefix="upload")
            try:
                self._run_threads(claims, fetcher, decoders, publishers)
            finally:
                ended_early = self._stop.is_set()
                decoders.shutdown(wait=not ended_early, cancel_futures=True)
                publishers.shutdown(wait=not ended_early, cancel_futures=ended_early)
                wait(self._publishing, timeout=_GRACE_S)
                if self._uploaders is not None:
                    self._uploaders.shutdown(wait=not ended_early)
            if not self._stop.is_set():
                sweep(self._order.destination, claims)
        if self._error is not None:
            raise self._error
        if self._signal is not None:
            raise Interrupted(self._signal)

    def _run_threads(
        self,
        claims: Claims,
        fetcher: Fetcher,
        decoders: ThreadPoolExecutor,
        publishers: ThreadPoolExecutor,
    ) -> None:
        intake = Intake(
            self._order,
            self.model,
            claims,
            self._in_flight,
            self._chunks,
            self._stop,
            pool=decoders,
            fetcher=fetcher,
            tell=self._tell,
            progress=self._progress,
        )
        threads = [
            self._start("read", lambda: self._read(intake)),
            self._start("caption", self._caption),
            self._start("write", lambda: self._write(publishers)),
        ]
        deadline = None
        try:
            while any(thread.is_alive() for thread in threads):
                # In small steps: signal handlers run between them, in this thread.
                next(thread for thread in threads[::-1] if thread.is_alive()).join(0.1)
                if self._stop.is_set():
                    deadline = deadline or time.monotonic() + _GRACE_S
                    if time.monotonic() > deadline:
                        break
        except BaseException:
            self._stop.set()
            raise

    def _start(self, name: str, work: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=self._guard, args=(work,), name=name, daemon=True)
        thread.start()
        return thread

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Stopped:
            pass
        except BaseException as error:
            self._error = self._error or error
            self._stop.set()

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise Stopped

    # Each of the following runs in threads of its own.

    def _read(self, intake: Intake) -> None:
        try:
            others = range(intake.threads - 1)
            readers = [self._start("read", intake.take_listed) for _ in others]
            intake.take_listed()
            for reader in readers:
                reader.join()
            intake.take_the_rest()
        finally:
            self._chunks.close()
            intake.close()

    def _caption(self) -> None:
        tools: tuple[Batcher, AdaptiveCaptioner] | None = None
        try:
            for message in self._chunks:
                if isinstance(message, Chunk) and message.images:
                    tools = tools or self._tools(self.model.load())
                    self._caption_batches(tools[1], tools[0].add(message))
                elif message is not None:
                    self._results.put(message)
                elif tools is not None:
                    self._caption_batches(tools[1], tools[0].flush())
        finally:
            self._results.close()

    def _tools(self, captioner: Captioner) -> tuple[Batcher, AdaptiveCaptioner]:
        settings = self._order.settings
        words = AdaptiveCaptioner(captioner, beam_size=settings.beam_size, max_length=settings.max_length)
        return Batcher(self.model.batch_size), words

    def _caption_batches(self, words: AdaptiveCaptioner, batches: Iterable[list[Slot]]) -> None:
        for batch in batches:
            captions = words.caption([chunk.images[index] for chunk, index in batch])
            for chunk in fill(batch, captions):
                self._watch(chunk)
                self._results.put(chunk)
            self._progress.captioned(len(batch))

    def _write(self, publishers: ThreadPoolExecutor) -> None:
        writer: Writer | None = None
        try:
            for message in self._results:
                writer = writer or Writer(self.model.batch_size)
                self._write_one(writer, message, publishers)
        finally:
            if writer is not None and self._stop.is_set():
                writer.flush_all()

    def _write_one(
        self, writer: Writer, message: Chunk | End | Failed, publishers: ThreadPoolExecutor
    ) -> None:
        work = message.work
        if work.abandoned:
            return
        if isinstance(message, Failed):
            reason, tell = message.reason, self._leave if message.is_left else self._set_aside
            writer.forget(work)
            self._publish(publishers, work, lambda: tell(work, reason))
            return
        try:
            end = writer.add(message)
        except ClaimLost:
            writer.forget(work)
            self._in_flight.abandon(work)
            return
        except BadInput as error:  # there is no place for it at the destination
            reason = str(error)
            writer.forget(work)
            self._publish(publishers, work, lambda: self._set_aside(work, reason))
            return
        if end is not None:
            self._publish(publishers, work, lambda: self._finish(end, writer))

    def _publish(self, publishers: ThreadPoolExecutor, work: Work, finish: Callable[[], None]) -> None:
        while len(self._publishing) >= 2 * self._publishers:
            self._go_on()
            wait(self._publishing, timeout=0.1, return_when="FIRST_COMPLETED")
            self._publishing = {future for future in self._publishing if not future.done()}

        def task() -> None:
            try:
                finish()
            except ClaimLost:
                self._in_flight.abandon(work)

        self._publishing.add(publishers.submit(self._guard, task))

    def _finish(self, end: End, writer: Writer) -> None:
        work, destination = end.work, self._order.destination
        try:
            writer.flush_rest(work)
            if work.source.piece is not None:
                self._finish_piece(end, work.source.piece)
                return
            published = publish(
                work, destination, end.total, go_on=self._go_on, uploaders=self._uploaders, facts=end.facts
            )
        except BadInput as error:
            self._set_aside(work, str(error))
        else:
            some_bad = work.info.kind == "stills" and published.counts.errors
            rows = saved_rows(destination, work.info.key, work.rows_digest) if some_bad else ()
            inputs = inputs_of(work.source, work.snapshot, rows)
            self._tell(published.outcome(work.info.key), inputs)
            self._in_flight.end(work)

    def _finish_piece(self, end: End, piece: Piece) -> None:
        work, total = end.work, end.total
        work.claim.check()
        with fenced(work.claim.assert_held):
            Mark(piece, total, facts=end.facts).write(work.parts)
        rows = work.parts.rows() if work.info.kind == "stills" else ()
        done = PieceDone(piece.index, piece.of, work.info.kind, work.info.fingerprint, total)
        inputs = inputs_of(work.source, work.snapshot, rows)
        self._tell(Outcome(work.info.key, "captioned", total, piece=done), inputs)
        self._in_flight.end(work)

    def _set_aside(self, work: Work, reason: str) -> None:
        work.claim.check()  # else it is another worker's to tell
        rows = work.parts.rows() if work.info.kind == "stills" else ()
        inputs = inputs_of(work.source, work.snapshot, rows, otherwise=reason)
        piece = work.source.piece
        of = None if piece is None else PieceDone(piece.index, piece.of, work.info.kind)
        self._tell(Outcome(work.info.key, "set aside", reason=reason, piece=of), inputs)
        if piece is None:
            discard(work, self._order.destination)  # the next run looks at all of it again
        self._in_flight.end(work)

    def _leave(self, work: Work, reason: str) -> None:
        work.claim.check()
        piece = work.source.piece
        of = None if piece is None else PieceDone(piece.index, piece.of, work.info.kind)
        self._tell(Outcome(work.info.key, "left", reason=reason, piece=of), ())
        self._in_flight.end(work)

    def _tell(self, outcome: Outcome, inputs: Iterable[Input]) -> None:
        if outcome.reason is not None:
            outcome = replace(outcome, reason=" ".join(outcome.reason.split()))
        self._sink.add(outcome, inputs)
        self._progress.end(outcome.key, outcome.status, outcome.frames)
