"""A queue for tests: moto's SQS, as a server of its own that clients speak to over HTTP."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import boto3

KEYS = {"aws_access_key_id": "tester", "aws_secret_access_key": "tester-secret", "region_name": "us-east-1"}


@dataclass(frozen=True)
class SqsServer:
    """A running server. Nothing that it holds outlives it."""

    endpoint: str

    @property
    def client(self) -> Any:
        """A client of it, whatever AWS settings the environment has."""
        return boto3.client("sqs", endpoint_url=self.endpoint, **KEYS)

    def make_queue(self, name: str) -> Queue:
        """A new and empty queue."""
        return Queue(self, self.client.create_queue(QueueName=name)["QueueUrl"])


@dataclass(frozen=True)
class Queue:
    """One queue."""

    server: SqsServer
    url: str

    def send(self, *bodies: str) -> None:
        """Put messages on the queue."""
        client = self.server.client
        for start in range(0, len(bodies), 10):
            entries = [
                {"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies[start : start + 10])
            ]
            assert not client.send_message_batch(QueueUrl=self.url, Entries=entries).get("Failed")

    def waiting(self) -> int:
        """How many messages there are that nobody has taken off."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.server.client.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)
        return sum(int(found["Attributes"][name]) for name in names)


@contextmanager
def sqs_server(log: Path) -> Iterator[SqsServer]:
    """An SQS server on a free port; it is stopped at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_for_answer(f"http://127.0.0.1:{port}/moto-api/", process, log)
        yield SqsServer(f"http://127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait()


def _wait_for_answer(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(url, timeout=10).close()
            return
        except OSError:
            assert process.poll() is None, log.read_text(errors="replace")
            time.sleep(0.1)
    raise AssertionError(f"the SQS server does not answer\n{log.read_text(errors='replace')}")


def s3_event(bucket: str, *keys: str, name: str = "ObjectCreated:Put") -> str:
    """What S3 puts on a queue when objects are created: a record for each, keys encoded as in a form."""
    records = [
        {
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "awsRegion": "us-east-1",
            "eventTime": "2026-01-01T00:00:00.000Z",
            "eventName": name,
            "userIdentity": {"principalId": "AWS:AIDAEXAMPLE"},
            "requestParameters": {"sourceIPAddress": "127.0.0.1"},
            "responseElements": {"x-amz-request-id": "EXAMPLE", "x-amz-id-2": "EXAMPLE"},
            "s3": {
                "s3SchemaVersion": "1.0",
                "configurationId": "incoming",
                "bucket": {
                    "name": bucket,
                    "ownerIdentity": {"principalId": "EXAMPLE"},
                    "arn": f"arn:aws:s3:::{bucket}",
                },
                "object": {
                    "key": quote_plus(key, safe="/"),
                    "size": 1024,
                    "eTag": "d41d8cd98f00b204e9800998ecf8427e",
                    "sequencer": f"{number:016X}",
                },
            },
        }
        for number, key in enumerate(keys)
    ]
    return json.dumps({"Records": records})


def s3_test_event(bucket: str) -> str:
    """What S3 puts on a queue to try it, when the notification is set up."""
    return json.dumps(
        {
            "Service": "Amazon S3",
            "Event": "s3:TestEvent",
            "Time": "2026-01-01T00:00:00.000Z",
            "Bucket": bucket,
            "RequestId": "EXAMPLE",
            "HostId": "EXAMPLE",
        }
    )
