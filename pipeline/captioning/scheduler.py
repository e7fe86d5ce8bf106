"""Which sources this worker takes: those that are not done and that no other worker has."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import asdict, replace
from itertools import islice

from model.errors import GpucaptError
from pipeline.captioning.admission import Turns
from pipeline.captioning.job_spec import Order, inputs_of, still_name
from pipeline.captioning.messages import Failed, Message, Work
from pipeline.captioning.prefetch import Fetcher
from pipeline.captioning.reader import Reader, reason_of
from pipeline.errors import Archived, BadInput, StorageUnavailable
from pipeline.models.lazy_model import LazyModel
from pipeline.records.outcome import Input, Outcome, PieceDone
from pipeline.records.source_info import SourceInfo
from pipeline.runtime.bounded_queue import Channel, Stopped
from pipeline.runtime.progress import Progress
from pipeline.sources.discovery import Piece, SetAside, Source, still_entries
from pipeline.sources.recordings import NO_RECORDING, is_known_text
from pipeline.state.fingerprints import Snapshot, rows_digest
from pipeline.state.leases import Claim, ClaimLost, Claims
from pipeline.state.manifest import read_done
from pipeline.state.piece_marks import Mark, parts_of
from pipeline.state.segment_mark import SegmentMark
from pipeline.state.still_rows import KnownStills, has_outdated, saved_rows
from pipeline.storage.base import Entry
from pipeline.storage.relative_urls import film_links
from pipeline.storage.within_reach import WithinReach
from pipeline.storage.write_guard import fenced

_log = logging.getLogger("gpucapt")

_LOOK_S = 0.5
"""How often to look whether a source that another worker had is done, or free."""


class InFlight:
    """Counts the sources that this worker has begun, and remembers those that another worker has."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._works: set[Work] = set()
        self._elsewhere: list[Source] = []

    def begin(self, work: Work) -> None:
        """This worker has claimed a source."""
        with self._lock:
            self._works.add(work)

    def end(self, work: Work) -> None:
        """The source is finished, one way or the other."""
        work.claim.release()
        work.snapshot.close()
        with self._lock:
            self._works.discard(work)

    def abandon(self, work: Work) -> None:
        """Another worker took the source over: look at it again later."""
        work.abandoned = True
        work.claim.abandon()
        with self._lock:
            if work in self._works:
                self._works.discard(work)
                self._elsewhere.append(work.source)

    def is_elsewhere(self, source: Source) -> None:
        """Another worker has this source."""
        with self._lock:
            self._elsewhere.append(source)

    def elsewhere(self) -> tuple[list[Source], bool]:
        """The sources to look at again, and whether there are some in flight that may yet join them."""
        with self._lock:
            sources, self._elsewhere = self._elsewhere, []
            return sources, bool(self._works)


