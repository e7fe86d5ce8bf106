"""Large photographs come to imported captioners as they came to the original ones: with every pixel."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from model.captioner import Caption, Captioner, load_captioner
from pipeline.cli.main import app
from pipeline.media.images import decode_still, open_still
from pipeline.media.stills.memory import Budget
from pipeline.models.resolve import resolve_model
from pipeline.runtime.config import Tuning
from pipeline.web.limits import Limits
from pipeline.web.pictures import prepared
from tests.media import photograph
from tests.model.tiny import make_tiny_checkpoint
from tests.rounding import ROUNDING_UNITS, units_apart


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A JPEG that is decoded at a half unless it is wanted whole."""
    path = tmp_path_factory.mktemp("large") / "large.jpg"
    Image.fromarray(photograph("temple", size=(1600, 1068))).save(path, quality=90)
    return path


@pytest.fixture(scope="module", params=["bilinear", "area"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_tiny_checkpoint(tmp_path_factory.mktemp(request.param) / "checkpoint")
    config = json.loads((folder / "config.json").read_text())
    config["preparation"]["filter"] = request.param
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def captioner(checkpoint: Path) -> Captioner:
    return load_captioner(checkpoint, device="cpu", precision="fp32")


@pytest.fixture
def wanted(captioner: Captioner, large: Path) -> NDArray[np.uint8]:
    """The picture as the checkpoint wants it: from all pixels if it was trained so."""
    with Image.open(large) as image:
        whole = captioner.prepare(np.asarray(image.convert("RGB")))
    half = captioner.prepare(decode_still(large.read_bytes(), large.name))
    assert not np.array_equal(whole, half)
    return whole if captioner.prepare.filter == "bilinear" else half


def test_a_large_photograph_is_decoded_whole_if_asked(large: Path) -> None:
    with Image.open(large) as image:
        expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(decode_still(large.read_bytes(), large.name, whole=True), expected)
    assert decode_still(large.read_bytes(), large.name).shape == (534, 800, 3)


def test_what_is_too_large_to_be_decoded_whole_is_decoded_smaller(
    large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = open_still(large.read_bytes(), large.name, whole=True).memory
    monkeypatch.setattr("pipeline.media.images.BUDGET", Budget(whole - 1))
    assert decode_still(large.read_bytes(), large.name, whole=True).shape == (534, 800, 3)


def test_the_server_and_a_folder_of_one_see_what_the_checkpoint_wants(
    captioner: Captioner, checkpoint: Path, large: Path, wanted: NDArray[np.uint8], tmp_path: Path
) -> None:
    assert np.array_equal(prepared(large.read_bytes(), large.name, captioner, Limits.of(Tuning())), wanted)
    (expected,) = captioner.caption([wanted])
    arguments = ["caption", str(large.parent), str(tmp_path), "--model", str(checkpoint), "--story", "none"]
    done = CliRunner().invoke(app, [*arguments, "--device", "cpu", "--precision", "fp32"])
    assert done.exit_code == 0, done.output
    with next(tmp_path.rglob("captions.csv")).open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert_same(row["caption"], float(row["log_prob"]), expected)


def test_a_model_tells_what_it_wants_without_being_loaded(checkpoint: Path, captioner: Captioner) -> None:
    assert resolve_model(str(checkpoint)).sees_whole == (captioner.prepare.filter == "bilinear")


def assert_same(text: str, log_prob: float, expected: Caption) -> None:
    assert text == expected.text
    assert units_apart([log_prob], [expected.log_prob]) <= ROUNDING_UNITS
