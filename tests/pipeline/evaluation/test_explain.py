"""`gpucapt explain`: figures of where the captioner looked; `--beams`: a caption for each beam size."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner, Result

from model.captioner import Caption, Captioner, load_captioner
from model.errors import GpucaptError
from model.preprocessing import Preparation
from pipeline.cli.main import app
from pipeline.errors import WrongUsage
from pipeline.evaluation.attention_figure import FigureRow, draw
from pipeline.media.images import decode_still
from tests.model.tiny import make_tiny_checkpoint
from tests.pipeline.jobs import write_still
from tests.services.s3 import S3Server

pytestmark = pytest.mark.slow

OPTIONS = ["--beam-size=3", "--max-length=8", "--precision=fp32", "--device=cpu"]


@pytest.fixture(scope="module")
def captioner(tiny_model: Path) -> Captioner:
    return load_captioner(tiny_model, device="cpu", precision="fp32")


def explain(model: Path, *words: str | Path) -> Result:
    """`gpucapt explain` in this process."""
    return CliRunner().invoke(app, ["explain", *map(str, words), "--model", str(model), *OPTIONS])


def caption(captioner: Captioner, path: Path, beam_size: int = 3) -> str:
    """What gpucapt says of a picture otherwise."""
    prepared = captioner.prepare(decode_still(path.read_bytes(), path.name))
    return captioner.caption([prepared], beam_size=beam_size, max_length=8)[0].text


def looking(*cells: list[list[int]]) -> Caption:
    """A caption whose words look at so much of each cell."""
    words = tuple("abcdefgh"[: len(cells)])
    return Caption(" ".join(words), words, -1.0, np.array(cells, dtype=np.uint8))


def panels(png: bytes, count: int) -> list[NDArray[Any]]:
    """The panels of a figure of one line without the words above them; what is white counts as bright."""
    figure = np.minimum(np.asarray(Image.open(io.BytesIO(png)).convert("L"), dtype=float), 128)
    below = figure[115:]
    return np.array_split(below, count, axis=1)


def quarters(panel: NDArray[Any]) -> NDArray[Any]:
    """The mean brightness of its four quarters, row by row."""
    halves = [np.array_split(half, 2, axis=1) for half in np.array_split(panel, 2)]
    return np.array([[quarter.mean() for quarter in half] for half in halves])


def size_of(png: Path | bytes) -> tuple[int, int]:
    """Width and height of what must be a PNG."""
    data = png if isinstance(png, bytes) else png.read_bytes()
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        return image.size


def test_each_word_is_bright_where_it_looked_and_dark_elsewhere() -> None:
    grey = np.full((300, 300, 3), 128, np.uint8)
    said = looking([[0, 255], [0, 0]], [[0, 0], [255, 0]])
    whole, first, second = panels(draw(grey, [FigureRow("", said)], Preparation()), 3)
    assert quarters(whole).min() > 120
    assert np.unravel_index(quarters(first).argmax(), (2, 2)) == (0, 1)
    assert np.unravel_index(quarters(second).argmax(), (2, 2)) == (1, 0)
    assert quarters(first)[1, 0] < 70 and quarters(second)[0, 1] < 70


def test_what_is_cut_off_before_the_captioner_looks_stays_dark() -> None:
    wide = np.full((200, 400, 3), 128, np.uint8)
    everywhere = looking([[255, 255], [255, 255]])
    cut = Preparation(size=224, shorter_side=256, filter="bilinear")
    _, panel = panels(draw(wide, [FigureRow("", everywhere)], cut), 2)
    middle = panel[panel.shape[0] // 2]
    assert middle[len(middle) // 2] > 120
    assert middle[len(middle) // 8] < 40 and middle[-len(middle) // 8] < 40
    _, panel = panels(draw(wide, [FigureRow("", everywhere)], Preparation()), 2)
    assert panel[panel.shape[0] // 2].min() > 120


def test_odd_captions_and_pictures_have_figures_too() -> None:
    """No words, more words than a line has, words that could be formulas, pictures like threads."""
    grid = [[[0, 255], [9, 9]]]
    said = Caption("$\\frac a$", ("$\\frac", "a$"), -1.0, np.array(grid * 2, dtype=np.uint8))
    for shape in ((1, 500, 3), (500, 1, 3), (40, 60, 3)):
        picture = np.zeros(shape, np.uint8)
        for caption_ in (Caption("", (), -9.0, np.zeros((0, 2, 2), np.uint8)), said, looking(*grid * 8)):
            png = draw(picture, [FigureRow("", caption_)], Preparation())
            assert size_of(png) > (0, 0)


def test_several_pictures_get_a_figure_each_and_a_bad_one_costs_a_line(
    tmp_path: Path, tiny_model: Path, captioner: Captioner
) -> None:
    one, two = write_still(tmp_path / "a" / "dog.png", 1), write_still(tmp_path / "b" / "dog.jpg", 23)
    (tmp_path / "letter.jpg").write_text("no picture")
    done = explain(tiny_model, one, tmp_path / "letter.jpg", two, "--out", tmp_path / "figures")
    assert done.exit_code == 3
    assert (
        done.stderr.strip()
        == f"gpucapt: {tmp_path}/letter.jpg: not a picture, or of a kind that cannot be read"
    )
    figures = [tmp_path / "figures" / f"dog{number}.explained.png" for number in ("", "-2")]
    said = [f"{figure}: {caption(captioner, path)}" for figure, path in zip(figures, (one, two), strict=True)]
    assert done.stdout.splitlines() == said
    assert sorted((tmp_path / "figures").iterdir()) == sorted(figures)
    for figure in figures:
        assert size_of(figure) > (0, 0)
    assert explain(tiny_model, tmp_path / "letter.jpg").exit_code == 1
    for wrong in ([one, two, "--out", tmp_path / "one.png"], [one, one]):
        assert isinstance(explain(tiny_model, *wrong).exception, WrongUsage)


def test_the_figure_goes_where_it_is_said_else_here(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = write_still(tmp_path / "pictures" / "dog.png", 1)
    monkeypatch.chdir(tmp_path)
    assert explain(tiny_model, picture).exit_code == 0
    assert (tmp_path / "dog.explained.png").is_file()
    assert explain(tiny_model, picture, "--out", tmp_path / "new" / "figure.png").exit_code == 0
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["figure.png"]
    assert [path.name for path in picture.parent.iterdir()] == ["dog.png"]
    done = explain(tiny_model, picture, "--out", picture / "figure.png")
    assert isinstance(done.exception, GpucaptError) and "cannot be written" in str(done.exception)


def test_no_figure_replaces_a_picture_or_what_is_no_file(tmp_path: Path, tiny_model: Path) -> None:
    picture, other = write_still(tmp_path / "dog.png", 1), write_still(tmp_path / "cat.explained.png", 2)
    cat, pipe, before = write_still(tmp_path / "cat.png", 3), tmp_path / "pipe", picture.read_bytes()
    os.mkfifo(pipe)
    for wrong in ([picture, "--out", picture], [picture, "--out", ""], [cat, other, "--out", tmp_path]):
        assert isinstance(explain(tiny_model, *wrong).exception, WrongUsage)
    for target, said in (
        (pipe, "a device or a pipe"),
        ("/dev/null", "a device or a pipe"),
        (tmp_path / ("x" * 300), "cannot be written: File name too long"),
    ):
        done = explain(tiny_model, picture, "--out", target)
        assert isinstance(done.exception, GpucaptError) and said in str(done.exception)
    for no_file in (pipe, "/dev/zero"):
        done = explain(tiny_model, no_file, "--out", tmp_path / "figure.png")
        assert (done.exit_code, done.stderr) == (
            1,
            f"gpucapt: {no_file}: this is a device or a pipe, not a file\n",
        )
    assert picture.read_bytes() == before and pipe.is_fifo() and Path("/dev/null").is_char_device()


def test_each_beam_size_has_its_caption_beside_the_others(
    tmp_path: Path, tiny_model: Path, captioner: Captioner
) -> None:
    picture, figure = write_still(tmp_path / "dog.png", 1), tmp_path / "beams.png"
    done = explain(tiny_model, picture, "--beams", "--out", figure)
    expected = [f"{figure}: beam {size}: {caption(captioner, picture, size)}" for size in (1, 2, 3)]
    assert (done.exit_code, done.stdout.splitlines()) == (0, expected)
    alone = tmp_path / "alone.png"
    explain(tiny_model, picture, "--out", alone)
    assert size_of(figure)[1] > size_of(alone)[1]


def test_a_decoder_that_does_not_look_at_places_says_so(tmp_path: Path) -> None:
    blind = make_tiny_checkpoint(tmp_path / "blind", decoder="lstm")
    picture = write_still(tmp_path / "dog.png", 1)
    done = explain(blind, picture, "--out", tmp_path / "figure.png")
    assert done.exit_code == 1 and isinstance(done.exception, GpucaptError)
    assert "cannot be explained: its decoder, lstm, looks at the picture as a whole" in str(done.exception)
    assert not (tmp_path / "figure.png").exists()


def test_figures_go_into_a_bucket(tmp_path: Path, tiny_model: Path, bucket: str, s3_server: S3Server) -> None:
    picture = write_still(tmp_path / "dog.png", 1)
    s3_server.client.put_object(Bucket=bucket, Key="in/a dog.png", Body=picture.read_bytes())
    done = explain(tiny_model, f"s3://{bucket}/in/a dog.png", "--out", f"s3://{bucket}/figures/")
    assert done.exit_code == 0, done.output
    body = s3_server.client.get_object(Bucket=bucket, Key="figures/a dog.explained.png")["Body"].read()
    assert size_of(body) > (0, 0)
