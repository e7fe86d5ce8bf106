"""The rights that docs/operate.md tells operators to give are enough for the drop folder, and no more."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pipeline.storage.open import open_storage
from tests.media import write_video
from tests.pipeline.jobs import command, run, write_stills
from tests.services.s3 import S3Server

REPOSITORY = Path(__file__).resolve().parents[3]


def documented_policy(bucket: str, user: str) -> dict[str, Any]:
    """The policy in docs/operate.md, as one for this bucket that names the user."""
    text = (REPOSITORY / "docs" / "operate.md").read_text(encoding="utf-8")
    match = re.search(r"^## Rights$.*?^```json$(.*?)^```$", text, re.S | re.M)
    assert match is not None
    policy: dict[str, Any] = json.loads(match[1].replace("BUCKET", bucket))
    # Ceph wants this for removing several objects at once; AWS does not.
    policy["Statement"].append(
        {"Effect": "Allow", "Action": "s3:DeleteObject", "Resource": f"arn:aws:s3:::{bucket}"}
    )
    for statement in policy["Statement"]:
        statement["Principal"] = {"AWS": [f"arn:aws:iam:::user/{user}"]}
    return policy


@pytest.fixture
def worker(s3_server: S3Server, bucket: str) -> S3Server:
    """The server as a user who has the documented rights."""
    if s3_server.stranger is None:
        pytest.skip("this server has no user without rights")
    policy = documented_policy(bucket, "stranger")
    s3_server.client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    key, secret = s3_server.stranger
    return replace(s3_server, access_key=key, secret_key=secret)


def test_the_documented_rights_are_enough(
    worker: S3Server, bucket: str, tmp_path: Path, tiny_model: Path
) -> None:
    incoming = open_storage(f"s3://{bucket}/incoming")
    incoming.upload(write_video(tmp_path / "film.webm", frames_each=5), "film.webm")
    for path in write_stills(tmp_path / "album", 2).iterdir():
        incoming.upload(path, f"album/{path.name}")
    incoming.write("album/torn.png", b"no picture")
    incoming.write("torn.mp4", b"no film")
    # Stores tell the time in whole seconds: what has just been put there may seem to come from the future.
    settings = {"GPUCAPT_MODEL": str(tiny_model), "GPUCAPT_SETTLE": "0", "GPUCAPT_WAIT": "1"}
    env = {**worker.variables(), **settings}

    def ingest(verb: str, *arguments: str) -> str:
        done = run(command("ingest", verb, "--", *arguments), **env)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1]

    plan = json.loads(ingest("plan", incoming.url, f"s3://{bucket}/captions"))
    for url in plan["shards"]:
        ingest("shard", url)
    assert "2 sources captioned" in ingest("finish", plan["run"])
    assert list(incoming.list()) == []
    folders = [entry.key.split("/")[0] for entry in open_storage(f"s3://{bucket}").list()]
    assert {name: folders.count(name) for name in ("archive", "failed")} == {"archive": 3, "failed": 4}


def test_the_documented_rights_are_no_more_than_enough(worker: S3Server, bucket: str) -> None:
    open_storage(f"s3://{bucket}/private").write("letter.txt", b"secret")
    client = worker.client
    for forbidden in (
        lambda: client.list_objects_v2(Bucket=bucket),
        lambda: client.list_objects_v2(Bucket=bucket, Prefix="private/"),
        lambda: client.get_object(Bucket=bucket, Key="private/letter.txt"),
        lambda: client.delete_object(Bucket=bucket, Key="private/letter.txt"),
        lambda: client.put_object(Bucket=bucket, Key="incoming/new.mp4", Body=b"-"),
        lambda: client.delete_bucket(Bucket=bucket),
    ):
        with pytest.raises(ClientError, match="AccessDenied"):
            forbidden()
