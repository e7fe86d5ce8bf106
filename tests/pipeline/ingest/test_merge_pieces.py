"""A long film, or a large folder, is captioned in pieces, and comes out as if it had been done in one go."""

from __future__ import annotations

import json
import random
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.ingest.finish import finish
from pipeline.ingest.plan import Planning
from pipeline.ingest.shard import run_shard
from pipeline.records.frame_selection import Selection
from pipeline.records.settings import CaptionSettings
from pipeline.state.leases import ClaimLost
from pipeline.state.parts import Parts
from pipeline.state.piece_marks import Mark
from tests.media import ffmpeg, write_video
from tests.model.tiny import make_tiny_checkpoint
from tests.pipeline.jobs import (
    RESOURCES,
    Rounds,
    assert_same_rows,
    caption,
    leftovers,
    manifest,
    rows,
    times,
    write_stills,
)
from tests.pipeline.workers import Worker

pytestmark = pytest.mark.slow

SIZE = 16_000
"""Bytes a piece."""


class Work(Rounds):
    """A drop folder whose sources are cut into small pieces."""

    def __init__(self, root: Path, model: Path) -> None:
        self.root, self.model = root, model
        self.incoming, self.out = root / "incoming", root / "out"
        self.incoming.mkdir(parents=True)

    def plan(self, *, size: int = SIZE, **options: Any) -> dict[str, Any]:
        settings = CaptionSettings(
            model=str(self.model), precision="fp32", beam_size=2, max_length=8, **options
        )
        return Planning(str(self.incoming), str(self.out), settings, settle_s=0.0, shard_size=size).run()

    def shard(self, url: str) -> None:
        run_shard(url, RESOURCES, "none")

    def shards(self, plan: dict[str, Any]) -> None:
        """In any order, as workers take them."""
        urls = list(plan["shards"])
        random.Random(0).shuffle(urls)
        for url in urls:
            self.shard(url)


