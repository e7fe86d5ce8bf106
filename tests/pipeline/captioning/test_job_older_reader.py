"""What an earlier version could not read is read by this one; what it could stays done."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import BadInput
from pipeline.media.decoder import FrameDecoder
from pipeline.media.images import decode_still
from tests.heif import heif, picture
from tests.media import photograph
from tests.pipeline.jobs import caption, write_stills


@pytest.fixture
def earlier(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As reading was in the first version, until it is undone: no HEIC, the first page of a TIFF."""

    def read(decoder: FrameDecoder, data: bytes, name: str, *, whole: bool = False) -> object:
        if name.endswith((".heic", ".HEIC")):
            raise BadInput(f"{name}: HEIC pictures cannot be read; convert it to JPEG")
        return decode_still(data, name, whole=whole)

    monkeypatch.setattr(FrameDecoder, "still", read)
    monkeypatch.setattr("pipeline.captioning.reader.STILL_READER", 1)
    monkeypatch.setattr("pipeline.state.still_rows.STILL_READER", 1)
    for user in ("still_rows", "fingerprints"):
        monkeypatch.setattr(f"pipeline.state.{user}.read_alike_since", lambda name: 1)
    return monkeypatch


@pytest.fixture
def read_now(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the stills that are read once the earlier version is gone."""
    return []


def note_reads(monkeypatch: pytest.MonkeyPatch, names: list[str]) -> None:
    def read(decoder: FrameDecoder, data: bytes, name: str, *, whole: bool = False) -> object:
        names.append(name)
        return decode_still(data, name, whole=whole)

    monkeypatch.setattr(FrameDecoder, "still", read)


def frames(out: Path, key: str) -> list[str]:
    return [json.loads(line)["frame"] for line in (out / key / "captions.jsonl").read_text().splitlines()]


def errors(out: Path, key: str) -> list[str]:
    return [error["frame"] for error in json.loads((out / key / "captions.json").read_text())["errors"]]


def manifest(out: Path, key: str) -> tuple[int, str]:
    path = out / key / "manifest.json"
    return path.stat().st_mtime_ns, json.loads(path.read_text())["fingerprint"]


def write_heic(path: Path) -> None:
    path.write_bytes(heif([picture(photograph("coffee", size=(64, 64)))]))


def test_what_was_set_aside_is_tried_once_more(
    tmp_path: Path, tiny_model: Path, earlier: pytest.MonkeyPatch, read_now: list[str]
) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    write_stills(source / "good", 3)
    write_stills(source / "mixed", 2)
    write_heic(source / "mixed" / "phone.HEIC")
    (source / "mixed" / "torn.png").write_bytes(b"not a picture")
    assert caption(source, out, tiny_model) == 3
    assert errors(out, "mixed") == ["phone.HEIC", "torn.png"]
    good, mixed = manifest(out, "good"), manifest(out, "mixed")
    earlier.undo()
    note_reads(earlier, read_now)

    assert caption(source, out, tiny_model) == 3
    assert sorted(read_now) == ["phone.HEIC", "torn.png"]
    assert frames(out, "mixed") == ["000.png", "001.png", "phone.HEIC"]
    assert errors(out, "mixed") == ["torn.png"]
    assert manifest(out, "good") == good
    assert manifest(out, "mixed")[1] == mixed[1]
    assert caption(source, out, tiny_model) == 0, "what is bad to this version, too, is left alone"
    assert len(read_now) == 2


@pytest.mark.parametrize("extension", [".tif", ".TIFF"])
def test_rows_of_tiffs_are_made_anew_and_those_beside_them_stay(
    tmp_path: Path, tiny_model: Path, earlier: pytest.MonkeyPatch, read_now: list[str], extension: str
) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    write_stills(source / "scans", 2)
    write_stills(source / "good", 1)
    Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(source / "scans" / f"a{extension}", "TIFF")
    assert caption(source, out, tiny_model) == 0
    good, scans = manifest(out, "good"), manifest(out, "scans")
    earlier.undo()
    note_reads(earlier, read_now)

    assert caption(source, out, tiny_model) == 0
    assert read_now == [f"a{extension}"]
    assert frames(out, "scans") == ["000.png", "001.png", f"a{extension}"]
    assert manifest(out, "good") == good
    assert manifest(out, "scans")[1] != scans[1]
    caption(source, out, tiny_model)
    assert len(read_now) == 1
