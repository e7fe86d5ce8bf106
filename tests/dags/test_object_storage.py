"""The DAG with the real gpucapt on a real object store, in the end under all of a running Airflow."""

from __future__ import annotations

import json
import re
import shlex
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.dags.conftest import Airflow
from tests.dags.scheduler import scheduler
from tests.media import write_photograph, write_video
from tests.model.tiny import make_tiny_checkpoint
from tests.services.s3 import S3Server
from tests.services.sqs import s3_event, sqs_server


class Bucket:
    """A bucket that a drop folder lies in."""

    def __init__(self, server: S3Server, name: str, checkpoint: Path) -> None:
        self.server, self.name = server, name
        self.conf = {
            "incoming": f"s3://{name}/incoming",
            "destination": f"s3://{name}/captions",
            "model": str(checkpoint),
        }
        self.env = {**server.variables(), "GPUCAPT_DEVICE": "cpu", "GPUCAPT_SETTLE": "0"}

    def put(self, path: Path, key: str) -> None:
        self.server.client.upload_file(str(path), self.name, f"incoming/{key}")

    def keys(self, prefix: str) -> set[str]:
        """The keys under a prefix, without the name of the run where there is one."""
        pages = self.server.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.name, Prefix=f"{prefix}/"
        )
        found = {
            item["Key"].removeprefix(f"{prefix}/") for page in pages for item in page.get("Contents", [])
        }
        return {key.partition("/")[2] for key in found} if prefix in ("archive", "failed") else found

    def read(self, key: str) -> str:
        body = self.server.client.get_object(Bucket=self.name, Key=f"captions/{key}")["Body"]
        return str(body.read().decode())

    def summaries(self) -> list[dict[str, Any]]:
        """The summaries of the runs that did something, the oldest first."""
        found = sorted(key for key in self.keys("captions") if re.fullmatch("runs/[^/]+/summary.json", key))
        return [json.loads(self.read(key)) for key in found]

    def rows(self, source: str) -> list[Any]:
        """The frames of a source that have captions."""
        return [json.loads(line)["frame"] for line in self.read(f"{source}/captions.jsonl").splitlines()]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A captioner that writes nonsense quickly."""
    return make_tiny_checkpoint(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def drop(s3_server: S3Server, bucket: str, checkpoint: Path) -> Bucket:
    return Bucket(s3_server, bucket, checkpoint)


def xcoms(airflow: Airflow) -> list[str]:
    """What the tasks of the latest run have handed on, as it is in Airflow's database."""
    with closing(sqlite3.connect(airflow.home / "airflow.db")) as database:
        latest = "(select max(dag_run_id) from xcom)"
        return [row[0] for row in database.execute(f"select value from xcom where dag_run_id = {latest}")]


@pytest.mark.slow
def test_a_shard_with_bad_inputs_is_a_task_that_succeeded(
    airflow: Airflow, drop: Bucket, tmp_path: Path
) -> None:
    drop.put(write_video(tmp_path / "film.webm", frames_each=10), "film.webm")
    for number in range(3):
        drop.put(write_photograph(tmp_path / "cat.jpg", "cat", size=(64, 64)), f"trip/a & {number}.jpg")
    (tmp_path / "text").write_text("no picture")
    drop.put(tmp_path / "text", "trip/torn.jpg")
    drop.put(tmp_path / "text", "torn.mp4")

    found = airflow.run(drop.conf, env=drop.env)
    assert found.state == "success", found.log
    assert {state for task, state in found.tasks.items() if task.startswith("caption[")} == {"success"}
    assert drop.rows("film.webm") == [0, 10, 20]
    assert drop.rows("trip") == ["a & 0.jpg", "a & 1.jpg", "a & 2.jpg"]
    assert drop.keys("incoming") == set()
    assert drop.keys("archive") == {"film.webm", *(f"trip/a & {number}.jpg" for number in range(3))}
    bad = {"trip/torn.jpg", "torn.mp4"}
    assert drop.keys("failed") == bad | {f"{key}.error.json" for key in bad}

    [summary] = drop.summaries()
    reasons = {error["key"]: error["reason"] for error in summary["errors"]}
    assert reasons["torn.mp4"].startswith("torn.mp4: no video")

    shards = f"s3://{drop.name}/captions/.gpucapt/runs/"
    plan, arguments = (json.loads(value) for value in xcoms(airflow) if "shards" in value)
    plan = json.loads(plan)
    assert arguments == [["ingest", "shard", "--", uri] for uri in plan["shards"]]
    assert all(uri.startswith(shards) for uri in [plan["run"], *plan["shards"]])
    assert not [value for value in xcoms(airflow) if "film.webm" in value or "torn" in value]

    again = airflow.run(drop.conf, env=drop.env)
    assert again.state == "success", again.log
    assert again.tasks["caption"] == "skipped"


