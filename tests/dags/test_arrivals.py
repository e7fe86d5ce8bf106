"""What wakes the DAG: the schedule that Airflow gets, and the watcher of a queue on a server for SQS."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.dags.conftest import Airflow, airflow_process
from tests.services.sqs import Queue, SqsServer, s3_event, s3_test_event, sqs_server

FOLDERS = {"GPUCAPT_INCOMING": "s3://videos/incoming", "GPUCAPT_DESTINATION": "s3://videos/captions"}
AT_AWS = "https://sqs.eu-west-1.amazonaws.com/123456789012/gpucapt"


def timetable(airflow: Airflow, **settings: str) -> dict[str, Any]:
    """The DAG's timetable as the scheduler gets it."""
    found = airflow.parse(**FOLDERS, **settings)
    assert found["errors"] == []
    timetable: dict[str, Any] = found["dags"]["caption_frames"]["timetable"]
    return timetable


def watcher(timetable: dict[str, Any]) -> dict[str, Any]:
    """The trigger of the only watcher of the only asset."""
    [asset] = timetable["__var"]["asset_condition"]["objects"]
    [watcher] = asset["watchers"]
    trigger: dict[str, Any] = watcher["trigger"]
    return trigger


def test_with_a_queue_it_wakes_by_event_and_by_clock(airflow: Airflow) -> None:
    found = timetable(airflow, GPUCAPT_QUEUE_URL=AT_AWS, GPUCAPT_SCHEDULE="@hourly")
    assert found["__type"].endswith(".AssetOrTimeSchedule")
    assert found["__var"]["timetable"]["__var"]["expression"] == "0 * * * *"
    trigger = watcher(found)
    assert trigger["classpath"].endswith(".SqsSensorTrigger")
    assert trigger["kwargs"]["sqs_queue"] == AT_AWS
    assert trigger["kwargs"]["region_name"] == "eu-west-1"
    assert trigger["kwargs"]["aws_conn_id"] is None


def test_without_a_clock_events_wake_it_still(airflow: Airflow) -> None:
    found = timetable(airflow, GPUCAPT_QUEUE_URL=AT_AWS, GPUCAPT_SCHEDULE="none")
    assert found["__type"].endswith(".AssetTriggeredTimetable")
    assert watcher(found)["kwargs"]["sqs_queue"] == AT_AWS


def test_without_a_queue_nothing_is_watched(airflow: Airflow) -> None:
    assert "asset_condition" not in timetable(airflow)["__var"]


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("https://sqs-fips.us-gov-west-1.amazonaws.com/1/q", "us-gov-west-1"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/1/q", "cn-north-1"),
        ("https://vpce-0a-1b.sqs.us-east-2.vpce.amazonaws.com/1/q", "us-east-2"),
        ("http://127.0.0.1:9324/1/q", None),
    ],
)
def test_the_region_is_in_the_queues_url_or_in_the_environment(
    airflow: Airflow, url: str, region: str | None
) -> None:
    found = timetable(airflow, GPUCAPT_QUEUE_URL=url, GPUCAPT_AWS_CONN_ID="queue_reader")
    assert watcher(found)["kwargs"]["region_name"] == region
    assert watcher(found)["kwargs"]["aws_conn_id"] == "queue_reader"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({**FOLDERS, "GPUCAPT_QUEUE_URL": "arn:aws:sqs:eu-west-1:1:q"}, "must be the queue's URL"),
        ({"GPUCAPT_QUEUE_URL": AT_AWS}, "GPUCAPT_QUEUE_URL only wakes the DAG"),
        (
            {**FOLDERS, "GPUCAPT_QUEUE_URL": AT_AWS, "GPUCAPT_SCHEDULE": "@once"},
            "beside what wakes the DAG it must be a cron expression or none",
        ),
    ],
)
def test_a_queue_that_cannot_be_watched_is_named(
    airflow: Airflow, settings: dict[str, str], said: str
) -> None:
    found = airflow.parse(**settings)
    assert "caption_frames" not in found["dags"]
    assert said in "".join(found["errors"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqsServer]:
    with sqs_server(tmp_path_factory.mktemp("sqs") / "log") as server:
        yield server


@pytest.fixture(scope="module")
def triggerer(airflow_home: Path) -> Iterator[Airflow]:
    """A process of its own: what parses DAGs must stay without boto3."""
    with airflow_process(airflow_home, "triggerer") as triggerer:
        yield triggerer


@pytest.fixture
def queue(server: SqsServer) -> Queue:
    return server.make_queue(secrets.token_hex(8))


@pytest.fixture
def events(airflow: Airflow, triggerer: Airflow, queue: Queue) -> Callable[[int], list[dict[str, Any]]]:
    """Run the watcher that the DAG describes until it has fired so often; what it fired."""

    def events(wanted: int) -> list[dict[str, Any]]:
        trigger = watcher(timetable(airflow, GPUCAPT_QUEUE_URL=queue.url))
        # Nothing but the variables that boto itself reads: no connection is defined in this Airflow.
        env = {
            "AWS_ENDPOINT_URL_SQS": queue.server.endpoint,
            "AWS_ACCESS_KEY_ID": "tester",
            "AWS_SECRET_ACCESS_KEY": "tester-secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        return triggerer.fire(trigger["classpath"], trigger["kwargs"], wanted, env=env)

    return events


ARRIVALS = {
    "one object": s3_event("videos", "incoming/film.mp4"),
    "several objects": s3_event("videos", "incoming/a.jpg", "incoming/b.jpg", "incoming/c.jpg"),
    "an odd name": s3_event("videos", "incoming/Größe & 50%+1 🎬/a b.jpg"),
    "a large upload": s3_event("videos", "incoming/film.mp4", name="ObjectCreated:CompleteMultipartUpload"),
    "a try": s3_test_event("videos"),
    "no object of ours": s3_event("another", "elsewhere/x"),
    "no records": json.dumps({"Records": []}),
    "no JSON": "hello",
    "half a JSON": '{"Records": [{"s3": {"object": {"key": "%zz',
    "another kind of JSON": "[1, null, true]",
}


def test_whatever_a_message_says_it_wakes_and_is_taken_off(
    queue: Queue, events: Callable[[int], list[dict[str, Any]]]
) -> None:
    for what, body in ARRIVALS.items():
        queue.send(body)
        [event] = events(1)
        assert [message["Body"] for message in event["message_batch"]] == [body], what
        assert queue.waiting() == 0, what


def test_a_burst_of_messages_is_few_events(
    queue: Queue, events: Callable[[int], list[dict[str, Any]]]
) -> None:
    queue.send(*(s3_event("videos", f"incoming/{number}.jpg") for number in range(120)))
    found = events(3)
    assert [len(event["message_batch"]) for event in found] == [50, 50, 20]
    assert queue.waiting() == 0
