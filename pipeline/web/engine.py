"""The one thread that the model works in, and the one bounded queue before it.

Whoever has pictures to caption gives them to the engine: requests of any number of clients, and films. What
waits when the model is free goes through it together, as one batch; nothing waits for company. Films and
requests take turns, and a film's turn is short, so that a long film does not keep people waiting.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from model.errors import GpucaptError
from pipeline.captioning.batcher import AdaptiveCaptioner
from pipeline.models.resolve import Model
from pipeline.records.settings import Resources

if TYPE_CHECKING:
    from model.captioner import Caption, Captioner
    from pipeline.captioning.messages import Picture

_log = logging.getLogger("gpucapt")

_FILM_ON_CPU, _FILM_ON_GPU = 4, 32
"""Frames of a film in one turn: about a fifth of a second."""


class QueueFull(Exception):
    """Too many pictures wait already."""


class EngineStopped(Exception):
    """The engine takes nothing more."""


@dataclass(frozen=True, slots=True)
class How:
    """What pictures of one batch must agree in."""

    beam_size: int = 5
    max_length: int = 40
    alternatives: int = 0


@dataclass(slots=True, eq=False)
class _Wish:
    """Pictures that somebody waits for."""

    images: list[Picture]
    how: How
    future: Future[list[Caption]]
    since: float
    captions: list[Caption] = field(default_factory=list)

    @property
    def left(self) -> int:
        return len(self.images) - len(self.captions)


@dataclass(frozen=True, slots=True)
class BatchStats:
    """What went through the model together, for those who count."""

    pictures: int
    wishes: int
    seconds: float
    waited_s: float
    """Of the one that waited longest."""
    of_film: bool


def _unwatched(batch: BatchStats) -> None:
    """For engines that nobody watches."""


class Engine:
    """Captions pictures in a thread of its own, from ``start`` to ``stop``."""

    def __init__(
        self,
        model: Model,
        resources: Resources,
        *,
        precision: str = "auto",
        limit: int = 64,
        watch: Callable[[BatchStats], None] = _unwatched,
    ) -> None:
        self.model = model
        self.precision = precision
        self.error: Exception | None = None
        """Why the model could not be loaded."""
        self._resources = resources
        self._limit = limit
        self._watch = watch
        self._captioner: Captioner | None = None
        self._changed = threading.Condition()
        self._wishes: deque[_Wish] = deque()
        self._films: deque[_Wish] = deque()
        self._waiting = 0
        self._stopping = False
        self._film_is_next = False
        self._loaded = threading.Event()
        self._words: dict[How, AdaptiveCaptioner] = {}
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Begin to load the model; returns at once."""
        self._thread.start()

    @property
    def captioner(self) -> Captioner | None:
        """The model, once it is loaded; other threads may use what it says of itself, and ``prepare``."""
        return self._captioner

    @property
    def waiting(self) -> int:
        """Pictures that wait for their turn."""
        return self._waiting

    @property
    def batch_size(self) -> int:
        """Pictures that go through the model together, at most."""
        assert self._captioner is not None
        return self._resources.batch_size or self._captioner.default_batch_size()

    @property
    def film_batch_size(self) -> int:
        """Frames of a film in one turn."""
        assert self._captioner is not None
        most = _FILM_ON_CPU if self._captioner.device.type == "cpu" else _FILM_ON_GPU
        return min(most, self.batch_size)

    def wait_until_loaded(self, timeout_s: float | None = None) -> bool:
        """Whether loading is over by then, well or not."""
        return self._loaded.wait(timeout_s)

    def has_room(self, pictures: int = 1) -> bool:
        """Whether so many more may wait just now."""
        return self._waiting + pictures <= self._limit

    def caption(
        self,
        images: Sequence[Picture],
        *,
        beam_size: int = 5,
        max_length: int = 40,
        alternatives: int = 0,
    ) -> Future[list[Caption]]:
        """Captions of prepared pictures, as soon as it is their turn. May be cancelled until then.

        Raises QueueFull where they do not fit into the queue, EngineStopped.
        """
        wish = _Wish(list(images), How(beam_size, max_length, alternatives), Future(), time.monotonic())
        with self._changed:
            self._check()
            if not images:
                wish.future.set_result([])
                return wish.future
            if not self.has_room(len(images)):
                raise QueueFull
            self._waiting += len(images)
            self._wishes.append(wish)
            self._changed.notify_all()
        return wish.future

    def caption_film(
        self, images: Sequence[Picture], *, beam_size: int = 5, max_length: int = 40
    ) -> Future[list[Caption]]:
        """Captions of a film's frames, between those of requests. Who calls waits before the next call."""
        wish = _Wish(list(images), How(beam_size, max_length), Future(), time.monotonic())
        with self._changed:
            self._check()
            self._films.append(wish)
            self._changed.notify_all()
        return wish.future

    def stop(self, timeout_s: float | None = None) -> None:
        """Caption what waits, take nothing more, end."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        self._fail_all(EngineStopped("the server is ending"))

    def _check(self) -> None:
        if self._stopping:
            raise EngineStopped("the server is ending")
        if self.error is not None:
            raise self.error

    # What follows runs in the engine's thread.

    def _run(self) -> None:
        try:
            self._load()
        except Exception as error:
            self.error = error
            self._fail_all(error)
            return
        finally:
            self._loaded.set()
        while (turn := self._next()) is not None:
            self._take(*turn)

    def _load(self) -> None:
        from model.captioner import load_captioner

        captioner = load_captioner(
            self.model.directory, device=self._resources.device, precision=self.precision
        )
        # The first picture takes longer than all others: nobody need wait for that.
        import numpy as np

        size = captioner.image_size
        captioner.caption([np.zeros((3, size, size), np.uint8)], max_length=2)
        self._captioner = captioner

    def _next(self) -> tuple[list[tuple[_Wish, int]], bool] | None:
        """The next batch, as wishes with the number of pictures of each, and whether it is of films."""
        with self._changed:
            while not (self._wishes or self._films):
                if self._stopping:
                    return None
                self._changed.wait()
            of_films = bool(self._films) and (self._film_is_next or not self._wishes)
            self._film_is_next = not of_films
            queue = self._films if of_films else self._wishes
            return self._batch(queue, self.film_batch_size if of_films else self.batch_size), of_films

    def _batch(self, queue: deque[_Wish], size: int) -> list[tuple[_Wish, int]]:
        """As many pictures as fit, of the first wish and of all others that want the same of the model."""
        taken: list[tuple[_Wish, int]] = []
        later: deque[_Wish] = deque()
        how = queue[0].how
        while queue and size > 0:
            wish = queue.popleft()
            if wish.how != how:
                later.append(wish)
                continue
            if not wish.captions and not wish.future.set_running_or_notify_cancel():
                self._forget(queue, wish)
                continue
            count = min(wish.left, size)
            size -= count
            taken.append((wish, count))
            if count < wish.left:
                later.append(wish)
        queue.extendleft(reversed(later))
        if queue is self._wishes:
            self._waiting -= sum(count for _, count in taken)
        return taken

    def _forget(self, queue: deque[_Wish], wish: _Wish) -> None:
        if queue is self._wishes:
            self._waiting -= wish.left

    def _take(self, batch: list[tuple[_Wish, int]], of_films: bool) -> None:
        if not batch:
            return
        images = [
            image
            for wish, count in batch
            for image in wish.images[len(wish.captions) : len(wish.captions) + count]
        ]
        began = time.monotonic()
        try:
            captions = self._words_for(batch[0][0].how).caption(images)
        except Exception as error:
            self._fail(batch, error)
            return
        at = 0
        for wish, count in batch:
            wish.captions += captions[at : at + count]
            at += count
            if not wish.left and not wish.future.done():
                wish.future.set_result(wish.captions)
        waited = max(began - wish.since for wish, _ in batch)
        self._watch(BatchStats(len(images), len(batch), time.monotonic() - began, waited, of_films))

    def _words_for(self, how: How) -> AdaptiveCaptioner:
        assert self._captioner is not None
        if how not in self._words:
            if len(self._words) >= 64:  # somebody tries all there are
                self._words.clear()
            self._words[how] = AdaptiveCaptioner(
                self._captioner,
                beam_size=how.beam_size,
                max_length=how.max_length,
                alternatives=how.alternatives,
            )
        return self._words[how]

    def _fail(self, batch: list[tuple[_Wish, int]], error: Exception) -> None:
        if not isinstance(error, GpucaptError):
            _log.error("the model failed", exc_info=error)
        failed = [wish for wish, _ in batch]
        with self._changed:
            for queue in (self._wishes, self._films):
                for wish in failed:
                    if wish in queue:
                        queue.remove(wish)
                        self._forget(queue, wish)
        for wish in failed:
            if not wish.future.done():
                wish.future.set_exception(error)

    def _fail_all(self, error: Exception) -> None:
        with self._changed:
            left = [*self._wishes, *self._films]
            self._wishes.clear()
            self._films.clear()
            self._waiting = 0
        for wish in left:
            if not wish.future.done() and (wish.captions or wish.future.set_running_or_notify_cancel()):
                wish.future.set_exception(error)