@pytest.mark.slow
def test_a_shard_whose_process_is_killed_is_tried_again_alone(
    airflow: Airflow, drop: Bucket, tmp_path: Path
) -> None:
    film = write_video(tmp_path / "film.webm", frames_each=10)
    for name in ("a", "b", "c"):
        drop.put(film, f"{name}.webm")
    command = shlex.join([sys.executable, str(Path(__file__).with_name("killed_once.py")), str(tmp_path)])
    env = {"GPUCAPT_COMMAND": command, "GPUCAPT_SHARDS": "3", "GPUCAPT_LEASE": "5"}
    retries = {"GPUCAPT_RETRIES": "1", "GPUCAPT_RETRY_DELAY": "1"}

    found = airflow.run(drop.conf, env={**drop.env, **env, **retries})
    assert found.state == "success", found.log
    assert "gpucapt ingest shard was killed by signal 9" in found.log
    calls = [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]
    shards = [arguments[-1].rpartition("/")[2] for arguments in calls if arguments[1] == "shard"]
    assert sorted(shards) == ["00000.jsonl", "00001.jsonl", "00001.jsonl", "00002.jsonl"]
    assert [drop.rows(f"{name}.webm") for name in ("a", "b", "c")] == [[0, 10, 20]] * 3
    assert drop.keys("archive") == {"a.webm", "b.webm", "c.webm"}
    assert not [key for key in drop.keys("captions") if "/parts/" in key or "/claims/" in key]


@pytest.mark.slow
@pytest.mark.needs("aws")
def test_what_is_dropped_into_a_bucket_comes_back_as_captions(
    drop: Bucket, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Scheduler, DAG processor, triggerer and API server as processes; nobody and no clock asks for a run."""
    folder = tmp_path / "holiday"
    write_video(folder / "the film.webm", frames_each=10)
    for name in ("cat", "coffee"):
        write_photograph(folder / "trip" / f"{name} & co.jpg", name, size=(64, 64))
    (folder / "torn.mp4").write_text("no film")
    late = write_video(tmp_path / "late.webm", frames_each=10)

    def deliver(path: Path, key: str) -> None:
        """With Debian's awscli, which takes the endpoint from its command line only."""
        aws = ["aws", "--endpoint-url", drop.server.endpoint, "s3", "cp", "--only-show-errors"]
        more = ["--recursive"] if path.is_dir() else []
        target = f"s3://{drop.name}/incoming/{key}"
        subprocess.run([*aws, *more, str(path), target], env=drop.server.environment(), check=True)

    home = tmp_path_factory.mktemp("airflow-server")
    with sqs_server(tmp_path / "sqs.log") as sqs:
        queue = sqs.make_queue("arrivals")
        settings = {
            **drop.env,
            "AWS_ENDPOINT_URL_SQS": sqs.endpoint,
            "GPUCAPT_QUEUE_URL": queue.url,
            "GPUCAPT_SCHEDULE": "none",
            "GPUCAPT_SETTLE": "3",
            "GPUCAPT_INCOMING": drop.conf["incoming"],
            "GPUCAPT_DESTINATION": drop.conf["destination"],
            "GPUCAPT_MODEL": drop.conf["model"],
        }
        with scheduler(home, triggerer=True, **settings) as server:
            deliver(folder, "")
            # One message for each object, as S3 sends them.
            keys = ["the film.webm", "torn.mp4", "trip/cat & co.jpg", "trip/coffee & co.jpg"]
            queue.send(*(s3_event(drop.name, f"incoming/{key}") for key in keys))

            server.wait_for_dag("caption_frames")

            def planned() -> bool | None:
                return any(key.endswith("/plan.json") for key in drop.keys("captions")) or None

            server.wait(planned, 300, "the first plan")
            deliver(late, "late.webm")
            queue.send(s3_event(drop.name, "incoming/late.webm"))

            def captioned() -> bool | None:
                return len(drop.summaries()) == 2 or None

            server.wait(captioned, 300, "the captions of the second run")
            runs = server.runs("caption_frames")
            log, waiting = server.logs(), queue.waiting()

    first, second = drop.summaries()
    assert (first["counts"]["captioned"], first["counts"]["frames"]) == (2, 5), log
    assert [error["key"] for error in first["errors"]] == ["torn.mp4"]
    assert (second["counts"]["captioned"], second["counts"]["frames"]) == (1, 3), log
    assert drop.rows("the film.webm") == drop.rows("late.webm") == [0, 10, 20]
    assert drop.rows("trip") == ["cat & co.jpg", "coffee & co.jpg"]
    assert drop.keys("incoming") == set()
    good = {"late.webm", *keys} - {"torn.mp4"}
    assert drop.keys("archive") == good
    assert drop.keys("failed") == {"torn.mp4", "torn.mp4.error.json"}
    assert {run["run_type"] for run in runs} == {"asset_triggered"}
    assert len(runs) <= 3, "messages in a burst make few runs"
    assert waiting == 0