class Intake:
    """Goes through the sources of an order and sends the chunks of those that it takes."""

    def __init__(
        self,
        order: Order,
        model: LazyModel,
        claims: Claims,
        in_flight: InFlight,
        channel: Channel[Message],
        stop: threading.Event,
        *,
        pool: Executor,
        fetcher: Fetcher,
        tell: Callable[[Outcome, Iterable[Input]], None],
        progress: Progress,
    ) -> None:
        self._order = order
        self._model = model
        self._claims = claims
        self._in_flight = in_flight
        self._channel = channel
        self._stop = stop
        self._fetcher = fetcher
        self._reader = Reader(order, model, pool, fetcher, self._go_on)
        is_remote = order.storage.is_remote or order.destination.is_remote
        self._turns = Turns(order.resources.readers, is_remote=is_remote, go_on=self._go_on)
        self._tell = tell
        self._progress = progress
        self._sources = iter(order.sources)
        self._listed = 0
        self._lock = threading.Lock()

    def close(self) -> None:
        """End the processes that decode."""
        self._reader.close()

    @property
    def threads(self) -> int:
        """In how many threads ``take_listed`` should run."""
        return self._turns.threads

    def take_listed(self) -> None:
        """Go through the listing; several threads may, each takes the next source."""
        while not self._stop.is_set():
            with self._lock:
                source = next(self._sources, None)
                self._listed += source is not None
                number = self._listed
            if source is None:
                return
            if isinstance(source, SetAside):
                self._tell(Outcome(source.key, "set aside", reason=source.reason), ())
            elif not self._take(source, number):
                self._in_flight.is_elsewhere(source)

    def take_the_rest(self) -> None:
        """Wait for what other workers have claimed: they finish it, or it is ours when they are gone."""
        told = False
        while not self._stop.is_set():
            self._channel.put(None)
            sources, some_in_flight = self._in_flight.elsewhere()
            if not sources and not some_in_flight:
                return
            taken = [self._take(source) for source in sources]
            for source, was_taken in zip(sources, taken, strict=True):
                if not was_taken:
                    self._in_flight.is_elsewhere(source)
            if sources and not any(taken) and not told:
                _log.info("waiting for %d sources that other workers have claimed", len(sources))
                told = True
            if not any(taken):
                self._stop.wait(_LOOK_S if sources else _LOOK_S / 10)

    def _take(self, source: Source, number: int | None = None) -> bool:
        """Read a source unless it is done; False when another worker has it.

        ``number`` counts the sources in the order of the listing, where it is new from there.
        """
        stills = self._stills(source)
        try:
            snapshot = Snapshot(self._entries(source, stills))
        except StorageUnavailable:
            raise
        except GpucaptError as error:
            self._tell(Outcome(source.key, "set aside", reason=str(error)), ())
            return True
        found: Work | bool = False
        try:
            fingerprint = self._fingerprint(source, snapshot)
            found = (
                self._tell_if_out_of_reach(source, snapshot, stills.out_of_reach)
                or self._tell_if_done(source, fingerprint, snapshot)
                or self._leave_out(source)
                or self._tell_if_archived(source)
                or self._read_in_turn(source, fingerprint, snapshot, number)
            )
            if found and snapshot.count and stills.out_of_reach is not None:
                name, reason = stills.out_of_reach
                self._tell(Outcome(still_name(source, name), "left", reason=reason), ())
        except BadInput as error:  # its key cannot be a name at the destination
            self._tell(Outcome(source.key, "set aside", reason=str(error)), ())
            found = True
        finally:
            if not isinstance(found, Work):
                snapshot.close()
        return bool(found)

    def _leave_out(self, source: Source) -> bool:
        """Whether a source is a text with the extension of a recording, which then is no source."""
        entry = source.entry if source.kind == "video" and source.feed is None else None
        if entry is None or not is_known_text(self._order.storage, entry):
            return False
        self._order.left_out.add(NO_RECORDING)
        return True

    def _read_in_turn(
        self, source: Source, fingerprint: str, snapshot: Snapshot, number: int | None
    ) -> Work | bool:
        """Claim and read a source; what became of that is what ``_claim`` says."""
        film = source.entry if source.kind == "video" else None
        found: Work | bool | None = None
        try:
            with self._turns.room(snapshot.size):
                if film is not None:
                    self._fetcher.soon(film)
                # The last source is claimed only when it can be read: so an idle worker may have it instead.
                if self._turns.are_taken_ahead and number is not None and number < self._listed:
                    found = self._claim(source, fingerprint, snapshot)
                if not isinstance(found, bool):
                    self._turns.begin(source.kind)
            if not isinstance(found, bool):
                try:
                    found = found or self._claim(source, fingerprint, snapshot)
                    if isinstance(found, Work):
                        self._read(found)
                finally:
                    self._turns.end(source.kind)
        finally:
            if film is not None and not isinstance(found, Work):
                self._fetcher.not_after_all(film)
        return found

    def _claim(self, source: Source, fingerprint: str, snapshot: Snapshot) -> Work | bool:
        """Begin to work on a source; True when it is done by now, False when another worker has it."""
        claim = self._claims.take(source.claim_key)
        if claim is None:
            return False
        try:
            return self._begin(source, fingerprint, claim, snapshot) or True
        except ClaimLost:  # the storage did not answer for so long
            claim.abandon()
            return False
        except BadInput:
            claim.release()
            raise

    def _stills(self, source: Source) -> WithinReach:
        """The stills of a source that can be read, or have a row that says what was read."""
        order = self._order
        if source.kind == "video":
            return WithinReach(order.storage, ())
        settled = filter(order.is_settled, still_entries(order.storage, source, order.choice))
        digest = rows_digest(source.kind, order.settings, self._model.weights)
        # The drop folder keeps rows of stills that are not there.
        can_have_rows = source.piece is None and not (order.keep_missing or order.overwrite)
        saved = saved_rows(order.destination, source.key, digest) if can_have_rows else ()
        rows = KnownStills(saved, count_errors=not order.retry_failed)
        return WithinReach(order.storage, settled, needless=rows.have)

    def _entries(self, source: Source, stills: Iterable[Entry]) -> Iterator[Entry]:
        if source.kind == "video":
            return iter(() if source.entry is None else (source.entry,))
        return islice(stills, self._order.settings.selection.max_frames)

    def _tell_if_out_of_reach(
        self, source: Source, snapshot: Snapshot, archived: tuple[str, str] | None
    ) -> bool:
        """Of a piece the others may be within reach: then it has no rows, and is done."""
        if snapshot.count or archived is None or source.piece is not None:
            return False
        self._tell(Outcome(source.key, "left", reason=archived[1]), ())
        return True

    def _tell_if_archived(self, source: Source) -> bool:
        film = source.entry if source.kind == "video" else None
        reason = None if film is None else self._order.storage.why_archived(film)
        if reason is None:
            return False
        piece = source.piece
        of = None if piece is None else PieceDone(piece.index, piece.of, source.kind)
        self._tell(Outcome(source.key, "left", reason=reason, piece=of), ())
        return True

    def _fingerprint(self, source: Source, snapshot: Snapshot) -> str:
        piece = None if source.piece is None else asdict(source.piece)
        return snapshot.fingerprint(source.kind, self._order.settings, self._model.weights, piece=piece)

    def _tell_if_done(self, source: Source, fingerprint: str, snapshot: Snapshot) -> bool:
        if source.piece is not None:
            return self._tell_if_piece_done(source, source.piece, fingerprint, snapshot)
        if snapshot.count == 0:
            self._tell(Outcome(source.key, "left", reason="there is nothing of it to use for now"), ())
            return True
        if self._order.overwrite:
            return False
        done = read_done(self._order.destination, source.key)
        if done is None or done.fingerprint != fingerprint:
            return False
        if self._order.retry_failed and done.counts.errors:
            return False
        if done.format == 1 and self._is_shown_otherwise(source):
            return False
        digest = fingerprint.partition("-")[0]
        if done.counts.errors and has_outdated(saved_rows(self._order.destination, source.key, digest)):
            return False
        rows = saved_rows(self._order.destination, source.key, digest) if source.kind == "stills" else ()
        outcome = Outcome(source.key, "already done", done.counts.frames, undecoded_s=done.undecoded_s)
        self._tell(outcome, inputs_of(source, snapshot, rows))
        return True

    def _is_shown_otherwise(self, source: Source) -> bool:
        """Whether it is a film that was shown wrongly by the version that captioned it."""
        if source.kind != "video" or source.entry is None or source.feed is not None:
            return False
        return self._reader.is_shown_otherwise(source.entry)

    def _tell_if_piece_done(self, source: Source, piece: Piece, fingerprint: str, snapshot: Snapshot) -> bool:
        """A piece is done when its mark says so, or when all of its film is."""
        destination = self._order.destination
        done = PieceDone(piece.index, piece.of, source.kind, fingerprint)
        if source.kind == "video":
            of_film = snapshot.fingerprint(source.kind, self._order.settings, self._model.weights)
            film = read_done(destination, source.key)
            if film is not None and film.fingerprint == of_film:
                inputs = inputs_of(source, snapshot, ())
                self._tell(Outcome(source.key, "captioned", piece=done), inputs)
                return True
        elif snapshot.count == 0:
            self._tell(Outcome(source.key, "captioned", piece=done), ())
            return True
        parts = parts_of(destination, source, fingerprint)
        mark = Mark.read(parts)
        if mark is None or mark.rows is None or mark.piece != piece or parts.resume() != mark.rows:
            return False
        rows = parts.rows() if source.kind == "stills" else ()
        done = replace(done, rows=mark.rows, ran_on=mark.ran_on)
        self._tell(Outcome(source.key, "captioned", mark.rows, piece=done), inputs_of(source, snapshot, rows))
        return True

    def _begin(self, source: Source, fingerprint: str, claim: Claim, snapshot: Snapshot) -> Work | None:
        if self._tell_if_done(source, fingerprint, snapshot):  # since we looked
            claim.release()
            return None
        settings = self._order.settings.of_result(source.kind)
        info = SourceInfo(
            source.key,
            source.kind,
            self._model.name,
            self._model.version,
            fingerprint,
            settings,
            self._model.unsure_below,
        )
        parts = parts_of(self._order.destination, source, fingerprint)
        first = 0
        if self._order.overwrite:
            parts.remove()
        else:
            first = parts.resume()
        if source.piece is not None:
            with fenced(claim.assert_held):
                Mark(source.piece).write(parts)
        if source.feed is not None:
            with fenced(claim.assert_held):
                SegmentMark(info, source.feed.facts()).write(parts)
        work = Work(source, info, claim, parts, snapshot, first, film=self._film_links(source))
        self._in_flight.begin(work)
        self._progress.begin(source.key, first)
        return work

    def _film_links(self, source: Source) -> tuple[str, ...]:
        if source.kind != "video" or source.entry is None or source.feed is not None:
            return ()
        order = self._order
        return film_links(
            order.destination.url, source.key, order.films or order.storage.url, source.entry.key
        )

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise Stopped

    def _read(self, work: Work) -> None:
        try:
            for chunk in self._reader.read(work):
                self._channel.put(chunk)
                if work.source.feed is not None:  # what would fill the batch has not happened yet
                    self._channel.put(None)
        except (Stopped, StorageUnavailable):
            raise
        except ClaimLost:
            self._in_flight.abandon(work)
        except Exception as error:  # a source that cannot be read costs itself alone
            if self._model.failed:
                raise
            _log.debug("cannot read %s", work.info.key, exc_info=True)
            if not work.abandoned:
                self._channel.put(Failed(work, reason_of(error), isinstance(error, Archived)))
