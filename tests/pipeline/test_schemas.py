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
