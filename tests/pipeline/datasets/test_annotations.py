"""Captions as data sets publish them, told apart by what is in the files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model.errors import GpucaptError
from pipeline.datasets.annotations import Example, as_file_name, read_annotations
from pipeline.datasets.splits import missing_splits, parse_shares, with_splits


def write(path: Path, content: str | dict[str, Any]) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def coco(*names: str, captions: int = 2, first: int = 1) -> dict[str, Any]:
    """Annotations as COCO's: pictures and captions in lists of their own, joined by numbers."""
    images = [{"id": first + n, "file_name": name} for n, name in enumerate(names)]
    said = [
        {
            "id": 10 * image["id"] + n,
            "image_id": image["id"],
            "caption": f"A {image['file_name'][0]}, no. {n}.",
        }
        for n in range(captions)
        for image in images
    ]
    return {"info": {"year": 2017}, "images": images, "annotations": said}


def said(path: Path) -> dict[str, list[str]]:
    return {
        one.image: [" ".join(words) for words in one.captions] for one in read_annotations([path]).examples
    }


def test_karpathys_tokens_and_raw_sentences_come_to_the_same_words(tmp_path: Path) -> None:
    sentences = [{"raw": "A dog's ball, isn't it?"}, {"tokens": ["a", "dog's", "ball", "isn't", "it"]}]
    image = {"filename": "x.jpg", "filepath": "val2014", "split": "restval", "sentences": sentences}
    path = write(tmp_path / "dataset_coco.json", {"images": [image], "dataset": "coco"})
    found = read_annotations([path])
    words = ("a", "dog's", "ball", "isn't", "it")
    assert found.dataset == "coco"
    assert found.examples == (Example("val2014/x.jpg", "train", (words, words)),)


def test_one_file_of_coco_makes_no_splits_and_names_its_folder(tmp_path: Path) -> None:
    path = write(tmp_path / "captions_val2017.json", coco("a.jpg", "b.jpg"))
    found = read_annotations([path])
    assert found.dataset == "coco"
    assert [(one.image, one.split) for one in found.examples] == [
        ("val2017/a.jpg", None),
        ("val2017/b.jpg", None),
    ]
    assert found.examples[1].captions == (("a", "b", "no", "0"), ("a", "b", "no", "1"))


def test_several_files_of_coco_are_the_splits_that_their_names_say(tmp_path: Path) -> None:
    train = write(tmp_path / "captions_train2017.json", coco("a.jpg"))
    val = write(tmp_path / "captions_val2017.json", coco("b.jpg"))  # numbered from 1, too
    found = read_annotations([train, val])
    assert [(one.image, one.split) for one in found.examples] == [
        ("train2017/a.jpg", "train"),
        ("val2017/b.jpg", "val"),
    ]
    assert found.examples[0].captions[0] == ("a", "a", "no", "0")


@pytest.mark.parametrize(
    "text",
    [
        'image,caption\na.jpg,"A dog, running."\na.jpg,Two dogs\nb.jpg,A cat\n',
        "image,caption\na.jpg,A dog, running.\na.jpg,Two dogs\n\nb.jpg,A cat",
        "\ufeffimage;caption\r\na.jpg;A dog, running.\r\na.jpg;Two dogs\r\nb.jpg;A cat\r\n",
        "image_name| number| comment\na.jpg| 0| A dog , running .\na.jpg| 1| Two dogs\nb.jpg| 0| A cat\n",
        "caption\timage\nA dog, running.\ta.jpg\nTwo dogs\ta.jpg\nA cat\tb.jpg\n",
    ],
    ids=["quoted", "commas not quoted", "semicolons of Windows", "bars", "tabs"],
)
def test_csv_as_people_write_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "captions.txt"
    path.write_bytes(text.encode())
    assert said(path) == {"a.jpg": ["a dog running", "two dogs"], "b.jpg": ["a cat"]}


