"""Pictures and films that clients name: read from an object store, where the operator allowed it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.media import write_video
from tests.pipeline.web.pictures import error_of, picture, send
from tests.pipeline.web.routes.test_videos import ended
from tests.services.gpucapt_server import running
from tests.services.s3 import S3Server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(s3_server: S3Server) -> str:
    return s3_server.make_bucket()


@pytest.fixture(scope="module")
def client(s3_server: S3Server, place: str, model: Path) -> Iterator[httpx.Client]:
    """Of a server that may read below open/."""
    allowed = {"GPUCAPT_SERVE_ALLOW": f"s3://{place}/open/", "GPUCAPT_SERVE_IMAGE_SIZE": "100000"}
    with running("--model", model, **s3_server.variables(**allowed)) as server:
        yield server.client


def test_objects_below_the_prefix_are_captioned_and_no_others(
    client: httpx.Client, s3_server: S3Server, place: str, tmp_path: Path
) -> None:
    for key, data in {
        "open/cat.jpg": picture("cat"),
        "open/large.png": bytes(100_001),
        "closed/cat.jpg": picture("cat"),
        "opened/cat.jpg": picture("cat"),
        "open/film.webm": write_video(tmp_path / "film.webm", frames_each=10).read_bytes(),
    }.items():
        s3_server.client.put_object(Bucket=place, Key=key, Body=data)
    root = f"s3://{place}"
    (uploaded,) = send(client, picture("cat")).json()["captions"]
    named = send(client, uris=[f"{root}/open/cat.jpg", f"{root}/closed/cat.jpg", f"{root}/open/none.jpg"])
    found = named.json()["captions"]
    assert (found[0]["image"], found[0]["caption"]) == (f"{root}/open/cat.jpg", uploaded["caption"])
    assert [one["error"]["code"] for one in found[1:]] == ["uri_not_allowed", "not_found"]
    assert error_of(send(client, uris=[f"{root}/opened/cat.jpg"])) == (403, "uri_not_allowed")
    assert error_of(send(client, uris=[f"{root}/open/large.png"])) == (413, "too_large")

    film = client.post("/v1/videos", data={"uri": f"{root}/open/film.webm", "max_frames": "2"})
    assert film.status_code == 202
    assert ended(client, film.json()["id"])["status"] == "done"
    closed = client.post("/v1/videos", data={"uri": f"{root}/closed/film.webm"})
    assert error_of(closed) == (403, "uri_not_allowed")
    assert error_of(client.post("/v1/videos", data={"uri": f"{root}/open/cat.jpg"})) == (
        415,
        "unsupported_video",
    )
