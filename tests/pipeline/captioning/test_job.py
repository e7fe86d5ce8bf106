"""`gpucapt caption`: what comes out, what a second run does, what a bad input costs."""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import os
import random
import shutil
from fractions import Fraction
from importlib.resources import files
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image

from model.errors import GpucaptError
from pipeline.records.row import Row
from pipeline.records.settings import Resources
from pipeline.state.leases import Claims, claim_key
from pipeline.state.parts import Parts
from pipeline.storage.open import open_storage
from tests.media import write_photograph, write_video
from tests.pipeline.jobs import (
    assert_same_rows,
    caption,
    captions,
    errors,
    leftovers,
    manifest,
    rows,
    summary,
    times,
    write_still,
    write_stills,
)
from tests.videos import Track, numbered, set_matrix, write

pytestmark = pytest.mark.slow


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with a film, and a folder of stills beside it."""
    source = tmp_path / "source"
    write_video(source / "trip/clip.webm", frames_each=10)
    write_stills(source / "trip/album", 6)
    return source


def test_every_source_gets_its_outputs_and_a_manifest_that_fits_them(
    source: Path, tmp_path: Path, tiny_model: Path
) -> None:
    out = tmp_path / "out"
    assert caption(source, out, tiny_model) == 0
    both = {"captions.jsonl", "captions.csv", "captions.json", "story.md", "story.json", "report.html"}
    for key, names in {"trip/album": both, "trip/clip.webm": {*both, "captions.vtt", "captions.srt"}}.items():
        assert {path.name for path in (out / key).iterdir()} == {*names, "manifest.json"}
        content = manifest(out, key)
        jsonschema.validate(content, schema("manifest"))
        assert {file["name"] for file in content["files"]} == names
        for file in content["files"]:
            data = (out / key / file["name"]).read_bytes()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (file["size"], file["sha256"])
        assert content["counts"] == {"frames": len(rows(out, key)), "errors": 0}
    assert [row["timestamp_s"] for row in rows(out, "trip/clip.webm")] == [0.0, 1.0, 2.0]
    assert [row["frame"] for row in rows(out, "trip/album")] == [f"{n:03}.png" for n in range(6)]
    assert leftovers(out) == []
    jsonschema.validate(summary(out), schema("summary"))
    assert summary(out)["counts"]["captioned"] == 2
    [table] = (out / "runs").glob("*/captions.csv")
    with table.open(newline="", encoding="utf-8") as file:
        sources = [row["source"] for row in csv.DictReader(file)]
    assert sources == ["trip/album"] * 6 + ["trip/clip.webm"] * 3


def schema(name: str) -> dict[str, object]:
    content: dict[str, object] = json.loads((files("pipeline") / f"schemas/{name}.schema.json").read_text())
    return content


def test_a_second_run_does_nothing(source: Path, tmp_path: Path, tiny_model: Path) -> None:
    out = tmp_path / "out"
    assert caption(source, out, tiny_model) == 0
    before = times(out)
    assert caption(source, out, tiny_model) == 0
    assert times(out) == before


def test_the_next_run_tells_of_one_that_was_killed_before_its_summary(
    tmp_path: Path, tiny_model: Path
) -> None:
    album, out = write_stills(tmp_path / "album", 2), tmp_path / "out"
    caption(album, out, tiny_model)
    [told] = (out / "runs").glob("*/summary.json")
    told.unlink()
    assert (told.parent / "captions.csv").is_file()
    assert caption(album, out, tiny_model) == 0
    assert summary(out)["counts"]["already_done"] == 1


def test_the_latest_run_is_told_of_although_others_were(tmp_path: Path, tiny_model: Path) -> None:
    album, out = write_stills(tmp_path / "album", 2), tmp_path / "out"
    for second in range(2):
        write_still(album / f"more {second}.png", second)
        caption(album, out, tiny_model)
        [run] = (run for run in (out / "runs").iterdir() if not run.name.startswith("2020"))
        latest = run.rename(run.with_name(f"20200101T00000{second}Z-000000"))
    (latest / "summary.json").unlink()
    for _ in range(2):
        assert caption(album, out, tiny_model) == 0
        assert len(list((out / "runs").iterdir())) == 3, "told once"


def test_a_later_run_tidies_up_behind_one_killed_after_its_manifest(tmp_path: Path, tiny_model: Path) -> None:
    album, out = write_stills(tmp_path / "album", 2), tmp_path / "out"
    caption(album, out, tiny_model)
    fingerprint = manifest(out, "album")["fingerprint"]
    destination = open_storage(str(out))
    row = Row(0, "000.png", None, "a dog", ["a", "dog"], -1.0, "1")
    Parts(destination, "album", fingerprint).write([row])
    live = Claims(destination)
    claim = live.take("album")
    assert claim is not None
    assert caption(album, out, tiny_model) == 0
    assert len(leftovers(out)) == 2, "what a live worker has is left alone"
    gone = {**json.loads(destination.read(claim_key("album"))), "started": "1"}
    destination.write(claim_key("album"), json.dumps(gone).encode())
    before = times(out / "album")
    assert caption(album, out, tiny_model) == 0
    assert leftovers(out) == [] and times(out / "album") == before


def test_each_picture_gets_its_own_caption_whatever_the_batches(tmp_path: Path, tiny_model: Path) -> None:
    """Ends of folders are packed together; no caption may end up with another folder's picture."""
    for number in range(11):
        write_stills(tmp_path / f"source/{number:02}", number % 5 + 1, first=37 * number)
    assert caption(tmp_path / "source", tmp_path / "packed", tiny_model) == 0
    single = Resources(device="cpu", batch_size=1, workers=1)
    assert caption(tmp_path / "source", tmp_path / "single", tiny_model, resources=single) == 0
    for number in range(11):
        key = f"{number:02}"
        assert_same_rows(rows(tmp_path / "packed", key), rows(tmp_path / "single", key))
    different = {row["caption"] for number in range(11) for row in rows(tmp_path / "packed", f"{number:02}")}
    assert len(different) > 5


