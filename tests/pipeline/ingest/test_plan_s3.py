"""Planning a drop folder that is a prefix of a bucket."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from model.errors import GpucaptError
from pipeline.ingest.plan import Planning
from pipeline.records.settings import CaptionSettings
from pipeline.storage.open import open_storage
from tests.pipeline.jobs import write_stills

SETTLE_S = 1.5


def test_a_bucket_that_was_emptied_is_nothing_to_do(bucket: str) -> None:
    planning = Planning(f"s3://{bucket}/incoming", f"s3://{bucket}/captions", CaptionSettings(), wait=True)
    assert planning.run()["shards"] == []


def test_a_bucket_that_is_not_there_is_said_at_once(bucket: str) -> None:
    planning = Planning("s3://no-such-bucket/incoming", f"s3://{bucket}/captions", CaptionSettings())
    with pytest.raises(GpucaptError, match="there is no such bucket"):
        planning.run()


def test_what_has_just_arrived_in_a_bucket_is_planned_by_the_run_that_it_woke(
    bucket: str, tmp_path: Path
) -> None:
    incoming = open_storage(f"s3://{bucket}/incoming")
    incoming.upload(write_stills(tmp_path, 1) / "000.png", "album/000.png")
    planning = Planning(incoming.url, f"s3://{bucket}/captions", CaptionSettings(), SETTLE_S)
    assert planning.run()["shards"] == []
    assert len(replace(planning, wait=True).run()["shards"]) == 1  # type: ignore[arg-type]
