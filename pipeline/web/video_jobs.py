"""Films as jobs: each is a caption job on a state folder of its own, with the engine as its model.

The film lies there, under a name that the client had no part in, until the job is over; what came of it until
it is no longer kept. One film is captioned at a time, the others wait.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import signal
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from model.errors import GpucaptError
from pipeline.captioning.job import Job
from pipeline.captioning.job_spec import Order
from pipeline.captioning.messages import Chunk
from pipeline.errors import StorageUnavailable
from pipeline.models.lazy_model import LazyModel
from pipeline.records.frame_selection import Selection
from pipeline.records.outcome import Input, Outcome
from pipeline.records.row import Row
from pipeline.records.settings import CaptionSettings, Resources
from pipeline.records.source_info import SourceInfo
from pipeline.runtime.progress import Progress
from pipeline.runtime.signals import Interrupted
from pipeline.runtime.temp_folders import ScratchFolder
from pipeline.sources.discovery import OUTPUT_NAMES, open_source
from pipeline.storage.open import open_storage
from pipeline.web.engine import Engine, EngineStopped
from pipeline.web.errors import RequestFailed, as_failed, busy
from pipeline.web.limits import Limits

if TYPE_CHECKING:
    from model.captioner import Caption, Captioner
    from pipeline.captioning.messages import Picture

_log = logging.getLogger("gpucapt")

JobStatus = Literal["queued", "running", "done", "failed"]

_LOOK_S = 30.0
"""How often to look for what need not be kept any longer."""


class _Shared:
    """The engine in the place of a captioner of one's own."""

    def __init__(self, engine: Engine) -> None:
        assert engine.captioner is not None
        self._engine = engine
        self.prepare = engine.captioner.prepare

    def caption(self, images: list[Picture], *, beam_size: int, max_length: int) -> list[Caption]:
        """Captions, as soon as it is the films' turn."""
        future = self._engine.caption_film(images, beam_size=beam_size, max_length=max_length)
        return future.result()


class _SharedModel(LazyModel):
    """The model of a job that others use, too."""

    def __init__(self, engine: Engine, settings: CaptionSettings, resources: Resources) -> None:
        super().__init__(engine.model, settings, resources)
        self._engine = engine

    def load(self) -> Captioner:
        """The engine: it has all of a captioner that a job uses."""
        return cast("Captioner", _Shared(self._engine))


@dataclass(slots=True, eq=False)
class Film:
    """A film, and what became of it so far."""

    id: str
    folder: Path
    settings: CaptionSettings = field(default_factory=CaptionSettings)
    path: Path | None = None
    seconds: float = 0.0
    status: JobStatus = "queued"
    captions: list[Row] = field(default_factory=list)
    """Without pictures and attention."""
    failed: RequestFailed | None = None
    untold: str | None = None
    """Why it has no story, where it should have one."""
    files: tuple[str, ...] = ()
    over_at: float | None = None
    """When it was over, by the monotonic clock."""
    job: Job | None = None
    dropped: bool = False

    @property
    def outputs(self) -> Path:
        """Where its files lie."""
        return self.folder / "out" / (self.path.name if self.path is not None else "film")

    @property
    def expected(self) -> int | None:
        """How many frames there will be, as far as that can be told."""
        selection = self.settings.selection
        interval = selection.interval_s
        if interval is None or not self.seconds:
            return None
        return min(int(self.seconds / interval) + 1, selection.max_frames or 1 << 30)

    @property
    def fraction(self) -> float | None:
        """How much of it is done."""
        if self.status == "done":
            return 1.0
        expected = self.expected
        return None if expected is None else min(1.0, len(self.captions) / expected)

    def told(self, after: int) -> dict[str, Any]:
        """What clients are told, with the captions after the first so many."""
        return {
            "id": self.id,
            "status": self.status,
            "progress": {"frames": len(self.captions), "fraction": self.fraction},
            "captions": [_told(row) for row in self.captions[after:]],
            "files": {name: f"/v1/videos/{self.id}/files/{name}" for name in self.files},
            "error": None if self.failed is None else self.failed.content["error"],
            "story_error": self.untold,
        }


class _Outcome:
    """What became of a job's one source."""

    def __init__(self) -> None:
        self.reason: str | None = "there is no frame in it"
        self.untold: str | None = None

    def add(self, outcome: Outcome, inputs: Iterable[Input]) -> None:
        """Take note."""
        self.reason = None if outcome.status == "captioned" else outcome.reason
        self.untold = outcome.untold


