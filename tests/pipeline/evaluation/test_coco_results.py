"""`gpucapt coco-results`: captions of the pictures that COCO lists, as its evaluation server takes them."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from model.captioner import load_captioner
from model.errors import GpucaptError
from pipeline.cli.main import app
from pipeline.errors import WrongUsage
from pipeline.media.images import decode_still
from pipeline.storage.staging import LARGEST_BYTES
from tests.pipeline.jobs import command, run, start, write_still
from tests.services import no_locks
from tests.services.s3 import S3Server

OPTIONS = ["--beam-size=2", "--max-length=8", "--precision=fp32", "--device=cpu"]
COUNT = 12


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """COCO's list of pictures without captions, and the pictures; numbered backwards, as order may be any."""
    images = []
    for number in range(COUNT):
        name = f"COCO_test2014_{number:012}.jpg"
        write_still(tmp_path / "test2014" / name, number)
        images.append({"license": 1, "file_name": name, "height": 32, "width": 48, "id": 1000 - number})
    path = tmp_path / "image_info_test2014.json"
    path.write_text(json.dumps({"info": {"year": 2014}, "images": images, "licenses": []}))
    return path


def coco_results(model: Path, listed: Path | str, images: Path | str, out: Path | str, *more: str) -> Result:
    """`gpucapt coco-results` in this process."""
    words = ["coco-results", str(listed), str(images), str(out), "--model", str(model), *OPTIONS, *more]
    return CliRunner().invoke(app, words)


def read(path: Path) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return results


def test_every_listed_picture_has_its_caption_in_the_order_of_the_list(
    tmp_path: Path, tiny_model: Path, listed: Path
) -> None:
    write_still(tmp_path / "test2014" / "not listed.jpg", 99)
    done = coco_results(tiny_model, listed, tmp_path / "test2014", tmp_path / "out" / "results.json")
    assert done.exit_code == 0, done.output
    captioner = load_captioner(tiny_model, device="cpu", precision="fp32")
    pictures = [path for path in sorted((tmp_path / "test2014").iterdir()) if path.name != "not listed.jpg"]
    prepared = [captioner.prepare(decode_still(path.read_bytes(), path.name)) for path in pictures]
    captions = [one.text for one in captioner.caption(prepared, beam_size=2, max_length=8)]
    assert len(set(captions)) > 1
    expected = [{"image_id": 1000 - n, "caption": text} for n, text in enumerate(captions)]
    assert read(tmp_path / "out" / "results.json") == expected
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["results.json"]


