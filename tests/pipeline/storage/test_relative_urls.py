"""Links from a report to its film: they lead there on disk and in a bucket, whatever names there are."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote_to_bytes, urljoin

import pytest

from pipeline.storage.local import key_from_name
from pipeline.storage.relative_urls import film_links, relative_link
from tests.media import write_video
from tests.pipeline.jobs import caption


def places(report: Path) -> list[bytes]:
    """The files that a report's links to its film lead to."""
    found = re.search(r'"places":\[(.*?)\]', report.read_text(encoding="utf-8"))
    assert found is not None
    urls = [urljoin(report.as_uri(), one.strip('"')) for one in found[1].split(",")]
    return [unquote_to_bytes(url.removeprefix("file://")) for url in urls]


@pytest.mark.parametrize(
    "name", ["clip.webm", "a #1 50%? 'é'.webm", "12:30.webm", os.fsdecode(b"caf\xe9.webm")]
)
def test_a_report_leads_to_the_film_that_it_is_of(tmp_path: Path, tiny_model: Path, name: str) -> None:
    film = write_video(tmp_path / "film.webm", ("cat",), frames_each=10)
    source = tmp_path / "my videos" / "trip" / name
    source.parent.mkdir(parents=True)
    film.rename(source)
    out = tmp_path / "captions"
    assert caption(tmp_path / "my videos", out, tiny_model) == 0
    folder = out / "trip" / name
    assert places(folder / "report.html") == [os.fsencode(folder / name), os.fsencode(source)]


def test_a_single_film_is_found_too(tmp_path: Path, tiny_model: Path) -> None:
    film = write_video(tmp_path / "in" / "film.webm", ("cat",), frames_each=10)
    assert caption(film, tmp_path / "out", tiny_model) == 0
    assert places(tmp_path / "out" / "film.webm" / "report.html")[1] == os.fsencode(film)


@pytest.mark.parametrize(
    ("url", "folder", "other", "key", "link"),
    [
        ("/data/out", "trip/a.mp4", "/data/in", "trip/a.mp4", "../../../in/trip/a.mp4"),
        ("/out", "a.mp4", "/data/in", "a.mp4", "../../data/in/a.mp4"),
        ("/data/in/a.mp4", "x", "/data/in", "a.mp4", "../../a.mp4"),
        ("s3://b/out", "trip/a.mp4", "s3://b/archive/run", "trip/a.mp4", "../../../archive/run/trip/a.mp4"),
        ("s3://b", "a.mp4", "s3://b/in", "a b.mp4", "../in/a%20b.mp4"),
        ("s3://b/out", "a.mp4", "s3://other/in", "a.mp4", None),
        ("s3://b/out", "a.mp4", "/data/in", "a.mp4", None),
        ("/data/out", "a.mp4", "s3://b/in", "a.mp4", None),
    ],
)
def test_a_link_goes_no_further_than_a_disk_or_a_bucket(
    url: str, folder: str, other: str, key: str, link: str | None
) -> None:
    assert relative_link(url, folder, other, key) == link


def test_names_that_are_no_text_differ_between_a_disk_and_a_bucket() -> None:
    key = key_from_name(os.fsdecode(b"caf\xe9.webm"))
    assert film_links("/out", key, "/in", key)[0] == "caf%E9.webm"
    assert film_links("s3://b/out", key, "s3://b/in", key)[0] == "caf%E2%80%9BE9.webm"
