"""/v1/videos: a film in, captions as they come, files in the end, and nothing of it left behind."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.captioning.run import CaptionRun
from pipeline.records.frame_selection import Selection
from pipeline.records.settings import CaptionSettings
from tests.media import write_video
from tests.pipeline.jobs import RESOURCES, captions
from tests.pipeline.web.pictures import error_of
from tests.services.gpucapt_server import Server, running

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds."""
    return write_video(tmp_path_factory.mktemp("films") / "film.webm", frames_each=20)


def send(client: httpx.Client, film: Path | bytes, **fields: Any) -> httpx.Response:
    content = film if isinstance(film, bytes) else film.read_bytes()
    return client.post("/v1/videos", files={"video": ("../my film?.webm", content)}, data=fields)


def state(client: httpx.Client, number: str, after: int = 0) -> dict[str, Any]:
    response = client.get(f"/v1/videos/{number}", params={"after": after})
    assert response.status_code == 200, response.text
    content: dict[str, Any] = response.json()
    return content


def ended(client: httpx.Client, number: str) -> dict[str, Any]:
    """Its state when the work on it is over; fails where what was told before is taken back."""
    known: list[Any] = []
    while True:
        found = state(client, number, len(known))
        known += found["captions"]
        assert found["progress"]["frames"] >= len(known)
        if found["status"] in ("done", "failed"):
            return {**found, "captions": known}
        time.sleep(0.1)


def test_a_film_gets_the_captions_and_files_that_a_job_makes_of_it(
    client: httpx.Client, film: Path, model: Path, temporary: Path, tmp_path: Path
) -> None:
    number = send(client, film, every="0.5").json()["id"]
    found = ended(client, number)
    assert (found["status"], found["error"]) == ("done", None)
    assert found["progress"] == {"frames": 12, "fraction": 1.0}

    settings = CaptionSettings(Selection(0.5), precision="fp32", model=str(model))
    assert CaptionRun(str(film), str(tmp_path / "out"), settings, RESOURCES, progress="none").run() == 0
    expected = captions(tmp_path / "out", "film.webm")
    assert [one["caption"] for one in found["captions"]] == list(expected.values())
    assert [one["timestamp_s"] for one in found["captions"]] == [n / 2 for n in range(12)]

    for name, path in found["files"].items():
        content = client.get(path)
        assert content.status_code == 200
        assert "attachment" in content.headers["content-disposition"]
        if name in ("captions.vtt", "captions.srt", "story.md"):
            assert content.text == (tmp_path / "out" / "film.webm" / name).read_text()
    assert {"captions.csv", "captions.json", "captions.vtt", "report.html"} <= set(found["files"])
    assert error_of(client.get(f"/v1/videos/{number}/files/manifest.json")) == (404, "not_found")
    assert list(temporary.rglob("in/*")) == [], "the film itself is gone by now"

    story = client.post("/v1/stories", json={"from": {"video": number}, "provider": "outline"})
    assert story.json()["turns"][0]["text"]

    assert client.delete(f"/v1/videos/{number}").status_code == 204
    assert error_of(client.get(f"/v1/videos/{number}")) == (404, "not_found")
    assert list(temporary.rglob("captions.*")) == []


