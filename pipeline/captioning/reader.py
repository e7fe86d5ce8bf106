"""From a source to chunks of prepared pictures: decoding and resizing, a few pictures ahead.

A source's frames are cut into chunks at multiples of the batch size, wherever reading begins: so a run that
goes on after a part has the batches of one that was never interrupted.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import CancelledError, Executor, Future
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from pipeline.captioning.job_spec import Order
from pipeline.captioning.messages import Chunk, End, Work
from pipeline.captioning.prefetch import Fetcher
from pipeline.errors import Archived, BadInput, StorageUnavailable
from pipeline.media.decoder import FrameDecoder
from pipeline.media.frame import Feed, Frame, KnownFrame, Passage
from pipeline.media.images import thumbnail
from pipeline.models.lazy_model import LazyModel
from pipeline.records.row import Row, is_illustrated
from pipeline.records.still_reader import STILL_READER
from pipeline.runtime.bounded_queue import Stopped
from pipeline.runtime.ordered_results import ordered_results
from pipeline.state.leases import ClaimLost
from pipeline.state.piece_marks import unfinished_rows
from pipeline.state.still_rows import Illustrations, join, name_of, saved_rows
from pipeline.storage.base import Entry

if TYPE_CHECKING:
    from model.captioner import Captioner
    from pipeline.captioning.messages import Picture

_FRAMES_AHEAD = 4
"""Decoded frames of a video that wait to be resized; each has the size of the film."""


_Item = tuple[Row, "Picture | None"]


class Reader:
    """Reads one source after the other, or several in as many threads."""

    def __init__(
        self,
        order: Order,
        model: LazyModel,
        pool: Executor,
        fetcher: Fetcher,
        go_on: Callable[[], None],
    ) -> None:
        """``go_on`` is called now and then, and raises to give up."""
        self._order = order
        self._model = model
        self._pool = pool
        self._fetcher = fetcher
        self._go_on = go_on
        self._decoders: list[FrameDecoder] = []
        """Those that nobody uses; a list's two ends are safe to be used by several threads."""

    def close(self) -> None:
        """End the processes that decode."""
        while self._decoders:
            self._decoders.pop().close()

    def is_shown_otherwise(self, film: Entry) -> bool:
        """Whether a film on disk that an earlier version captioned was shown wrongly then.

        A remote one would have to be fetched for that: it is taken as it is.
        """
        if self._order.storage.is_remote:
            return False
        try:
            with self._decoder() as decoder, self._fetcher.film(film) as path:
                return decoder.is_shown_otherwise(path)
        except BadInput:
            return False

    def read(self, work: Work) -> Iterator[Chunk | End]:
        """The chunks of a source from ``work.first`` on, then its end.

        Raises BadInput when the source cannot be used (Archived: for now), ClaimLost when another worker has
        taken it over.
        """
        if work.source.feed is not None:
            yield from self._feed(work, work.source.feed)
            return
        if work.info.kind == "video":
            yield from self._video(work)
        else:
            total = yield from self._chunks(work, self._stills(work))
            yield End(work, total)

    def _chunks(self, work: Work, items: Iterator[_Item]) -> Generator[Chunk, None, int]:
        """The items in chunks; returns how many rows the source has."""
        chunk: Chunk | None = None
        total = work.first
        for row, image in items:
            if work.abandoned:
                raise ClaimLost(work.info.key)
            if chunk is None:
                chunk = Chunk(work, row.position)
            if image is not None:
                chunk.images[len(chunk.rows)] = image
            chunk.rows.append(row)
            total = row.position + 1
            if total % self._model.batch_size == 0:
                yield chunk
                chunk = None
        if chunk is not None:
            yield chunk
        if total == 0 and work.source.piece is None:
            raise BadInput(f"{work.info.key}: there is no frame in it")
        return total

    def _feed(self, work: Work, feed: Feed) -> Iterator[Chunk | End]:
        """What is there of it at a time is a chunk: who looks on does not wait until a batch is full."""
        captioner, total = self._model.load(), work.first
        for frames in feed.batches(self._model.batch_size):
            if work.abandoned:
                raise ClaimLost(work.info.key)
            chunk = Chunk(work, total)
            submitted = [
                self._pool.submit(_prepared, frame, captioner, total + index)
                for index, frame in enumerate(frames)
            ]
            for index, future in enumerate(submitted):
                row, image = future.result()
                chunk.rows.append(row)
                if image is not None:
                    chunk.images[index] = image
            total += len(frames)
            yield chunk
        yield End(work, total)

    def _video(self, work: Work) -> Iterator[Chunk | End]:
        assert work.source.entry is not None
        piece, settings = work.source.piece, self._order.settings
        with self._decoder() as decoder:
            decoder.start()  # it gets ready while the film comes and the model is loaded
            with (
                self._fetcher.film(work.source.entry) as path,
                closing(
                    decoder.frames(
                        path,
                        settings.selection,
                        first_position=work.first,
                        after=_last_known(work),
                        passage=None if piece is None else Passage(piece.index, piece.of),
                        backend=settings.video_backend,
                    )
                ) as frames,
            ):
                submitted = (self._submit_frame(frame, row) for row, frame in enumerate(frames, work.first))
                total = yield from self._chunks(work, ordered_results(submitted, _FRAMES_AHEAD))
            facts = decoder.facts
        yield End(work, total, facts)

    @contextmanager
    def _decoder(self) -> Iterator[FrameDecoder]:
        """One that nobody else uses meanwhile."""
        try:
            decoder = self._decoders.pop()
        except IndexError:
            decoder = FrameDecoder(self._go_on)
        try:
            yield decoder
        except BadInput:  # it is the file's fault
            self._decoders.append(decoder)
            raise
        except BaseException:
            decoder.close()
            raise
        self._decoders.append(decoder)

    def _submit_frame(self, frame: Frame, row: int) -> Future[_Item]:
        return self._pool.submit(_prepared, frame, self._model.load(), row)

    def _stills(self, work: Work) -> Iterator[_Item]:
        yield from ordered_results(self._submitted_stills(work), 2 * self._order.resources.workers)

    def _submitted_stills(self, work: Work) -> Iterator[Future[_Item] | _Item]:
        illustrations = Illustrations()
        wanted = (found for found in enumerate(self._joined(work)) if found[0] >= work.first)
        for position, found, fetched in self._fetcher.stills(wanted):
            if isinstance(found, Row):
                found.position = position
                illustrations.keep(found)
                yield found, None
            else:
                illustrations.new(position)
                yield self._pool.submit(self._read_still, position, found, fetched, self._model.load())

    def _joined(self, work: Work) -> Iterator[Entry | Row]:
        order, is_whole = self._order, work.source.piece is None
        return join(
            work.snapshot,
            # What a piece has in common with them is found again when the pieces are joined.
            saved_rows(order.destination, work.info.key, work.rows_digest) if is_whole else (),
            heapq.merge(*unfinished_rows(order.destination, work.source, work.info.fingerprint), key=name_of),
            keep_missing=order.keep_missing and is_whole,
            reuse=not order.overwrite,
            reuse_errors=not order.retry_failed,
            reuse_outdated=False,
        )

    def _read_still(
        self, position: int, entry: Entry, fetched: Future[bytes] | None, captioner: Captioner
    ) -> _Item:
        try:
            data = self._fetcher.read(entry) if fetched is None else fetched.result()
            with self._decoder() as decoder:
                image = decoder.still(data, entry.name, whole=captioner.prepare.whole)
            frame = Frame(position, entry.name, None, image, entry.etag)
            item = _prepared(frame, captioner, position)
            item[0].reader = STILL_READER
            return item
        except (StorageUnavailable, Archived, CancelledError, Stopped):  # says nothing about the still
            raise
        except Exception as error:  # whatever a strange file makes a decoder do costs this still alone
            row = Row(position, entry.name, None, "", [], 0.0, entry.etag, error=reason_of(error))
            row.reader = STILL_READER
            return row, None


def _last_known(work: Work) -> KnownFrame | None:
    """The last frame of a film that has a row."""
    last = work.parts.last(work.first) if work.first else None
    if last is None or not isinstance(last.frame, int) or last.timestamp_s is None:
        return None
    return last.frame, last.timestamp_s


def _prepared(frame: Frame, captioner: Captioner, row_position: int) -> _Item:
    """The row of a frame, which in a piece of a film has another position there than in the film."""
    row = Row(row_position, frame.frame, frame.timestamp_s, "", [], 0.0, frame.etag)
    row.end_s, row.is_alike, row.gap = frame.end_s, frame.is_alike, frame.gap
    if is_illustrated(frame.position):
        row.thumbnail = thumbnail(frame.image)
    return row, captioner.prepare(frame.image)


def reason_of(error: BaseException) -> str:
    """Why something cannot be used, as one line for people."""
    text = " ".join(str(error).split())
    return text if isinstance(error, BadInput) and text else f"{type(error).__name__}: {text}".rstrip(": ")
