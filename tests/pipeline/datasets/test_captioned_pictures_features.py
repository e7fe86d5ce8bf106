"""Features of pictures: stored once for one encoder, together by several processes, and drawn by view."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.datasets.captioned_pictures import CaptionedPictures, store_features
from tests.pipeline.written_dataset import write_dataset

PICTURES = 21


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