def test_a_film_can_be_cancelled(client: httpx.Client, film: Path, temporary: Path) -> None:
    number = send(client, film, fps="20").json()["id"]
    while state(client, number)["status"] == "queued":
        time.sleep(0.05)
    assert client.delete(f"/v1/videos/{number}").status_code == 204
    assert error_of(client.get(f"/v1/videos/{number}")) == (404, "not_found")
    deadline = time.monotonic() + 60
    while list(temporary.rglob("film.*")):
        assert time.monotonic() < deadline, "it is still there"
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("content", "fields", "expected"),
    [
        (b"#EXTM3U\nhttp://localhost/secret.ts\n", {}, (415, "unsupported_video")),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", {}, (415, "unsupported_video")),
        (b"", {}, (415, "unsupported_video")),
        (b"\x1a\x45\xdf\xa3" + bytes(500), {}, (422, "unreadable_video")),
        (bytes(2_000_001), {}, (413, "too_large")),
        (None, {"every": "0"}, (422, "invalid_request")),
        (None, {"every": "1", "scenes": "true"}, (422, "invalid_request")),
        (None, {"every": "nan"}, (422, "invalid_request")),
        (None, {"max_frames": "0"}, (422, "invalid_request")),
        (None, {"story": "somebody"}, (422, "unknown_provider")),
        (None, {"uri": "s3://pictures/open/film.webm"}, (422, "invalid_request")),
        (None, {"speed": "2"}, (422, "invalid_request")),
    ],
)
def test_what_cannot_be_captioned_is_refused_at_once(
    client: httpx.Client,
    film: Path,
    temporary: Path,
    content: bytes | None,
    fields: dict[str, str],
    expected: tuple[int, str],
) -> None:
    before = sorted(temporary.rglob("upload")) + sorted(temporary.rglob("film*"))
    assert error_of(send(client, film if content is None else content, **fields)) == expected
    assert sorted(temporary.rglob("upload")) + sorted(temporary.rglob("film*")) == before


def test_a_film_that_is_too_long_is_refused(client: httpx.Client, tmp_path: Path) -> None:
    long = write_video(tmp_path / "long.webm", ("cat",), frames_each=60, fps=2.0)
    assert error_of(send(client, long)) == (422, "too_long")


def test_more_films_than_may_wait_are_refused_until_one_is_done(client: httpx.Client, film: Path) -> None:
    numbers = [send(client, film, fps="20").json()["id"] for _ in range(2)]
    response = send(client, film)
    assert error_of(response) == (429, "queue_full")
    assert int(response.headers["retry-after"]) > 0
    for number in numbers:
        client.delete(f"/v1/videos/{number}")
    accepted = send(client, film, max_frames="1")
    assert accepted.status_code == 202
    assert ended(client, accepted.json()["id"])["progress"]["frames"] == 1


def test_a_film_whose_story_fails_has_its_captions_and_the_reason(
    model: Path, film: Path, tmp_path: Path
) -> None:
    nobody_there = {"GPUCAPT_STORY_BASE_URL": "http://127.0.0.1:9/v1", "GPUCAPT_STORY_RETRIES": "0"}
    with running("--model", model, TMPDIR=str(tmp_path), **nobody_there) as server:
        number = send(server.client, film, max_frames="2", story="openai").json()["id"]
        found = ended(server.client, number)
    assert (found["status"], found["error"], len(found["captions"])) == ("done", None, 2)
    assert "127.0.0.1:9" in found["story_error"]
    assert "captions.csv" in found["files"] and "story.md" not in found["files"]


def test_what_a_killed_server_left_goes_when_the_next_one_starts(
    model: Path, film: Path, tmp_path: Path
) -> None:
    with running("--model", model, TMPDIR=str(tmp_path)) as server:
        send(server.client, film, fps="20")
        assert list(tmp_path.rglob("film.*"))
        server.process.kill()
        server.process.wait()
    assert list(tmp_path.rglob("film.*"))
    with running("--model", model, TMPDIR=str(tmp_path)):
        assert list(tmp_path.rglob("film.*")) == []


def test_what_came_of_a_film_is_kept_only_for_a_while(model: Path, film: Path, tmp_path: Path) -> None:
    with running(
        "--model", model, TMPDIR=str(tmp_path), GPUCAPT_SERVE_KEEP="0.5", GPUCAPT_SERVE_VIDEOS="1"
    ) as server:
        number = send(server.client, film, max_frames="2").json()["id"]
        wait_until_forgotten(server, number)
        assert list(tmp_path.rglob("captions.*")) == []
        # A film that is being captioned when the server ends leaves nothing either.
        send(server.client, film, fps="20")
        assert server.end() == 0
    assert [path for path in tmp_path.rglob("*") if "gpucapt" in path.name] == []


def wait_until_forgotten(server: Server, number: str) -> None:
    deadline = time.monotonic() + 240
    while server.client.get(f"/v1/videos/{number}").status_code != 404:
        assert time.monotonic() < deadline
        time.sleep(0.2)
