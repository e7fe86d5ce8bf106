"""The DAG that makes datasets, under Airflow itself: what it runs, and whom it tells of what.

gpucapt is a stand-in here; test_training_dags.py runs the real one.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import pytest

from tests.dags.conftest import Airflow
from tests.dags.script import Scripted

CONF = {"dataset": "s3://pictures/a b.json", "images": "/pictures", "data": "/data"}
FOLDERS = {"GPUCAPT_DATASET": "/d.json", "GPUCAPT_IMAGES": "/pictures", "GPUCAPT_DATA": "/data"}


def made(fingerprint: str, changed: bool = True) -> dict[str, Any]:
    """What `gpucapt preprocess` prints last."""
    answer = {"dataset": "/data", "fingerprint": fingerprint, "pictures": {"train": 9}, "changed": changed}
    return {"preprocess": answer}


@pytest.fixture
def dag(airflow: Airflow, tmp_path: Path) -> Scripted:
    return Scripted(airflow, "preprocess_hdf5", CONF, tmp_path / "script.json")


@pytest.fixture
def fingerprint() -> str:
    """One that no other test has announced."""
    return secrets.token_hex(8)


def test_a_new_dataset_is_made_and_announced(dag: Scripted, fingerprint: str) -> None:
    found = dag.run(made(fingerprint))
    assert found.state == "success", found.log
    assert found.tasks == {"unused": "success", "preprocess": "success", "announce": "success"}
    assert dag.calls() == [
        [
            "preprocess",
            "--min-word-freq=5",
            "--captions-per-image=5",
            "--image-size=256",
            "--max-bad=100",
            "--",
            "s3://pictures/a b.json",
            "/pictures",
            "/data",
        ]
    ]
    assert found.events == {"gpucapt_dataset": made(fingerprint)["preprocess"]}
    assert found.returned["announce"] == f"new dataset {fingerprint} at /data"


def test_the_same_dataset_is_announced_once(dag: Scripted, fingerprint: str) -> None:
    dag.run(made(fingerprint))
    again = dag.run(made(fingerprint, changed=False))
    assert again.state == "success", again.log
    assert again.tasks["announce"] == "skipped"
    assert again.events == {}
    assert f"nothing new: the dataset is {fingerprint} as before" in again.log


def test_a_dataset_that_changed_unannounced_is_announced_by_the_next_run(
    dag: Scripted, fingerprint: str
) -> None:
    """As after a run that died between its two tasks: gpucapt finds nothing to do, but nobody knows yet."""
    found = dag.run(made(fingerprint, changed=False))
    assert found.events == {"gpucapt_dataset": made(fingerprint, changed=False)["preprocess"]}


def test_only_the_dataset_that_others_wait_for_is_announced(dag: Scripted, fingerprint: str) -> None:
    found = dag.run(made(fingerprint), {"data": "/tried"}, env=FOLDERS)
    assert found.state == "success", found.log
    assert found.tasks["announce"] == "skipped"
    assert "/tried is not GPUCAPT_DATA" in found.log
    assert dag.run(made(fingerprint), env=FOLDERS).tasks["announce"] == "success"


def test_a_dataset_that_cannot_be_made_fails_the_run(dag: Scripted, fingerprint: str) -> None:
    found = dag.run({}, fail={"preprocess": 1})
    assert found.state == "failed"
    assert found.tasks["announce"] == "upstream_failed"
    assert found.events == {}


def test_what_cannot_be_read_says_so(dag: Scripted) -> None:
    found = dag.run({"preprocess": "wrote 9 pictures"})
    assert found.tasks["announce"] == "failed"
    assert "the last line of `gpucapt preprocess` is not JSON with dataset, fingerprint" in found.log


def test_the_environment_fills_the_form(dag: Scripted, fingerprint: str) -> None:
    dag.run(made(fingerprint), env={"GPUCAPT_MIN_WORD_FREQ": "2", "GPUCAPT_IMAGE_SIZE": "64"})
    assert dag.calls()[-1][1:4] == ["--min-word-freq=2", "--captions-per-image=5", "--image-size=64"]


def test_it_runs_by_the_clock_and_by_event_where_folders_are_set(airflow: Airflow) -> None:
    def timetable(**settings: str) -> dict[str, Any]:
        found = airflow.parse(**settings)
        assert found["errors"] == []
        timetable: dict[str, Any] = found["dags"]["preprocess_hdf5"]["timetable"]
        return timetable

    assert "Null" in timetable()["__type"]
    assert timetable(**FOLDERS)["__var"]["expression"] == "0 0 * * *"
    assert "Null" in timetable(**FOLDERS, GPUCAPT_PREPROCESS_SCHEDULE="none")["__type"]
    queue = {"GPUCAPT_DATASET_QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/123456789012/captions"}
    both = timetable(**FOLDERS, **queue)
    assert both["__type"].endswith(".AssetOrTimeSchedule")
    [asset] = both["__var"]["asset_condition"]["objects"]
    assert asset["watchers"][0]["trigger"]["kwargs"]["sqs_queue"] == queue["GPUCAPT_DATASET_QUEUE_URL"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({**FOLDERS, "GPUCAPT_PREPROCESS_SCHEDULE": "often"}, "GPUCAPT_PREPROCESS_SCHEDULE is 'often'"),
        ({"GPUCAPT_DATASET_QUEUE_URL": "https://queue"}, "GPUCAPT_DATASET_QUEUE_URL only wakes the DAG"),
        ({**FOLDERS, "GPUCAPT_DATASET_QUEUE_URL": "arn:aws:sqs:1:q"}, "GPUCAPT_DATASET_QUEUE_URL is 'arn"),
        ({"GPUCAPT_IMAGE_SIZE": "large"}, "GPUCAPT_IMAGE_SIZE is 'large'; it must be a number"),
    ],
)
def test_a_wrong_setting_is_named_and_spoils_no_other_dag(
    airflow: Airflow, settings: dict[str, str], said: str
) -> None:
    found = airflow.parse(**settings)
    assert said in "".join(found["errors"])
    assert "preprocess_hdf5" not in found["dags"]
    assert "caption_frames" in found["dags"]
