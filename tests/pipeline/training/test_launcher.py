"""Several processes train one network, as one process with as many times the batch would."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from model.errors import GpucaptError
from pipeline.training.launcher import count
from tests.pipeline.captioned import make_dataset

pytest.importorskip("lightning")

# Nothing is random but the order, which is the same.
RECIPE = """
encoder: shufflenet_v2_x0_5
encoder_weights: null
embedding_size: 16
hidden_size: 32
attention: dot
attention_size: 16
feature_size: 32
dropout: 0.0
epochs: 3
finetune_epochs: 0
feature_views: 1
learning_rate: 0.01
average_decay: 0.8
max_length: 12
precision: fp32
device: cpu
save_every: 2
"""


def gpucapt(*arguments: object, launcher: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *launcher, "-m", "pipeline", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, text=True, capture_output=True, check=False, env=environment)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    dataset, pictures = make_dataset(folder)
    done = gpucapt("preprocess", dataset, pictures, folder / "data", "--min-word-freq", 1, "--image-size", 64)
    assert done.returncode == 0, done.stderr
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


def train(
    data: Path, out: Path, *options: object, launcher: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    arguments = (data / "data", out, "--recipe", data / "recipe.yaml", *options)
    return gpucapt("train", *arguments, launcher=launcher)


def curves(run: Path) -> list[tuple[float, ...]]:
    names = ("train_loss", "val_loss", "val_cider")
    with (run / "metrics.csv").open(newline="") as file:
        return [tuple(float(row[name]) for name in names) for row in csv.DictReader(file)]


@pytest.mark.slow
def test_two_processes_lose_what_one_with_the_doubled_batch_loses(data: Path) -> None:
    one = train(data, data / "one", "--batch-size", 8)
    assert one.returncode == 0, one.stderr
    two = train(data, data / "two", "--batch-size", 4, "--processes", 2)
    assert two.returncode == 0, two.stderr
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    by_torchrun = train(data, data / "torchrun", "--batch-size", 4, launcher=torchrun)
    assert by_torchrun.returncode == 0, by_torchrun.stderr
    alone = curves(data / "one")
    assert len(alone) == 3 and alone[2][0] < alone[0][0]
    for name, done in (("two", two), ("torchrun", by_torchrun)):
        for row, expected in zip(curves(data / name), alone, strict=True):
            assert row == pytest.approx(expected, rel=2e-5)
        [line] = done.stdout.splitlines()
        assert json.loads(line)["checkpoint"] == str(data / name / "checkpoint")
        assert done.stderr.count("epoch 1/3") == 1, "one of them speaks"
        for kept in ("last", "epochs/decoder-002"):
            assert (data / name / kept / "model.safetensors").is_file()


@pytest.mark.slow
def test_what_went_wrong_is_told_once(data: Path, tmp_path: Path) -> None:
    done = train(data, tmp_path / "out", "--processes", 2, "--encoder-weights", "nowhere.pth")
    assert done.returncode == 1
    assert done.stderr.count("no such weights file") == 1
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("processes", ["0", "many", "-1"])
def test_a_number_of_processes_that_is_none_is_said(processes: str) -> None:
    with pytest.raises(GpucaptError, match="--processes must be auto or a number"):
        count(processes, "auto")


def test_a_process_that_is_one_of_several_starts_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    assert count("3", "cpu") == 3
    assert count("auto", "cpu") == 1
    for name, value in {"RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert count("3", "cpu") == 1
