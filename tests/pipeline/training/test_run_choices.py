"""Decoders, word vectors and parts of encoders by name, from the command line to the report."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.model.tiny import make_tiny_checkpoint
from tests.pipeline.captioned import SUBJECTS, make_dataset
from tests.pipeline.jobs import caption, rows, write_stills

pytestmark = pytest.mark.slow

RECIPE = """
name: choices
encoder: shufflenet_v2_x0_5
encoder_weights: null
embedding_size: 8
hidden_size: 64
heads: 4
layers: 1
dropout: 0.1
epochs: 10
patience: 10
cut_patience: 0
sample_captions: 1
finetune_epochs: 1
self_critical_epochs: 1
encoder_trained: block4
feature_views: 1
batch_size: 6
learning_rate: 0.02
label_smoothing: 0.0
average_decay: 0.8
max_length: 12
precision: fp32
"""


def gpucapt(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", *map(str, arguments)]
    return subprocess.run(command, text=True, capture_output=True, check=False)


@pytest.mark.parametrize("decoder", ["attention_lstm", "lstm", "transformer"])
def test_reports_show_where_a_model_looked_if_it_does_look(decoder: str, tmp_path: Path) -> None:
    model = make_tiny_checkpoint(tmp_path / "model", decoder=decoder)
    write_stills(tmp_path / "source", 3)
    assert caption(tmp_path / "source", tmp_path / "out", model) == 0
    assert all(row["words"] for row in rows(tmp_path / "out", "source"))
    page = (tmp_path / "out" / "source" / "report.html").read_text(encoding="utf-8")
    frames = json.loads(re.findall(r'<script[^>]*id="frames-data"[^>]*>(.*?)</script>', page, re.S)[0])
    assert len(frames) == 3
    for frame in frames:
        if decoder == "lstm":
            assert "attention" not in frame
        else:
            assert frame["grid"] == [2, 2]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("lightning")
    folder = tmp_path_factory.mktemp("choices")
    dataset, pictures = make_dataset(folder)
    done = gpucapt("preprocess", dataset, pictures, folder / "data", "--min-word-freq", 1, "--image-size", 64)
    assert done.returncode == 0, done.stderr
    (folder / "recipe.yaml").write_text(RECIPE)
    words = {word for text in SUBJECTS.values() for word in text.split()} - {"astronaut"}
    draw = random.Random(0)
    lines = [" ".join([word, *(f"{draw.gauss(0, 1):.4f}" for _ in range(8))]) for word in sorted(words)]
    (folder / "glove.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("decoder", ["lstm", "transformer"])
def test_a_decoder_by_name_learns_with_vectors_from_a_file(decoder: str, data: Path) -> None:
    out = data / decoder
    options = ("--recipe", data / "recipe.yaml", "--decoder", decoder)
    vectors = ("--embeddings", data / "glove.txt", "--no-embeddings-trained")
    done = gpucapt("train", data / "data", out, *options, *vectors)
    assert done.returncode == 0, done.stderr
    assert re.search(r"glove\.txt: vectors for \d+ of \d+ words .*astronaut", done.stderr), done.stderr
    checkpoint = out / "checkpoint"
    config = json.loads((checkpoint / "config.json").read_text())
    assert config["decoder"]["name"] == decoder
    assert config["decoder"]["options"]["layers"] == 1
    assert config["training"]["recipe"]["embeddings"] == "glove.txt"
    assert config["training"]["val_cider"] > 1, "of six subjects it should tell some apart"
    assert (out / "samples").is_dir()


@pytest.mark.slow
def test_vectors_of_another_size_are_told_before_anything_is_encoded(data: Path) -> None:
    options = ("--recipe", data / "recipe.yaml", "--embedding-size", 9, "--embeddings", data / "glove.txt")
    done = gpucapt("train", data / "data", data / "wrong", *options)
    assert done.returncode == 1
    assert "set it to 8" in done.stderr
    assert "encoded" not in done.stderr


def test_another_encoder_than_that_of_the_model_to_begin_with_has_its_own_weights(data: Path) -> None:
    first = make_tiny_checkpoint(data / "mobilenet", encoder="mobilenet_v2")
    options = ("--recipe", data / "recipe.yaml", "--init-from", first, "--encoder-weights", data / "none.pth")
    done = gpucapt("train", data / "data", data / "anew", *options)
    assert done.returncode == 1
    assert "none.pth: there is no such weights file" in done.stderr


def test_names_that_do_not_exist_are_one_line_with_those_that_do(data: Path) -> None:
    for option, known in (("--decoder", "transformer"), ("--encoder-trained", "blocks2-4")):
        done = gpucapt("train", data / "data", data / "none", option, "parrot")
        assert done.returncode == 1
        assert len(done.stderr.strip().splitlines()) == 1
        assert known in done.stderr


def test_recipes_take_yes_and_no_where_they_should() -> None:
    from model.errors import GpucaptError
    from model.training.recipe import Recipe

    assert not Recipe.from_dict({"embeddings_trained": False}).embeddings_trained
    assert Recipe.from_dict({"dropout": 0}).decoder_options()["dropout"] == 0.0
    assert Recipe.from_dict({"dropout": None}).decoder_options()["dropout"] == 0.5
    for values in (
        {"embeddings_trained": "no"},
        {"embeddings_trained": 1},
        {"heads": True},
        {"dropout": True},
    ):
        with pytest.raises(GpucaptError, match="must be"):
            Recipe.from_dict(dict(values))
