"""The DAG that makes models, under Airflow itself: what it runs, and what it says of the outcome.

gpucapt is a stand-in here; test_training_dags.py runs the real one.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.dags.conftest import Airflow
from tests.dags.script import Scripted

CONF = {"data": "s3://data/flickr", "trainings": "/trainings/"}
FOLDERS = {"GPUCAPT_DATA": "/data", "GPUCAPT_TRAININGS": "/trainings", "GPUCAPT_MODELS": "/models"}
BETTER = {"promoted": True, "version": "a/2", "champion": "a/2", "why": "CIDEr 0.61 against 0.58"}
WORSE = {"promoted": False, "version": "a/2", "champion": "a/1", "why": "CIDEr 0.58 against 0.61"}


def says(verdict: Any) -> dict[str, Any]:
    """What the commands print last."""
    return {
        "train": {"checkpoint": "/trainings/run/checkpoint", "val_cider": 0.6},
        "evaluate": {"CIDEr": 0.61},
        "promote": verdict,
    }


@pytest.fixture
def dag(airflow: Airflow, tmp_path: Path) -> Scripted:
    return Scripted(
        airflow, "retrain_captioner", CONF, tmp_path / "script.json", {"GPUCAPT_MODELS": "/models"}
    )


def each_step_works_on_what_the_one_before_made(calls: list[list[str]]) -> None:
    """The command lines of a run."""
    train, evaluate, promote = calls
    folder = train[-1]
    assert re.fullmatch(r"/trainings/\d{8}T\d{6}-[0-9a-f]{6}", folder)
    assert train == ["train", "--name=gpucapt", "--resume", "--", "s3://data/flickr", folder]
    assert evaluate == [
        "evaluate",
        "--split=test",
        "--beam-size=5",
        f"--out={folder}/test",
        "--",
        "/trainings/run/checkpoint",
        "s3://data/flickr",
    ]
    assert promote == [
        "promote",
        f"--version={folder.rpartition('/')[2]}",
        "--if-better=s3://data/flickr",
        f"--evaluation={folder}/test",
        "--name=gpucapt",
        "--split=test",
        "--beam-size=5",
        "--metric=CIDEr",
        "--least-gain=0.0",
        "--",
        "/trainings/run/checkpoint",
    ]


def test_a_better_model_is_promoted_and_the_run_says_why(dag: Scripted) -> None:
    found = dag.run(says(BETTER))
    assert found.state == "success", found.log
    assert found.tasks == {
        "due": "success",
        "train": "success",
        "evaluate": "success",
        "judge": "success",
        "promoted": "success",
        "kept": "skipped",
    }
    assert found.returned["promoted"] == BETTER["why"]
    assert found.events == {"gpucapt_champion": BETTER}
    assert BETTER["why"] in found.log
    each_step_works_on_what_the_one_before_made(dag.calls())


def test_a_worse_model_is_no_failure_and_the_run_says_why(dag: Scripted) -> None:
    found = dag.run(says(WORSE))
    assert found.state == "success", found.log
    assert (found.tasks["promoted"], found.tasks["kept"]) == ("skipped", "success")
    assert found.returned["kept"] == WORSE["why"]
    assert found.events == {}
    assert WORSE["why"] in found.log


def test_a_promotion_whose_worker_died_is_still_one(dag: Scripted) -> None:
    """The next try finds the run's own version to be the champion, and promotes nothing."""
    again = {**BETTER, "promoted": False, "why": "a/2 is the champion already"}
    found = dag.run(says(again))
    assert (found.tasks["promoted"], found.tasks["kept"]) == ("success", "skipped")
    assert found.events == {"gpucapt_champion": again}


def test_two_runs_do_not_share_a_folder(dag: Scripted) -> None:
    for _ in range(2):
        dag.run(says(WORSE))
    first, second = (call[-1] for call in dag.calls() if call[0] == "train")
    assert first != second


def test_another_try_goes_on_in_the_same_folder(dag: Scripted) -> None:
    env = {"GPUCAPT_RETRIES": "1", "GPUCAPT_RETRY_DELAY": "0.1"}
    found = dag.run(says(BETTER), fail={"train": 1}, env=env)
    assert found.state == "failed"
    first, second = dag.calls()
    assert first == second
    assert "--resume" in first


def test_fields_of_the_recipe_become_options_whatever_they_contain(dag: Scripted) -> None:
    odd = "a; $(id) {{ 7 * 7 }} 'b' --x"
    options = {"decoder": "transformer", "epochs": 3, "embeddings": odd, "embeddings_trained": False}
    conf = {"recipe": "s3://r/x.yaml", "options": options, "init_from": "gpucapt/1", "name": "night"}
    assert dag.run(says(BETTER), conf).state == "success"
    assert dag.calls()[0][1:-3] == [
        "--recipe=s3://r/x.yaml",
        "--init-from=gpucapt/1",
        "--name=night",
        "--decoder=transformer",
        "--epochs=3",
        f"--embeddings={odd}",
        "--no-embeddings-trained",
        "--resume",
    ]


