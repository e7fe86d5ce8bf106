"""`gpucapt preprocess`: what it writes is read by others, is not lost with the process, and is checked."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import psutil
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.errors import GpucaptError
from model.vocabulary import END, PAD, START, UNKNOWN
from pipeline.datasets.hdf5_workers import PictureTask, write_rows
from pipeline.storage.open import open_storage
from tests.media import photograph
from tests.pipeline.captioned import ENDINGS, SUBJECTS, make_dataset
from tests.services import no_locks

pytestmark = pytest.mark.slow

OPTIONS = ("--min-word-freq", 1, "--image-size", 48)


def gpucapt(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", *map(str, arguments)]
    environment = {**os.environ, **variables}
    return subprocess.run(command, text=True, capture_output=True, check=False, env=environment)


def preprocess(*arguments: object) -> dict[str, Any]:
    done = gpucapt("preprocess", *arguments, *OPTIONS)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def refused(*arguments: object) -> str:
    """The one line that a run ends with."""
    done = gpucapt("preprocess", *arguments, *OPTIONS)
    assert done.returncode == 1
    lines = done.stderr.strip().splitlines()
    assert lines[-1].startswith("gpucapt: "), done.stderr
    return lines[-1]


@pytest.fixture
def source(tmp_path: Path) -> tuple[Path, Path]:
    return make_dataset(tmp_path)


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


class EarlierReader:
    """Reads a split as the captioners before this one do: their file names, their slicing, their checks."""

    def __init__(self, folder: Path, base: str, split: str) -> None:
        self.file = h5py.File(folder / f"{split}_IMAGES_{base}.hdf5", "r")
        self.images = self.file["images"]
        self.captions_per_image = self.file.attrs["captions_per_image"]
        self.captions = json.loads((folder / f"{split}_CAPTIONS_{base}.json").read_text())
        self.lengths = json.loads((folder / f"{split}_CAPLENS_{base}.json").read_text())
        self.word_map = json.loads((folder / f"WORDMAP_{base}.json").read_text())

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, number: int) -> tuple[NDArray[np.float32], list[int], int]:
        picture = np.asarray(self.images[number // self.captions_per_image] / 255.0, dtype=np.float32)
        return picture, self.captions[number], self.lengths[number]

    def sentence(self, number: int) -> str:
        words = {index: word for word, index in self.word_map.items()}
        caption, length = self.captions[number], self.lengths[number]
        assert caption[0] == self.word_map[START]
        assert caption[length - 1] == self.word_map[END]
        assert set(caption[length:]) <= {self.word_map[PAD]}
        return " ".join(words[index] for index in caption[1 : length - 1])


def test_the_readers_of_earlier_captioners_read_it(tmp_path: Path, source: tuple[Path, Path]) -> None:
    preprocess(*source, tmp_path / "data")
    reader = EarlierReader(tmp_path / "data", "mini_5_cap_per_img_1_min_word_freq", "TRAIN")
    assert len(reader) == 5 * 18
    assert reader.word_map[PAD] == 0
    picture, caption, _ = reader[7]
    assert picture.shape == (3, 48, 48)
    assert len(caption) == 52
    # Picture 1 is the second of the astronaut: bright reds where the file has them, and its own captions.
    shown = np.asarray(Image.open(source[1] / "astronaut 1.jpg").resize((48, 48), Image.Resampling.BOX))
    assert abs(picture.transpose(1, 2, 0) * 255 - shown).mean() < 3
    assert [reader.sentence(5 + n) for n in range(5)] == [f"{SUBJECTS['astronaut']}{end}" for end in ENDINGS]


def test_a_second_run_has_nothing_to_do(tmp_path: Path, source: tuple[Path, Path]) -> None:
    first = preprocess(*source, tmp_path / "data")
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "data").iterdir()}
    second = preprocess(*source, tmp_path / "data")
    assert first["changed"] is True
    assert second == {**first, "changed": False}
    assert first["pictures"] == {"train": 18, "val": 6, "test": 6}
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "data").iterdir()} == times


def test_what_is_missing_is_made_again(tmp_path: Path, source: tuple[Path, Path]) -> None:
    first = preprocess(*source, tmp_path / "data")
    (tmp_path / "data" / "VAL_CAPLENS_mini_5_cap_per_img_1_min_word_freq.json").unlink()
    again = preprocess(*source, tmp_path / "data")
    assert again == {**first, "changed": False}, "it is the same dataset as before"
    assert (tmp_path / "data" / "VAL_CAPLENS_mini_5_cap_per_img_1_min_word_freq.json").is_file()


def test_the_fingerprint_is_of_what_is_learned_not_of_where_and_when(
    tmp_path: Path, source: tuple[Path, Path]
) -> None:
    first = preprocess(*source, tmp_path / "data")
    shutil.copytree(source[1], tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "cat 1.jpg").touch()
    elsewhere = preprocess(source[0], tmp_path / "elsewhere", tmp_path / "data", "--workers", 1)
    assert elsewhere["fingerprint"] == first["fingerprint"]
    assert elsewhere["changed"] is False
    Image.fromarray(photograph("motorcycle", size=(96, 96))).save(tmp_path / "elsewhere" / "cat 1.jpg")
    other_picture = preprocess(source[0], tmp_path / "elsewhere", tmp_path / "data")
    assert other_picture["changed"] is True
    text = source[0].read_text().replace('"red"', '"pink"')
    source[0].write_text(text)
    other_caption = preprocess(source[0], tmp_path / "elsewhere", tmp_path / "data")
    assert other_caption["changed"] is True
    prints = {one["fingerprint"] for one in (first, other_picture, other_caption)}
    assert len(prints) == 3


def test_a_dataset_takes_the_place_of_another_whole(tmp_path: Path, source: tuple[Path, Path]) -> None:
    preprocess(*source, tmp_path / "data")
    preprocess(*source, tmp_path / "data", "--captions-per-image", 2)
    assert not list((tmp_path / "data").glob("*_5_cap_*"))
    manifest = json.loads((tmp_path / "data" / "dataset.json").read_text())
    for name, told in manifest["files"].items():
        data = (tmp_path / "data" / name).read_bytes()
        assert told["size"] == len(data)
        if "sha256" in told:
            assert told["sha256"] == hashlib.sha256(data).hexdigest()
    assert set(manifest["files"]) == {path.name for path in (tmp_path / "data").iterdir()} - {"dataset.json"}


def many_pictures(folder: Path, count: int) -> Path:
    """A CSV of pictures that take some milliseconds each; more than threads are left to do."""
    folder.mkdir()
    originals = [folder / f"{subject}.jpg" for subject in SUBJECTS]
    for path in originals:
        Image.fromarray(photograph(path.stem, size=(800, 600))).save(path)
    table = folder.parent / "many.csv"
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "caption"])
        for number in range(count):
            path = originals[number % len(originals)]
            os.link(path, folder / f"{number}.jpg")
            rows.writerow([f"{number}.jpg", f"{SUBJECTS[path.stem]} {number}"])
    return table


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_run_leaves_no_process_and_is_gone_on_with(tmp_path: Path, how: signal.Signals) -> None:
    pictures, out = tmp_path / "pictures", tmp_path / "data"
    table = many_pictures(pictures, 330)
    command = [sys.executable, "-m", "pipeline", "preprocess", table, pictures, out, *OPTIONS, "--workers", 2]
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)
    journal = out / ".preprocess" / "TRAIN.rows"
    deadline = time.monotonic() + 120
    while not (journal.is_file() and journal.read_text().count("[") >= 96) and time.monotonic() < deadline:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) >= 2
    os.kill(process.pid, how)
    process.wait()
    _, alive = psutil.wait_procs(workers, timeout=30)
    for worker in alive:
        worker.kill()
    said = process.communicate()[1]
    assert not alive
    if how == signal.SIGTERM:
        assert process.returncode == 128 + how
        assert said.endswith("what is done is kept, run the same command to go on\n")
    assert not (out / "dataset.json").exists()

    done = gpucapt("preprocess", table, pictures, out, *OPTIONS)
    assert done.returncode == 0, done.stderr
    assert "going on: " in done.stderr
    assert not (out / ".preprocess").exists()
    whole = preprocess(table, pictures, tmp_path / "in one go")
    assert json.loads(done.stdout)["fingerprint"] == whole["fingerprint"]
    assert digests(out) == digests(tmp_path / "in one go")


def stopped_by_too_many(source: tuple[Path, Path], out: Path) -> None:
    """A run that ends with its work half done."""
    (source[1] / "cat 1.jpg").rename(source[1] / "away.jpg")
    assert "More than 0 pictures" in refused(*source, out, "--max-bad", 0)


def test_a_run_that_had_too_many_bad_pictures_goes_on_when_more_are_allowed(
    tmp_path: Path, source: tuple[Path, Path]
) -> None:
    stopped_by_too_many(source, tmp_path / "data")
    done = gpucapt("preprocess", *source, tmp_path / "data", *OPTIONS)
    assert re.search(r"going on: (17|23|29) of 30 pictures", done.stderr), "train's, and what else was ready"
    assert "left out cat 1.jpg: the file is missing." in done.stderr
    assert json.loads(done.stdout)["pictures"]["train"] == 17


def test_a_file_that_does_not_hold_what_was_written_is_not_published(
    tmp_path: Path, source: tuple[Path, Path]
) -> None:
    out = tmp_path / "data"
    stopped_by_too_many(source, out)
    with h5py.File(out / ".preprocess" / "TRAIN.hdf5", "r+") as file:
        file["images"][3, 1, 20, 20] ^= 1
    assert "does not hold what was written" in refused(*source, out)
    assert not (out / "dataset.json").exists()
    assert preprocess(*source, out)["pictures"] == {"train": 17, "val": 6, "test": 6}, "it began anew"


def test_work_that_was_left_for_other_inputs_is_not_gone_on_with(
    tmp_path: Path, source: tuple[Path, Path]
) -> None:
    stopped_by_too_many(source, tmp_path / "data")
    (source[1] / "away.jpg").rename(source[1] / "cat 1.jpg")
    Image.fromarray(photograph("motorcycle", size=(96, 96))).save(source[1] / "cat 2.jpg")
    mended = preprocess(*source, tmp_path / "data")
    assert mended["fingerprint"] == preprocess(*source, tmp_path / "other")["fingerprint"]


def test_two_runs_do_not_write_the_same_dataset(tmp_path: Path, source: tuple[Path, Path]) -> None:
    work = tmp_path / "data" / ".preprocess"
    work.mkdir(parents=True)
    holder = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(); input()"
    with subprocess.Popen(
        [sys.executable, "-u", "-c", holder, str(work / "lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert "another gpucapt preprocess is writing there" in refused(*source, tmp_path / "data")
        other.communicate("\n")
    preprocess(*source, tmp_path / "data")


def test_a_full_disk_is_not_the_pictures_fault(tmp_path: Path, source: tuple[Path, Path]) -> None:
    with pytest.raises(GpucaptError, match=r"/dev/full cannot be written: No space left on device\.$"):
        write_rows(PictureTask(str(source[1]), 48), Path("/dev/full"), ["cat 1.jpg"], [0])


def test_a_disk_without_room_is_said_before_any_work(tmp_path: Path, source: tuple[Path, Path]) -> None:
    free = shutil.disk_usage(tmp_path).free
    side = int((free / 30) ** 0.5)  # 30 pictures of three times as many bytes
    done = gpucapt("preprocess", *source, tmp_path / "data", "--image-size", side)
    assert done.returncode == 1
    assert "GB are free; make room" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_place_that_is_none_is_one_line(tmp_path: Path, source: tuple[Path, Path]) -> None:
    (tmp_path / "file").write_text("")
    assert "file/data cannot be written: Not a directory." in refused(*source, tmp_path / "file" / "data")


def test_names_that_lead_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    _, pictures = make_dataset(tmp_path)
    shutil.copy(pictures / "cat 1.jpg", tmp_path / "secret.jpg")
    rows = "".join(f"{name},a cat\n" for name in ("cat 2.jpg", "../secret.jpg", pictures / "cat 3.jpg"))
    table = tmp_path / "table.csv"
    table.write_text(f"image,caption\n{rows}")
    preprocess(table, pictures, tmp_path / "data", "--splits", "1,0,0")
    manifest = json.loads((tmp_path / "data" / "dataset.json").read_text())
    assert manifest["pictures"] == {"train": 2}
    assert manifest["skipped"] == [["../secret.jpg", "the name leads out of the folder of pictures."]]


@pytest.mark.parametrize("flat", [True, False])
def test_cocos_files_with_their_folders_or_all_pictures_in_one(tmp_path: Path, flat: bool) -> None:
    _, pictures = make_dataset(tmp_path)
    images = tmp_path / "images"
    annotations = tmp_path / "annotations"
    annotations.mkdir()
    (annotations / "instances_train2017.json").write_text("{}")
    for split, subject in (("train", "cat"), ("val", "rocket")):
        folder = images if flat else images / f"{split}2017"
        folder.mkdir(parents=True, exist_ok=True)
        names = [f"{subject} {number}.jpg" for number in range(5)]
        for name in names:
            shutil.copy(pictures / name, folder)
        content = {
            "images": [{"id": n, "file_name": name} for n, name in enumerate(names)],
            "annotations": [{"image_id": n, "caption": SUBJECTS[subject]} for n in range(5)],
        }
        (annotations / f"captions_{split}2017.json").write_text(json.dumps(content))
    done = gpucapt("preprocess", annotations, images, tmp_path / "data", *OPTIONS)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["pictures"] == {"train": 5, "val": 5}
    assert "no test split" in done.stderr
    assert (tmp_path / "data" / "VAL_IMAGES_coco_5_cap_per_img_1_min_word_freq.hdf5").is_file()


@pytest.mark.parametrize("flat", [True, False])
def test_karpathys_coco_with_its_folders_or_all_pictures_in_one(tmp_path: Path, flat: bool) -> None:
    """Its pictures are in train2014/ and val2014/, whatever their split."""
    source, pictures = make_dataset(tmp_path)
    content = json.loads(source.read_text())
    images = tmp_path / "caption_data"
    for number, image in enumerate(content["images"]):
        image["filepath"] = "train2014" if number % 2 else "val2014"
        folder = images if flat else images / image["filepath"]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(pictures / image["filename"], folder)
    (tmp_path / "dataset_coco.json").write_text(json.dumps({**content, "dataset": "coco"}))
    done = preprocess(tmp_path / "dataset_coco.json", images, tmp_path / "data")
    assert done["pictures"] == {"train": 18, "val": 6, "test": 6}


@pytest.mark.parametrize("kind", ["word map", "checkpoint"])
def test_a_vocabulary_can_be_given(tmp_path: Path, source: tuple[Path, Path], kind: str) -> None:
    words = [PAD, "cat", "a", "camera", UNKNOWN, START, END]
    content: dict[str, Any] = {"words": words}
    if kind == "word map":
        content = {word: index for index, word in reversed(list(enumerate(words)))}
    (tmp_path / "words.json").write_text(json.dumps(content))
    preprocess(*source, tmp_path / "data", "--vocabulary", tmp_path / "words.json")
    reader = EarlierReader(tmp_path / "data", "mini_5_cap_per_img_1_min_word_freq", "TEST")
    assert sorted(reader.word_map, key=reader.word_map.__getitem__) == words
    assert reader.sentence(5) == f"a cat {UNKNOWN} {UNKNOWN} {UNKNOWN} camera"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[]", "is not a vocabulary"),
        ('{"a": 5}', "is not a vocabulary"),
        ('{"words": ["a"]}', "The vocabulary lacks"),
        ("{", "is not a vocabulary"),
    ],
)
def test_what_is_no_vocabulary_says_so(
    tmp_path: Path, source: tuple[Path, Path], content: str, reason: str
) -> None:
    (tmp_path / "words.json").write_text(content)
    assert reason in refused(*source, tmp_path / "data", "--vocabulary", tmp_path / "words.json")


def test_from_a_bucket_into_a_bucket(tmp_path: Path, source: tuple[Path, Path], bucket: str) -> None:
    root = f"s3://{bucket}"
    storage = open_storage(root)
    for path in (source[0], *source[1].iterdir()):
        storage.upload(path, path.relative_to(tmp_path).as_posix())
    places = (f"{root}/dataset.json", f"{root}/pictures", f"{root}/data")
    first = preprocess(*places)
    assert first["fingerprint"] == preprocess(*source, tmp_path / "data")["fingerprint"]
    assert preprocess(*places) == {**first, "changed": False}
    there = {entry.key: entry.size for entry in open_storage(f"{root}/data").list()}
    assert there["dataset.json"]
    assert {name for name in there if name.endswith(".hdf5")} == {
        path.name for path in (tmp_path / "data").glob("*.hdf5")
    }
    storage.delete("pictures/cat 1.jpg")
    other = preprocess(*places, "--captions-per-image", 3)
    assert other["changed"] is True
    assert other["pictures"]["train"] == 17
    assert not [entry.key for entry in open_storage(f"{root}/data").list() if "_5_cap_" in entry.key]


def test_a_run_for_a_bucket_is_gone_on_with_on_the_same_machine(
    tmp_path: Path, source: tuple[Path, Path], bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPUCAPT_SPOOL", str(tmp_path / "spool"))
    (source[1] / "cat 1.jpg").unlink()
    out = f"s3://{bucket}/data"
    assert "More than 0 pictures" in refused(*source, out, "--max-bad", 0)
    done = gpucapt("preprocess", *source, out, *OPTIONS)
    assert "going on: " in done.stderr
    assert json.loads(done.stdout)["pictures"]["train"] == 17
    assert list((tmp_path / "spool").iterdir()) == []


@pytest.mark.slow
@pytest.mark.needs("cc")
@pytest.mark.parametrize("number", no_locks.ERRORS)
def test_a_disk_without_locks(source: tuple[Path, Path], tmp_path: Path, number: int) -> None:
    """The HDF5 library makes do with ENOSYS alone."""
    out = tmp_path / "out"
    done = gpucapt("preprocess", *source, out, *OPTIONS, **no_locks.in_the_system(tmp_path, number))
    assert done.returncode == 0, done.stderr
    done = gpucapt("preprocess", *source, tmp_path / "again", *OPTIONS)
    assert done.returncode == 0 and digests(out) == digests(tmp_path / "again")
