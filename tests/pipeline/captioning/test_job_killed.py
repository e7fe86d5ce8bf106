"""A run that is killed loses nothing and does nothing twice; workers on one destination share the work."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.media import write_video
from tests.pipeline.jobs import (
    assert_same_rows,
    caption_command,
    captions,
    leftovers,
    manifest,
    rows,
    run,
    start,
    summary,
    write_stills,
)

FILM, ALBUM = "film.webm", "album"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of 330 frames, all of which are captioned: a part and a rest. And 30 stills."""
    source = tmp_path_factory.mktemp("killed") / "source"
    write_video(source / FILM, ("cat", "coffee", "rocket"), frames_each=110)
    return write_stills(source / ALBUM, 30).parent


@pytest.fixture(scope="module")
def undisturbed(source: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What comes out when nothing happens."""
    out = tmp_path_factory.mktemp("undisturbed")
    done = run(line(source, out, tiny_model))
    assert done.returncode == 0, done.stderr
    assert len(rows(out, FILM)) == 330
    return out


def line(source: Path, out: Path, model: Path) -> list[str]:
    return caption_command(source, out, model, "--every=0.1", "--progress=none")


def wait_for(happened: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 240
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)


def parts(out: Path, key: str) -> list[Path]:
    return sorted((out / ".gpucapt/parts" / key).rglob("0*.jsonl"))


MOMENTS: dict[str, Callable[[Path], object]] = {
    "a source is claimed": lambda out: list((out / ".gpucapt/claims").rglob(".claim")),
    "a part is there": lambda out: parts(out, FILM),
    "outputs are being written": lambda out: list(out.glob("*/captions.jsonl")),
    "one source is done": lambda out: list(out.glob("*/manifest.json")),
}


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_kill_9_then_the_same_command_gives_the_rows_of_an_undisturbed_run(
    source: Path, undisturbed: Path, tmp_path: Path, tiny_model: Path, moment: str
) -> None:
    command = line(source, tmp_path, tiny_model)
    with start(command) as process:
        wait_for(lambda: MOMENTS[moment](tmp_path), process)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    kept = {path: path.stat().st_mtime_ns for key in (FILM, ALBUM) for path in parts(tmp_path, key)}
    again = run(command)
    assert again.returncode == 0, again.stderr
    for key in (FILM, ALBUM):
        assert_same_rows(rows(tmp_path, key), rows(undisturbed, key))
        assert manifest(tmp_path, key)["counts"] == manifest(undisturbed, key)["counts"]
    assert leftovers(tmp_path) == []
    if any(FILM in path.parts for path in kept):
        assert "going on with" in again.stderr
    assert len(list(tmp_path.glob("runs/*/captions.csv"))) == 1
    [table] = tmp_path.glob("runs/*/captions.csv")
    assert len(table.read_bytes().splitlines()) == 1 + 330 + 30


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_what_is_done_releases_the_claims_and_ends_promptly(
    source: Path, undisturbed: Path, tmp_path: Path, tiny_model: Path, number: signal.Signals
) -> None:
    command = line(source, tmp_path, tiny_model)
    with start(command) as process:
        wait_for(lambda: parts(tmp_path, FILM), process)
        os.kill(process.pid, number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert f"stopped by {number.name}" in said and "Traceback" not in said
    assert not list((tmp_path / ".gpucapt/claims").rglob(".claim"))
    if not (tmp_path / FILM / "manifest.json").exists():
        ends = [int(path.stem.split("-")[1]) + 1 for path in parts(tmp_path, FILM)]
        assert ends[-1] % 4 == 0 or ends[-1] == 330, "whole batches, so that the next run has the same ones"
    assert run(command).returncode == 0
    for key in (FILM, ALBUM):
        assert_same_rows(rows(tmp_path, key), rows(undisturbed, key))


@pytest.mark.slow
def test_two_processes_at_once_share_the_work(tmp_path: Path, tiny_model: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    for number in range(12):
        write_stills(source / f"{number:02}", 12, first=17 * number)
    with start(line(source, out, tiny_model)) as one, start(line(source, out, tiny_model)) as other:
        said = [process.communicate(timeout=280) for process in (one, other)]
    assert (one.returncode, other.returncode) == (0, 0), said
    assert run(line(source, tmp_path / "alone", tiny_model)).returncode == 0
    for number in range(12):
        assert_same_rows(rows(out, f"{number:02}"), rows(tmp_path / "alone", f"{number:02}"))
    written = sum(int(text.split("captioned ")[1].split()[0]) for text, _ in said)
    assert written == 12, "each source was captioned by one of the two"
    assert leftovers(out) == []


@pytest.mark.slow
def test_a_source_of_a_worker_that_dies_meanwhile_is_finished_by_the_other(
    source: Path, undisturbed: Path, tmp_path: Path, tiny_model: Path
) -> None:
    film = source / FILM
    with start(line(film, tmp_path, tiny_model)) as dying:
        wait_for(lambda: parts(tmp_path, FILM), dying)
        os.kill(dying.pid, signal.SIGSTOP)
        with start(line(film, tmp_path, tiny_model)) as waiting:
            time.sleep(1)
            dying.kill()
            said = waiting.communicate(timeout=280)
    assert waiting.returncode == 0, said
    assert_same_rows(rows(tmp_path, FILM), rows(undisturbed, FILM))
    assert summary(tmp_path)["counts"]["captioned"] == 1
    assert len(captions(tmp_path, FILM)) == 330