def test_a_changed_setting_or_another_model_captions_again(
    source: Path, tmp_path: Path, tiny_model: Path
) -> None:
    from tests.model.tiny import make_tiny_checkpoint

    out = tmp_path / "out"
    caption(source, out, tiny_model)
    first = manifest(out, "trip/album")
    caption(source, out, tiny_model, story="none")
    second = manifest(out, "trip/album")
    assert second["fingerprint"] != first["fingerprint"]
    assert not (out / "trip/album/story.md").exists()
    caption(source, out, make_tiny_checkpoint(tmp_path / "other", seed=5), story="none")
    third = manifest(out, "trip/album")
    assert third["model_version"] != second["model_version"]
    assert captions(out, "trip/album") != {} and leftovers(out) == []


def test_a_replaced_film_is_captioned_again(source: Path, tmp_path: Path, tiny_model: Path) -> None:
    out = tmp_path / "out"
    caption(source, out, tiny_model)
    untouched = times(out / "trip/album")
    write_video(source / "trip/clip.webm", ("cat",), frames_each=50)
    assert caption(source, out, tiny_model) == 0
    assert len(rows(out, "trip/clip.webm")) == 5
    assert times(out / "trip/album") == untouched


def test_stills_that_come_later_join_replaced_ones_replace_removed_ones_go(
    tmp_path: Path, tiny_model: Path
) -> None:
    album, out = tmp_path / "album", tmp_path / "out"
    write_stills(album, 5, first=10)
    assert caption(album, out, tiny_model) == 0
    write_stills(album, 2, first=3)
    write_still(album / "012.png", 77)
    (album / "013.png").unlink()
    assert caption(album, out, tiny_model) == 0
    assert summary(out)["counts"]["frames"] == 6
    write_stills(tmp_path / "fresh/album", 2, first=3)
    for name in ("010", "011", "014"):
        write_still(tmp_path / f"fresh/album/{name}.png", int(name))
    write_still(tmp_path / "fresh/album/012.png", 77)
    assert caption(tmp_path / "fresh/album", tmp_path / "fresh-out", tiny_model) == 0
    assert_same_rows(rows(out, "album"), rows(tmp_path / "fresh-out", "album"))


