"""The DAGs with the real gpucapt under a real scheduler, the two that make models on a slice of pictures.

Pictures and captions in, a champion out; then captions that went wrong, and a model that is refused.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.dags.conftest import Airflow
from tests.dags.scheduler import Refused, Server, scheduler
from tests.media import write_photograph, write_video
from tests.model.tiny import make_tiny_checkpoint
from tests.pipeline.captioned import make_dataset
from tests.services.s3 import S3Server

pytest.importorskip("lightning")

RECIPE = """
encoder: shufflenet_v2_x0_5
encoder_weights: null
embedding_size: 16
hidden_size: 64
attention: dot
attention_size: 16
feature_size: 32
dropout: 0.0
epochs: 6
finetune_epochs: 0
batch_size: 6
learning_rate: 0.02
label_smoothing: 0.0
average_decay: 0.5
validation_beam: 1
precision: fp32
"""
"""Enough to learn what the captions are about; the network is random, so not which picture is which."""


@dataclass(frozen=True)
class Runs:
    """The runs of one DAG."""

    server: Server
    dag: str

    def unpause(self) -> None:
        """Let it run: it waits for that at first."""
        self.server.wait_for_dag(self.dag)
        self.server.call(f"/api/v2/dags/{self.dag}", {"is_paused": False}, "PATCH")

    def woken_by(self, what: str) -> str:
        """Wait for a run of this type; its id."""

        def look() -> str | None:
            found = [run["dag_run_id"] for run in self.server.runs(self.dag) if run["run_type"] == what]
            return found[-1] if found else None

        run: str = self.server.wait(look, 120, f"a run of {self.dag} that is {what}")
        return run

    def ended(self, run: str) -> dict[str, str]:
        """Wait until it has ended; the states of the run (under "") and of its tasks."""
        return self.server.wait_for_run(self.dag, run)

    def task(self, run: str, task: str) -> dict[str, Any]:
        """All that is known of a task."""
        path = f"/api/v2/dags/{self.dag}/dagRuns/{run}/taskInstances/{task}"
        found: dict[str, Any] = self.server.call(path)
        return found

    def wait_for_task(self, run: str, task: str, state: str) -> None:
        """Wait until a task is in that state."""

        def look() -> bool | None:
            return self.task(run, task)["state"] == state or None

        self.server.wait(look, 120, f"{task} to be {state}")

    def said(self, run: str, task: str) -> str:
        """What a task returned."""
        path = f"/api/v2/dags/{self.dag}/dagRuns/{run}/taskInstances/{task}/xcomEntries/return_value"
        return str(self.server.call(path)["value"])


def settings(place: str) -> dict[str, str]:
    """The settings of both DAGs for what lies in a folder or under a prefix."""
    return {
        "GPUCAPT_DATASET": f"{place}/dataset.json",
        "GPUCAPT_IMAGES": f"{place}/pictures",
        "GPUCAPT_DATA": f"{place}/data",
        "GPUCAPT_TRAININGS": f"{place}/trainings",
        "GPUCAPT_MODELS": f"{place}/models",
        "GPUCAPT_RECIPE": f"{place}/recipe.yaml",
        "GPUCAPT_NAME": "ours",
        "GPUCAPT_MIN_WORD_FREQ": "1",
        "GPUCAPT_IMAGE_SIZE": "64",
        "GPUCAPT_DEVICE": "cpu",
        "GPUCAPT_BEAM_SIZE": "2",
        "GPUCAPT_RETRIES": "0",
        "GPUCAPT_PREPROCESS_SCHEDULE": "none",
        "GPUCAPT_RETRAIN_SCHEDULE": "@yearly",
        # Without Java there is no METEOR, which would take most of the time.
        "PATH": str(Path(sys.executable).parent),
    }


def delivery(folder: Path) -> Path:
    """Pictures, their captions and a recipe."""
    make_dataset(folder)
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


def champion(content: str | bytes) -> str:
    """The version that captions are made with, as champion.json has it."""
    best = json.loads(content)["champion"]
    return f"{best['name']}/{best['version']}"


def confuse(dataset: Path) -> None:
    """A delivery in which something went wrong: all pictures to learn from have the same odd captions."""
    content = json.loads(dataset.read_text())
    for image in content["images"]:
        if image["split"] != "test":
            image["sentences"] = [{"raw": "xx yy", "tokens": ["xx", "yy"]}] * 5
    dataset.write_text(json.dumps(content))


@dataclass(frozen=True)
class Site:
    """A running Airflow and the folder that its settings name."""

    server: Server
    folder: Path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Scheduler, DAG processor and API server as processes."""
    folder = delivery(tmp_path_factory.mktemp("site"))
    home = tmp_path_factory.mktemp("airflow-server")
    with scheduler(home, paused=True, **settings(str(folder))) as server:
        yield Site(server, folder)


