"""A fingerprint changes with the files, the model and the settings that matter, and with nothing else."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from pipeline.errors import StorageUnavailable
from pipeline.records.frame_selection import Selection
from pipeline.records.settings import CaptionSettings
from pipeline.records.source_info import SourceKind
from pipeline.state.fingerprints import Snapshot
from pipeline.storage.base import Entry

FILES = (Entry("a/1.jpg", 10, "e1", 1.0), Entry("a/2.jpg", 20, "e2", 2.0))


def fingerprint(
    files: tuple[Entry, ...] = FILES,
    settings: CaptionSettings | None = None,
    *,
    version: str = "v1",
    kind: SourceKind = "stills",
) -> str:
    with Snapshot(files) as snapshot:
        return snapshot.fingerprint(kind, settings or CaptionSettings(), version)


@pytest.mark.parametrize(
    "files",
    [
        FILES[:1],
        (*FILES, Entry("a/3.jpg", 1, "e", 0.0)),
        (Entry("a/1.jpg", 11, "e1", 1.0), FILES[1]),
        (Entry("a/1.jpg", 10, "e9", 1.0), FILES[1]),
        (Entry("a/0.jpg", 10, "e1", 1.0), FILES[1]),
    ],
)
def test_other_files_are_another_source(files: tuple[Entry, ...]) -> None:
    assert fingerprint(files) != fingerprint()
    assert fingerprint(files).split("-")[0] == fingerprint().split("-")[0], "rows of stills can be used again"


@pytest.mark.parametrize(
    "settings",
    [
        CaptionSettings(beam_size=1),
        CaptionSettings(max_length=7),
        CaptionSettings(precision="fp32"),
        CaptionSettings(selection=Selection(max_frames=3)),
    ],
)
def test_settings_that_change_the_rows_change_both_halves(settings: CaptionSettings) -> None:
    assert fingerprint(settings=settings).split("-")[0] != fingerprint().split("-")[0]


def test_the_model_counts_and_the_story_costs_no_rows() -> None:
    assert fingerprint(version="v2").split("-")[0] != fingerprint().split("-")[0]
    told = fingerprint(settings=CaptionSettings(story="none"))
    assert told != fingerprint() and told.split("-")[0] == fingerprint().split("-")[0]


@pytest.mark.filterwarnings("error::ResourceWarning")
def test_a_listing_that_breaks_off_leaves_no_file_open() -> None:
    def broken() -> Iterator[Entry]:
        yield from FILES
        raise StorageUnavailable("no answer")

    with pytest.raises(StorageUnavailable):
        Snapshot(broken())
    gc.collect()


def test_which_frames_are_chosen_matters_to_videos_alone() -> None:
    settings = CaptionSettings(selection=Selection(every=2.0))
    assert fingerprint(settings=settings) == fingerprint()
    assert fingerprint(settings=settings, kind="video") != fingerprint(kind="video")
    by_rate = CaptionSettings(selection=Selection(every=None, fps=0.5))
    assert fingerprint(settings=by_rate, kind="video") == fingerprint(settings=settings, kind="video")


def test_a_snapshot_gives_its_files_again_and_again() -> None:
    with Snapshot(iter(FILES)) as snapshot:
        assert tuple(snapshot) == FILES
        assert tuple(snapshot) == FILES
        assert (snapshot.count, snapshot.size) == (2, 30)


def test_settings_survive_the_plan() -> None:
    settings = CaptionSettings(Selection(None, 2.0, False, 7, True), 3, 9, "bf16", "none", "/models/a")
    assert CaptionSettings.from_json(settings.to_json()) == settings