def test_a_row_that_is_cut_short_costs_itself_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As in Flickr30k's results.csv, where one row lacks a bar."""
    rows = [f'{number}.jpg| 0| "Stop , said picture {number} .\n' for number in range(150)]
    rows.insert(70, "2199200615.jpg| 4   A dog runs across the grass .\n")
    found = said(write(tmp_path / "results.csv", "image_name| comment_number| comment\n" + "".join(rows)))
    assert len(found) == 150
    assert found["149.jpg"] == ["stop said picture 149"]
    assert "left out 1 rows" in caplog.text and "line 72" in caplog.text


def test_flickr_as_it_is_given_out(tmp_path: Path) -> None:
    lines = [f"{name}.jpg#{n}\tA dog , no. {n} .\n" for name in "abcd" for n in range(2)]
    path = write(tmp_path / "Flickr8k.token.txt", "".join(lines))
    found = read_annotations([path])
    assert found.dataset == "Flickr8k"
    assert [(one.image, one.split) for one in found.examples] == [(f"{name}.jpg", None) for name in "abcd"]
    assert found.examples[0].captions == (("a", "dog", "no", "0"), ("a", "dog", "no", "1"))
    for kind, name in (("train", "c"), ("dev", "a"), ("test", "d")):
        write(tmp_path / f"Flickr_8k.{kind}Images.txt", f"{name}.jpg\n")
    listed = {one.image: one.split for one in read_annotations([path]).examples}
    assert listed == {"a.jpg": "val", "c.jpg": "train", "d.jpg": "test"}
    write(path, "a.jpg#0\tA dog\nno caption here\n")
    with pytest.raises(GpucaptError, match="line 2"):
        read_annotations([path])


@pytest.mark.parametrize("end", "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029", ids=ascii)
def test_what_ends_lines_elsewhere_ends_none_of_a_data_set(tmp_path: Path, end: str) -> None:
    flickr = write(tmp_path / "small.token", f"a.jpg#0\tA dog{end}runs\nb.jpg#0\tA cat\n")
    assert said(flickr) == {"a.jpg": ["a dog runs"], "b.jpg": ["a cat"]}
    table = write(tmp_path / "small.csv", f"image,caption\na.jpg,A dog{end}runs\nb.jpg,A cat\n")
    assert said(table) == {"a.jpg": ["a dog runs"], "b.jpg": ["a cat"]}


def test_each_kind_of_file_has_the_words_that_the_tokenizer_makes(tmp_path: Path) -> None:
    caption = "棕色 的 狗，在沙滩"
    image = {"filename": "a.jpg", "sentences": [{"raw": caption}, {"tokens": caption.split()}]}
    annotation = {"id": 1, "image_id": 1, "caption": caption}
    files = [
        write(tmp_path / "karpathy.json", {"images": [image]}),
        write(
            tmp_path / "coco.json",
            {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [annotation]},
        ),
        write(tmp_path / "table.csv", f"image,caption\na.jpg,{caption}\n"),
        write(tmp_path / "flickr.token", f"a.jpg#0\t{caption}\n"),
    ]
    for path in files:
        [auto] = read_annotations([path]).examples
        assert set(auto.captions) == {tuple("棕色的狗在沙滩")}
        [words] = read_annotations([path], "words").examples
        assert set(words.captions) == {("棕色", "的", "狗", "在沙滩")}


