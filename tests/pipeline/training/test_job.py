"""From captioned pictures to a captioner: the command line as users run it, on a small dataset."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from tests.pipeline.captioned import SUBJECTS, make_dataset

pytest.importorskip("lightning")

pytestmark = pytest.mark.slow

RECIPE = """
name: mini
encoder: shufflenet_v2_x0_5
encoder_weights: null
embedding_size: 16
hidden_size: 64
attention: dot
attention_size: 16
feature_size: 32
dropout: 0.1
epochs: 4
finetune_epochs: 1
self_critical_epochs: 2
self_critical_learning_rate: 0.002
feature_views: 3
batch_size: 6
learning_rate: 0.01
label_smoothing: 0.0
warmup: 0.02
average_decay: 0.8
max_length: 12
precision: fp32
"""


def gpucapt(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", *map(str, arguments)]
    return subprocess.run(command, text=True, capture_output=True, check=False, **options)  # type: ignore[call-overload,no-any-return]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("road")
    dataset, pictures = make_dataset(folder)
    done = gpucapt("preprocess", dataset, pictures, folder / "data", "--min-word-freq", 1, "--image-size", 64)
    assert done.returncode == 0, done.stderr
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


def train(data: Path, out: Path, *options: object) -> subprocess.CompletedProcess[str]:
    return gpucapt("train", data / "data", out, "--recipe", data / "recipe.yaml", *options)


@pytest.fixture(scope="module")
def trained(data: Path) -> Path:
    done = train(data, data / "run")
    assert done.returncode == 0, done.stderr
    return data / "run"


def test_training_ends_with_a_checkpoint_that_says_how_it_was_made(trained: Path) -> None:
    config = json.loads((trained / "checkpoint" / "config.json").read_text())
    assert config["name"] == "mini"
    assert config["training"]["recipe"]["epochs"] == 4
    assert config["training"]["dataset"] == "mini_5_cap_per_img_1_min_word_freq"
    assert config["training"]["val_cider"] >= 0


def metrics(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_log_has_loss_perplexity_top_five_times_and_decoded_cider(trained: Path) -> None:
    rows = metrics(trained)
    assert [row["stage"] for row in rows] == ["decoder"] * 4 + ["finetune"] + ["self_critical"] * 2
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4", "1", "1", "2"]
    losses = [float(row["train_loss"]) for row in rows[:5]]
    assert losses[3] < losses[0]
    for row in rows[:5]:
        assert float(row["train_perplexity"]) == pytest.approx(math.exp(float(row["train_loss"])), rel=1e-4)
        assert 0 <= float(row["train_top5"]) <= 1
    assert all(float(row["train_reward"]) > 0 for row in rows[5:])
    for row in rows:
        assert 0 <= float(row["data_s"]) < float(row["batch_s"])
        assert float(row["val_cider"]) >= 0 and float(row["val_loss"]) > 0 and float(row["learning_rate"]) > 0


def test_there_are_pictures_of_the_curves_and_of_captions_of_each_epoch(trained: Path) -> None:
    with Image.open(trained / "curves.png") as curves:
        assert curves.width > 4 * 300 and curves.height > 200  # loss, accuracy, CIDEr, reward
    sheets = sorted(path.name for path in (trained / "samples").iterdir())
    assert sheets == [
        *(f"decoder-{epoch:03d}.png" for epoch in range(1, 5)),
        *("finetune-001.png", "self_critical-001.png", "self_critical-002.png"),
    ]
    assert list((trained / ".training" / "decoder").glob("tensorboard/**/events*"))


def test_evaluation_scores_real_captions(data: Path, trained: Path) -> None:
    out = data / "evaluation"
    done = gpucapt("evaluate", trained / "checkpoint", data / "data", "--beam-size", 2, "--out", out)
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout)
    assert set(scores) >= {"BLEU-1", "BLEU-4", "ROUGE-L", "CIDEr"}
    assert json.loads((out / "scores.json").read_text())["scores"] == scores
    rows = [json.loads(line) for line in (out / "captions.jsonl").read_text().splitlines()]
    assert [row["image"] for row in rows] == [f"{subject} 4.jpg" for subject in SUBJECTS]
    assert all(row["caption"] for row in rows)


def test_a_second_run_into_the_same_folder_is_refused(data: Path, trained: Path) -> None:
    done = train(data, trained)
    assert done.returncode == 1
    assert "--resume" in done.stderr


def test_resuming_a_finished_run_trains_nothing_more_and_tells_the_same(data: Path, trained: Path) -> None:
    before = (trained / "checkpoint" / "model.safetensors").read_bytes()
    done = train(data, trained, "--resume")
    assert done.returncode == 0, done.stderr
    assert (trained / "checkpoint" / "model.safetensors").read_bytes() == before
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["checkpoint"] == str(trained / "checkpoint")
    best = max(float(row["val_cider"]) for row in metrics(trained))
    assert told["val_cider"] == pytest.approx(best, abs=1e-3)


TIMES = {"seconds", "batch_s", "data_s"}


def without_times(run: Path) -> list[dict[str, str]]:
    return [{name: value for name, value in row.items() if name not in TIMES} for row in metrics(run)]


def started(data: Path, out: Path, *options: object) -> subprocess.Popen[str]:
    arguments = ["train", data / "data", out, "--recipe", data / "recipe.yaml", *options]
    command = [sys.executable, "-m", "pipeline", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert path.exists()


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_nothing_had_been(data: Path, trained: Path) -> None:
    out = data / "killed"
    process = started(data, out)
    wait_for(out / ".training" / "decoder" / "last.ckpt", process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    done = train(data, out, "--resume")
    assert done.returncode == 0, done.stderr
    assert "epoch 1/4" not in done.stderr, "it began again instead of going on"
    assert without_times(out) == without_times(trained)
    assert (out / "checkpoint" / "model.safetensors").is_file()


@pytest.mark.slow
def test_ctrl_c_saves_and_stops(data: Path) -> None:
    out = data / "stopped"
    process = started(data, out, "--epochs", 100_000, "--patience", 100_000)
    wait_for(out / ".training" / "decoder" / "last.ckpt", process)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGINT, stderr
    assert stdout == ""
    last = stderr.splitlines()[-1]
    assert "SIGINT" in last and "--resume" in last
    assert (out / "checkpoint" / "model.safetensors").is_file(), "the best network so far"
    before = len(metrics(out))
    again = train(data, out, "--resume", "--epochs", before + 1, "--patience", 100_000)
    assert again.returncode == 0, again.stderr
    assert len([row for row in metrics(out) if row["stage"] == "decoder"]) == before + 1


def test_what_cannot_be_read_as_a_recipe_is_one_line(data: Path, tmp_path: Path) -> None:
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("encoder: für".encode("latin-1"))
    for recipe, reason in ((tmp_path, "cannot be read as a recipe"), (latin, "no text in UTF-8")):
        done = train(data, tmp_path / "run", "--recipe", recipe)
        assert done.returncode == 1
        assert reason in done.stderr.splitlines()[-1]
        assert "internal error" not in done.stderr


@pytest.mark.parametrize(
    ("recipe", "reason"),
    [
        ("epochz: 3", "epochz"),
        ("epochs: many", "epochs must be int"),
        ("batch_size: 0", "batch_size must be at least 1"),
        ("- 1", "not a recipe"),
        ("1: 2", "The recipe has no 1"),
        ("a: [", "not valid YAML"),
        ("encoder: vgg99", "no encoder 'vgg99'"),
        ("rate_schedule: stairs", "rate_schedule cannot be 'stairs'"),
        ("self_critical_samples: 1", "self_critical_samples must be at least 2"),
        ("epochs: 0\nfinetune_epochs: 0", "trains nothing"),
        ("encoder_weights: nowhere.pth", "no such weights file"),
    ],
)
def test_a_wrong_recipe_is_one_line(data: Path, tmp_path: Path, recipe: str, reason: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe)
    done = gpucapt("train", data / "data", tmp_path / "run", "--recipe", path)
    assert done.returncode == 1
    assert reason in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_a_folder_that_is_no_dataset_says_what_to_do(tmp_path: Path) -> None:
    done = gpucapt("train", tmp_path, tmp_path / "run")
    assert done.returncode == 1
    assert "gpucapt preprocess" in done.stderr


def test_the_number_of_bad_pictures_that_is_borne_can_be_set(data: Path, tmp_path: Path) -> None:
    done = gpucapt("preprocess", data / "dataset.json", tmp_path, tmp_path / "out", "--max-bad", 3)
    assert done.returncode == 1
    assert "More than 3 pictures cannot be used" in done.stderr


def test_a_package_that_is_not_installed_is_named_with_its_extra(data: Path, tmp_path: Path) -> None:
    hide = "import sys; sys.modules['lightning'] = None; from pipeline.cli.main import main; main()"
    arguments = ["train", str(data / "data"), str(tmp_path / "run"), "--recipe", str(data / "recipe.yaml")]
    done = subprocess.run(
        [sys.executable, "-c", hide, *arguments], text=True, capture_output=True, check=False
    )
    assert done.returncode == 1
    assert "gpucapt[train]" in done.stderr
