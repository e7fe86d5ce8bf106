"""What the defaults, --exclude and --include make of a path."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sources.choice import LEFT_OUT_BY_DEFAULT, Choice, LeftOut


@pytest.mark.parametrize(
    "key",
    [
        "trip/@eaDir/1.jpg/SYNOPHOTO_THUMB_XL.jpg",
        "@Recycle/1.jpg",
        "a/#recycle/b/1.jpg",
        "#snapshot/GMT-2026.01.01/1.jpg",
        "$RECYCLE.BIN/S-1-5-21/1.mp4",
        "System Volume Information/1.jpg",
        "__MACOSX/trip/1.jpg",
        "catalog/Main Previews.lrdata/0/1.jpg",
        "Pictures/Photos Library.photoslibrary/resources/derivatives/0/1_c.jpeg",
        "Wedding.fcpbundle/2026-05/Render Files/High Quality Media/1.mov",
        "card/PRIVATE/M4ROOT/THMBNL/C0001T01.JPG",
        "M4ROOT/SUB/C0001S03.MP4",
        "card/CONTENTS/ICON/0001AB.BMP",
    ],
)
def test_what_machines_leave_behind_is_left_out(key: str) -> None:
    assert not Choice().takes(key)
    assert str(Choice().reason(key)).endswith("(by default)")


@pytest.mark.parametrize(
    "key",
    [
        "1.jpg",
        "recycle/1.jpg",
        "eaDir/1.jpg",
        "@eaDir.jpg",
        "my@eaDir/1.jpg",
        "Photos Library.photoslibrary/originals/0/1.jpeg",
        "Photos Library.photoslibrary/resources/renders/0/1.jpeg",
        "Wedding.fcpbundle/2026-05/Original Media/1.mov",
        "Render Files/1.mov",
        "M4ROOT/CLIP/C0001.MP4",
        "SUB/1.mp4",
        "CONTENTS/VIDEO/0001AB.MXF",
        "Media Cache/1.mov",
    ],
)
def test_what_may_be_somebodys_is_taken(key: str) -> None:
    assert Choice().takes(key)


def test_include_takes_a_default_back_by_its_name() -> None:
    thumbnail = "trip/@eaDir/1.jpg/XL.jpg"
    for pattern in ("@eaDir", "@eaDir/", "trip/@eaDir/", "@*"):
        assert Choice(include=[pattern]).takes(thumbnail), pattern
    for pattern in ("*.jpg", "trip", "other/@eaDir", "#recycle"):
        assert not Choice(include=[pattern]).takes(thumbnail), pattern
    assert not Choice(["*.jpg"], ["@eaDir/1.jpg"]).takes(thumbnail)


def test_only_what_is_included_of_what_is_excluded() -> None:
    choice = Choice(["*"], ["*.mp4", "keep/"])
    assert choice.takes("a/b.mp4") and choice.takes("keep/1.jpg") and choice.takes("a/keep/b/1.jpg")
    assert not choice.takes("a/1.jpg") and not choice.takes("1.jpg")
    assert not choice.takes("@eaDir/b.mp4"), "thumbnails stay out, whatever their extension"


def test_include_alone_changes_nothing_else() -> None:
    assert Choice(include=["*.mp4"]).takes("1.jpg")


def test_what_is_hidden_is_always_left_out() -> None:
    for key in (".x.jpg", "a/.x.jpg", ".a/x.jpg", "a/.b/c/x.jpg", "a/._x.jpg", ".@__thumb/x.jpg"):
        assert not Choice(include=["*", ".*"]).takes(key)


def test_the_reason_is_for_people() -> None:
    choice = Choice(["drafts/", "*_proxy.*"])
    assert choice.reason("a/drafts/1.jpg") == "drafts/ (by --exclude)"
    assert choice.reason("a/1_proxy.mp4") == "*_proxy.* (by --exclude)"
    assert choice.reason("a/@eaDir/drafts/1.jpg") == "@eaDir/ (by default)"
    assert choice.reason("a/1.mp4") is None


NAMES = st.sampled_from(["@eaDir", "a", "drafts", "1.jpg", "2.mp4"])
KEYS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)


@given(st.lists(KEYS, max_size=20), st.lists(NAMES, max_size=2), st.lists(NAMES, max_size=2))
def test_what_was_looked_at_before_changes_nothing(
    keys: list[str], exclude: list[str], include: list[str]
) -> None:
    choice = Choice(exclude, include)
    assert [choice.reason(key) for key in keys] == [Choice(exclude, include).reason(key) for key in keys]
    folders = {key.rpartition("/")[0] for key in keys}
    for folder in folders - {""}:
        if not choice.takes_folder(folder) and not include:
            assert not choice.takes(f"{folder}/1.jpg")


def test_counts_in_words() -> None:
    left_out = LeftOut()
    assert left_out.in_words() is None
    left_out.add("b")
    assert left_out.in_words() == "1 file left out: 1 b"
    for _ in range(2):
        left_out.add("a")
    left_out.add("c")
    assert left_out.in_words() == "4 files left out: 2 a, 1 b, 1 c"


def test_the_documents_name_every_default() -> None:
    text = (Path(__file__).resolve().parents[3] / "docs" / "formats.md").read_text(encoding="utf-8")
    section = text.partition("### What is left out")[2].partition("\n## ")[0]
    assert [pattern for pattern in LEFT_OUT_BY_DEFAULT if f"`{pattern}`" not in section] == []
