"""Pictures that are in two splits: found among many, and not seen where there are none."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from model.preprocessing import Preparation
from pipeline.datasets.annotations import Example
from pipeline.datasets.hdf5_workers import dhash
from pipeline.datasets.near_duplicates import MOST_BITS, alike, suspected
from pipeline.datasets.preprocess import Preprocessing, preprocess
from tests.media import PHOTOGRAPHS, photograph

pytestmark = pytest.mark.slow


SETTINGS = Preprocessing(min_word_freq=0, image_size=64, workers=2)


def changed(name: str, how: str) -> Image.Image:
    image = Image.fromarray(photograph(name))
    wide, high = image.size
    match how:
        case "smaller":
            return image.resize((wide // 2, high // 2), Image.Resampling.LANCZOS)
        case "compressed":
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=30)
            return Image.open(buffer)
        case "darker":
            return ImageEnhance.Brightness(image).enhance(0.8)
        case "a little cut off":
            return image.crop((wide // 100, high // 100, wide - wide // 100, high - high // 100))
    raise ValueError(how)


def prepared(image: Image.Image) -> NDArray[np.uint8]:
    return Preparation(256)(np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("how", ["smaller", "compressed", "darker", "a little cut off"])
def test_a_picture_that_was_worked_on_is_still_the_same(how: str) -> None:
    for name in PHOTOGRAPHS:
        before, after = prepared(Image.fromarray(photograph(name))), prepared(changed(name, how))
        assert (dhash(before) ^ dhash(after)).bit_count() <= MOST_BITS, name
        assert alike(before, after) > 0.9, name


def test_different_photographs_are_different() -> None:
    pictures = [prepared(Image.fromarray(photograph(name))) for name in PHOTOGRAPHS]
    hashes = [dhash(picture) for picture in pictures]
    assert suspected({str(number): [one] for number, one in enumerate(hashes)}) == []


def random_hashes(count: int, seed: int) -> list[int]:
    return [int(one) for one in np.random.default_rng(seed).integers(0, 2**64, count, dtype=np.uint64)]


def flipped(bits: int, count: int, seed: int) -> int:
    for bit in np.random.default_rng(seed).choice(64, count, replace=False):
        bits ^= 1 << int(bit)
    return bits


def test_all_pairs_up_to_seven_bits_are_found_among_a_hundred_thousand() -> None:
    train, val, test = random_hashes(100_000, 1), random_hashes(5_000, 2), random_hashes(5_000, 3)
    wanted = {}
    for number in range(400):
        bits = number % 8
        val[number] = flipped(train[7 * number], bits, number)
        wanted[("train", 7 * number), ("val", number)] = bits
    test[17] = val[4999]
    wanted[("val", 4999), ("test", 17)] = 0
    found = suspected({"train": train, "val": val, "test": test})
    assert {(pair.first, pair.second): pair.bits for pair in found} == wanted
    assert [pair.bits for pair in found] == sorted(wanted.values())


def test_pictures_alike_within_a_split_are_nobodys_business() -> None:
    one = random_hashes(1, 5)
    assert suspected({"train": one * 50, "test": random_hashes(5, 6)}) == []


def test_pictures_of_one_colour_are_not_called_the_same() -> None:
    assert suspected({"train": [0, 0, 1], "test": [0, 2**64 - 1]}) == []


def test_a_split_that_is_another_one_ends_soon_and_is_told_of() -> None:
    same = random_hashes(1, 7) * 5000
    assert len(suspected({"train": same, "val": same}, most=1000)) == 1000


def test_the_dataset_tells_of_them(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    examples = []
    for name in PHOTOGRAPHS:
        Image.fromarray(photograph(name)).save(pictures / f"{name}.png")
        examples.append(Example(f"{name}.png", "train", ((name,),)))
    changed("cat", "smaller").save(pictures / "kitten.jpg")
    changed("coffee", "compressed").save(pictures / "cup.jpg")
    examples += [Example("kitten.jpg", "test", (("cat",),)), Example("cup.jpg", "train", (("cup",),))]
    report = preprocess("zoo", examples, pictures, tmp_path / "data", SETTINGS)
    assert report.near_duplicates == 1, "the cup is in train twice, which harms no score"
    assert json.loads((tmp_path / "data" / "dataset.json").read_text())["near_duplicates"] == 1
    page = (tmp_path / "data" / "dataset.html").read_text()
    pairs = page.partition('id="pairs"')[2].partition("</section>")[0]
    assert "cat.png" in pairs
    assert "kitten.jpg" in pairs
    assert "cup.jpg" not in pairs
