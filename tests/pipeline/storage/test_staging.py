"""Every command that takes a path takes s3://bucket/prefix: the real command line, a real object store."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from model.errors import GpucaptError
from pipeline.models.checkpoint_cache import checkpoint_folder
from pipeline.storage.base import Storage
from pipeline.storage.open import open_storage
from tests.pipeline.captioned import make_dataset
from tests.pipeline.jobs import caption_command, command, environment, run, start, write_stills
from tests.pipeline.training.test_job import RECIPE
from tests.services.s3 import S3Server


def put_folder(folder: Path, url: str) -> None:
    """Copy a folder into the object store."""
    storage = open_storage(url)
    for path in folder.rglob("*"):
        if path.is_file():
            storage.upload(path, path.relative_to(folder).as_posix())


def keys(storage: Storage) -> list[str]:
    return [entry.key for entry in storage.list()]


def rows_of(storage: Storage, source: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in storage.read(f"{source}/captions.jsonl").splitlines()]


def succeed(line: list[str], **more: str) -> subprocess.CompletedProcess[str]:
    done = run(line, **more)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where fetched models are kept. The command's own tests hide our settings, so HOME's place is moved."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("far", ["both", "source", "destination"])
def test_caption_from_and_to_an_object_store(bucket: str, tmp_path: Path, tiny_model: Path, far: str) -> None:
    stills = write_stills(tmp_path / "in" / "album", 5)
    source, destination = str(tmp_path / "in"), str(tmp_path / "out")
    if far != "destination":
        source = f"s3://{bucket}/in"
        put_folder(stills, f"{source}/album")
    if far != "source":
        destination = f"s3://{bucket}/out"
    line = caption_command(source, destination, tiny_model)  # type: ignore[arg-type]
    succeed(line)
    out = open_storage(destination)
    assert [row["frame"] for row in rows_of(out, "album")] == [f"{n:03}.png" for n in range(5)]
    manifest = json.loads(out.read("album/manifest.json"))
    assert {file["name"] for file in manifest["files"]} >= {"captions.csv", "report.html"}
    assert "1 already done; nothing new" in succeed(line).stdout
    assert [key for key in keys(out) if key.startswith((".gpucapt/parts/", ".gpucapt/claims/"))] == []


def test_the_model_is_fetched_once_and_kept(
    bucket: str, tmp_path: Path, tiny_model: Path, cache: Path
) -> None:
    put_folder(tiny_model, f"s3://{bucket}/models/tiny")
    write_stills(tmp_path / "in" / "album", 2)
    model = f"s3://{bucket}/models/tiny"
    line = caption_command(tmp_path / "in", tmp_path / "out", model)  # type: ignore[arg-type]
    assert f"fetching the model {model}" in succeed(line).stderr
    (kept,) = (cache / "gpucapt" / "models").iterdir()
    assert "fetching" not in succeed([*line, "--overwrite"]).stderr
    open_storage(model).write("vocabulary.json", (tiny_model / "vocabulary.json").read_bytes() + b"\n")
    assert "fetching" in succeed([*line, "--overwrite"]).stderr
    assert kept.is_dir()


def test_the_same_model_under_another_name_is_kept_under_that(
    bucket: str, tiny_model: Path, cache: Path
) -> None:
    for name in ("tiny", "small"):
        put_folder(tiny_model, f"s3://{bucket}/models/{name}")
        folder = checkpoint_folder(f"s3://{bucket}/models/{name}")
        assert (folder.name, (folder / "config.json").is_file()) == (name, True)


def test_a_model_that_cannot_be_kept_is_told_with_the_reason(
    bucket: str, tiny_model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, target: Path) -> Path:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    put_folder(tiny_model, f"s3://{bucket}/tiny")
    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(GpucaptError, match=r"tiny cannot be kept in .*Input/output error.*GPUCAPT_CACHE"):
        checkpoint_folder(f"s3://{bucket}/tiny")
    assert list((cache / "gpucapt/models").iterdir()) == []


@pytest.mark.parametrize(
    ("present", "reason"),
    [([], "there is no model s3://"), (["config.json", "vocabulary.json"], "it lacks model.safetensors")],
)
def test_models_that_are_none(
    bucket: str, tmp_path: Path, tiny_model: Path, cache: Path, present: list[str], reason: str
) -> None:
    for name in present:
        open_storage(f"s3://{bucket}/tiny").upload(tiny_model / name, name)
    write_stills(tmp_path / "in", 1)
    line = caption_command(tmp_path / "in", tmp_path / "out", f"s3://{bucket}/tiny")  # type: ignore[arg-type]
    done = run(line)
    assert done.returncode == 1
    assert reason in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_story_from_and_to_an_object_store(bucket: str, tmp_path: Path, tiny_model: Path) -> None:
    write_stills(tmp_path / "in" / "album", 3)
    succeed(caption_command(tmp_path / "in", f"s3://{bucket}/out", tiny_model))  # type: ignore[arg-type]
    captions = f"s3://{bucket}/out/album/captions.json"
    story = f"s3://{bucket}/stories/album.json"
    told = succeed(command("story", "NEW", "--from", captions, "--out", story))
    assert json.loads(open_storage(f"s3://{bucket}/stories").read("album.json"))["turns"]
    assert told.stdout.strip()
    same = run(command("story", "NEW", "--from", captions, "--out", captions))
    assert (same.returncode, "would replace" in same.stderr) == (2, True)
    gone = run(command("story", "NEW", "--from", f"s3://{bucket}/none.json", "--out", story))
    assert gone.returncode == 1
    assert f"s3://{bucket}/none.json: there is no such object" in gone.stderr


def test_a_file_that_is_no_captions_json_goes_by_its_own_name(bucket: str) -> None:
    open_storage(f"s3://{bucket}").write("x.json", b"{}")
    done = run(command("story", "NEW", "--from", f"s3://{bucket}/x.json", "--out", f"s3://{bucket}/y.json"))
    assert f"s3://{bucket}/x.json is not a captions.json" in done.stderr
    assert open_storage(f"s3://{bucket}").stat("y.json") is None


@pytest.mark.slow
def test_from_a_dataset_to_scores_in_an_object_store(bucket: str, tmp_path: Path, cache: Path) -> None:
    pytest.importorskip("lightning")
    dataset, pictures = make_dataset(tmp_path)
    store = open_storage(f"s3://{bucket}")
    put_folder(pictures, f"s3://{bucket}/pictures")
    store.upload(dataset, "dataset.json")
    store.write("recipe.yaml", RECIPE.encode())
    root = f"s3://{bucket}"
    more = ["--min-word-freq", "1", "--image-size", "64"]
    succeed(command("preprocess", f"{root}/dataset.json", f"{root}/pictures", f"{root}/data", *more))
    manifest = json.loads(store.read("data/dataset.json"))
    assert manifest["pictures"] == {"train": 18, "val": 6, "test": 6}
    train = command("train", f"{root}/data", f"{root}/run", "--recipe", f"{root}/recipe.yaml")
    trained = succeed([*train, "--epochs", "2", "--finetune-epochs", "0"])
    assert f"{root}/run/checkpoint: the best network" in trained.stderr
    assert "TEST_IMAGES" not in trained.stderr
    again = run(train)
    assert again.returncode == 1
    assert f"{root}/run holds a training run already: --resume goes on with it" in again.stderr
    resumed = succeed([*train, "--epochs", "3", "--finetune-epochs", "0", "--resume"])
    assert "epoch 1/3" not in resumed.stderr and "epoch 2/3" not in resumed.stderr
    scored = succeed(command("evaluate", f"{root}/run/checkpoint", f"{root}/data", "--out", f"{root}/scores"))
    assert json.loads(store.read("scores/scores.json"))["scores"] == json.loads(scored.stdout)
    assert len(store.read("scores/captions.jsonl").splitlines()) == 6
    succeed(command("evaluate", f"{root}/run/checkpoint", f"{root}/data", "--out", f"{root}/data"))
    assert len(store.read("data/captions.jsonl").splitlines()) == 6, "beside what was read"
    parts = [part for key in keys(store) for part in key.split("/")]
    hidden = {part for part in parts if part.startswith(".") or part.endswith(".part")}
    assert hidden == {".training"}


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_training_that_is_told_to_stop_is_resumed_elsewhere(
    bucket: str, tmp_path: Path, processes: int
) -> None:
    pytest.importorskip("lightning")
    dataset, pictures = make_dataset(tmp_path)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    more = ["--min-word-freq", "1", "--image-size", "64"]
    succeed(command("preprocess", dataset, pictures, tmp_path / "data", *more))
    out = f"s3://{bucket}/run"
    train = command("train", tmp_path / "data", out, "--recipe", tmp_path / "recipe.yaml")
    process = start([*train, "--epochs", "200", "--patience", "200", "--processes", str(processes)])
    assert process.stderr is not None
    for line in process.stderr:
        if "epoch 2/200" in line:
            break
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert (process.returncode, told.splitlines()[-1]) == (
        128 + signal.SIGTERM,
        "gpucapt: stopped by SIGTERM; its state is kept, --resume goes on from there",
    )
    assert open_storage(out).stat(".training/decoder/last.ckpt") is not None
    done = succeed([*train, "--epochs", "4", "--finetune-epochs", "0", "--resume"])
    assert "epoch 1/4" not in done.stderr
    assert open_storage(out).stat("checkpoint/model.safetensors") is not None


def test_an_upload_is_taken_back_when_the_process_is_told_to_stop(
    s3_server: S3Server, bucket: str, tmp_path: Path
) -> None:
    """Ctrl-C in the middle of a large upload leaves neither the object nor parts that cost money."""
    large = tmp_path / "large.bin"
    with large.open("wb") as file:
        file.truncate(600 << 20)
    code = (
        "import signal, sys; from pathlib import Path; from pipeline.storage.open import open_storage;"
        # What a shell starts in the background is told to ignore it.
        "signal.signal(signal.SIGINT, signal.default_int_handler);"
        "open_storage(sys.argv[1]).upload(Path(sys.argv[2]), 'large.bin')"
    )
    line = [command()[0], "-c", code, f"s3://{bucket}", str(large)]
    process = subprocess.Popen(line, env=environment(), stderr=subprocess.DEVNULL)
    client = s3_server.client
    until = time.monotonic() + 60
    while time.monotonic() < until:
        begun = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
        if begun and client.list_parts(Bucket=bucket, Key="large.bin", UploadId=begun[0]["UploadId"]).get(
            "Parts"
        ):
            break
        time.sleep(0.02)
    else:
        pytest.fail("no upload began")
    os.kill(process.pid, signal.SIGINT)
    process.wait(timeout=60)
    assert process.returncode != 0
    assert client.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []
    assert keys(open_storage(f"s3://{bucket}")) == []


@pytest.mark.parametrize("far", [True, False], ids=["object store", "folder"])
def test_a_dataset_below_a_prefix_with_an_equals_sign(bucket: str, tmp_path: Path, far: bool) -> None:
    dataset, pictures = make_dataset(tmp_path / "date=2026-01-01", per_subject=3, size=64)
    root = f"{tmp_path}/date=2026-01-01"
    if far:
        root = f"s3://{bucket}/date=2026-01-01"
        put_folder(pictures, f"{root}/pictures")
        open_storage(root).upload(dataset, "dataset.json")
    more = ["--min-word-freq", "1", "--image-size", "64"]
    line = command("preprocess", f"{root}/dataset.json", f"{root}/pictures", f"{root}/data", *more)
    succeed(line)
    there = open_storage(f"{root}/data")
    assert json.loads(there.read("dataset.json"))["pictures"] == {"train": 6, "val": 6, "test": 6}
    assert json.loads(succeed(line).stdout)["changed"] is False


@pytest.mark.slow
def test_processes_train_together_below_a_prefix_with_an_equals_sign(bucket: str, tmp_path: Path) -> None:
    """What the first process has fetched is there for those that it starts; they fetch nothing themselves."""
    pytest.importorskip("lightning")
    dataset, pictures = make_dataset(tmp_path)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    root = f"s3://{bucket}/date=2026-01-01"
    more = ["--min-word-freq", "1", "--image-size", "64"]
    succeed(command("preprocess", dataset, pictures, f"{root}/data", *more))
    train = command("train", f"{root}/data", f"{root}/run", "--recipe", tmp_path / "recipe.yaml")
    stages = ["--epochs", "1", "--finetune-epochs", "0", "--self-critical-epochs", "0"]
    done = succeed([*train, *stages, "--processes", "2"])
    assert "training in 2 processes" in done.stderr
    assert done.stderr.count(f"from {root}/data") == 1
    assert open_storage(f"{root}/run").stat("checkpoint/model.safetensors") is not None
    (log,) = (key for key in keys(open_storage(f"{root}/run")) if key.endswith("1/stderr.log"))
    assert b"fetching" not in open_storage(f"{root}/run").read(log)
