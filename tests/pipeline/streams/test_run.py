"""Cameras and live streams, watched as people watch them: real senders, the whole job, a tiny model."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import jsonschema
import pytest

from model.errors import GpucaptError
from pipeline.schemas import load_schema
from pipeline.storage.open import open_storage
from tests.media import write_video
from tests.model.tiny import make_tiny_checkpoint
from tests.pipeline.jobs import leftovers, manifest, rows, start, summary
from tests.pipeline.streams.cameras import NetworkCamera, free_port, sender
from tests.pipeline.streams.rtsp import RtspCamera
from tests.pipeline.streams.runs import everything, segments, stream_command, watch

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that is there at once."""
    return make_tiny_checkpoint(tmp_path_factory.mktemp("model") / "tiny")


def wait_for(is_so: Callable[[], object], seconds: float = 60) -> None:
    """Wait until something is so; a slow machine has its time."""
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until, "it has not come to that"
        time.sleep(0.05)


def test_a_camera_is_cut_into_segments_that_are_whole_sources(
    tmp_path: Path, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    wanted = "Basic b3BlcmF0b3I6Z2VoZSBpbQ=="
    with NetworkCamera(authorization=wanted) as camera, caplog.at_level(logging.DEBUG):
        url = camera.url.replace("//", "//operator:gehe%20im@") + "?token=hush-hush"
        assert watch(url, tmp_path, model, segment_s=1.5, duration_s=4.0) == 0
    assert camera.paths[-1] == "/video?token=hush-hush"
    keys = segments(tmp_path)
    assert len(keys) >= 2
    started = []
    for key in keys:
        content = manifest(tmp_path, key)
        jsonschema.validate(content, load_schema("manifest"))
        segment = content["segment"]
        started.append(datetime.fromisoformat(segment["started_at"]))
        assert key == f"127.0.0.1-{camera.port}-video/{started[-1]:%Y%m%dT%H%M%SZ}"
        assert 0 < segment["seconds"] <= 1.5
        found = rows(tmp_path, key)
        assert found[0]["frame"] == 0 and found[0]["timestamp_s"] == 0
        times = [row["timestamp_s"] for row in found]
        assert times == sorted(set(times)) and times[-1] < 1.5
        assert (tmp_path / key / "captions.vtt").is_file()
        assert "<video" not in (tmp_path / key / "report.html").read_text(encoding="utf-8")
    assert before < started[0] < datetime.now(UTC)
    assert all(later - earlier >= timedelta(seconds=1.45) for earlier, later in pairwise(started))
    assert leftovers(tmp_path) == []
    # Neither what is written nor what is said holds the user, the password or what is in the query.
    said = "\n".join([caplog.text, *(f"{name} {content!r}" for name, content in everything(tmp_path))])
    # Pages hold pictures as text of 64 letters, in which any word of four comes by chance.
    for secret in ("operator", "gehe im", "gehe%20im", "hush-hush", "token="):
        assert secret not in said
    assert summary(tmp_path)["source"] == camera.url


def test_segments_go_to_a_bucket_as_films_do(tmp_path: Path, model: Path, bucket: str) -> None:
    with NetworkCamera() as camera:
        out = f"s3://{bucket}/out"
        assert watch(camera.url, out, model, name="door", segment_s=1.5, duration_s=4) == 0
    keys = [entry.key for entry in open_storage(out).list()]
    assert sum(key.endswith("/manifest.json") for key in keys) >= 2
    assert {key.partition("/")[0] for key in keys} == {"door", "runs"}  # no part, no claim is left


def test_who_watches_a_second_time_goes_on_beside_what_is_there(tmp_path: Path, model: Path) -> None:
    with NetworkCamera() as camera:
        for _ in range(2):
            assert watch(camera.url, tmp_path, model, name="door", duration_s=0.5) == 0
    assert len(segments(tmp_path)) == 2
    assert {key.partition("/")[0] for key in segments(tmp_path)} == {"door"}


def test_a_lost_camera_is_found_again_and_that_is_said_once(
    tmp_path: Path, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with NetworkCamera() as camera, caplog.at_level(logging.INFO):

        def trouble() -> None:
            wait_for(lambda: camera.connections)
            time.sleep(1)
            camera.cut()
            time.sleep(2.5)
            camera.mend()

        thread = threading.Thread(target=trouble)
        thread.start()
        assert watch(camera.url, tmp_path, model, segment_s=60, duration_s=7) == 0
        thread.join()
    assert camera.connections >= 2
    assert len(re.findall("was lost", caplog.text)) == 1
    assert len(re.findall("is back after", caplog.text)) == 1
    (key,) = segments(tmp_path)
    assert manifest(tmp_path, key)["segment"]["losses"] == 1
    times = [row["timestamp_s"] for row in rows(tmp_path, key)]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert max(gaps) > 2  # it was away, and what came later is told at its own time
    assert times == sorted(set(times))


def test_a_stream_that_does_not_come_back_is_over(tmp_path: Path, model: Path) -> None:
    with NetworkCamera(frames=8) as camera:
        assert watch(camera.url, tmp_path, model, patience_s=0) == 0
    (key,) = segments(tmp_path)
    assert manifest(tmp_path, key)["counts"]["frames"] >= 1


@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_with_what_there_is(tmp_path: Path, model: Path, ended_by: signal.Signals) -> None:
    with NetworkCamera() as camera:

        def press() -> None:
            wait_for(lambda: camera.connections)
            time.sleep(1.5)
            os.kill(os.getpid(), ended_by)

        thread = threading.Thread(target=press)
        thread.start()
        assert watch(camera.url, tmp_path, model) == 0
        thread.join()
    (key,) = segments(tmp_path)
    content = manifest(tmp_path, key)
    assert content["counts"]["frames"] >= 2 and content["segment"]["seconds"] < 59
    assert leftovers(tmp_path) == []


def test_what_a_killed_run_has_seen_is_published_by_the_next(tmp_path: Path, model: Path) -> None:
    out = tmp_path / "out"
    # Rows are on disk at once, and not only every ten seconds.
    at_once = (
        "import pipeline.captioning.row_writer as w, pipeline.cli.main as c; w.FEED_FLUSHED_S = 0; c.main()"
    )
    with NetworkCamera() as camera:
        line = stream_command(camera.url, out, model, "--every", "0.2", "--stream-name", "door")
        process = start([line[0], "-c", at_once, *line[3:]])
        wait_for(lambda: len(list((out / ".gpucapt/parts").rglob("0*.jsonl"))) >= 3)
        process.kill()
        process.communicate()
        saved = sum(path.read_text().count("\n") for path in (out / ".gpucapt/parts").rglob("0*.jsonl"))
        assert segments(out) == []
        assert watch(camera.url, out, model, name="door", duration_s=0.5, every=0.1) == 0
    left, new = segments(out)
    content = manifest(out, left)
    assert content["counts"]["frames"] == saved == len(rows(out, left))
    assert content["settings"]["every"] == 0.2  # what it was captioned with, not what this run was asked for
    assert content["segment"]["dropped"] is None and content["segment"]["losses"] is None
    jsonschema.validate(content, load_schema("manifest"))
    assert new.startswith("door/")
    assert leftovers(out) == []


def test_nobody_else_may_watch_meanwhile(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPUCAPT_LEASE", "1")
    with NetworkCamera() as camera:
        one = threading.Thread(target=watch, args=(camera.url, tmp_path, model), kwargs={"patience_s": 0})
        one.start()
        wait_for(lambda: camera.connections)
        with pytest.raises(GpucaptError, match=r"another process captions .*--stream-name"):
            watch(camera.url, tmp_path, model, duration_s=1)
        assert camera.connections == 1
        camera.cut()
        one.join()


def test_frames_are_chosen_by_number_too(tmp_path: Path, model: Path) -> None:
    with NetworkCamera() as camera:
        assert watch(camera.url, tmp_path, model, segment_s=1, duration_s=2.5, max_frames=2) == 0
    counts = [manifest(tmp_path, key)["counts"]["frames"] for key in segments(tmp_path)]
    assert len(counts) >= 2 and max(counts) == 2


@pytest.mark.needs("ffmpeg")
def test_a_stream_over_udp(tmp_path: Path, model: Path) -> None:
    url = f"udp://127.0.0.1:{free_port()}"
    with sender("-c:v", "mpeg2video", "-f", "mpegts", f"{url}?pkt_size=1316"):
        assert watch(url, tmp_path, model, duration_s=1.5) == 0
    (key,) = segments(tmp_path)
    assert manifest(tmp_path, key)["counts"]["frames"] >= 2


@pytest.mark.needs("ffmpeg")
def test_a_broadcast_over_http_ends_when_its_sender_does(tmp_path: Path, model: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/live"
    with sender("-c:v", "mpeg2video", "-f", "mpegts", "-listen", "1", url, seconds=3) as process:
        time.sleep(1)
        assert watch(url, tmp_path, model, patience_s=1) == 0
        assert process.wait(10) == 0
    frames = sum(manifest(tmp_path, key)["counts"]["frames"] for key in segments(tmp_path))
    dropped = sum(manifest(tmp_path, key)["segment"]["dropped"] for key in segments(tmp_path))
    assert 3 / 0.2 - 2 <= frames + dropped <= 3 / 0.2 + 1


@pytest.mark.needs("ffmpeg")
def test_a_stream_that_stalls_is_cut_by_its_own_time(tmp_path: Path, model: Path) -> None:
    picture = (
        "-f",
        "lavfi",
        "-i",
        "testsrc=size=64x48:rate=10:duration=5",
        "-c:v",
        "mpeg2video",
        "-f",
        "mpegts",
    )
    made = subprocess.run(["ffmpeg", "-v", "error", *picture, "-"], capture_output=True, check=True).stdout

    class Stalling(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(made[: len(made) // 2])
            time.sleep(4)  # for a second and a half longer than what has been sent plays
            self.wfile.write(made[len(made) // 2 :])

    with ThreadingHTTPServer(("127.0.0.1", 0), Stalling) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/live"
        assert watch(url, tmp_path, model, segment_s=1.5, patience_s=0) == 0
        server.shutdown()
    spans = []
    for key in segments(tmp_path):
        told = manifest(tmp_path, key)["segment"]
        began = datetime.fromisoformat(told["started_at"])
        spans.append((began, began + timedelta(seconds=told["seconds"])))
    assert len(spans) >= 3
    assert all(later >= end - timedelta(seconds=0.01) for (_, end), (later, _) in pairwise(spans))


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("/dev/video97", "there is no such device"),
        ("/dev/null", "it is no camera that OpenCV can use"),
        ("rtsp://eve:hush@127.0.0.1:1/cam?key=hush", "nothing listens there at port 1"),
        ("http://eve:hush@camera.invalid/cam?key=hush", "no host is called camera.invalid"),
    ],
)
def test_what_cannot_be_opened_is_one_line(tmp_path: Path, model: Path, url: str, reason: str) -> None:
    with pytest.raises(GpucaptError) as refused:
        watch(url, tmp_path, model)
    said = str(refused.value)
    assert reason in said and "\n" not in said
    assert "hush" not in said and "eve" not in said
    assert segments(tmp_path) == []


def test_what_is_no_camera_is_told_before_anything_is_made(tmp_path: Path, model: Path) -> None:
    (tmp_path / "file").write_text("no camera")
    out = tmp_path / "out"
    for path, reason in (("/dev/video97", "there is no such device"), (tmp_path / "file", "it is no camera")):
        with pytest.raises(GpucaptError, match=reason):
            watch(str(path), out, model)
    assert not out.exists()


def test_a_film_on_a_web_server_is_played_once(tmp_path: Path, model: Path) -> None:
    write_video(tmp_path / "film.webm", frames_each=8)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/film.webm"
        began = time.monotonic()
        assert watch(url, tmp_path / "out", model, segment_s=60, duration_s=12) == 0
        server.shutdown()
    assert time.monotonic() - began > 2.0  # at the speed at which it plays
    (key,) = segments(tmp_path / "out")
    content = json.loads((tmp_path / "out" / key / "captions.json").read_text(encoding="utf-8"))
    frames = [row["frame"] for row in rows(tmp_path / "out", key)]
    assert frames == sorted(set(frames)) and frames[-1] <= 23
    assert content["source"] == key


def test_a_camera_over_rtsp_with_a_password(tmp_path: Path, model: Path) -> None:
    with RtspCamera("operator", "gehe/im@") as camera:
        url = f"rtsp://operator:gehe%2Fim%40@127.0.0.1:{camera.port}/cam"
        assert watch(url, tmp_path, model, duration_s=1.5) == 0
        with pytest.raises(GpucaptError, match="the user and the password") as refused:
            watch(url.replace("gehe", "wrong"), tmp_path / "other", model, duration_s=1.5)
    assert camera.plays == 1
    assert "wrong" not in str(refused.value) and "operator" not in str(refused.value)
    (key,) = segments(tmp_path)
    assert key.startswith(f"127.0.0.1-{camera.port}-cam/")
    assert manifest(tmp_path, key)["counts"]["frames"] >= 3
    captions = {row["caption"] for row in rows(tmp_path, key)}
    assert len(captions) > 1  # its pictures differ, and are seen
