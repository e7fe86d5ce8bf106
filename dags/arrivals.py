"""What wakes a DAG: a clock, and a queue that is told when something arrives in a bucket.

A message only wakes: nobody reads what it says, so it does not matter who sent it, or whether it came twice,
late or garbled. What there is to do is what the woken run finds. The clock is the safety net: a message is
taken off the queue before Airflow has noted it, and one that comes while the DAG is paused is gone.

Many messages make few runs. One event stands for up to fifty of them, and while a run is queued or works,
Airflow keeps a single mark for all that come: with ``max_active_runs=1`` they make one more run when it ends.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

from airflow.sdk import Asset, AssetOrTimeSchedule, AssetWatcher, CronTriggerTimetable
from airflow.triggers.base import BaseEventTrigger, TriggerEvent
from croniter import croniter  # type: ignore[import-untyped]

from worker_environment import setting

Schedule = str | list[Asset] | AssetOrTimeSchedule | None

ASSET = "gpucapt_incoming"
SECONDS_BETWEEN_LOOKS = 10
MESSAGES_AT_ONCE = 10
"""More than this SQS does not hand out."""
RECEPTIONS_A_LOOK = 5

_AWS = re.compile(r"https://(?:[\w-]+\.)?sqs(?:-fips)?\.(?P<region>[a-z0-9-]+)\.(?:vpce\.)?amazonaws\.com")


def schedule(
    clock: str | None,
    queue_url: str | None,
    connection: str | None,
    *,
    asset: str = ASSET,
    clock_setting: str = "GPUCAPT_SCHEDULE",
    queue_setting: str = "GPUCAPT_QUEUE_URL",
) -> Schedule:
    """When to run. ``clock`` is a cron expression or a preset; ``queue_url`` that of an SQS queue.

    ``connection`` is the Airflow connection to use; without one boto finds the credentials as everywhere.
    ``asset`` is what the messages are noted as; the settings are what errors name.
    Raises ValueError for what cannot be watched.
    """
    if queue_url is None:
        return by(clock, [], clock_setting)
    if not queue_url.startswith(("https://", "http://")):
        raise ValueError(
            f"{queue_setting} is {queue_url!r}; "
            "it must be the queue's URL, as `aws sqs get-queue-url` tells it"
        )
    watcher = AssetWatcher(name="gpucapt_queue", trigger=Queue(queue_url, connection))
    return by(clock, [Asset(asset, watchers=[watcher])], clock_setting)


def by(clock: str | None, assets: list[Asset], clock_setting: str) -> Schedule:
    """Run at these times, and when one of these assets has news. Raises ValueError for no times."""
    if clock is not None and not clock.startswith("@") and not croniter.is_valid(clock):
        raise ValueError(
            f"{clock_setting} is {clock!r}; it must be a cron expression, a preset such as @hourly, or none"
        )
    if not assets:
        return clock
    if clock is None:
        return assets
    if clock in ("@once", "@continuous"):
        raise ValueError(
            f"{clock_setting} is {clock!r}; beside what wakes the DAG it must be a cron expression or none"
        )
    return AssetOrTimeSchedule(timetable=CronTriggerTimetable(clock, timezone="UTC"), assets=assets)


def clock(name: str, default: str) -> str | None:
    """A setting that is a time to run at; None where it is ``none``."""
    chosen = setting(name) or default
    return None if chosen.lower() == "none" else chosen


class Queue(BaseEventTrigger):
    """Describes the trigger that watches the queue, for the triggerer to make.

    Airflow's SqsSensorTrigger itself would bring boto3 into every parse of the DAG.
    """

    def __init__(self, url: str, connection: str | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.url = url
        self.connection = connection

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The real trigger's class and its arguments."""
        aws = _AWS.match(self.url)
        return "airflow.providers.amazon.aws.triggers.sqs.SqsSensorTrigger", {
            "sqs_queue": self.url,
            "aws_conn_id": self.connection,
            # boto does not take it from the URL. Elsewhere than at AWS it is as the environment says.
            "region_name": aws["region"] if aws else None,
            "max_messages": MESSAGES_AT_ONCE,
            "num_batches": RECEPTIONS_A_LOOK,
            # A look ends only when the last reception does: each would wait though the first had messages.
            "wait_time_seconds": 0,
            "waiter_delay": SECONDS_BETWEEN_LOOKS,
        }

    def run(self) -> AsyncIterator[TriggerEvent]:
        """Never called: the triggerer makes what ``serialize`` names."""
        raise NotImplementedError
