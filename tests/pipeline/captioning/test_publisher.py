"""What already lies at the destination: never overwritten by mistake, never in the way of the others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model.errors import GpucaptError
from tests.pipeline.jobs import caption, write_still, write_stills


def summary(destination: Path) -> dict[str, object]:
    (path,) = destination.glob("runs/*/summary.json")
    content: dict[str, object] = json.loads(path.read_text())
    return content


def test_a_link_at_the_destination_never_leads_results_among_the_sources(
    tmp_path: Path, tiny_model: Path
) -> None:
    source, destination = tmp_path / "in", tmp_path / "out"
    write_stills(source / "pictures", 2)
    (source / "pictures" / "captions.csv").write_text("mine")
    write_stills(source / "others", 2)
    destination.mkdir()
    (destination / "pictures").symlink_to(source / "pictures")
    assert caption(source, destination, tiny_model) == 3
    names = sorted(path.name for path in (source / "pictures").iterdir())
    assert names == ["000.png", "001.png", "captions.csv"]
    assert (source / "pictures" / "captions.csv").read_text() == "mine"
    assert (destination / "others" / "manifest.json").is_file()
    (error,) = summary(destination)["errors"]  # type: ignore[misc]
    assert error["key"] == "pictures"
    assert "symbolic link" in error["reason"]


def test_a_source_that_is_a_link_inside_the_destination_stays_as_it_is(
    tmp_path: Path, tiny_model: Path
) -> None:
    write_still(tmp_path / "pictures" / "a.png", 1)
    destination = tmp_path / "out"
    destination.mkdir()
    (destination / "link").symlink_to(tmp_path / "pictures")
    assert caption(destination / "link", destination, tiny_model) == 1
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["a.png"]


def test_a_file_in_the_way_of_one_source_does_not_stop_the_others(tmp_path: Path, tiny_model: Path) -> None:
    source, destination = tmp_path / "in", tmp_path / "out"
    for name in ("first", "second"):
        write_stills(source / name, 2)
    destination.mkdir()
    (destination / "first").write_text("in the way")
    assert caption(source, destination, tiny_model) == 3
    assert (destination / "second" / "manifest.json").is_file()
    assert (destination / "first").read_text() == "in the way"
    (error,) = summary(destination)["errors"]  # type: ignore[misc]
    assert "in the way" in error["reason"]
    (destination / "first").unlink()
    assert caption(source, destination, tiny_model) == 0
    assert (destination / "first" / "manifest.json").is_file()


@pytest.mark.parametrize("name", ["", "runs", ".gpucapt", "deeper/still"])
def test_a_destination_that_is_no_folder_is_refused_before_anything_is_captioned(
    tmp_path: Path, tiny_model: Path, name: str
) -> None:
    write_still(tmp_path / "in" / "a.png", 1)
    destination = tmp_path / "out"
    if name in ("", "deeper/still"):
        destination.write_text("a file")
    else:
        destination.mkdir()
        (destination / name).write_text("a file")
    asked = destination / name if name == "deeper/still" else destination
    with pytest.raises(GpucaptError, match="is not a folder"):
        caption(tmp_path / "in", asked, tiny_model)
