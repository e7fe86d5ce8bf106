"""What Airflow's DAG processor does over and over: parse the files, without what only the work needs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.dags.conftest import Airflow

WORKERS_ONLY = {
    "aiobotocore",
    "boto3",
    "botocore",
    "cv2",
    "h5py",
    "lightning",
    "matplotlib",
    "model",
    "pipeline",
    "sklearn",
    "torch",
}

WITH_A_QUEUE = {
    "GPUCAPT_INCOMING": "s3://videos/incoming",
    "GPUCAPT_DESTINATION": "s3://videos/captions",
    "GPUCAPT_QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/123456789012/gpucapt",
}


@pytest.mark.parametrize("settings", [{}, WITH_A_QUEUE], ids=["as it comes", "with a queue"])
def test_every_dag_parses_without_what_only_workers_have(airflow: Airflow, settings: dict[str, str]) -> None:
    found = airflow.parse(**settings)
    assert found["errors"] == []
    assert set(found["dags"]) == {"caption_frames", "preprocess_hdf5", "retrain_captioner"}
    assert WORKERS_ONLY & set(found["modules"]) == set()


@pytest.mark.parametrize("runner", ["docker", "kubernetes"])
def test_every_dag_parses_for_every_runner(airflow: Airflow, runner: str) -> None:
    found = airflow.parse(GPUCAPT_RUNNER=runner, GPUCAPT_GPU_POOL="gpu", GPUCAPT_TRAINING_GPUS="8")
    assert found["errors"] == []
    assert set(found["dags"]) == {"caption_frames", "preprocess_hdf5", "retrain_captioner"}


def test_they_are_the_same_each_time(airflow: Airflow) -> None:
    """Otherwise each parse would be a new version of the DAG."""
    first, second = (airflow.parse()["dags"] for _ in range(2))
    assert first == second


def test_without_folders_it_waits_to_be_triggered(airflow: Airflow) -> None:
    dag = airflow.parse()["dags"]["caption_frames"]
    assert "Null" in dag["timetable"]["__type"]
    assert dag["max_active_runs"] == 1


def test_with_folders_it_runs_on_a_schedule(airflow: Airflow) -> None:
    folders = {"GPUCAPT_INCOMING": "/in", "GPUCAPT_DESTINATION": "s3://bucket/out"}
    dag = airflow.parse(**folders, GPUCAPT_SCHEDULE="@hourly")["dags"]["caption_frames"]
    assert dag["timetable"]["__var"]["expression"] == "0 * * * *"
    manual = airflow.parse(**folders, GPUCAPT_SCHEDULE="none")["dags"]["caption_frames"]
    assert "Null" in manual["timetable"]["__type"]


def test_every_field_of_the_form_is_described(airflow: Airflow) -> None:
    for dag in airflow.parse()["dags"].values():
        for name, param in dag["params"]:
            schema = param["schema"]["__var"] if "__var" in param["schema"] else param["schema"]
            assert schema["title"] and schema["description_md"] and schema["type"], name
        assert "GPUCAPT_RETRIES" in dag["doc_md"]


def test_gpu_tasks_share_a_pool_where_one_is_named(airflow: Airflow) -> None:
    def caption(**settings: str) -> dict[str, Any]:
        tasks = airflow.parse(**settings)["dags"]["caption_frames"]["tasks"]
        (found,) = (task["__var"] for task in tasks if task["__var"]["task_id"] == "caption")
        partial: dict[str, Any] = found["partial_kwargs"]
        return partial

    alone = caption()
    assert alone.get("pool", "default_pool") == "default_pool"
    assert alone["max_active_tis_per_dag"] == 1
    pooled = caption(GPUCAPT_GPU_POOL="gpu")
    assert pooled["pool"] == "gpu"
    assert "max_active_tis_per_dag" not in pooled


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"GPUCAPT_RUNNER": "abacus"}, "GPUCAPT_RUNNER is 'abacus'; it must be one of: local"),
        (
            {"GPUCAPT_RUNNER": "docker", "GPUCAPT_GPUS": "0,GPU-8932f937-d72c-4106,b"},
            "ValueError: GPUCAPT_GPUS names 'b', which is no GPU",
        ),
        ({"GPUCAPT_EVERY": "often"}, "GPUCAPT_EVERY is 'often'; it must be a number"),
        (
            {"GPUCAPT_INCOMING": "/in", "GPUCAPT_DESTINATION": "/out", "GPUCAPT_SCHEDULE": "every day"},
            "GPUCAPT_SCHEDULE is 'every day'; it must be a cron expression",
        ),
        (
            {"GPUCAPT_INCOMING": "/in", "GPUCAPT_DESTINATION": "/out", "GPUCAPT_STORY": "epic"},
            "'epic' is not one of ['outline', 'openai', 'none']",
        ),
        ({"GPUCAPT_INCOMING": "in", "GPUCAPT_DESTINATION": "/out"}, "'in' does not match"),
    ],
)
def test_a_wrong_setting_is_named(airflow: Airflow, settings: dict[str, str], said: str) -> None:
    found = airflow.parse(**settings)
    assert "caption_frames" not in found["dags"]
    assert said in "".join(found["errors"])


def test_the_form_refuses_what_cannot_work(airflow: Airflow) -> None:
    good = {"incoming": "/in", "destination": "s3://bucket/out"}
    bad: dict[str, dict[str, Any]] = {
        "no folders": {},
        "an empty folder": {**good, "incoming": ""},
        "a relative folder": {**good, "incoming": "in"},
        "another protocol": {**good, "destination": "http://server/out"},
        "no bucket": {**good, "incoming": "s3:///in"},
        "half a URL": {**good, "incoming": "s3:/videos/in"},
        "an ARN": {**good, "incoming": "arn:aws:s3:::videos"},
        "a template for a bucket": {**good, "destination": "s3://{{ bucket }}/out"},
        "every zero seconds": {**good, "every": 0},
        "every so often": {**good, "every": "often"},
        "half a frame": {**good, "max_frames": 0.5},
        "no beam": {**good, "beam_size": 0},
        "a wide beam": {**good, "beam_size": 5000},
        "a numbered model": {**good, "model": 7},
        "an epic": {**good, "story": "epic"},
        "patterns in one text": {**good, "exclude": "drafts/"},
        "a number for a pattern": {**good, "include": [7]},
    }
    fine: dict[str, dict[str, Any]] = {
        "a language model's story": {**good, "story": "openai"},
        "only folders": good,
        "patterns": {**good, "exclude": ["drafts/", ""], "include": None},
        "a file URL": {**good, "incoming": "file:///in"},
        "a whole bucket": {**good, "incoming": "s3://videos"},
        "a bucket with dots": {**good, "incoming": "s3://videos.example.org/in/"},
        "an odd prefix": {**good, "incoming": "s3://videos/Größe & 50%/🎬"},
        "a model in a bucket": {**good, "model": "s3://models/champion"},
        "everything": {**good, "every": 0.5, "max_frames": 5, "beam_size": 1, "model": "/m", "story": "none"},
        "emptied fields": {**good, "every": None, "max_frames": None, "model": None},
        "an emptied text": {**good, "model": ""},
    }
    found = airflow.refusals({**bad, **fine})
    assert [name for name in bad if found[name] is None] == []
    assert {name: found[name] for name in fine} == dict.fromkeys(fine)