class Films:
    """The films of one server, from ``start`` to ``stop``."""

    def __init__(self, engine: Engine, limits: Limits, workers: int) -> None:
        self._engine = engine
        self._limits = limits
        self._workers = workers
        self._scratch: ScratchFolder | None = None
        self._films: dict[str, Film] = {}
        self._queue: list[Film] = []
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="films", daemon=True)

    def start(self) -> None:
        """Begin to work; what a server that was killed left behind goes first."""
        with suppress(StorageUnavailable):  # whoever sends a film is told
            self._scratch = ScratchFolder()
        self._thread.start()

    def stop(self) -> None:
        """Give up what is being captioned, and remove everything."""
        with self._changed:
            self._stopping = True
            for film in list(self._films.values()):
                self._drop(film)
            self._changed.notify_all()
        self._thread.join(10)
        if self._scratch is not None:
            self._scratch.remove()

    def counts(self) -> dict[str, int]:
        """How many films there are of each status."""
        with self._changed:
            found = [film.status for film in self._films.values()]
        return {status: found.count(status) for status in ("queued", "running", "done", "failed")}

    def begin(self) -> Film:
        """A folder for a film that is about to come. Raises RequestFailed where too many wait.

        It ends with ``submit`` or ``drop``.
        """
        with self._changed:
            self._forget_old()
            if self._stopping:
                raise RequestFailed(503, "ending", "the server is ending")
            if sum(film.over_at is None for film in self._films.values()) >= self._limits.videos:
                raise busy("too many films wait already; try again when one is done")
            if self._scratch is None:
                self._scratch = ScratchFolder()
            film = Film(secrets.token_urlsafe(16), self._scratch.path / secrets.token_hex(16))
            film.folder.mkdir(mode=0o700)
            (film.folder / "in").mkdir()
            self._films[film.id] = film
        return film

    def submit(self, film: Film) -> None:
        """Let a film that has come wait for its turn."""
        with self._changed:
            self._queue.append(film)
            self._changed.notify_all()

    def find(self, number: str) -> Film:
        """A film by its id. Raises RequestFailed where there is none (any more)."""
        with self._changed:
            self._forget_old()
            film = self._films.get(number)
        if film is None:
            raise RequestFailed(404, "not_found", "there is no such film, or it is no longer kept")
        return film

    def drop(self, film: Film) -> None:
        """End the work on a film and remove all that there is of it."""
        with self._changed:
            self._drop(film)

    def captions_of(self, number: str) -> tuple[SourceInfo, list[Row]]:
        """The captions of a film that is done. Raises RequestFailed."""
        film = self.find(number)
        if film.status != "done":
            raise RequestFailed(409, "not_done", "that film is not captioned yet; ask again when it is done")
        model = self._engine.model
        info = SourceInfo("film", "video", model.name, model.version, "", unsure_below=model.unsure_below)
        return info, list(film.captions)

    def _drop(self, film: Film) -> None:
        film.dropped = True
        self._films.pop(film.id, None)
        if film in self._queue:
            self._queue.remove(film)
        if film.job is not None:
            film.job.stop(signal.SIGTERM)  # what runs removes its folder when it has ended
        else:
            _remove(film.folder)

    def _forget_old(self) -> None:
        now = time.monotonic()
        for film in list(self._films.values()):
            if film.over_at is not None and now - film.over_at > self._limits.keep_s:
                self._drop(film)

    # What follows runs in the films' thread.

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._queue and not self._stopping:
                    self._changed.wait(min(_LOOK_S, self._limits.keep_s))
                    self._forget_old()
                if self._stopping:
                    return
                film = self._queue.pop(0)
                film.status = "running"
                outcome = _Outcome()
                try:
                    film.job = self._job(film, outcome)
                except Exception as error:
                    self._end(film, as_failed(error))
                    continue
            self._work(film, film.job, outcome)

    def _job(self, film: Film, outcome: _Outcome) -> Job:
        assert film.path is not None
        storage, sources = open_source(str(film.path))
        resources = Resources(batch_size=self._engine.film_batch_size, workers=self._workers)
        order = Order(storage, open_storage(str(film.folder / "out")), sources, film.settings, resources)

        def watch(chunk: Chunk) -> None:
            film.captions += [_lean(row) for row in chunk.rows]

        shared = _SharedModel(self._engine, film.settings, resources)
        return Job(order, shared, outcome, Progress(), watch)

    def _work(self, film: Film, job: Job, outcome: _Outcome) -> None:
        failed: RequestFailed | None = None
        try:
            job.run()
            film.untold = outcome.untold
            if outcome.reason is not None:
                failed = RequestFailed(422, "unreadable_video", _without_name(outcome.reason, film))
        except Interrupted:
            failed = RequestFailed(409, "cancelled", "the film was cancelled")
        except EngineStopped as error:
            failed = RequestFailed(503, "ending", str(error))
        except Exception as error:
            failed = as_failed(error)
        with self._changed:
            self._end(film, failed)

    def _end(self, film: Film, failed: RequestFailed | None) -> None:
        film.job = None
        _remove(film.folder / "in")
        if film.dropped:
            _remove(film.folder)
            return
        if failed is None:
            there = {path.name for path in film.outputs.iterdir()} if film.outputs.is_dir() else set()
            film.files = tuple(sorted((OUTPUT_NAMES & there) - {"manifest.json"}))
        film.failed = failed
        film.over_at = time.monotonic()
        film.status = "done" if failed is None else "failed"


def selection_of(
    every: float | None, fps: float | None, scenes: bool, max_frames: int | None, most_seconds: float
) -> Selection:
    """Which frames are captioned. Raises RequestFailed for what makes no sense."""
    if sum((every is not None, fps is not None, scenes)) > 1:
        raise RequestFailed(422, "invalid_request", "every, fps and scenes exclude each other; give one")
    if every is None and fps is None and not scenes:
        every = 1.0
    try:
        selection = Selection(every, fps, scenes, max_frames)
    except GpucaptError as error:
        raise RequestFailed(422, "invalid_request", str(error)) from error
    if selection.interval_s is not None:
        # A film that is longer than its packets say ends there, too.
        most = int(most_seconds / selection.interval_s) + 2
        selection = Selection(every, fps, scenes, min(max_frames or most, most))
    return selection


def _lean(row: Row) -> Row:
    return replace(row, etag=None, attention=None, grid=None, thumbnail=None)


def _told(row: Row) -> dict[str, Any]:
    return {
        "timestamp_s": row.timestamp_s,
        "end_s": row.end_s,
        "caption": row.caption,
        "log_prob": round(row.log_prob, 4),
        "confidence": row.confidence,
    }


def _without_name(reason: str, film: Film) -> str:
    """A reason names the file as it is called here, which nobody knows."""
    return reason.removeprefix(f"{film.path.name}: ") if film.path is not None else reason


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
