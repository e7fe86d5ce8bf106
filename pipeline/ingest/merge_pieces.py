"""From the pieces of a source to its outputs, as if it had been captioned in one go."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass

from pipeline.captioning.messages import Work
from pipeline.captioning.publisher import discard, publish
from pipeline.errors import BadInput
from pipeline.ingest.run_folder import ModelUsed
from pipeline.records.outcome import Input, Outcome, PieceDone
from pipeline.records.row import Row
from pipeline.records.settings import CaptionSettings
from pipeline.records.source_info import SourceInfo, SourceKind
from pipeline.records.video_facts import VideoFacts, facts_together
from pipeline.runtime.on_disk import OnDisk
from pipeline.sources.discovery import Source
from pipeline.state.fingerprints import Snapshot, rows_digest
from pipeline.state.leases import Claim, Claims
from pipeline.state.manifest import read_done
from pipeline.state.parts import Parts
from pipeline.state.piece_marks import Mark
from pipeline.state.still_rows import Illustrations, join, saved_rows
from pipeline.storage.base import Entry, Storage
from pipeline.storage.relative_urls import film_links

_LOOK_S = 0.5
_PATIENCE_S = 180.0
"""How long to wait for a worker that has the source: longer than the lease of one that was killed."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """What became of the pieces of one source, by their order; those that did not end are missing."""

    key: str
    outcomes: list[Outcome]

    @property
    def done(self) -> list[PieceDone]:
        """The pieces that are captioned."""
        return [one.piece for one in self.outcomes if one.status == "captioned" and one.piece is not None]

    @property
    def of_film(self) -> Iterator[PieceDone]:
        """Those that count of a film: the one that has run on to its end is the last."""
        for piece in self.done:
            yield piece
            if piece.ran_on:
                return

    @property
    def of(self) -> int:
        """How many there should be."""
        return self._first.of

    @property
    def kind(self) -> SourceKind:
        """What their source is."""
        return self._first.kind

    @property
    def _first(self) -> PieceDone:
        return next(one.piece for one in self.outcomes if one.piece is not None)


class PieceOutcomes(OnDisk):
    """The outcomes of all pieces of a run; told one after the other, read by source."""

    def __init__(self) -> None:
        super().__init__(
            "CREATE TABLE pieces (key TEXT, number INTEGER, outcome TEXT, PRIMARY KEY (key, number))"
            " WITHOUT ROWID;"
            "CREATE TABLE inputs (key TEXT, number INTEGER, file INTEGER, input TEXT,"
            " PRIMARY KEY (key, number, file)) WITHOUT ROWID;"
        )

    def add(self, outcome: Outcome, inputs: Iterable[Input]) -> None:
        """Take in the outcome of one piece."""
        assert outcome.piece is not None
        one = outcome.key, outcome.piece.index
        self._database.execute("BEGIN")
        self._database.execute(
            "INSERT OR REPLACE INTO pieces VALUES (?, ?, ?)", (*one, json.dumps(outcome.to_fields()))
        )
        self._database.executemany(
            "INSERT OR REPLACE INTO inputs VALUES (?, ?, ?, ?)",
            ((*one, number, json.dumps(asdict(file))) for number, file in enumerate(inputs)),
        )
        self._database.execute("COMMIT")

    def sources(self) -> Iterator[Pieces]:
        """The sources that have pieces, sorted by key."""
        keys = self._database.execute("SELECT DISTINCT key FROM pieces ORDER BY key").fetchall()
        for (key,) in keys:
            found = self._database.execute("SELECT outcome FROM pieces WHERE key = ? ORDER BY number", (key,))
            yield Pieces(key, [Outcome.from_fields(json.loads(fields)) for (fields,) in found])

    def inputs(self, key: str) -> Iterator[Input]:
        """The files of a source in their order; a film once for all its pieces."""
        last = None
        found = self._database.execute("SELECT input FROM inputs WHERE key = ? ORDER BY number, file", (key,))
        for (text,) in found:
            one = Input(**json.loads(text))
            if one.key != last:
                yield one
            last = one.key


class _Incomplete(Exception):
    """A row that should be there is not."""


class Joiner:
    """Joins sources whose pieces are done. ``go_on`` is called now and then, and raises to end early.

    ``films`` is the folder or bucket prefix in which films will lie when the run is finished.
    """

    def __init__(
        self,
        destination: Storage,
        settings: CaptionSettings,
        model: ModelUsed,
        claims: Claims,
        go_on: Callable[[], None],
        *,
        films: str,
    ) -> None:
        self._destination = destination
        self._settings = settings
        self._model = model
        self._claims = claims
        self._go_on = go_on
        self._films = films

    def join(self, pieces: Pieces, inputs: Callable[[], Iterator[Input]]) -> Outcome:
        """Write the outputs of a source when all of it is captioned; what became of the source."""
        bad = next((one for one in pieces.outcomes if one.status == "set aside"), None)
        done = pieces.done
        digest = rows_digest(pieces.kind, self._settings, self._model.weights)
        fits = all(piece.of == pieces.of and piece.fingerprint.startswith(digest) for piece in done)
        if bad is None and not (fits and len(done) == pieces.of):
            count = f"{len(done) if fits else 0} of its {pieces.of} pieces are done"
            return Outcome(pieces.key, "left", reason=f"{count}; the next run goes on with them")
        entries = (Entry(one.key, one.size, one.etag, one.modified) for one in inputs())
        with Snapshot(entries) as snapshot:
            if snapshot.count == 0:
                return Outcome(pieces.key, "left", reason="there is nothing of it to use for now")
            return self._joined(pieces, snapshot, None if bad is None else bad.reason)

    def _joined(self, pieces: Pieces, snapshot: Snapshot, bad: str | None) -> Outcome:
        key, kind = pieces.key, pieces.kind
        fingerprint = snapshot.fingerprint(kind, self._settings, self._model.weights)
        claim = self._claim(key)
        if claim is None:
            return Outcome(key, "left", reason="another worker has it; the next run looks at it again")
        try:
            info = SourceInfo(
                key,
                kind,
                self._model.name,
                self._model.version,
                fingerprint,
                self._settings.of_result(kind),
                self._model.unsure_below,
            )
            parts = Parts(self._destination, key, fingerprint)
            work = Work(
                Source(key, kind, ""),
                info,
                claim,
                parts,
                snapshot,
                0,
                film=self._film_links(key, kind, snapshot),
            )
            if bad is not None:
                discard(work, self._destination)
                return Outcome(key, "set aside", reason=bad)
            done = read_done(self._destination, key)
            if done is not None and done.fingerprint == fingerprint:
                discard(work, self._destination)
                return Outcome(key, "captioned", done.counts.frames, undecoded_s=done.undecoded_s)
            rows = self._film(pieces) if kind == "video" else self._folder(pieces, snapshot, work)
            facts = self._facts(pieces) if kind == "video" else None
            published = publish(work, self._destination, None, rows=rows, go_on=self._go_on, facts=facts)
            return published.outcome(key)
        except _Incomplete:
            return Outcome(key, "left", reason="rows of its pieces are gone; the next run makes them again")
        except BadInput as error:
            discard(work, self._destination)
            return Outcome(key, "set aside", reason=str(error))
        finally:
            claim.release()

    def _film_links(self, key: str, kind: SourceKind, snapshot: Snapshot) -> tuple[str, ...]:
        if kind != "video":
            return ()
        (film,) = snapshot
        return film_links(self._destination.url, key, self._films, film.key)

    def _claim(self, key: str) -> Claim | None:
        until = time.monotonic() + _PATIENCE_S
        while (claim := self._claims.take(key)) is None and time.monotonic() < until:
            self._go_on()
            time.sleep(_LOOK_S)
        return claim

    def _rows_of(self, key: str, piece: PieceDone) -> Iterator[Row]:
        count = 0
        for row in Parts(self._destination, key, piece.fingerprint).rows():
            yield row
            count += 1
        if count != piece.rows:
            raise _Incomplete

    def _film(self, pieces: Pieces) -> Iterator[Row]:
        """The rows of a film."""
        rows = (row for piece in pieces.of_film for row in self._rows_of(pieces.key, piece))
        for position, row in enumerate(rows):
            row.position = position
            yield row

    def _facts(self, pieces: Pieces) -> VideoFacts:
        """What reading the pieces of a film found out."""
        parts = (
            Parts(self._destination, pieces.key, piece.fingerprint, (piece.index, piece.of))
            for piece in pieces.of_film
        )
        marks = (Mark.read(one) for one in parts)
        return facts_together(None if mark is None else mark.facts for mark in marks)

    def _folder(self, pieces: Pieces, snapshot: Snapshot, work: Work) -> Iterator[Row]:
        """The rows of a folder, with those of stills that were archived before."""
        new = (row for piece in pieces.done for row in self._rows_of(pieces.key, piece))
        saved = saved_rows(self._destination, pieces.key, work.rows_digest)
        illustrations = Illustrations()
        for position, row in enumerate(join(snapshot, saved, new, keep_missing=True)):
            if not isinstance(row, Row):
                raise _Incomplete
            row.position = position
            illustrations.keep(row)
            yield row