def test_pycocotools_takes_it(tmp_path: Path, tiny_model: Path, listed: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    coco_results(tiny_model, listed, tmp_path / "test2014", tmp_path / "results.json")
    results = coco.COCO(str(listed)).loadRes(str(tmp_path / "results.json"))
    assert sorted(results.getImgIds()) == list(range(1000 - COUNT + 1, 1001))
    assert len(results.loadAnns(results.getAnnIds())) == COUNT


def test_pictures_that_cannot_be_used_are_told_and_left_out(
    tmp_path: Path, tiny_model: Path, listed: Path
) -> None:
    content = json.loads(listed.read_text())
    (tmp_path / "secret.jpg").write_bytes(
        (tmp_path / "test2014" / content["images"][0]["file_name"]).read_bytes()
    )
    (tmp_path / "test2014" / "torn.jpg").write_text("no picture")
    bad = ("nowhere.jpg", "torn.jpg", "../secret.jpg", str(tmp_path / "secret.jpg"))
    content["images"][2:2] = [{"id": number, "file_name": name} for number, name in enumerate(bad)]
    listed.write_text(json.dumps(content))
    out = tmp_path / "results.json"
    done = coco_results(tiny_model, listed, tmp_path / "test2014", out, "--batch-size=3")
    assert done.exit_code == 3
    assert done.stdout == f"{out}: {COUNT} of {COUNT + 4} pictures\n"
    told = [line.partition("left out: ")[2] for line in done.stderr.splitlines() if "left out" in line]
    assert told == [
        "nowhere.jpg: No such file or directory",
        "torn.jpg: not a picture, or of a kind that cannot be read",
        *(f"{name}: the name leads out of the folder of pictures" for name in bad[2:]),
    ]
    assert [one["image_id"] for one in read(out)] == [1000 - n for n in range(COUNT)]


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(tmp_path: Path, tiny_model: Path, listed: Path) -> None:
    coco_results(tiny_model, listed, tmp_path / "test2014", tmp_path / "whole.json")
    out, part = tmp_path / "results.json", tmp_path / "results.json.part"
    line = command("coco-results", listed, tmp_path / "test2014", out, "--model", tiny_model, *OPTIONS)
    process = start([*line, "--batch-size=1", "--workers=1"])
    deadline = time.monotonic() + 120
    while not part.exists() or part.read_bytes().count(b"\n") < 3:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with part.open("a") as file:
        file.write('[995, "half a li')  # as a crash may leave it
    written = part.read_bytes().count(b"\n") - 1
    assert not out.exists()
    done = run(line)
    assert done.returncode == 0, done.stderr
    if written < COUNT:  # else it was killed at the very end
        assert f"going on after {written} pictures" in done.stderr
        assert f"{COUNT - written} of {COUNT - written} pictures captioned" in done.stderr
    assert out.read_bytes() == (tmp_path / "whole.json").read_bytes()
    assert not part.exists()


def test_with_other_settings_it_begins_anew(tmp_path: Path, tiny_model: Path, listed: Path) -> None:
    part = tmp_path / "results.json.part"
    part.write_text(
        json.dumps({"weights": "another model", "pictures": ""}) + '\n[1000, "of another model"]\n'
    )
    assert coco_results(tiny_model, listed, tmp_path / "test2014", tmp_path / "results.json").exit_code == 0
    assert "of another model" not in (tmp_path / "results.json").read_text()
    assert len(read(tmp_path / "results.json")) == COUNT


def test_two_at_once_do_not_write_one_file(tmp_path: Path, tiny_model: Path, listed: Path) -> None:
    import fcntl

    with (tmp_path / "results.json.part").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = coco_results(tiny_model, listed, tmp_path / "test2014", tmp_path / "results.json")
    assert isinstance(done.exception, GpucaptError)
    assert "another gpucapt is writing" in str(done.exception)


@pytest.mark.parametrize("number", no_locks.ERRORS)
def test_a_disk_without_locks_is_written_to(
    tmp_path: Path, tiny_model: Path, listed: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refused)
    assert coco_results(tiny_model, listed, tmp_path / "test2014", tmp_path / "results.json").exit_code == 0
    assert len(read(tmp_path / "results.json")) == COUNT


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no such file"),
        ("", "is not a list of pictures as COCO's"),
        ('{"images": [{"id": 1}]}', "is not a list of pictures as COCO's"),
        ('{"images": [{"id": "1", "file_name": "a.jpg"}]}', "an `id` is no number"),
        ('{"images": [{"id": 1, "file_name": 5}]}', "a `file_name` is no text"),
        ('{"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}]}', "the same `id`"),
        ('{"images": []}', "lists no pictures"),
        ('{"images": [{"id": 1, "file_name": "nowhere.jpg"}]}', "none of the pictures could be used"),
    ],
    ids=[
        "missing",
        "empty",
        "without names",
        "text as number",
        "number as text",
        "twice",
        "no pictures",
        "none there",
    ],
)
def test_what_is_no_list_is_one_line(
    tmp_path: Path, tiny_model: Path, content: str | None, said: str
) -> None:
    (tmp_path / "images").mkdir()
    if content is not None:
        (tmp_path / "list.json").write_text(content)
    done = coco_results(tiny_model, tmp_path / "list.json", tmp_path / "images", tmp_path / "out.json")
    assert done.exit_code == 1 and isinstance(done.exception, GpucaptError)
    assert said in str(done.exception)
    assert not list(tmp_path.glob("out.json*"))


