"""Names of pictures that annotations bring along from another machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import GpucaptError
from pipeline.datasets.annotations import read_annotations
from pipeline.datasets.picture_sources import PictureFolder, leads_out, read_picture
from pipeline.datasets.plan import DatasetPlan, Preprocessing, plan
from pipeline.datasets.preprocess import preprocess
from pipeline.errors import BadInput
from pipeline.storage.open import open_storage
from tests.media import write_photograph

SETTINGS = Preprocessing(splits=(1, 0, 0), image_size=32, min_word_freq=0, workers=1)
NAMES = ("000.png", "001.png")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for name in NAMES:
        write_photograph(tmp_path / "pictures" / "train" / name, "cat", size=(40, 40))
    return tmp_path / "pictures"


def annotations(folder: Path, kind: str, prefix: str) -> Path:
    """A file of captions of both pictures, its names beginning with ``prefix``."""
    names = [prefix + name for name in NAMES]
    captions = [{"id": n, "image_id": n, "caption": "a cat"} for n in range(len(names))]
    images = [{"id": n, "file_name": name} for n, name in enumerate(names)]
    contents = {
        "captions.csv": "image,caption\r\n" + "".join(f"{name},a cat\r\n" for name in names),
        "small.token": "".join(f"{name}#0\ta cat\n" for name in names),
        "karpathy.json": json.dumps(
            {"images": [{"filename": name, "sentences": [{"raw": "a cat"}]} for name in names]}
        ),
        "captions_train.json": json.dumps({"images": images, "annotations": captions}),
        "captions_train2017.json": json.dumps({"images": images, "annotations": captions}),
    }
    (folder / kind).write_text(contents[kind])
    return folder / kind


def planned(path: Path, images: str) -> DatasetPlan:
    return plan("zoo", read_annotations([path]).examples, images, SETTINGS)


KINDS = ("captions.csv", "small.token", "karpathy.json", "captions_train.json", "captions_train2017.json")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prefix", ["train\\", ".\\train\\", "train\\\\", "train/", "photos\\..\\train\\"])
def test_backslashes_are_slashes(tmp_path: Path, pictures: Path, kind: str, prefix: str) -> None:
    found = planned(annotations(tmp_path, kind, prefix), str(pictures))
    if ".." in prefix:
        assert all(leads_out(one.image) for one in found.splits["train"])
    else:
        assert [one.image for one in found.splits["train"]] == [f"train/{name}" for name in NAMES]


@pytest.mark.parametrize("prefix", ["val2014\\", "val2014/sub\\"])
def test_a_folder_that_is_not_there_is_left_out_as_ever(tmp_path: Path, pictures: Path, prefix: str) -> None:
    (pictures / "sub").symlink_to("train")
    found = planned(annotations(tmp_path, "captions.csv", f"{prefix}train\\"), str(pictures))
    rest = "sub/train/" if "sub" in prefix else "train/"
    assert [one.image for one in found.splits["train"]] == [f"{rest}{name}" for name in NAMES]


def test_a_file_of_that_very_name_is_meant(tmp_path: Path, pictures: Path) -> None:
    write_photograph(pictures / "train\\000.png", "coffee", size=(40, 40))
    found = planned(annotations(tmp_path, "captions.csv", "train\\"), str(pictures))
    assert [one.image for one in found.splits["train"]] == ["train\\000.png", "train/001.png"]


@pytest.mark.slow
@pytest.mark.parametrize("prefix", ["C:\\data\\train\\", "C:/data/train/", "\\\\server\\share\\train\\"])
def test_a_whole_path_of_a_windows_machine_is_called_that(
    tmp_path: Path, pictures: Path, prefix: str
) -> None:
    path = annotations(tmp_path, "captions.csv", prefix)
    with pytest.raises(GpucaptError, match="Windows machine; name pictures as they lie below") as raised:
        preprocess("zoo", read_annotations([path]).examples, str(pictures), tmp_path / "out", SETTINGS)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["..\\note.txt", "train\\..\\..\\note.txt", "\\note.txt", "..\\/note.txt"])
def test_no_name_climbs_out_of_the_folder(tmp_path: Path, pictures: Path, name: str) -> None:
    (tmp_path / "note.txt").write_text("not a picture")
    turned = PictureFolder(str(pictures)).with_slashes(name)
    with pytest.raises((BadInput, FileNotFoundError)):
        read_picture(str(pictures), turned)
    with pytest.raises((BadInput, FileNotFoundError)):
        read_picture(str(pictures), name)


@given(st.text(st.sampled_from("\\/.:Cat "), max_size=12))
def test_names_are_only_turned_round(name: str) -> None:
    """Whatever a name is, either it is as it was, or leads out as plainly, or stays below the folder."""
    turned = PictureFolder(str(Path(__file__).parent)).with_slashes(name)
    if turned != name and not leads_out(turned):
        assert ".." not in turned.replace("\\", "/").split("/")
        assert "\\" not in turned or turned[1:2] == ":" or turned.startswith("\\\\")


def test_backslashes_are_slashes_in_a_bucket_too(tmp_path: Path, pictures: Path, bucket: str) -> None:
    storage = open_storage(f"s3://{bucket}/pictures")
    for name in NAMES:
        storage.write(f"train/{name}", (pictures / "train" / name).read_bytes())
    for kind in ("captions.csv", "captions_train.json"):
        found = planned(annotations(tmp_path, kind, ".\\train\\"), f"s3://{bucket}/pictures")
        assert [one.image for one in found.splits["train"]] == [f"train/{name}" for name in NAMES]
    away = annotations(tmp_path, "captions.csv", "D:\\train\\")
    with pytest.raises(GpucaptError, match="Windows machine"):
        preprocess(
            "zoo", read_annotations([away]).examples, f"s3://{bucket}/pictures", tmp_path / "out", SETTINGS
        )
