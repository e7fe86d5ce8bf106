"""Which videos and folders of stills are found, under which keys, and what is set aside."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import GpucaptError
from pipeline.sources.choice import Choice, LeftOut
from pipeline.sources.discovery import (
    STILL_EXTENSIONS,
    VIDEO_EXTENSIONS,
    SetAside,
    Source,
    find_sources,
    kind_of,
    open_source,
    still_entries,
)
from pipeline.storage.base import Entry, Unreadable
from pipeline.storage.local import LocalStorage


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"-")
    return root


def found(root: Path) -> list[tuple[str, str]]:
    """(kind, key) of each source, all of which must be good."""
    _, sources = open_source(str(root))
    return [(source.kind, source.key) for source in sources if isinstance(source, Source)]


def set_aside(root: Path) -> dict[str, str]:
    _, sources = open_source(str(root))
    return {source.key: source.reason for source in sources if isinstance(source, SetAside)}


class Bucket(LocalStorage):
    """Listings of an object store, where a name can be an object's and a folder's at once."""

    def __init__(self, *keys: str) -> None:
        self._keys = sorted(keys, key=str.encode)

    def list(self, prefix: str = "", *, after: str = "", unreadable: Unreadable | None = None):  # type: ignore[no-untyped-def]
        return (Entry(key, 1, "e", 0.0) for key in self._keys if key.startswith(prefix) and key > after)

    def list_folder(self, folder: str, *, after: str = ""):  # type: ignore[no-untyped-def]
        start = folder + "/" if folder else ""
        return (
            entry for entry in self.list(start, after=start + after) if "/" not in entry.key[len(start) :]
        )


def test_each_video_and_each_folder_that_directly_holds_stills_is_a_source(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "trip/clip.mp4",
        "trip/album/1.jpg",
        "trip/album/2.PNG",
        "trip/notes.txt",
        "empty/deep/x.txt",
    )
    assert found(tmp_path) == [("stills", "trip/album"), ("video", "trip/clip.mp4")]


def test_folders_within_folders_of_stills_are_sources_of_their_own(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "a/1.jpg",
        "a/b/1.jpg",
        "a/b/z.jpg",
        "a/b-c/1.jpg",
        "a/c.jpg",
        "a/film.mp4",
        "a/z.jpg",
        "a.mp4",
    )
    assert found(tmp_path) == [
        ("video", "a.mp4"),
        ("stills", "a"),
        ("stills", "a/b-c"),
        ("stills", "a/b"),
        ("video", "a/film.mp4"),
    ]


@settings(deadline=None)
@given(
    st.sets(
        st.lists(
            st.sampled_from(["a", "b", "a-", "a.mp4", "b.jpg", "0.png", "n.txt"]), min_size=1, max_size=4
        )
        .map("/".join)
        .filter(lambda key: kind_of(key) is not None),
        max_size=12,
    )
)
def test_every_video_and_folder_comes_exactly_once(keys: set[str]) -> None:
    videos = {key for key in keys if kind_of(key) == "video"}
    folders = {key.rpartition("/")[0] or "base" for key in keys if kind_of(key) == "stills"}
    outcomes = list(find_sources(Bucket(*keys), base_name="base"))
    assert len(outcomes) == len(videos) + len(folders)
    good = [outcome.key for outcome in outcomes if isinstance(outcome, Source)]
    assert len(set(good)) == len(good)
    assert {outcome.key for outcome in outcomes} == videos | folders


def test_stills_directly_in_the_source_go_by_its_base_name(tmp_path: Path) -> None:
    root = touch(tmp_path / "holiday 2024", "1.jpg", "2.jpg", "clip.mp4", "more/3.jpg")
    assert found(root) == [("stills", "holiday 2024"), ("video", "clip.mp4"), ("stills", "more")]


@pytest.mark.parametrize("spelling", ["{}", "{}/", "{}/more/.."])
def test_the_base_name_does_not_depend_on_the_spelling(tmp_path: Path, spelling: str) -> None:
    touch(tmp_path / "holiday", "1.jpg", "more/x.txt")
    assert found(Path(spelling.format(tmp_path / "holiday"))) == [("stills", "holiday")]


def test_the_current_folder_has_a_base_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(touch(tmp_path / "holiday", "1.jpg"))
    assert found(Path()) == [("stills", "holiday")]


def test_one_video(tmp_path: Path) -> None:
    touch(tmp_path, "clip.mp4", "other.mp4")
    storage, sources = open_source(str(tmp_path / "clip.mp4"))
    (source,) = sources
    assert source == Source("clip.mp4", "video", "clip.mp4", storage.stat("clip.mp4"))


def test_one_still(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg")
    storage, sources = open_source(str(tmp_path / "b.jpg"))
    (source,) = sources
    assert isinstance(source, Source)
    assert (source.key, source.kind) == ("b.jpg", "stills")
    assert [entry.name for entry in still_entries(storage, source)] == ["b.jpg"]


def test_the_stills_of_a_folder_are_those_directly_in_it(tmp_path: Path) -> None:
    touch(tmp_path / "a", "b.jpg", "a.webp", "A.JPG", "film.mp4", "n.txt", ".hidden.jpg", "deep/c.jpg")
    storage, sources = open_source(str(tmp_path))
    album = next(source for source in sources if isinstance(source, Source) and source.key == "a")
    assert [entry.key for entry in still_entries(storage, album)] == ["a/A.JPG", "a/a.webp", "a/b.jpg"]


def test_other_files_and_hidden_ones_are_no_sources(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "notes.txt",
        "noextension",
        "x.mp4.part",
        ".clip.mp4",
        ".git/x.png",
        "a/._clip.mp4",
        ".gpucapt/x.jpg",
    )
    assert found(tmp_path) == []
    assert set_aside(tmp_path) == {}


def test_an_empty_folder_holds_nothing(tmp_path: Path) -> None:
    assert found(tmp_path) == []


def test_a_source_that_does_not_exist_is_said(tmp_path: Path) -> None:
    with pytest.raises(GpucaptError, match=r"nowhere.* does not exist"):
        open_source(str(tmp_path / "nowhere"))


def test_one_file_of_another_kind_is_said(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt")
    with pytest.raises(GpucaptError, match=r"notes\.txt"):
        open_source(str(tmp_path / "notes.txt"))


def test_odd_names_stay_as_they_are(tmp_path: Path) -> None:
    names = ["two\nlines.mp4", "<script>.mp4", "🎬 %41 'q\".mp4", "é/1.jpg"]
    touch(tmp_path, *names)
    (tmp_path / os.fsdecode(b"caf\xe9.mp4")).write_bytes(b"-")
    keys = [key for _, key in found(tmp_path)]
    assert set(keys) == {"two\nlines.mp4", "<script>.mp4", "🎬 %41 'q\".mp4", "é", "caf‛E9.mp4"}
    assert keys == sorted(keys, key=str.encode)


def test_what_is_left_out_is_counted_and_no_source(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "trip/1.jpg",
        "trip/@eaDir/1.jpg/THUMB_XL.jpg",
        "trip/@eaDir/1.jpg/THUMB_S.jpg",
        "#recycle/trip/clip.mp4",
        "#recycle/trip/notes.txt",
        ".trash/2.jpg",
        "drafts/clip.mp4",
    )
    left_out = LeftOut()
    _, sources = open_source(str(tmp_path), Choice(["drafts"]), left_out)
    assert [source.key for source in sources] == ["trip"]
    assert left_out.counts == {
        "@eaDir/ (by default)": 2,
        "#recycle/ (by default)": 1,
        "drafts (by --exclude)": 1,
    }


def test_a_folder_whose_stills_are_all_left_out_is_no_source_and_others_lack_those(tmp_path: Path) -> None:
    touch(tmp_path, "in/a/draft1.jpg", "in/b/draft1.jpg", "in/b/1.jpg", "in/in/2.jpg", "in/draft.jpg")
    choice = Choice(["draft*"])
    storage, sources = open_source(str(tmp_path / "in"), choice)
    found = [source for source in sources if isinstance(source, Source)]
    assert [source.key for source in found] == ["b", "in"], "nothing in the root claims its name"
    assert [entry.key for entry in still_entries(storage, found[0], choice)] == ["b/1.jpg"]


def test_one_file_is_meant_whatever_the_patterns_say(tmp_path: Path) -> None:
    touch(tmp_path, "draft.jpg")
    choice = Choice(["*"])
    storage, sources = open_source(str(tmp_path / "draft.jpg"), choice)
    (source,) = sources
    assert isinstance(source, Source)
    assert [entry.name for entry in still_entries(storage, source, choice)] == ["draft.jpg"]


def test_a_folder_that_is_left_out_may_be_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "lost+found/1.jpg", ".Trashes/1.jpg", "private/1.jpg", "other/1.jpg")
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name in ("lost+found", ".Trashes", "private"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert set(set_aside(tmp_path)) == {"private"}
    _, sources = open_source(str(tmp_path), Choice(["private/"]))
    assert [source.key for source in sources] == ["other"]


def test_a_circle_of_links_is_walked_once(tmp_path: Path) -> None:
    touch(tmp_path, "a/clip.mp4")
    (tmp_path / "a" / "again").symlink_to(tmp_path / "a")
    assert found(tmp_path) == [("video", "a/clip.mp4")]


# What is set aside


def test_reserved_names_at_the_top_are_set_aside(tmp_path: Path) -> None:
    touch(tmp_path, "runs/1.jpg", "runs/old/clip.mp4", "a/runs/1.jpg")
    assert found(tmp_path) == [("stills", "a/runs")]
    reasons = set_aside(tmp_path)
    assert set(reasons) == {"runs", "runs/old/clip.mp4"}
    assert "reserved" in reasons["runs"]


def test_a_name_that_leaves_no_room_for_those_of_its_results_is_set_aside(tmp_path: Path) -> None:
    longest, too_long = (f"{'folder/' * 80}{'n' * length}.mp4" for length in (136, 137))
    root = touch(tmp_path, longest, too_long)
    assert found(root) == [("video", longest)]
    assert "shorten it" in set_aside(root)[too_long]


def test_a_folder_of_stills_called_runs_is_set_aside(tmp_path: Path) -> None:
    assert "reserved" in set_aside(touch(tmp_path / "runs", "1.jpg"))["runs"]


@pytest.mark.parametrize("order", ["0.jpg", "z.jpg"])
def test_stills_in_the_source_keep_its_name_against_a_folder_called_the_same(
    tmp_path: Path, order: str
) -> None:
    root = touch(tmp_path / "photos", order, "photos/1.jpg")
    assert found(root) == [("stills", "photos")]
    assert "photos" in set_aside(root)["photos"]


def test_without_stills_in_the_source_its_name_is_free(tmp_path: Path) -> None:
    assert found(touch(tmp_path / "photos", "photos/1.jpg")) == [("stills", "photos")]
    assert found(touch(tmp_path / "a.mp4", "a.mp4")) == [("video", "a.mp4")]


def test_a_folder_called_like_a_result_is_set_aside(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "a/captions.csv/1.jpg", "a/report.html/deep/clip.mp4", "captions.csv/1.jpg")
    assert found(tmp_path) == [("stills", "a"), ("stills", "captions.csv")]
    reasons = set_aside(tmp_path)
    assert set(reasons) == {"a/captions.csv", "a/report.html/deep/clip.mp4"}
    assert all("rename" in reason for reason in reasons.values())


def test_a_video_and_a_folder_of_one_name_cannot_both_have_the_key() -> None:
    bucket = Bucket("clip.mp4", "clip.mp4 copy.mp4", "clip.mp4-2/1.jpg", "clip.mp4/1.jpg", "clip.mp4/2.jpg")
    outcomes = list(find_sources(bucket, base_name="in"))
    assert [outcome.key for outcome in outcomes if isinstance(outcome, Source)] == [
        "clip.mp4",
        "clip.mp4 copy.mp4",
        "clip.mp4-2",
    ]
    (aside,) = [outcome for outcome in outcomes if isinstance(outcome, SetAside)]
    assert (aside.key, aside.kind, aside.path) == ("clip.mp4", "stills", "clip.mp4")


def test_what_cannot_be_read_is_set_aside_and_the_rest_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a/clip.mp4", "locked/clip.mp4", "z/clip.mp4")
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert found(tmp_path) == [("video", "a/clip.mp4"), ("video", "z/clip.mp4")]
    assert "Permission denied" in set_aside(tmp_path)["locked"]


def test_finding_keeps_nothing_of_what_it_has_passed() -> None:
    """Memory must not grow with the listing, however many folders and videos it shows."""
    from pipeline.sources.discovery import _Finder

    finder = _Finder(Bucket(), "in", Choice(), LeftOut())
    for folder in range(1000):
        finder.see(Entry(f"f{folder:04}/1.jpg", 1, "e", 0.0))
        finder.see(Entry(f"f{folder:04}/2.mp4", 1, "e", 0.0))
    assert len(finder._open_folders) + len(finder._videos) <= 2


def test_the_documents_name_every_extension() -> None:
    text = (Path(__file__).resolve().parents[3] / "docs" / "formats.md").read_text(encoding="utf-8")
    section = text.partition("## What is read")[2].partition("\n## ")[0]
    named = {
        row[1].strip(): row[2].split() for line in section.splitlines() if len(row := line.split("|")) == 4
    }
    assert {f".{name}" for name in named["videos"]} == VIDEO_EXTENSIONS
    assert {f".{name}" for name in named["stills"]} == STILL_EXTENSIONS