def test_stills_that_are_known_are_not_captioned_again(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from model.captioner import Captioner

    album, out = tmp_path / "album", tmp_path / "out"
    write_stills(album, 9)
    caption(album, out, tiny_model)
    pictures: list[int] = []
    original = Captioner.caption

    def counting(self, images, **options):  # type: ignore[no-untyped-def]
        pictures.append(len(images))
        return original(self, images, **options)

    monkeypatch.setattr(Captioner, "caption", counting)
    write_stills(album, 1, first=9)
    (album / "004.png").unlink()
    assert caption(album, out, tiny_model) == 0
    assert pictures == [1]
    assert len(rows(out, "album")) == 9


def test_overwrite_captions_all_again_and_retry_failed_only_what_was_bad(
    tmp_path: Path, tiny_model: Path
) -> None:
    album, out = tmp_path / "album", tmp_path / "out"
    write_stills(album, 2)
    bad = album / "bad.png"
    bad.write_bytes(b"not a picture")
    assert caption(album, out, tiny_model) == 3
    before = times(out / "album")
    assert caption(album, out, tiny_model) == 0, "nothing is left to do"
    assert times(out / "album") == before
    stamp = bad.stat()
    write_still(bad, 5)
    data = bad.read_bytes()
    bad.write_bytes(data[: stamp.st_size].ljust(stamp.st_size, b"\0"))
    os.utime(bad, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert caption(album, out, tiny_model, retry_failed=True) == 3
    assert times(out / "album") != before
    before = times(out / "album")
    assert caption(album, out, tiny_model, overwrite=True) == 3
    assert times(out / "album")["captions.csv"] > before["captions.csv"]


def test_bad_inputs_cost_themselves_alone(tmp_path: Path, tiny_model: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    album = source / "album"
    write_photograph(album / "good.jpg", "cat", size=(64, 64))
    whole = write_photograph(tmp_path / "whole.jpg", "coffee", size=(200, 200)).read_bytes()
    (album / "torn.jpg").write_bytes(whole[: len(whole) // 2])
    (album / "text.jpg").write_text("this is no picture")
    (album / "empty.png").touch()
    (source / "empty.mp4").touch()
    (source / "noise.mp4").write_bytes(random.Random(0).randbytes(4096))
    (source / "text.webm").write_text("no film")
    write_still(source / "only bad" / "fine.png", 1)
    (source / "only bad" / "fine.png").write_text("not fine")
    (source / "notes.txt").write_text("ignored")
    write_video(source / "good.webm", frames_each=5)
    assert caption(source, out, tiny_model) == 3
    assert captions(out, "album").keys() == {"good.jpg"}
    assert len(rows(out, "good.webm")) == 2
    found = errors(out)
    assert found.keys() == {
        *("album/torn.jpg", "album/text.jpg", "album/empty.png", "empty.mp4", "noise.mp4", "text.webm"),
        *("only bad", "only bad/fine.png"),
    }
    assert all(reason and "\n" not in reason for reason in found.values())
    assert summary(out)["counts"] == {
        **{"sources": 6, "captioned": 2, "already_done": 0, "set_aside": 4, "left": 0, "damaged": 0},
        **{"frames": 3, "errors": 8},
    }
    content = json.loads((out / "album/captions.json").read_text())
    assert {error["frame"] for error in content["errors"]} == {"torn.jpg", "text.jpg", "empty.png"}
    assert leftovers(out) == []


def test_odd_pictures_and_odd_names_come_through(tmp_path: Path, tiny_model: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    names = [
        "with space.png",
        "two\nlines.png",
        "emoji 🐈.png",
        "<script>alert(1)</script>.png".replace("/", "∕"),
    ]
    for number, name in enumerate(names):
        write_still(source / "<b>&amp; 'odd'\n🎬" / name, number)
    odd = source / "odd pictures"
    odd.mkdir()
    image = Image.new("RGB", (40, 30), "red")
    image.convert("CMYK").save(odd / "cmyk.jpg")
    image.convert("L").save(odd / "grey.png")
    image.convert("RGBA").save(odd / "alpha.png")
    image.convert("P").save(odd / "palette.gif")
    Image.fromarray(np.full((30, 40), 40_000, np.uint16)).save(odd / "deep.png")
    assert caption(source, out, tiny_model) == 0
    assert captions(out, "<b>&amp; 'odd'\n🎬").keys() == set(names)
    assert len(captions(out, "odd pictures")) == 5
    before = times(out)
    assert caption(source, out, tiny_model) == 0
    assert times(out) == before


def test_nothing_that_could_be_done_is_a_failure(tmp_path: Path, tiny_model: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(GpucaptError, match="nothing to caption"):
        caption(empty, tmp_path / "out", tiny_model)
    with pytest.raises(GpucaptError, match="does not exist"):
        caption(tmp_path / "missing", tmp_path / "out", tiny_model)
    with pytest.raises(GpucaptError, match="no model"):
        caption(empty, tmp_path / "out", tmp_path / "no-model")
    (empty / "bad.mp4").touch()
    assert caption(empty, tmp_path / "out", tiny_model) == 1


def test_the_log_says_where_the_model_works(
    tmp_path: Path, tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_stills(tmp_path / "in", 1)
    with caplog.at_level(logging.INFO, "gpucapt"):
        assert caption(tmp_path / "in", tmp_path / "out", tiny_model) == 0
        assert caption(tmp_path / "in", tmp_path / "out", tiny_model) == 0
    told = [line for line in caplog.messages if line.startswith("model ")]
    assert len(told) == 1, "a run with nothing to do loads no model"
    assert told[0].endswith(f"{summary(tmp_path / 'out')['model_version']} on cpu in fp32")


def test_one_file_is_a_source_too(tmp_path: Path, tiny_model: Path) -> None:
    film = write_video(tmp_path / "in/clip.webm", frames_each=5)
    still = write_still(tmp_path / "in/still.png", 4)
    assert caption(film, tmp_path / "out", tiny_model) == 0
    assert caption(still, tmp_path / "out", tiny_model) == 0
    assert len(rows(tmp_path / "out", "clip.webm")) == 2
    assert captions(tmp_path / "out", "still.png").keys() == {"still.png"}
    broken = tmp_path / "in/broken.png"
    broken.write_text("no picture")
    assert caption(broken, tmp_path / "out", tiny_model) == 1
    assert errors(tmp_path / "out").keys() == {"broken.png"}


def test_a_destination_that_cannot_be_written_ends_the_run_with_one_line(
    tmp_path: Path, tiny_model: Path
) -> None:
    write_stills(tmp_path / "source/album", 2)
    out = tmp_path / "out"
    out.write_text("a file, not a folder")
    with pytest.raises(GpucaptError) as error:
        caption(tmp_path / "source", out, tiny_model)
    assert "\n" not in str(error.value)


def test_too_little_memory_halves_the_batch_and_goes_on(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from model.captioner import Captioner

    write_stills(tmp_path / "album", 20)
    assert caption(tmp_path / "album", tmp_path / "whole", tiny_model) == 0
    original, sizes = Captioner.caption, []

    def small(self, images, **options):  # type: ignore[no-untyped-def]
        sizes.append(len(images))
        if len(images) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, images, **options)

    monkeypatch.setattr(Captioner, "caption", small)
    many = Resources(device="cpu", batch_size=8, workers=2)
    assert caption(tmp_path / "album", tmp_path / "halved", tiny_model, resources=many) == 0
    assert_same_rows(rows(tmp_path / "halved", "album"), rows(tmp_path / "whole", "album"))
    assert sizes[:3] == [8, 4, 2], "halved until it fits, and not tried again"
    assert max(sizes[2:]) == 2


def test_a_run_makes_up_for_the_table_of_one_killed_at_its_very_end(tmp_path: Path, tiny_model: Path) -> None:
    write_stills(tmp_path / "source/album", 2)
    caption(tmp_path / "source", tmp_path / "out", tiny_model)
    shutil.rmtree(tmp_path / "out" / "runs")
    assert caption(tmp_path / "source", tmp_path / "out", tiny_model) == 0
    (table,) = (tmp_path / "out" / "runs").glob("*/captions.csv")
    assert len(table.read_text().splitlines()) == 3
    assert caption(tmp_path / "source", tmp_path / "out", tiny_model) == 0
    assert len(list((tmp_path / "out" / "runs").iterdir())) == 1


def test_films_that_an_earlier_version_showed_wrongly_are_captioned_again(
    tmp_path: Path, tiny_model: Path
) -> None:
    """Only these: what was done stays done otherwise."""
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    frames = [numbered(number) for number in range(30)]
    write(source / "plain.mp4", Track(frames))
    write(source / "squeezed.mp4", Track(frames, aspect=Fraction(64, 45)))
    set_matrix(write(source / "mirrored.mp4", Track(frames)), (-1, 0, 0, 1))
    write(source / "late.mkv", Track(frames, times=range(50, 80)), sound_s=4)
    assert caption(source, out, tiny_model) == 0
    for path in out.glob("*/manifest.json"):  # as the first version wrote it
        content = json.loads(path.read_text())
        del content["undecoded_s"]
        path.write_text(json.dumps({**content, "format": 1}))
    assert caption(source, out, tiny_model) == 0
    manifests = {path.parent.name: json.loads(path.read_text()) for path in out.glob("*/manifest.json")}
    formats = {name: content["format"] for name, content in manifests.items()}
    assert formats == {"plain.mp4": 1, "squeezed.mp4": 2, "mirrored.mp4": 2, "late.mkv": 2}
