"""Which captions count as unsure is the model's own: how sure models are differs with their training."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from model.captioner import load_captioner
from model.checkpoint import read_config
from model.errors import GpucaptError
from tests.model.tiny import make_tiny_checkpoint
from tests.pipeline.jobs import caption, command, environment, write_stills

pytestmark = pytest.mark.slow


def model(folder: Path, unsure_below: object) -> Path:
    directory = make_tiny_checkpoint(folder / "model")
    content = json.dumps({**read_config(directory), "unsure_below": unsure_below})
    (directory / "config.json").write_text(content)
    return directory


@pytest.mark.parametrize(("unsure_below", "marked"), [(0.0, 0), (1.0, 6)])
def test_reports_mark_what_the_model_is_unsure_of(tmp_path: Path, unsure_below: float, marked: int) -> None:
    checkpoint = model(tmp_path, unsure_below)
    write_stills(tmp_path / "in" / "photos", 6)
    assert caption(tmp_path / "in", tmp_path / "out", checkpoint) == 0
    done = tmp_path / "out" / "photos"
    assert json.loads((done / "captions.json").read_text())["unsure_below"] == unsure_below
    report = " ".join((done / "report.html").read_text().split())
    said = "6 of 6 captions are below 100% and marked" if marked else "No caption is below 0%"
    assert said in report


def test_the_prompt_marks_what_the_model_is_unsure_of(tmp_path: Path) -> None:
    write_stills(tmp_path, 1)
    for unsure_below in (0.0, 1.0):
        asked = subprocess.run(
            command("ask", "--model", model(tmp_path, unsure_below)),
            input=f"{tmp_path / '000.png'}\n\n",
            capture_output=True,
            text=True,
            env=environment(),
            check=True,
        )
        assert "(confidence 0." in asked.stdout
        assert (", unsure)" in asked.stdout) == (unsure_below == 1.0)


@pytest.mark.parametrize("wrong", ["much", -0.1, 1.5, float("nan"), None])
def test_a_share_that_is_none_is_refused_in_one_line(tmp_path: Path, wrong: object) -> None:
    with pytest.raises(GpucaptError, match=r"config\.json") as caught:
        load_captioner(model(tmp_path, wrong))
    assert "\n" not in str(caught.value)