def test_csv_may_say_the_splits(tmp_path: Path) -> None:
    path = write(tmp_path / "zoo.csv", "image,caption,split\na.jpg,A cat,train\nb.jpg,A dog,Validation\n")
    found = read_annotations([path])
    assert found.dataset == "zoo"
    assert [one.split for one in found.examples] == ["train", "val"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", "picture,text\n1.jpg,A cat\n", "neither JSON nor CSV"),
        ("a.csv", "caption,image\nA, b,1.jpg\n", "line 2: 2 columns are named, this row has 3"),
        ("a.csv", "image,caption\n,A cat\n", "line 2"),
        ("a.csv", "image|nr|caption\n1.jpg|0|A cat\n2.jpg|A cat\n", "line 3: 3 columns are named"),
        ("a.csv", "image,caption,split\na,b,train\na,c,test\n", "line 3: picture 'a' is in two splits"),
        ("a.csv", "image,caption,split\na,b,holdout\n", "unknown split 'holdout'"),
        ("a.json", "{", "not valid JSON"),
        ("a.json", "[1, 2]", "no list `images`"),
        ("a.json", {"images": [{"filename": "a", "split": "x", "sentences": []}]}, "unknown split 'x'"),
        ("a.json", {"images": [{"filename": "a"}]}, "Karpathy's JSON format"),
        (
            "a.json",
            {"images": [{"id": 1}], "annotations": [{"caption": "a", "image_id": 1}]},
            "COCO's format",
        ),
        ("instances.json", {"images": [], "annotations": [{"bbox": []}]}, "take its captions_*.json"),
    ],
)
def test_what_cannot_be_read_is_one_line_that_says_why(
    tmp_path: Path, name: str, content: str | dict[str, Any], reason: str
) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(GpucaptError) as caught:
        read_annotations([path])
    assert str(path) in str(caught.value)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text_says_so(tmp_path: Path) -> None:
    path = tmp_path / "captions.csv"
    path.write_bytes(b"image,caption\na.jpg,caf\xe9\n")
    with pytest.raises(GpucaptError, match="no text in UTF-8"):
        read_annotations([path])


@pytest.mark.parametrize(
    ("name", "file"), [("flickr8k", "flickr8k"), ("../my data!", "my-data"), ("/", "dataset")]
)
def test_a_datasets_name_can_be_part_of_a_files(name: str, file: str) -> None:
    assert as_file_name(name) == file


def examples(count: int, split: str | None = None) -> list[Example]:
    return [Example(f"{number}.jpg", split, (("a",),)) for number in range(count)]


def test_splits_that_are_made_have_the_shares_asked_for() -> None:
    made = [one.split for one in with_splits(examples(5000), (0.7, 0.2, 0.1), seed=1)]
    assert made.count("train") == pytest.approx(3500, abs=120)
    assert made.count("val") == pytest.approx(1000, abs=100)
    assert made.count("test") == pytest.approx(500, abs=80)


def test_pictures_that_come_later_leave_the_others_in_their_splits() -> None:
    before = {one.image: one.split for one in with_splits(examples(300), None, seed=1)}
    after = {one.image: one.split for one in with_splits(examples(900), None, seed=1)}
    assert {image: after[image] for image in before} == before


def test_another_seed_makes_other_splits() -> None:
    assert with_splits(examples(100), None, seed=1) != with_splits(examples(100), None, seed=2)


@pytest.mark.parametrize("count", [3, 4, 7, 12])
def test_a_dozen_pictures_are_enough_for_all_three_splits(count: int) -> None:
    for seed in range(20):
        assert missing_splits(with_splits(examples(count), None, seed)) is None


def test_a_data_sets_own_splits_stay_unless_others_are_asked_for() -> None:
    own = examples(50, "val")
    assert with_splits(own, None, seed=1) == own
    assert {one.split for one in with_splits(own, (0.8, 0.1, 0.1), seed=1)} == {"train", "val", "test"}


def test_missing_splits_are_said_in_one_line() -> None:
    line = missing_splits(examples(3, "train"))
    assert line is not None
    assert "no val split" in line
    assert "no test split" in line
    assert "--splits" in line


@pytest.mark.parametrize("text", ["0.8,0.1", "1,1,1", "0,0.5,0.5", "a,b,c", "1.2,-0.1,-0.1", "nan,nan,nan"])
def test_shares_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(GpucaptError, match="shares"):
        parse_shares(text)
