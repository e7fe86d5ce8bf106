"""A run uses one version of a model from end to end, whoever is promoted meanwhile."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from model.errors import GpucaptError
from pipeline.captioning.run import CaptionRun
from pipeline.evaluation.promote import rollback
from pipeline.ingest.finish import finish
from pipeline.ingest.plan import Planning
from pipeline.ingest.shard import run_shard
from pipeline.models.registry import Registry
from pipeline.models.resolve import pinned
from pipeline.records.frame_selection import Selection
from pipeline.records.settings import CaptionSettings
from tests.media import write_video
from tests.pipeline.jobs import RESOURCES, command, environment, manifest, summary, write_still, write_stills
from tests.pipeline.registries import register, registry, two_models

pytestmark = pytest.mark.slow

__all__ = ["registry", "two_models"]

Two = tuple[Path, Path]

SETTINGS = CaptionSettings(Selection(every=1.0), beam_size=2, max_length=8, precision="fp32")


class Drop:
    """A drop folder whose jobs name no model."""

    def __init__(self, root: Path) -> None:
        self.incoming, self.out = root / "incoming", root / "out"
        self.incoming.mkdir()

    def plan(self) -> tuple[str, list[str]]:
        planned = Planning(str(self.incoming), str(self.out), SETTINGS, settle_s=0, shard_size=20_000).run()
        run, shards = planned["run"], planned["shards"]
        assert isinstance(run, str) and isinstance(shards, list)
        return run, shards

    def finish(self, run: str, shards: list[str]) -> None:
        for shard in shards:
            run_shard(shard, RESOURCES, "none")
        finish(run)

    def used(self, key: str) -> tuple[str, str]:
        content = manifest(self.out, key)
        return content["model"], content["model_version"]


@pytest.fixture
def drop(tmp_path: Path) -> Drop:
    return Drop(tmp_path)


def test_a_promotion_between_the_shards_of_a_run_is_for_the_next_run(
    registry: Registry, two_models: Two, drop: Drop
) -> None:
    register(two_models[0], "pets", "v1")
    write_stills(drop.incoming / "album", 6)
    write_video(drop.incoming / "clip.webm", ("cat", "coffee"), frames_each=60)
    run, shards = drop.plan()
    assert len(shards) >= 3, "too little was planned to be shared"
    run_shard(shards[0], RESOURCES, "none")
    register(two_models[1], "dogs", "v1")
    drop.finish(run, shards[1:])
    assert drop.used("album") == drop.used("clip.webm") == ("pets", "v1")
    assert summary(drop.out)["model_version"] == "v1"
    assert list(drop.incoming.rglob("*.*")) == [], "not all was done"
    write_still(drop.incoming / "later/000.png", 7)
    drop.finish(*drop.plan())
    assert drop.used("later") == ("dogs", "v1")


def test_a_first_promotion_does_not_reach_what_was_planned_with_the_bundled_model(
    registry: Registry, two_models: Two, drop: Drop
) -> None:
    write_stills(drop.incoming / "album", 2)
    planned = drop.plan()
    register(two_models[0], "pets", "v1")
    drop.finish(*planned)
    assert drop.used("album")[0] == "gpucapt-mobilenet_v2-flickr8k"


def test_a_champion_that_is_damaged_fails_the_plan_and_leaves_the_inputs(
    registry: Registry, two_models: Two, drop: Drop
) -> None:
    version = register(two_models[0], "pets", "v1")
    write_stills(drop.incoming / "album", 2)
    registry.storage.delete(f"{version}/model.safetensors")
    with pytest.raises(GpucaptError, match=r"pets/v1 .* is damaged: its model\.safetensors is missing"):
        drop.plan()
    assert len(list(drop.incoming.rglob("*.png"))) == 2
    assert not (drop.out / ".gpucapt" / "runs").exists() or not list(drop.out.rglob("plan.json"))


def test_a_plan_pins_names_too_and_leaves_paths_as_they_are(
    registry: Registry, two_models: Two, tmp_path: Path
) -> None:
    for model, version in zip(two_models, ("v1", "v2"), strict=True):
        register(model, "pets", version)
    assert pinned(None) == pinned("pets") == pinned("champion") == "pets/v2"
    rollback()
    assert pinned(None) == pinned("pets") == "pets/v1"
    assert pinned("pets/v2") == "pets/v2"
    assert pinned(str(tmp_path)) == str(tmp_path)
    assert pinned("bundled") == "bundled"


def test_a_promotion_in_the_middle_of_a_caption_run_is_for_the_next_run(
    registry: Registry, two_models: Two, tmp_path: Path
) -> None:
    register(two_models[0], "pets", "v1")
    for number in range(12):
        write_stills(tmp_path / f"in/album {number:02}", 6, first=6 * number)
    out = tmp_path / "out"
    options = ["--beam-size=2", "--max-length=8", "--batch-size=2", "--workers=1", "--device=cpu"]
    line = command("caption", tmp_path / "in", out, *options, "--progress=none")
    process = subprocess.Popen(
        line,
        env=environment(GPUCAPT_MODELS=registry.url, GPUCAPT_CACHE=str(tmp_path / "cache")),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 120
    while not list(out.glob("*/manifest.json")) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    done_before = len(list(out.glob("*/manifest.json")))
    register(two_models[1], "pets", "v2")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    used = [json.loads(path.read_text())["model_version"] for path in out.glob("*/manifest.json")]
    assert used == ["v1"] * 12
    assert 0 < done_before < 12, "the promotion came too late to be in the middle"


def test_the_same_weights_under_another_name_are_nothing_new(
    registry: Registry, two_models: Two, tmp_path: Path
) -> None:
    write_stills(tmp_path / "in/album", 2)
    by_path = CaptionSettings(beam_size=2, max_length=8, precision="fp32", model=str(two_models[0]))

    def caption(settings: CaptionSettings) -> None:
        run = CaptionRun(str(tmp_path / "in"), str(tmp_path / "out"), settings, RESOURCES, progress="none")
        assert run.run() == 0

    caption(by_path)
    before = manifest(tmp_path / "out", "album")
    register(two_models[0], "pets", "v1")
    caption(CaptionSettings(beam_size=2, max_length=8, precision="fp32"))
    assert manifest(tmp_path / "out", "album") == before
    register(two_models[1], "cats", "v1")  # a version of the same name, with other weights
    caption(CaptionSettings(beam_size=2, max_length=8, precision="fp32"))
    after = manifest(tmp_path / "out", "album")
    assert (after["model"], after["model_version"]) == ("cats", "v1")
    assert after["fingerprint"] != before["fingerprint"]
