"""What training begins with: `--init-from` takes a model by whatever name it goes by."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.model.tiny import make_tiny_checkpoint
from tests.pipeline.captioned import make_dataset

pytest.importorskip("lightning")

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


def test_a_model_that_there_is_not_is_named(folder: Path) -> None:
    done = gpucapt(folder, "train", folder / "data", folder / "none", "--init-from=theirs/7")
    assert done.returncode == 1
    assert "theirs/7" in done.stderr
    assert not (folder / "none").exists()
