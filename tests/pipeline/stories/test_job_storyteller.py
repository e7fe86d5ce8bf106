"""Stories that a language model tells for a caption job: one that fails costs no caption."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli.main import app
from pipeline.errors import WrongUsage
from pipeline.ingest.finish import finish
from pipeline.ingest.plan import Planning
from pipeline.ingest.shard import run_shard
from pipeline.records.settings import CaptionSettings, Resources
from pipeline.stories import Story
from pipeline.stories.job_storyteller import Storyteller
from tests.pipeline.jobs import (
    caption,
    caption_command,
    environment,
    errors,
    manifest,
    rows,
    run,
    write_stills,
)
from tests.pipeline.report_rows import film_row, info
from tests.services.failing_endpoint import failing_endpoint, hangs, refuses, says

pytestmark = pytest.mark.slow

TOLD = says("Somebody has painted squares ", "in all the colours there are.")


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("OPENAI_", "GPUCAPT_STORY_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("GPUCAPT_STORY_RETRIES", "0")


def test_a_language_model_tells_the_story(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    album, out = write_stills(tmp_path / "album", 2), tmp_path / "out"
    with failing_endpoint(TOLD) as endpoint:
        monkeypatch.setenv("GPUCAPT_STORY_BASE_URL", endpoint.url)
        assert caption(album, out, tiny_model, story="openai") == 0
    story = Story.from_json((out / "album/story.json").read_text(encoding="utf-8"))
    assert story.turns[0].text == "Somebody has painted squares in all the colours there are."
    assert "Somebody has painted squares" in (out / "album/report.html").read_text(encoding="utf-8")
    assert "Somebody has painted squares" in (out / "album/story.md").read_text(encoding="utf-8")


def test_a_story_that_fails_leaves_the_captions_and_can_be_told_later(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    album, out = write_stills(tmp_path / "album", 2), tmp_path / "out"
    with failing_endpoint(refuses(500), TOLD) as endpoint:
        monkeypatch.setenv("GPUCAPT_STORY_BASE_URL", endpoint.url)
        settings = {"GPUCAPT_STORY_BASE_URL": endpoint.url, "GPUCAPT_STORY_RETRIES": "0"}
        line = caption_command(album, out, tiny_model, "--story", "openai")
        done = run(line, **settings)
        assert done.returncode == 3
        assert "captioned 1 source (2 frames), 1 without a story" in done.stdout
        assert "no story for album: the story could not be told: http://127.0.0.1" in done.stderr
        assert len(rows(out, "album")) == 2
        assert {file["name"] for file in manifest(out, "album")["files"]} >= {"captions.csv", "report.html"}
        assert not (out / "album/story.json").exists()
        assert "has trouble (500: no)" in errors(out)["album/story.json"]

        again = run(line, **settings)
        assert (again.returncode, "1 already done" in again.stdout) == (0, True)
        words = ("--from", str(out / "album/captions.json"), "--out", str(out / "album/story.json"))
        later = CliRunner().invoke(app, ["story", "new", *words, "--provider", "openai"])
    assert later.exit_code == 0
    assert "Somebody has painted squares" in (out / "album/story.json").read_text(encoding="utf-8")


def test_without_an_endpoint_nothing_is_begun(tmp_path: Path, tiny_model: Path) -> None:
    album = write_stills(tmp_path / "album", 1)
    with pytest.raises(WrongUsage, match="set GPUCAPT_STORY_BASE_URL"):
        caption(album, tmp_path / "out", tiny_model, story="openai")
    assert not (tmp_path / "out").exists()


def test_in_the_drop_folder_it_is_recorded_and_the_input_archived(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_stills(tmp_path / "incoming/album", 2)
    with failing_endpoint(refuses(401)) as endpoint:
        monkeypatch.setenv("GPUCAPT_STORY_BASE_URL", endpoint.url)
        settings = CaptionSettings(story="openai", model=str(tiny_model), beam_size=1)
        out = str(tmp_path / "out")
        plan = Planning(str(tmp_path / "incoming"), out, settings, settle_s=0.0).run()
        for shard in plan["shards"]:
            run_shard(shard, Resources("cpu", workers=1), "none")
        said = finish(plan["run"])
    assert "1 sources captioned (2 frames), 0 set aside, 1 without a story" in said
    assert "refuses the key (401)" in errors(tmp_path / "out")["album/story.json"]
    assert len(list((tmp_path / "archive").rglob("*.png"))) == 2
    assert not (tmp_path / "failed").exists()


def test_an_endpoint_that_is_down_is_soon_left_alone() -> None:
    source = replace(info(), settings={"story": "openai"})
    lines = [film_row(0, "a dog runs", illustrated=False)]
    with (
        failing_endpoint(refuses(503), refuses(503), TOLD) as endpoint,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("GPUCAPT_STORY_BASE_URL", endpoint.url)
        teller = Storyteller(patience=2, rest_s=0.3)
        reasons = [teller.tell(source, lines, lambda: None)[1] for _ in range(4)]
        assert len(endpoint.chats) == 2
        assert "not asked again" in str(reasons[3])
        while teller.tell(source, lines, lambda: None)[0] is None:
            pass
        assert len(endpoint.chats) == 3


def test_a_job_that_ends_early_does_not_wait_for_a_story() -> None:
    class Stopped(Exception):
        pass

    def go_on() -> None:
        raise Stopped

    source = replace(info(), settings={"story": "openai"})
    with failing_endpoint(hangs("Once ")) as endpoint, pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPUCAPT_STORY_BASE_URL", endpoint.url)
        with pytest.raises(Stopped):
            Storyteller().tell(source, [film_row(0, "a dog runs", illustrated=False)], go_on)


def test_a_job_that_is_told_to_end_does_so_although_the_endpoint_hangs(
    tmp_path: Path, tiny_model: Path
) -> None:
    album, out = write_stills(tmp_path / "album", 2), tmp_path / "out"
    with failing_endpoint(hangs()) as endpoint:
        line = caption_command(album, out, tiny_model, "--story", "openai")
        variables = environment(GPUCAPT_STORY_BASE_URL=endpoint.url, GPUCAPT_STORY_TIMEOUT="600")
        job = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=variables)
        while not endpoint.chats and job.poll() is None:
            time.sleep(0.05)
        job.send_signal(signal.SIGTERM)
        job.communicate(timeout=60)
    assert job.returncode == 128 + signal.SIGTERM
    with failing_endpoint(TOLD) as endpoint:
        done = run(line, GPUCAPT_STORY_BASE_URL=endpoint.url)
    assert done.returncode == 0
    assert (out / "album/story.md").exists()