def test_without_a_registry_nothing_is_trained_in_vain(dag: Scripted) -> None:
    found = dag.run(says(BETTER), env={"GPUCAPT_MODELS": ""})
    assert found.state == "failed"
    assert dag.calls() == []
    assert "GPUCAPT_MODELS is not set" in found.log


@pytest.mark.parametrize("broken", ["train", "evaluate", "promote"])
def test_a_step_that_failed_fails_the_run_and_ends_it(dag: Scripted, broken: str) -> None:
    found = dag.run(says(BETTER), fail={broken: 1})
    assert found.state == "failed"
    assert dag.calls()[-1][0] == broken
    assert found.tasks["promoted"] == found.tasks["kept"] == "upstream_failed"
    assert found.events == {}


def test_a_verdict_that_cannot_be_read_says_so(dag: Scripted) -> None:
    found = dag.run(says("promoted it"))
    assert found.state == "failed"
    assert "the last line of `gpucapt promote` is not JSON with promoted, version, champion, why" in found.log


def test_it_runs_on_new_datasets_and_by_the_clock_where_folders_are_set(airflow: Airflow) -> None:
    def timetable(**settings: str) -> dict[str, Any]:
        found = airflow.parse(**settings)
        assert found["errors"] == []
        timetable: dict[str, Any] = found["dags"]["retrain_captioner"]["timetable"]
        return timetable

    assert "Null" in timetable()["__type"]
    both = timetable(**FOLDERS)
    assert both["__type"].endswith(".AssetOrTimeSchedule")
    assert both["__var"]["timetable"]["__var"]["expression"] == "0 0 * * 0"
    [asset] = both["__var"]["asset_condition"]["objects"]
    assert asset["name"] == "gpucapt_dataset"
    assert timetable(**FOLDERS, GPUCAPT_RETRAIN_SCHEDULE="none")["__type"].endswith(
        ".AssetTriggeredTimetable"
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({**FOLDERS, "GPUCAPT_RETRAIN_SCHEDULE": "often"}, "GPUCAPT_RETRAIN_SCHEDULE is 'often'"),
        ({**FOLDERS, "GPUCAPT_METRIC": "SPICE"}, "'SPICE' is not one of ['CIDEr'"),
        ({"GPUCAPT_LEAST_GAIN": "much"}, "GPUCAPT_LEAST_GAIN is 'much'; it must be a number"),
    ],
)
def test_a_wrong_setting_is_named_and_spoils_no_other_dag(
    airflow: Airflow, settings: dict[str, str], said: str
) -> None:
    found = airflow.parse(**settings)
    assert said in "".join(found["errors"])
    assert "retrain_captioner" not in found["dags"]
    assert "caption_frames" in found["dags"]


def test_training_takes_as_many_slots_of_the_pool_as_gpus(airflow: Airflow) -> None:
    def tasks(**settings: str) -> dict[str, Any]:
        found = airflow.parse(**settings)["dags"]["retrain_captioner"]["tasks"]
        return {task["__var"]["task_id"]: task["__var"] for task in found}

    pooled = tasks(GPUCAPT_GPU_POOL="gpu", GPUCAPT_TRAINING_GPUS="4")
    assert [pooled[name]["pool"] for name in ("train", "evaluate", "judge")] == ["gpu"] * 3
    assert pooled["train"]["pool_slots"] == 4
    assert pooled["evaluate"].get("pool_slots", 1) == 1
    assert "pool" not in pooled["due"] or pooled["due"]["pool"] == "default_pool"
    assert tasks()["train"].get("pool_slots", 1) == 1


def test_the_form_refuses_what_cannot_work(airflow: Airflow) -> None:
    bad: dict[str, dict[str, Any]] = {
        "no folders": {},
        "a name with a slash": {**CONF, "name": "a/b"},
        "a field of no recipe": {**CONF, "options": {"--resume": "x"}},
        "a list for a field": {**CONF, "options": {"epochs": [1]}},
        "another split": {**CONF, "split": "train"},
        "a gain in words": {**CONF, "least_gain": "much"},
    }
    fine = {"only folders": CONF, "emptied": {**CONF, "options": None, "recipe": None, "init_from": ""}}
    found = airflow.refusals({**bad, **fine}, dag="retrain_captioner")
    assert [name for name in bad if found[name] is None] == []
    assert {name: found[name] for name in fine} == dict.fromkeys(fine)
