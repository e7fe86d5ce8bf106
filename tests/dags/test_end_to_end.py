"""The DAG with the real gpucapt: files are dropped into a folder, and captions come out of another."""

from __future__ import annotations

import csv
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.dags.conftest import Airflow, DagRun
from tests.media import write_photograph, write_video
from tests.model.tiny import make_tiny_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A captioner that writes nonsense quickly."""
    return make_tiny_checkpoint(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def incoming(tmp_path: Path) -> Path:
    """A folder with a film of three seconds and two photographs, all of them there for an hour."""
    folder = tmp_path / "incoming"
    write_video(folder / "film.webm", frames_each=10)
    write_photograph(folder / "trip" / "cat.jpg", "cat", size=(96, 64))
    write_photograph(folder / "trip" / "coffee & cake.png", "coffee", size=(96, 64))
    settle(folder)
    return folder


def settle(folder: Path) -> None:
    """Make every file look as if it had arrived an hour ago."""
    for path in folder.rglob("*"):
        os.utime(path, (time.time() - 3600, time.time() - 3600))


def run(airflow: Airflow, incoming: Path, destination: Path, checkpoint: Path, **conf: Any) -> DagRun:
    """One run of the DAG on the CPU."""
    conf = {"incoming": str(incoming), "destination": str(destination), "model": str(checkpoint), **conf}
    return airflow.run(conf, env={"GPUCAPT_DEVICE": "cpu"})


def summaries(destination: Path) -> list[dict[str, Any]]:
    """The summaries of the runs, oldest first."""
    return [json.loads(path.read_text()) for path in sorted(destination.glob("runs/*/summary.json"))]


def files(folder: Path) -> set[str]:
    """The files in a folder, by their path in it."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_what_arrives_is_captioned_and_archived_once(
    airflow: Airflow, incoming: Path, tmp_path: Path, checkpoint: Path
) -> None:
    out = tmp_path / "out"
    first = run(airflow, incoming, out, checkpoint, beam_size=2)
    assert first.state == "success", first.log
    assert first.tasks["finish"] == "success"

    table = list(
        csv.DictReader((out / "film.webm" / "captions.csv").read_text(encoding="utf-8").splitlines())
    )
    assert [(row["frame"], row["timestamp_s"]) for row in table] == [
        ("0", "0.000"),
        ("10", "1.000"),
        ("20", "2.000"),
    ]
    stills = [json.loads(line) for line in (out / "trip" / "captions.jsonl").read_text().splitlines()]
    assert [row["frame"] for row in stills] == ["cat.jpg", "coffee & cake.png"]
    manifest = json.loads((out / "trip" / "manifest.json").read_text())
    assert manifest["settings"]["beam_size"] == 2
    assert files(incoming) == set()
    (archive,) = (tmp_path / "archive").iterdir()
    assert files(archive) == {"film.webm", "trip/cat.jpg", "trip/coffee & cake.png"}

    before = {path: path.stat().st_mtime_ns for path in out.rglob("captions.*")}
    second = run(airflow, incoming, out, checkpoint, beam_size=2)
    assert second.state == "success", second.log
    assert second.tasks["caption"] == "skipped"
    assert {path: path.stat().st_mtime_ns for path in out.rglob("captions.*")} == before
    assert len(summaries(out)) == 1


def test_a_bad_input_is_set_aside_and_the_run_succeeds(
    airflow: Airflow, incoming: Path, tmp_path: Path, checkpoint: Path
) -> None:
    (incoming / "trip" / "not a picture.jpg").write_text("this is text")
    (incoming / "empty.mp4").write_bytes(b"")
    settle(incoming)
    out = tmp_path / "out"
    found = run(airflow, incoming, out, checkpoint)
    assert found.state == "success", found.log
    (summary,) = summaries(out)
    reasons = {error["key"]: error["reason"] for error in summary["errors"]}
    assert set(reasons) == {"trip/not a picture.jpg", "empty.mp4"}
    assert all(reason and "\n" not in reason for reason in reasons.values())
    (failed,) = (tmp_path / "failed").iterdir()
    assert files(failed) == {
        "trip/not a picture.jpg",
        "trip/not a picture.jpg.error.json",
        "empty.mp4",
        "empty.mp4.error.json",
    }
    stills = (out / "trip" / "captions.jsonl").read_text().splitlines()
    assert len(stills) == 2


def test_a_place_that_does_not_exist_fails_with_one_clear_line(
    airflow: Airflow, tmp_path: Path, checkpoint: Path
) -> None:
    found = run(airflow, tmp_path / "nowhere", tmp_path / "out", checkpoint)
    assert found.state == "failed"
    assert found.tasks["plan"] == "failed"
    assert f"INCOMING {tmp_path / 'nowhere'} does not exist" in found.log
