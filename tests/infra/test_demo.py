"""`make demo`: its sample input, and the whole of it, twice."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest
from PIL import Image

from tests.model.tiny import make_tiny_checkpoint

pytestmark = pytest.mark.slow

DEMO = Path(__file__).resolve().parents[2] / "infra" / "demo"


def test_the_sample_input_is_photographs_and_a_film_of_them(tmp_path: Path) -> None:
    subprocess.run([sys.executable, DEMO / "samples.py", tmp_path], check=True, capture_output=True)
    photographs = sorted((tmp_path / "photographs").iterdir())
    assert len(photographs) == 8
    for path in photographs:
        with Image.open(path) as image:
            image.load()
            assert min(image.size) >= 300, path.name
    film = cv2.VideoCapture(str(tmp_path / "film.webm"))
    frames = 0
    while film.grab():
        frames += 1
    assert (frames, film.get(cv2.CAP_PROP_FPS)) == (180, 15)
    # Nothing has to wait for it to settle.
    assert all(time.time() - path.stat().st_mtime > 60 for path in tmp_path.rglob("*.*") if path.is_file())


@pytest.mark.slow
def test_the_demo_shows_captions_and_the_second_time_finds_them(tmp_path: Path) -> None:
    model = make_tiny_checkpoint(tmp_path / "model")
    env = {**os.environ, "GPUCAPT_MODEL": str(model), "GPUCAPT_DEVICE": "cpu", "COLUMNS": "100"}

    def demo() -> str:
        command = [sys.executable, str(DEMO / "run.py"), str(tmp_path / "demo")]
        done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    first = demo()
    for wanted in ("film.webm", "photographs", "11.0 s", "chelsea.png", "report.html", "Film"):
        assert wanted in first, first
    assert "nothing new" not in first
    reports = [tmp_path / "demo" / "captions" / name / "report.html" for name in ("film.webm", "photographs")]
    written = [report.stat().st_mtime_ns for report in reports]

    second = demo()
    assert "nothing new has arrived in incoming/: the work is done" in second
    assert "chelsea.png" in second
    assert [report.stat().st_mtime_ns for report in reports] == written


def test_a_demo_that_fails_says_where_and_ends_with_an_error(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    # Airflow that cannot even be imported.
    (tmp_path / "airflow").mkdir()
    (tmp_path / "airflow" / "__init__.py").write_text("raise SystemExit('this Airflow is broken')")
    command = [sys.executable, str(DEMO / "run.py"), str(tmp_path / "demo")]
    done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 1
    assert "this Airflow is broken" in done.stderr
    assert "The demo failed in: airflow db migrate" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_job_that_fails_is_quoted(tmp_path: Path) -> None:
    env = {**os.environ, "GPUCAPT_MODEL": str(tmp_path / "nowhere")}
    command = [sys.executable, str(DEMO / "run.py"), str(tmp_path / "demo")]
    done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[0].startswith("gpucapt ingest ")
    assert str(tmp_path / "nowhere") in lines[0]
    assert len(lines) < 6, done.stderr
