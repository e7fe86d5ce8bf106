"""`gpucapt serve` as a process: how it starts, what it says, how it ends."""

from __future__ import annotations

import signal
import socket
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.pipeline.jobs import command, run
from tests.pipeline.web.pictures import error_of, picture, send
from tests.services.gpucapt_server import Server, started

pytestmark = pytest.mark.slow


def test_it_answers_at_once_and_captions_when_the_model_is_loaded(model: Path) -> None:
    with started("--model", model) as server:
        assert server.client.get("/health").json() == {"status": "ok"}
        early = server.client.get("/ready")
        if early.status_code != 200:  # as a rule
            assert error_of(early) == (503, "loading")
            assert error_of(send(server.client, picture(size=(32, 32))))[0] == 503
        server.wait_until_ready()
        assert server.client.get("/ready").json()["status"] == "ready"
        assert send(server.client, picture(size=(32, 32))).status_code == 200
        what_has_begun_is_answered(server)


def what_has_begun_is_answered(server: Server) -> None:
    answers: list[httpx.Response] = []
    data = [picture(size=(64, 64))] * 16

    def ask() -> None:
        with httpx.Client(base_url=server.url, timeout=240) as client:
            answers.append(send(client, *data, beam_size=10, max_length=60))

    asking = [threading.Thread(target=ask) for _ in range(3)]
    for thread in asking:
        thread.start()
    while "gpucapt_requests_running 4.0" not in server.client.get("/metrics").text:
        assert not answers, "they were too quick for this test"
        time.sleep(0.01)
    server.process.send_signal(signal.SIGTERM)
    what_is_new_is_refused(server)
    if server.process.poll() is None and not answers:
        assert error_of(server.client.get("/ready")) == (503, "ending"), "nobody may be sent here"
    for thread in asking:
        thread.join()
    assert [answer.status_code for answer in answers] == [200] * 3
    assert server.process.wait(60) == 0
    assert server.process.stderr is not None
    assert server.process.stderr.read() == ""


def what_is_new_is_refused(server: Server) -> None:
    """By an answer that says so; unless the server has ended by then."""
    for _ in range(20):
        try:
            answer = send(server.client, picture(size=(32, 32)))
        except httpx.TransportError:
            return
        if answer.status_code != 200:  # else the signal had not come yet
            assert error_of(answer) == (503, "ending")
            assert answer.headers["connection"] == "close"
            return
    raise AssertionError("it still takes requests")


def test_what_cannot_work_is_said_in_one_line(model: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run(command("serve", "--port", port, "--model", model))
        assert done.returncode == 1
        assert done.stderr.startswith(f"gpucapt: cannot listen on 127.0.0.1 port {port}: ")
        assert len(done.stderr.splitlines()) == 1
    done = run(command("serve", "--port", "0", "--model", tmp_path / "none"))
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert run(command("serve", "--port", "0"), GPUCAPT_SERVE_QUEUE="0").returncode == 2


def test_a_model_that_cannot_be_loaded_ends_the_server(model: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for path in model.iterdir():
        (damaged / path.name).write_bytes(path.read_bytes())
    (damaged / "vocabulary.json").write_text('["<pad>", "a", "<unk>", "<start>", "<end>"]')
    done = run(command("serve", "--port", "0", "--model", damaged))
    assert done.returncode == 1
    first, last = done.stderr.splitlines()
    assert first.startswith("gpucapt: listening on ")
    assert last.startswith("gpucapt: ")