@pytest.mark.slow
def test_captions_are_asked_for_as_the_form_does(site: Site, tmp_path: Path) -> None:
    server, out = site.server, tmp_path / "out"
    write_video(tmp_path / "incoming" / "film.webm", frames_each=10)
    for name in ("cat", "coffee"):
        write_photograph(tmp_path / "incoming" / "trip" / f"{name} & cake.png", name, size=(96, 64))
    for path in (tmp_path / "incoming").rglob("*"):
        os.utime(path, (time.time() - 3600, time.time() - 3600))
    conf = {
        "incoming": str(tmp_path / "incoming"),
        "destination": str(out),
        "model": str(make_tiny_checkpoint(tmp_path / "tiny")),
    }
    captions = Runs(server, "caption_frames")
    captions.unpause()
    details = server.wait_for_dag("caption_frames")
    assert set(details["params"]) >= {"incoming", "destination", "every", "beam_size", "model"}
    with pytest.raises(Refused, match="beam_size") as refused:
        server.trigger("caption_frames", {**conf, "beam_size": 0})
    assert refused.value.code == 400

    states = captions.ended(server.trigger("caption_frames", conf))
    assert states == {
        "": "success",
        "plan": "success",
        "shards": "success",
        "caption": "success",
        "captioned": "success",
        "finish": "success",
        "outcome": "skipped",
    }, server.logs()
    assert (out / "film.webm" / "manifest.json").exists()
    assert len((out / "trip" / "captions.jsonl").read_text().splitlines()) == 2

    again = captions.ended(server.trigger("caption_frames", conf))
    assert (again[""], again["caption"], again["finish"]) == ("success", "skipped", "success")


@pytest.mark.slow
def test_a_champion_is_made_and_a_worse_model_is_refused(site: Site) -> None:
    server, folder = site.server, site.folder
    made, trained = Runs(server, "preprocess_hdf5"), Runs(server, "retrain_captioner")
    made.unpause()
    states = made.ended(server.trigger(made.dag, {}))
    assert states[""] == states["announce"] == "success", server.logs()

    # By the clock, whose last time is past. Without a champion the bundled model is the one to beat.
    trained.unpause()
    first = trained.woken_by("scheduled")
    states = trained.ended(first)
    assert states["promoted"] == "success" and states["kept"] == "skipped", server.logs()
    crown = folder / "models" / "champion.json"
    best, why = champion(crown.read_text()), trained.said(first, "promoted")
    assert best.startswith("ours/") and "the bundled model" in why and "better by" in why
    [event] = server.call("/api/v2/assets/events?source_dag_id=retrain_captioner")["asset_events"]
    assert event["extra"]["champion"] == best and event["extra"]["why"] == why

    # By a new dataset. Whoever wants to make another one has to wait until it is no longer read.
    confuse(folder / "dataset.json")
    states = made.ended(server.trigger(made.dag, {}))
    assert states["announce"] == "success", server.logs()
    second = trained.woken_by("asset_triggered")
    trained.wait_for_task(second, "train", "running")
    third = server.trigger(made.dag, {})
    states = trained.ended(second)
    assert states[""] == states["kept"] == "success", server.logs()
    assert states["promoted"] == "skipped"
    assert f"of {best}" in trained.said(second, "kept") and "worse by" in trained.said(second, "kept")
    assert champion(crown.read_text()) == best

    states = made.ended(third)
    assert states[""] == "success" and states["announce"] == "skipped", server.logs()
    began, judged = made.task(third, "preprocess"), trained.task(second, "judge")
    assert began["start_date"] > judged["end_date"]

    # What was judged is not judged again, unless somebody asks for it by hand.
    server.call(f"/api/v2/dags/{trained.dag}/dagRuns/{first}/clear", {"dry_run": False})
    assert trained.ended(first)["due"] == "skipped", server.logs()


@pytest.mark.slow
def test_the_same_from_bucket_to_bucket(
    airflow: Airflow, s3_server: S3Server, bucket: str, tmp_path: Path
) -> None:
    for path in delivery(tmp_path / "delivery").rglob("*.*"):
        s3_server.client.upload_file(str(path), bucket, f"in/{path.relative_to(tmp_path / 'delivery')}")
    env = {**s3_server.variables(), **settings(f"s3://{bucket}/in")}
    made = airflow.run({}, env=env, dag="preprocess_hdf5")
    assert made.state == made.tasks["announce"] == "success", made.log
    trained = airflow.run({}, env=env, dag="retrain_captioner")
    assert trained.state == trained.tasks["promoted"] == "success", trained.log
    content = s3_server.client.get_object(Bucket=bucket, Key="in/models/champion.json")["Body"].read()
    assert trained.events["gpucapt_champion"]["champion"] == champion(content)
