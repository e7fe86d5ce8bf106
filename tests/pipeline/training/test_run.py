"""What training begins with: `--init-from` takes a model by whatever name it goes by."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import pytest
import torch

from model.captioner import load_captioner
from model.errors import GpucaptError
from model.training.recipe import Recipe
from pipeline.datasets.captioned_pictures import CaptionedPictures
from pipeline.training.job import run_train
from pipeline.training.run import _config
from tests.media import photograph
from tests.model.tiny import make_tiny_checkpoint
from tests.pipeline.captioned import make_dataset

pytest.importorskip("lightning")

pytestmark = pytest.mark.slow

OPTIONS = {
    "encoder": "mobilenet_v2",
    "embedding-size": 16,
    "hidden-size": 32,
    "attention-size": 16,
    "feature-size": 24,
    "epochs": 1,
    "finetune-epochs": 0,
    "feature-views": 1,
    "batch-size": 6,
    "validation-beam": 1,
    "precision": "fp32",
}


def gpucapt(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *map(str, arguments)],
        env={**os.environ, "GPUCAPT_MODELS": str(folder / "models")},
        text=True,
        capture_output=True,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset, and a registry with a champion."""
    folder = tmp_path_factory.mktemp("start")
    dataset, pictures = make_dataset(folder, per_subject=3)
    tiny = make_tiny_checkpoint(folder / "tiny")
    for command in (
        ("preprocess", dataset, pictures, folder / "data", "--min-word-freq", 0, "--image-size", 64),
        ("promote", tiny, "--name", "ours", "--version", "1"),
    ):
        done = gpucapt(folder, *command)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", ["champion", "ours/1"])
def test_a_registered_model_goes_by_its_name(folder: Path, name: str) -> None:
    options = [f"--{option}={value}" for option, value in OPTIONS.items()]
    out = folder / name.replace("/", "-")
    done = gpucapt(folder, "train", folder / "data", out, f"--init-from={name}", *options)
    assert done.returncode == 0, done.stderr
    assert f"{folder}/models/ours/1" in done.stderr


def test_what_recipes_do_not_speak_of_stays_as_in_the_model_to_begin_with(folder: Path) -> None:
    """An imported captioner may see blue first, and attend by tanh, which no recipe asks for."""
    start = make_tiny_checkpoint(folder / "blue first")
    config = json.loads((start / "config.json").read_text())
    config["preparation"]["channels"] = "bgr"
    config["decoder"]["options"] |= {"attention": "additive", "attention_activation": "tanh"}
    config["encoder"] |= {"grid": 4, "options": {"norm": False}}
    (start / "config.json").write_text(json.dumps(config))
    settings = {name.replace("-", "_"): value for name, value in OPTIONS.items()}
    recipe = Recipe.from_dict({**settings, "device": "cpu", "batch_size": 12})
    out = folder / "from blue first"
    run_train(str(folder / "data"), str(out), recipe, init_from=str(start))
    # Going on knows what it began, without being told again.
    longer = Recipe.from_dict({**recipe.to_dict(), "finetune_epochs": 1})
    trained = run_train(str(folder / "data"), str(out), longer, resume=True)
    for name in ("last", "checkpoint"):
        kept = json.loads((out / name / "config.json").read_text())
        assert kept["preparation"]["channels"] == "bgr"
        assert kept["decoder"]["options"]["attention_activation"] == "tanh"
        assert kept["encoder"] == config["encoder"]
    assert trained.checkpoint == str(out / "checkpoint")
    # What it has learned from is what it sees in use.
    picture = CaptionedPictures(folder / "data", "train").batch([0])["pictures"][0]
    captioner = load_captioner(start, device="cpu", precision="fp32")
    with torch.inference_mode():
        seen = captioner.encoder(torch.from_numpy(captioner.prepare(picture.transpose(1, 2, 0))[None]))
    with h5py.File(out / ".training" / "features-train.hdf5") as file:
        stored = torch.from_numpy(file["features"][0, 0]).float()
    assert torch.allclose(seen[0].float(), stored, atol=2e-2, rtol=2e-2)


def test_a_resnet_that_ends_early_is_trained(folder: Path) -> None:
    settings = {name.replace("-", "_"): value for name, value in OPTIONS.items()}
    early = {"encoder": "resnet18", "encoder_weights": None, "encoder_stages": 3, "grid": 3}
    recipe = Recipe.from_dict({**settings, **early, "device": "cpu"})
    trained = run_train(str(folder / "data"), str(folder / "early"), recipe)
    captioner = load_captioner(Path(trained.checkpoint), device="cpu", precision="fp32")
    assert captioner.config.encoder == {"name": "resnet18", "grid": 3, "options": {"stages": 3}}
    (caption,) = captioner.caption([captioner.prepare(photograph("cat"))])
    assert caption.attention.shape[1:] == (3, 3)
    assert captioner.encoder.channels == 256
    # What is asked for goes before what there is to begin with.
    longer = Recipe.from_dict({**recipe.to_dict(), "encoder_stages": 2})
    config = _config(longer, 64, captioner.config)
    assert config.encoder["options"] == {"stages": 2}
    # It has weights of its own then, as any other encoder.
    anew = Recipe.from_dict({**longer.to_dict(), "encoder_weights": "none.pth"})
    with pytest.raises(GpucaptError, match=r"none\.pth: there is no such weights file"):
        run_train(str(folder / "data"), str(folder / "anew"), anew, init_from=trained.checkpoint)


def test_a_model_that_there_is_not_is_named(folder: Path) -> None:
    done = gpucapt(folder, "train", folder / "data", folder / "none", "--init-from=theirs/7")
    assert done.returncode == 1
    assert "theirs/7" in done.stderr
    assert not (folder / "none").exists()
