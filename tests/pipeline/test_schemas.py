"""Every file that a whole job writes is as docs/formats.md and the schemas say."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pipeline.captioning.run import CaptionRun
from pipeline.records.settings import CaptionSettings, Resources
from pipeline.schemas import SchemaName, load_schema
from pipeline.state.manifest import read_done
from pipeline.storage.open import open_storage
from tests.model.tiny import make_tiny_checkpoint
from tests.pipeline.report_rows import Written, picture


@pytest.fixture(scope="module")
def destination(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a job made of a folder of five stills, one of them bad, and of a folder of nothing usable."""
    base = tmp_path_factory.mktemp("job")
    album = base / "in" / "trip" / "al <b>bum"
    album.mkdir(parents=True)
    for number in range(4):
        (album / f"=still 🐕 {number}.jpg").write_bytes(picture(number))
    (album / "text.jpg").write_text("not a picture", encoding="utf-8")
    (base / "in" / "bad").mkdir()
    (base / "in" / "bad" / "empty.png").touch()
    model = make_tiny_checkpoint(base / "model")
    settings = CaptionSettings(model=str(model), precision="fp32", beam_size=2, max_length=8)
    resources = Resources(device="cpu", batch_size=2, workers=1)
    run = CaptionRun(str(base / "in"), str(base / "out"), settings, resources, progress="none")
    assert run.run() == 3  # done, but some set aside
    return base / "out"


def check(path: Path, name: SchemaName) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    jsonschema.validate(content, load_schema(name), format_checker=jsonschema.FormatChecker())
    return content


def test_the_manifest_names_every_other_file_as_it_is(destination: Path) -> None:
    folder = destination / "trip" / "al <b>bum"
    manifest = check(folder / "manifest.json", "manifest")
    assert manifest["counts"] == {"frames": 4, "errors": 1}
    listed = {file["name"]: file for file in manifest["files"]}
    assert set(listed) == {path.name for path in folder.iterdir()} - {"manifest.json"}
    for name, file in listed.items():
        content = (folder / name).read_bytes()
        assert (file["size"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())


def test_the_source_s_files_match_their_schemas(destination: Path) -> None:
    folder = destination / "trip" / "al <b>bum"
    captions = check(folder / "captions.json", "captions")
    check(folder / "story.json", "story")
    written = Written(folder, [])
    for row in written.json_lines:
        jsonschema.validate(row, load_schema("captions-row"))
    assert [row["frame"] for row in written.json_lines] == [f"=still 🐕 {number}.jpg" for number in range(4)]
    assert captions["errors"][0]["frame"] == "text.jpg"
    assert len(written.page_frames) == 4
    assert all("attention" in frame for frame in written.page_frames if frame["words"])


def test_the_run_s_files_match_their_schemas(destination: Path) -> None:
    (run,) = (destination / "runs").iterdir()
    summary = check(run / "summary.json", "summary")
    assert summary["run"] == run.name
    assert summary["counts"]["sources"] == 2
    assert summary["counts"]["captioned"] == 1
    keys = [error["key"] for error in summary["errors"]]
    assert keys == ["bad", "bad/empty.png", "trip/al <b>bum/text.jpg"]
    assert summary["counts"]["errors"] == 3
    assert Written(run, []).csv == Written(destination / "trip" / "al <b>bum", []).csv


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000])
def test_a_damaged_manifest_is_as_none(tmp_path: Path, content: bytes) -> None:
    storage = open_storage(str(tmp_path))
    storage.write("album/manifest.json", content)
    assert read_done(storage, "album") is None


FORMAT_1: dict[SchemaName, dict[str, Any]] = {
    "manifest": {
        "format": 1, "source": "clip.mp4", "kind": "video", "fingerprint": "5b7c-91d0", "model": "test-model",
        "model_version": "0123456789ab", "settings": {"beam_size": 5}, "counts": {"frames": 2, "errors": 0},
        "files": [{"name": "captions.csv", "size": 12, "sha256": "0" * 64}],
        "created_at": "2026-11-21T10:15:00Z",
    },
    "summary": {
        "format": 1, "run": "20261121T101500Z-3fa9c1", "source": "in", "destination": "out",
        "started_at": "2026-11-21T10:15:00Z", "finished_at": "2026-11-21T10:16:00Z", "model": "test-model",
        "model_version": "0123456789ab", "settings": {}, "errors": [],
        "counts": {
            "sources": 1, "captioned": 1, "already_done": 0, "set_aside": 0, "left": 0,
            "frames": 2, "errors": 0,
        },
    },
}  # fmt: skip
"""As version c5029aa wrote them."""


@pytest.mark.parametrize("name", FORMAT_1)
def test_the_schemas_take_both_formats_and_keep_them_apart(name: SchemaName) -> None:
    content = FORMAT_1[name]
    jsonschema.validate(content, load_schema(name))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**content, "format": 2}, load_schema(name))
    counts = {**content["counts"], "damaged": 1}
    more: dict[str, Any] = {
        "manifest": {"undecoded_s": 1.5},
        "summary": {"counts": counts, "left_out": [], "left": []},
    }[name]
    jsonschema.validate({**content, **more, "format": 2}, load_schema(name))
    for field in more:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**content, field: more[field]}, load_schema(name))


def test_a_manifest_of_an_earlier_version_still_says_that_its_source_is_done(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path))
    storage.write("clip.mp4/manifest.json", json.dumps(FORMAT_1["manifest"]).encode())
    done = read_done(storage, "clip.mp4")
    assert done is not None
    assert (done.fingerprint, done.counts.frames, done.undecoded_s) == ("5b7c-91d0", 2, 0.0)
