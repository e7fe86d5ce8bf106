"""What training sees: the batches of an epoch, and features that are stored once."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.datasets.batch_sampler import EpochBatches
from pipeline.datasets.captioned_pictures import CaptionedPictures, store_features
from tests.pipeline.written_dataset import write_dataset

PICTURES = 21


def order(**options: Any) -> EpochBatches:
    return EpochBatches(**{"count": PICTURES, "batch_size": 4, "seed": 3, "shuffle": True, **options})


def test_an_epoch_has_each_picture_once_and_each_epoch_another_order() -> None:
    batches = order()
    first = list(batches)
    assert len(first) == len(batches) == 6
    assert sorted(index for batch in first for index, _ in batch) == list(range(PICTURES))
    assert list(batches) == first, "asked again, the same"
    batches.set_epoch(1)
    assert list(batches) != first
    assert list(order(seed=4)) != first


def test_going_on_brings_what_was_left_of_the_epoch_and_then_whole_ones() -> None:
    whole = order()
    whole.set_epoch(2)
    rest = order()
    rest.go_on(2, 4)
    assert list(rest) == list(whole)[4:]
    assert len(rest) == 6, "Lightning counts from the beginning of the epoch"
    rest.set_epoch(3)
    whole.set_epoch(3)
    assert list(rest) == list(whole)


@given(count=st.integers(1, 60), size=st.integers(1, 9), world=st.integers(1, 5), shuffle=st.booleans())
@settings(deadline=None)
def test_processes_share_the_batches_of_one_with_as_many_times_the_size(
    count: int, size: int, world: int, shuffle: bool
) -> None:
    parts = [
        list(EpochBatches(count, size, seed=1, shuffle=shuffle, rank=rank, world=world))
        for rank in range(world)
    ]
    seen = [index for part in parts for batch in part for index, _ in batch]
    assert set(seen) == set(range(count))
    if not shuffle:
        assert len(seen) == count, "validation counts no picture twice"
        return
    assert len(seen) < count + world
    assert len({len(part) for part in parts}) == 1, "nobody waits for a step that another does not take"
    if count % world == 0:
        alone = list(EpochBatches(count, size * world, seed=1, shuffle=True))
        together = [sorted(pick for batch in step for pick in batch) for step in zip(*parts, strict=True)]
        assert together == [sorted(batch) for batch in alone]


def encode(pictures: np.ndarray[Any, Any], first: int) -> np.ndarray[Any, Any]:
    """Two views of each: its mean as it is, in whole numbers, and with a hundred added."""
    means = np.floor(pictures.mean(axis=(1, 2, 3)))
    return np.stack([means, means + 100], axis=1)[:, :, None, None, None].astype(np.float16)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"), pictures=PICTURES)


def test_a_view_is_drawn_for_each_picture_and_the_first_is_the_picture_itself(
    data: Path, tmp_path: Path
) -> None:
    pictures = CaptionedPictures(data, "train")
    store_features(encode, pictures, tmp_path / "features.hdf5", made_by="a", batch_size=4)
    stored = CaptionedPictures(data, "train", features=tmp_path / "features.hdf5")
    plain = encode(pictures.batch([2, 5, 9])["pictures"], 0)[:, 0]
    np.testing.assert_array_equal(stored.batch([9, 2, 5])["pictures"], plain)
    drawn = stored.__getitems__([(9, 7), (2, 4), (5, 1)])
    assert drawn["index"].tolist() == [2, 5, 9]
    np.testing.assert_array_equal(drawn["pictures"][:, 0, 0, 0], plain[:, 0, 0, 0] + [0, 100, 100])


def test_processes_store_together_what_one_stores_alone(data: Path, tmp_path: Path) -> None:
    pictures = CaptionedPictures(data, "train")
    store_features(encode, pictures, tmp_path / "alone.hdf5", made_by="a", batch_size=4)
    meeting = threading.Barrier(2)

    def store(number: int) -> None:
        mine = CaptionedPictures(data, "train")
        together = tmp_path / "together.hdf5"
        store_features(
            encode,
            mine,
            together,
            made_by="a",
            batch_size=4,
            share=(number, 2),
            meet=lambda: meeting.wait(30),
        )

    # Processes as far as the file is concerned: each opens it by itself. HDF5 itself is not entered at once.
    workers = [threading.Thread(target=store, args=(number,)) for number in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    views = [
        CaptionedPictures(data, "train", features=tmp_path / f"{name}.hdf5").batch(range(PICTURES))[
            "pictures"
        ]
        for name in ("alone", "together")
    ]
    np.testing.assert_array_equal(*views)
    assert not list(tmp_path.glob("*.part"))


def test_features_of_another_encoder_are_made_anew_and_the_same_are_kept(data: Path, tmp_path: Path) -> None:
    pictures, path = CaptionedPictures(data, "train"), tmp_path / "features.hdf5"
    asked: list[int] = []

    def counting(pixels: np.ndarray[Any, Any], first: int) -> np.ndarray[Any, Any]:
        asked.append(first)
        return encode(pixels, first)

    for made_by, more in (("one", True), ("one", False), ("another", True)):
        before = len(asked)
        store_features(counting, pictures, path, made_by=made_by)
        assert (len(asked) > before) == more