def test_what_is_no_file_is_neither_read_nor_replaced(tmp_path: Path, tiny_model: Path, listed: Path) -> None:
    content = json.loads(listed.read_text())
    pictures, pipe, out = tmp_path / "test2014", tmp_path / "pipe", tmp_path / "out.json"
    os.mkfifo(pipe)
    (pictures / "pipe.jpg").symlink_to(pipe)
    (pictures / "endless.jpg").symlink_to("/dev/zero")
    with (pictures / "huge.jpg").open("wb") as file:
        file.truncate(LARGEST_BYTES + 1)
    bad = ("pipe.jpg", "endless.jpg", "huge.jpg", "", "\ud800.jpg")
    content["images"][2:2] = [{"id": number, "file_name": name} for number, name in enumerate(bad)]
    listed.write_text(json.dumps(content))
    done = coco_results(tiny_model, listed, pictures, out)
    assert done.exit_code == 3, done.output
    told = [line.partition("left out: ")[2] for line in done.stderr.splitlines() if "left out" in line]
    assert told == [
        "pipe.jpg: this is a device or a pipe, not a file",
        "endless.jpg: this is a device or a pipe, not a file",
        "huge.jpg: too large, 1.1 GB",
        ": this is a folder",
        "\\ud800.jpg: the name is no valid text",
    ]
    assert "pictures captioned" not in done.stderr  # not all of them were
    for image_info, target in ((pipe, out), (listed, pipe), (listed, Path("/dev/null"))):
        refused = coco_results(tiny_model, image_info, pictures, target)
        assert isinstance(refused.exception, GpucaptError) and "is a device or a pipe" in str(
            refused.exception
        )
    assert pipe.is_fifo() and Path("/dev/null").is_char_device()


def test_files_of_others_are_not_replaced(tmp_path: Path, tiny_model: Path, listed: Path) -> None:
    pictures, out, part = tmp_path / "test2014", tmp_path / "out.json", tmp_path / "out.json.part"
    before = listed.read_bytes()
    for target in (listed, next(pictures.iterdir())):
        assert isinstance(coco_results(tiny_model, listed, pictures, target).exception, WrongUsage)
    for theirs in ("a letter\n", '{"my": "data"}\n', "[1]"):
        part.write_text(theirs)
        done = coco_results(tiny_model, listed, pictures, out)
        assert isinstance(done.exception, GpucaptError) and "not ours" in str(done.exception)
        assert part.read_text() == theirs and not out.exists()
    part.unlink()
    assert listed.read_bytes() == before
    assert coco_results(tiny_model, listed, pictures, out).stdout == f"{out}: {COUNT} of {COUNT} pictures\n"


def test_a_place_that_cannot_be_written_is_told_before_any_work(
    tmp_path: Path, tiny_model: Path, listed: Path
) -> None:
    for out, said in (
        (tmp_path / "test2014", "is a folder"),
        (listed / "out.json", "cannot be written"),
        (tmp_path / ("x" * 300), "cannot be written: File name too long"),
    ):
        done = coco_results(tiny_model, listed, tmp_path / "test2014", out)
        assert isinstance(done.exception, GpucaptError) and said in str(done.exception)


def test_from_a_bucket_into_a_bucket(
    tmp_path: Path, tiny_model: Path, listed: Path, bucket: str, s3_server: S3Server
) -> None:
    for path in (listed, *(tmp_path / "test2014").iterdir()):
        s3_server.client.put_object(Bucket=bucket, Key=f"coco/{path.name}", Body=path.read_bytes())
    url = f"s3://{bucket}/coco"
    done = coco_results(tiny_model, f"{url}/{listed.name}", url, f"s3://{bucket}/results.json")
    assert done.exit_code == 0, done.output
    coco_results(tiny_model, listed, tmp_path / "test2014", tmp_path / "results.json")
    found = s3_server.client.get_object(Bucket=bucket, Key="results.json")["Body"].read()
    assert found == (tmp_path / "results.json").read_bytes()