@pytest.fixture
def work(tmp_path: Path, tiny_model: Path) -> Work:
    return Work(tmp_path, tiny_model)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of 20 s and some 90 kB, with a key frame now and then."""
    scenes = ("astronaut", "coffee", "rocket", "cat", "temple")
    path = write_video(tmp_path_factory.mktemp("film") / "film.mp4", scenes, frames_each=40, size=(128, 96))
    assert 4 * SIZE < path.stat().st_size < 12 * SIZE
    return path


def pieces_of(plan: dict[str, Any]) -> list[Any]:
    lines = [json.loads(line) for url in plan["shards"] for line in Path(url).read_text().splitlines()]
    return [line["piece"] for line in lines]


def assert_same(some: Path, others: Path) -> None:
    """The outputs are the same; log-probabilities up to what another grouping into batches rounds."""
    assert {path.name for path in some.iterdir()} == {path.name for path in others.iterdir()}
    for path in (*some.glob("*.vtt"), *some.glob("*.srt"), some / "story.md"):
        assert path.read_bytes() == (others / path.name).read_bytes()
    assert_same_rows(rows(some.parent, some.name), rows(others.parent, others.name))
    pages = [folder.joinpath("report.html").read_text(encoding="utf-8") for folder in (some, others)]
    pictures, wanted_pictures = (re.findall('"picture": ?"([^"]+)', page) for page in pages)
    assert pictures == wanted_pictures != []


@pytest.mark.parametrize("selection", [Selection(), Selection(every=None), Selection(scenes=True)], ids=str)
def test_a_film_in_pieces_comes_out_as_one(
    work: Work, film: Path, selection: Selection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "pipeline.records.row.MAX_ILLUSTRATED", 9
    )  # so that some frames go without their picture
    shutil.copy2(film, work.incoming)
    shutil.copytree(work.incoming, work.root / "sources")
    plan = work.round(selection=selection)
    assert len(pieces_of(plan)) > 3 and len(plan["shards"]) > 3
    whole = work.root / "whole"
    assert caption(work.root / "sources", whole, work.model, selection=selection) == 0
    assert_same(work.out / "film.mp4", whole / "film.mp4")
    assert manifest(work.out, "film.mp4")["fingerprint"] == manifest(whole, "film.mp4")["fingerprint"]
    assert not list(work.incoming.rglob("*.mp4")) and list((work.root / "archive").rglob("film.mp4"))
    assert leftovers(work.out) == []


@pytest.mark.needs("ffmpeg")
@pytest.mark.parametrize("name", ["damaged.mp4", "untimed.avi"])
def test_a_film_that_cannot_be_begun_anywhere_comes_out_the_same(work: Work, film: Path, name: str) -> None:
    if name == "damaged.mp4":
        options = ["-c:v", "libx264", "-g", "12", "-movflags", "+faststart"]
        path = ffmpeg(film, *options, to=work.incoming / name)
        data = bytearray(path.read_bytes())
        at = len(data) * 3 // 5
        data[at : at + 600] = bytes(600)
        path.write_bytes(data)
    else:
        ffmpeg(film, "-c:v", "mpeg4", "-bf", "2", to=work.incoming / name)
    shutil.copytree(work.incoming, work.root / "sources")
    selection = Selection(every=None)
    plan = work.round(selection=selection)
    assert len(pieces_of(plan)) > 3
    assert caption(work.root / "sources", work.root / "whole", work.model, selection=selection) == 0
    assert_same(work.out / name, work.root / "whole" / name)
    gaps = [
        json.loads((folder / name / "captions.json").read_text())["gaps"]
        for folder in (work.out, work.root / "whole")
    ]
    assert gaps[0] == gaps[1] and bool(gaps[0]) == (name == "damaged.mp4")


def test_caption_finds_what_was_done_in_pieces(work: Work, film: Path) -> None:
    shutil.copy2(film, work.incoming)
    shutil.copytree(work.incoming, work.root / "sources")
    run = work.round()["run"].rpartition("/")[2]
    report = (work.out / "film.mp4" / "report.html").read_text(encoding="utf-8")
    assert f'"places":["film.mp4","../../archive/{run}/film.mp4"]' in report
    before = times(work.out / "film.mp4")
    assert caption(work.root / "sources", work.out, work.model) == 0
    assert times(work.out / "film.mp4") == before


def test_a_folder_in_pieces_comes_out_as_one(work: Work) -> None:
    write_stills(work.incoming / "cam", 7)
    work.round(size=1 << 30)
    write_stills(work.incoming / "cam", 30, first=5)
    (work.incoming / "cam/012.png").write_text("bad")
    shutil.copytree(work.incoming, work.root / "sources")
    write_stills(work.root / "sources/cam", 5)
    plan = work.round(size=300_000)
    assert len(pieces_of(plan)) > 3
    whole = work.root / "whole"
    assert caption(work.root / "sources", whole, work.model) == 3
    assert_same(work.out / "cam", whole / "cam")
    assert len(rows(work.out, "cam")) == 34
    assert not list(work.incoming.rglob("*.png"))
    assert [path.name for path in (work.root / "failed").rglob("*.png")] == ["012.png"]
    assert leftovers(work.out) == []
    [summary] = (work.out / "runs" / plan["run"].rpartition("/")[2]).glob("summary.json")
    counts = json.loads(summary.read_text())["counts"]
    assert (counts["sources"], counts["captioned"], counts["frames"], counts["errors"]) == (1, 1, 34, 1)


def test_what_comes_out_of_pieces_says_of_what_the_model_is_unsure(tmp_path: Path) -> None:
    checkpoint = make_tiny_checkpoint(tmp_path / "model")
    config = {**json.loads((checkpoint / "config.json").read_text()), "unsure_below": 0.875}
    (checkpoint / "config.json").write_text(json.dumps(config))
    work = Work(tmp_path / "work", checkpoint)
    write_stills(work.incoming / "cam", 30)
    assert len(pieces_of(work.round(size=300_000))) > 3
    assert json.loads((work.out / "cam" / "captions.json").read_text())["unsure_below"] == 0.875


def test_what_is_missing_is_all_that_the_next_round_does(work: Work, film: Path) -> None:
    shutil.copy2(film, work.incoming)
    plan = work.plan()
    for url in plan["shards"][:-1]:
        work.shard(url)
    finish(plan["run"])
    assert list(work.incoming.iterdir()), "a film of which a piece is missing stays"
    assert not (work.out / "film.mp4").exists()
    parts = times(work.out / ".gpucapt/parts")
    again = work.plan()
    for url in again["shards"][:-1]:
        work.shard(url)
    assert times(work.out / ".gpucapt/parts") == parts, "what was done is done again"
    work.shard(again["shards"][-1])
    finish(again["run"])
    assert len(rows(work.out, "film.mp4")) == 20
    assert leftovers(work.out) == []


def test_finish_again_after_it_was_killed_in_the_middle(
    work: Work, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy2(film, work.incoming)
    write_stills(work.incoming / "cam", 12)
    plan = work.plan(size=70_000)
    for url in plan["shards"]:
        work.shard(url)
    with monkeypatch.context() as patched:
        patched.setattr("pipeline.ingest.finish.write_run_csv", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            finish(plan["run"])
    before = times(work.out / "film.mp4")
    finish(plan["run"])
    assert times(work.out / "film.mp4") == before
    assert len(rows(work.out, "cam")) == 12
    assert not [path for path in work.incoming.rglob("*") if path.is_file()]


def test_a_film_is_moved_once_in_whatever_order_its_pieces_are_told(
    work: Work, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.mp4", "b.mp4"):
        shutil.copy2(film, work.incoming / name)
    plan = work.plan()
    work.shards(plan)
    first, *_, last = sorted(Path(plan["run"], "outcomes").glob("0*.jsonl"))
    first_told, last_told = first.read_bytes(), last.read_bytes()
    first.write_bytes(last_told)
    last.write_bytes(first_told)
    moved: list[str] = []
    monkeypatch.setattr("pipeline.ingest.finish._Mover.move", lambda mover, one: moved.append(one.key))
    finish(plan["run"])
    assert sorted(moved) == ["a.mp4", "b.mp4"]


def test_a_piece_whose_claim_runs_out_as_it_begins_is_begun_again(
    work: Work, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = iter([True])
    write = Mark.write

    def too_late_once(mark: Mark, parts: Parts) -> None:
        if next(lost, False):
            raise ClaimLost
        write(mark, parts)

    monkeypatch.setattr(Mark, "write", too_late_once)
    shutil.copy2(film, work.incoming)
    work.round()
    assert next(lost, None) is None
    assert (work.out / "film.mp4" / "manifest.json").exists()
    assert leftovers(work.out) == [] and list(work.incoming.iterdir()) == []


def test_a_film_replaced_while_its_pieces_are_captioned_stays(work: Work, film: Path) -> None:
    shutil.copy2(film, work.incoming)
    plan = work.plan()
    work.shard(plan["shards"][0])
    write_video(work.incoming / "film.mp4", ("cat",), frames_each=30)
    for url in plan["shards"][1:]:
        work.shard(url)
    finish(plan["run"])
    assert list(work.incoming.iterdir()) and not (work.out / "film.mp4").exists()
    work.round()
    assert len(rows(work.out, "film.mp4")) == 3 and leftovers(work.out) == []


def test_two_plans_by_mistake_do_nothing_twice(work: Work, film: Path) -> None:
    shutil.copy2(film, work.incoming)
    write_stills(work.incoming / "cam", 12)
    one, other = (work.plan(size=70_000) for _ in range(2))
    for pair in zip(one["shards"], other["shards"], strict=True):
        for url in pair:
            work.shard(url)
    finish(one["run"])
    before = times(work.out / "film.mp4"), times(work.out / "cam"), times(work.root / "archive")
    finish(other["run"])
    assert (times(work.out / "film.mp4"), times(work.out / "cam"), times(work.root / "archive")) == before
    assert leftovers(work.out) == []
    late = work.plan(size=70_000)
    assert late["shards"] == []


def test_a_bad_film_is_set_aside_once_with_all_its_pieces(work: Work) -> None:
    (work.incoming / "bad.mp4").write_bytes(random.Random(0).randbytes(5 * SIZE))
    plan = work.round()
    assert len(pieces_of(plan)) == 5
    failed = sorted(path.name for path in (work.root / "failed").rglob("*") if path.is_file())
    assert failed == ["bad.mp4", "bad.mp4.error.json"]
    [summary] = (work.out / "runs").rglob("summary.json")
    counts = json.loads(summary.read_text())["counts"]
    assert (counts["sources"], counts["set_aside"], counts["errors"]) == (1, 1, 1)
    assert leftovers(work.out) == []


def test_selections_that_cannot_be_split_keep_their_film_whole(work: Work, film: Path) -> None:
    shutil.copy2(film, work.incoming)
    for selection in (Selection(max_frames=3), Selection(skip_duplicates=True)):
        assert pieces_of(work.plan(selection=selection)) == [None]


@pytest.mark.slow
def test_pieces_whose_workers_are_killed_at_any_time_lose_and_repeat_nothing(
    work: Work, film: Path, tmp_path: Path
) -> None:
    shutil.copy2(film, work.incoming / "film.mp4")
    write_stills(work.incoming / "cam", 24)
    shutil.copytree(work.incoming, work.root / "sources")
    selection = Selection(fps=4)
    assert caption(work.root / "sources", work.root / "whole", work.model, selection=selection) == 0
    chance, killed = random.Random(7), 0
    options = ["--batch-size=4", "--device=cpu", "--workers=2", "--progress=none"]
    for number in range(6):
        plan = work.plan(size=100_000 if number % 2 else 40_000, selection=selection)
        urls = chance.sample(plan["shards"], min(3, len(plan["shards"])))
        workers = [Worker(["ingest", "shard", *options, url], tmp_path / "log") for url in urls for _ in "ab"]
        time.sleep(chance.uniform(0.2, 1.5))
        killed += sum([worker.kill() for worker in chance.sample(workers, 4)])
        for worker in workers:
            worker.end()
        finish(plan["run"])
    assert killed > 5, "the workers were done before they were killed"
    work.round(selection=selection)
    for key in ("film.mp4", "cam"):
        assert_same(work.out / key, work.root / "whole" / key)
    assert leftovers(work.out) == []
    assert not [path for path in work.incoming.rglob("*") if path.is_file()]
