"""The DAG's wiring, under Airflow itself: which tasks run after what, and with which command lines.

gpucapt is a stand-in here, so that it can be made to fail; test_end_to_end.py runs the real one.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.dags.conftest import Airflow, DagRun

CONF = {"incoming": "/in", "destination": "/out"}
Plan = dict[str, object]


@pytest.fixture
def calls(tmp_path: Path) -> Callable[[], list[list[str]]]:
    """The command lines that the run has given to gpucapt."""

    def read() -> list[list[str]]:
        lines = (tmp_path / "plan.json.calls").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    return read


@pytest.fixture
def run(airflow: Airflow, tmp_path: Path) -> Callable[..., DagRun]:
    """Run the DAG with a stand-in that follows a plan."""

    def run(plan: Plan, conf: dict[str, object] | None = None, env: dict[str, str] | None = None) -> DagRun:
        path = tmp_path / "plan.json"
        path.write_text(json.dumps(plan), encoding="utf-8")
        command = shlex.join([sys.executable, str(Path(__file__).with_name("stand_in.py")), str(path)])
        return airflow.run({**CONF, **(conf or {})}, env={"GPUCAPT_COMMAND": command, **(env or {})})

    return run


def test_each_shard_is_one_task_and_finish_gets_the_plans_run(
    run: Callable[..., DagRun], calls: Callable[[], list[list[str]]], tmp_path: Path
) -> None:
    found = run({"shards": ["/out/.gpucapt/a b.json", "s3://out/{{ ds }}.json"]})
    assert found.state == "success", found.log
    assert found.tasks == {
        "plan": "success",
        "shards": "success",
        "caption[0]": "success",
        "caption[1]": "success",
        "captioned": "success",
        "finish": "success",
        "outcome": "skipped",
    }
    plan, *shards, finish = calls()
    assert plan[:2] == ["ingest", "plan"]
    assert sorted(shards) == [
        ["ingest", "shard", "--", "/out/.gpucapt/a b.json"],
        ["ingest", "shard", "--", "s3://out/{{ ds }}.json"],
    ]
    assert finish == ["ingest", "finish", "--", str(tmp_path / "plan.json")]
    assert "this goes to the log" in found.log
    assert "looking around" in found.log


def test_nothing_to_do_is_a_success_that_still_finishes(
    run: Callable[..., DagRun], calls: Callable[[], list[list[str]]]
) -> None:
    found = run({"shards": []})
    assert found.state == "success", found.log
    assert found.tasks["caption"] == "skipped"
    assert found.tasks["finish"] == "success"
    assert [call[1] for call in calls()] == ["plan", "finish"]


def test_a_shard_that_failed_does_not_hold_up_the_others_but_fails_the_run(
    run: Callable[..., DagRun], calls: Callable[[], list[list[str]]]
) -> None:
    found = run({"shards": ["/1", "/broken", "/3"], "fail": {"/broken": 1}})
    assert found.state == "failed"
    assert [found.tasks[f"caption[{index}]"] for index in range(3)] == ["success", "failed", "success"]
    assert found.tasks["finish"] == "success"
    assert [call[1] for call in calls()] == ["plan", "shard", "shard", "shard", "finish"]
    assert "gpucapt ingest shard ended with exit code 1: gpucapt: /broken cannot be done" in found.log


def test_a_plan_that_failed_ends_the_run_there(
    run: Callable[..., DagRun], calls: Callable[[], list[list[str]]]
) -> None:
    found = run({"shards": ["/1"], "fail": {"plan": 1}})
    assert found.state == "failed"
    assert found.tasks["plan"] == "failed"
    assert found.tasks["finish"] == "upstream_failed"
    assert [call[1] for call in calls()] == ["plan"]


def test_a_finish_that_failed_fails_the_run(run: Callable[..., DagRun]) -> None:
    found = run({"shards": ["/1"], "fail": {"finish": 1}})
    assert found.state == "failed"
    assert found.tasks["finish"] == "failed"


def test_a_plan_that_cannot_be_read_says_so(run: Callable[..., DagRun]) -> None:
    found = run({"shards": [], "says": '{"shards": "none"}'})
    assert found.state == "failed"
    assert found.tasks["shards"] == "failed"
    assert "the last line of `gpucapt ingest plan` is not JSON with run, shards" in found.log


def test_only_failures_that_may_pass_are_tried_again(
    run: Callable[..., DagRun], calls: Callable[[], list[list[str]]]
) -> None:
    """Exit code 2 is wrong usage, which no retry mends."""
    env = {"GPUCAPT_RETRIES": "1", "GPUCAPT_RETRY_DELAY": "0.1"}
    run({"shards": [], "fail": {"plan": 2}}, env=env)
    assert len(calls()) == 1
    run({"shards": [], "fail": {"plan": 1}}, env=env)
    assert len(calls()) == 1 + 2


def test_parameters_become_options_whatever_they_contain(
    run: Callable[..., DagRun], calls: Callable[[], list[list[str]]]
) -> None:
    odd = "/in; touch /tmp/x $(id) `id` 'a' \"b\" {{ 7 * 7 }} --debug\n<script>🎬"
    conf = {"incoming": odd, "destination": "/out", "every": 0.5, "max_frames": 10, "beam_size": 1}
    patterns = {"exclude": ["$(id), `id`/", "", "--debug"], "include": ["@eaDir"]}
    found = run({"shards": []}, {**conf, **patterns, "model": "--a model", "story": "none"})
    assert found.state == "success", found.log
    assert calls()[0] == [
        "ingest",
        "plan",
        "--every=0.5",
        "--max-frames=10",
        "--beam-size=1",
        "--model=--a model",
        "--story=none",
        "--exclude=$(id), `id`/",
        "--exclude=--debug",
        "--include=@eaDir",
        "--wait",
        "--most-shards=1024",
        "--",
        odd,
        "/out",
    ]


def test_the_environment_fills_the_form(
    run: Callable[..., DagRun], calls: Callable[[], list[list[str]]]
) -> None:
    env = {"GPUCAPT_EVERY": "2.5", "GPUCAPT_BEAM_SIZE": "3", "GPUCAPT_MODEL": "/models/a"}
    run({"shards": []}, env=env)
    assert calls()[0][2:6] == ["--every=2.5", "--beam-size=3", "--model=/models/a", "--story=outline"]


def test_patterns_of_the_environment_fill_a_line_each(
    run: Callable[..., DagRun], calls: Callable[[], list[list[str]]]
) -> None:
    run({"shards": []}, env={"GPUCAPT_EXCLUDE": "System Volume Information/, drafts/,"})
    assert calls()[0][4:7] == ["--story=outline", "--exclude=System Volume Information/", "--exclude=drafts/"]
    run({"shards": []}, {"exclude": None}, env={"GPUCAPT_EXCLUDE": "drafts/"})
    assert not [option for option in calls()[2] if option.startswith("--exclude")]


def test_there_are_never_more_shards_than_this_airflow_maps(
    run: Callable[..., DagRun], calls: Callable[[], list[list[str]]]
) -> None:
    run({"shards": []}, env={"AIRFLOW__CORE__MAX_MAP_LENGTH": "100"})
    assert "--most-shards=100" in calls()[0]


def test_frames_by_rate_or_scene_are_not_mixed_with_a_time(
    run: Callable[..., DagRun], calls: Callable[[], list[list[str]]]
) -> None:
    run({"shards": []}, env={"GPUCAPT_SCENES": "1"})
    assert not [option for option in calls()[0] if option.startswith("--every")]
