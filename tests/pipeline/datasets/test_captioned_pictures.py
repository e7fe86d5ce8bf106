from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from model.errors import GpucaptError
from pipeline.datasets.annotations import Example, read_annotations
from pipeline.datasets.captioned_pictures import CaptionedPictures, read_wordmap
from pipeline.datasets.preprocess import Preprocessing, preprocess
from tests.pipeline.captioned import ENDINGS, SUBJECTS, make_dataset

BASE = "mini_5_cap_per_img_1_min_word_freq"
SETTINGS = Preprocessing(min_word_freq=1, image_size=48, workers=2)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_dataset(tmp_path_factory.mktemp("captioned"))


@pytest.fixture(scope="module")
def folder(source: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "mini"
    found = read_annotations([source[0]])
    preprocess(found.dataset, found.examples, source[1], out, SETTINGS)
    return out


def test_restval_counts_as_train(folder: Path) -> None:
    manifest = json.loads((folder / "dataset.json").read_text())
    assert manifest["pictures"] == {"train": 18, "val": 6, "test": 6}


def test_pictures_are_stored_one_a_chunk_with_the_count_of_captions(folder: Path) -> None:
    with h5py.File(folder / f"TRAIN_IMAGES_{BASE}.hdf5") as file:
        images = file["images"]
        assert images.shape == (18, 3, 48, 48)
        assert images.dtype == np.uint8
        assert images.chunks == (1, 3, 48, 48)
        assert images.attrs["captions_per_image"] == file.attrs["captions_per_image"] == 5


def test_captions_are_indices_between_marks_padded_to_one_width(folder: Path) -> None:
    captions = json.loads((folder / f"TEST_CAPTIONS_{BASE}.json").read_text())
    lengths = json.loads((folder / f"TEST_CAPLENS_{BASE}.json").read_text())
    wordmap = json.loads((folder / f"WORDMAP_{BASE}.json").read_text())
    assert wordmap["<pad>"] == 0
    assert list(wordmap)[-3:] == ["<unk>", "<start>", "<end>"]
    words = {index: word for word, index in wordmap.items()}
    assert len(captions) == len(lengths) == 30
    first = [words[i] for i in captions[0]]
    assert len(first) == 52
    assert first[: lengths[0]] == ["<start>", *SUBJECTS["astronaut"].split(), "<end>"]
    assert set(first[lengths[0] :]) == {"<pad>"}


def test_the_vocabulary_comes_from_train_alone(tmp_path: Path, source: tuple[Path, Path]) -> None:
    examples = [
        Example("astronaut 0.jpg", "train", (("dog",), ("dog",))),
        Example("astronaut 1.jpg", "test", (("zebra",), ("zebra",))),
    ]
    preprocess("mini", examples, source[1], tmp_path, SETTINGS)
    assert "dog" in read_wordmap(tmp_path).index
    assert "zebra" not in read_wordmap(tmp_path).index


def test_too_few_captions_are_repeated_and_too_many_sampled(
    tmp_path: Path, source: tuple[Path, Path]
) -> None:
    many = tuple((word,) for word in "abcdefgh")
    examples = [
        Example("astronaut 0.jpg", "train", (("one",), ("two",))),
        Example("astronaut 1.jpg", "train", many),
    ]
    preprocess("mini", examples, source[1], tmp_path, Preprocessing(min_word_freq=0, image_size=32))
    pictures = CaptionedPictures(tmp_path, "train")
    words = read_wordmap(tmp_path).words
    said = [{words[i] for i in picture[:, 1]} for picture in pictures.captions]
    assert said[0] == {"one", "two"}
    assert len(said[1]) == 5


def test_a_picture_comes_with_its_own_captions_whatever_the_order_asked(folder: Path) -> None:
    pictures = CaptionedPictures(folder, "train")
    whole = pictures.batch(range(len(pictures)))
    some = pictures.batch([11, 3, 7])
    assert some["index"].tolist() == [3, 7, 11]
    np.testing.assert_array_equal(some["pictures"], whole["pictures"][[3, 7, 11]])
    width = some["captions"].shape[2]
    np.testing.assert_array_equal(some["captions"], whole["captions"][[3, 7, 11], :, :width])


def test_references_are_the_captions_as_words(folder: Path) -> None:
    pictures = CaptionedPictures(folder, "test")
    assert pictures.names[0] == "astronaut 4.jpg"
    assert pictures.references["0"] == [f"{SUBJECTS['astronaut']}{end}" for end in ENDINGS]


def test_broken_and_missing_pictures_are_left_out_and_listed(tmp_path: Path) -> None:
    path, pictures = make_dataset(tmp_path)
    (pictures / "cat 1.jpg").write_bytes(b"not a picture")
    (pictures / "cat 2.jpg").unlink()
    found = read_annotations([path])
    report = preprocess(found.dataset, found.examples, pictures, tmp_path / "out", SETTINGS)
    assert [image for image, _ in report.skipped] == ["cat 1.jpg", "cat 2.jpg"]
    assert not any("cat" in reason for _, reason in report.skipped), "the name is told once"
    assert report.pictures["train"] == 16
    kept = CaptionedPictures(tmp_path / "out", "train")
    assert len(kept) == 16
    assert "cat 1.jpg" not in kept.names
    for index, picture in enumerate(kept.names):
        assert kept.references[str(index)][0] == SUBJECTS[picture.split()[0]]


def test_too_many_broken_pictures_are_an_error_and_publish_nothing(
    tmp_path: Path, source: tuple[Path, Path]
) -> None:
    found = read_annotations([source[0]])
    with pytest.raises(GpucaptError, match="More than 2 pictures cannot be used"):
        preprocess(
            found.dataset, found.examples, tmp_path, tmp_path / "out", Preprocessing(image_size=32, max_bad=2)
        )
    assert not (tmp_path / "out" / "dataset.json").exists()


def test_a_train_split_without_a_usable_picture_is_an_error_and_leaves_what_was_published(
    tmp_path: Path, source: tuple[Path, Path]
) -> None:
    out = tmp_path / "out"
    found = read_annotations([source[0]])
    preprocess(found.dataset, found.examples, source[1], out, SETTINGS)
    lost = [
        Example("zero.jpg", one.split, one.captions) if one.split == "train" else one
        for one in found.examples
    ]
    with pytest.raises(GpucaptError, match="No picture of the train split of 'mini' can be used"):
        preprocess(found.dataset, lost, source[1], out, SETTINGS)
    assert len(CaptionedPictures(out, "train")) == 18


@pytest.mark.parametrize(
    "content", ["", "{}", '{"images": [{}]}', "[1]", '{"images": [{"split": "x", "filename": "a"}]}']
)
def test_a_file_that_is_no_dataset_is_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "captions.json"
    path.write_text(content)
    with pytest.raises(GpucaptError) as caught:
        read_annotations([path])
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
