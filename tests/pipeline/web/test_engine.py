"""The one queue before the model: who goes together, who comes first, what happens when it is full."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from model.captioner import Caption
from pipeline.models.resolve import resolve_model
from pipeline.records.settings import Resources
from pipeline.web.engine import BatchStats, Engine, EngineStopped, QueueFull
from tests.media import PHOTOGRAPHS, photograph

SHORT = {"beam_size": 2, "max_length": 6}


class Held(Engine):
    """An engine whose model works only while ``may_work`` is set."""

    may_work: threading.Event

    def _take(self, batch: list[tuple[object, int]], of_films: bool) -> None:  # type: ignore[override]
        assert self.may_work.wait(60)
        super()._take(batch, of_films)  # type: ignore[arg-type]


@pytest.fixture
def batches() -> list[BatchStats]:
    return []


@pytest.fixture
def engine(model: Path, batches: list[BatchStats]) -> Iterator[Held]:
    resources = Resources(device="cpu", batch_size=8)
    found = Held(resolve_model(str(model)), resources, precision="fp32", limit=20, watch=batches.append)
    found.may_work = threading.Event()
    found.start()
    assert found.wait_until_loaded(240)
    yield found
    found.may_work.set()
    found.stop(60)


def prepared(engine: Engine) -> list[np.ndarray]:
    assert engine.captioner is not None
    return [engine.captioner.prepare(photograph(name, size=(64, 64))) for name in PHOTOGRAPHS]


def texts(captions: list[Caption]) -> list[str]:
    return [caption.text for caption in captions]


def test_what_waits_goes_through_the_model_together_and_each_gets_its_own(
    engine: Held, batches: list[BatchStats]
) -> None:
    pictures = prepared(engine)
    first = engine.caption(pictures[:1], **SHORT)  # the model is busy with it from now on
    others = [engine.caption(pictures[n : n + 2], **SHORT) for n in (1, 3, 5)]
    longer = engine.caption(pictures[:1], beam_size=3, max_length=6)
    engine.may_work.set()
    assert engine.captioner is not None
    found = [*texts(first.result(60)), *(text for other in others for text in texts(other.result(60)))]
    longer.result(60)
    engine.stop(60)
    assert [batch.pictures for batch in batches] in ([1, 6, 1], [7, 1]), "those that want the same"
    assert found == texts(engine.captioner.caption(pictures[:7], **SHORT))


def test_more_than_a_batch_is_cut_and_comes_whole(engine: Held, batches: list[BatchStats]) -> None:
    engine.may_work.set()
    pictures = (prepared(engine) * 3)[:18]
    assert engine.captioner is not None
    found = engine.caption(pictures, **SHORT).result(60)
    engine.stop(60)
    assert [batch.pictures for batch in batches] == [8, 8, 2]
    assert texts(found) == texts(engine.captioner.caption(pictures, **SHORT))


def test_a_full_queue_refuses_and_takes_again_what_is_cancelled(engine: Held) -> None:
    pictures = prepared(engine)
    busy = engine.caption(pictures[:1], **SHORT)
    while engine.waiting:
        pass
    waiting = [engine.caption(pictures[:5], **SHORT) for _ in range(4)]
    with pytest.raises(QueueFull):
        engine.caption(pictures[:1], **SHORT)
    assert waiting[0].cancel()
    engine.may_work.set()
    assert busy.result(60)
    assert [len(one.result(60)) for one in waiting[1:]] == [5, 5, 5]
    assert len(engine.caption((pictures * 3)[:20], **SHORT).result(60)) == 20, "there is room for all again"


def test_a_film_and_requests_take_turns(engine: Held, batches: list[BatchStats]) -> None:
    pictures = prepared(engine)
    busy = engine.caption(pictures[:1], **SHORT)
    film = engine.caption_film(pictures[:8], **SHORT)
    requests = [engine.caption(pictures[:8], **SHORT) for _ in range(2)]
    engine.may_work.set()
    for one in (busy, film, *requests):
        one.result(60)
    engine.stop(60)
    kinds = [batch.of_film for batch in batches][-4:]
    assert kinds in ([True, False, True, False], [False, True, False, True])
    assert max(batch.pictures for batch in batches if batch.of_film) == 4, "a film's turn is short"


def test_what_waits_is_captioned_before_the_engine_stops(engine: Held) -> None:
    pictures = prepared(engine)
    waiting = [engine.caption(pictures[:3], **SHORT) for _ in range(3)]
    stopping = threading.Thread(target=engine.stop)
    stopping.start()
    engine.may_work.set()
    stopping.join(60)
    assert [len(one.result(0)) for one in waiting] == [3, 3, 3]
    with pytest.raises(EngineStopped):
        engine.caption(pictures[:1], **SHORT)


def test_a_picture_that_breaks_the_model_costs_its_batch_alone(engine: Held) -> None:
    engine.may_work.set()
    with pytest.raises(ValueError, match=r"must have the same|shape"):
        engine.caption([*prepared(engine)[:1], np.zeros((3, 8, 9), np.uint8)], **SHORT).result(60)
    assert engine.caption(prepared(engine)[:1], **SHORT).result(60)
