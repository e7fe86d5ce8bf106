"""`gpucapt caption` with patterns: on its command line, in its variables, and what it tells of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.media import write_photograph
from tests.pipeline.jobs import caption_command, command, rows, run, summary, write_still, write_stills

pytestmark = pytest.mark.slow


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "in"
    write_stills(source / "trip", 3)
    for number in range(3):
        write_still(source / "trip" / "@eaDir" / f"{number:03}.png" / "THUMB_S.png", number)
    write_still(source / "System Volume Information, copied" / "1.png", 1)
    write_still(source / "drafts" / "1.png", 2)
    (source / "src").mkdir()
    (source / "src" / "app.ts").write_text("export const a = 1;\n")
    (source / "src" / "de.ts").write_bytes("<?xml version='1.0'?><TS></TS>\n".encode("utf-16"))
    return source


def reasons(destination: Path) -> dict[str, int]:
    return {one["reason"]: one["files"] for one in summary(destination)["left_out"]}


def test_options_and_what_a_run_tells(source: Path, tmp_path: Path, tiny_model: Path) -> None:
    out = tmp_path / "out"
    patterns = ["--exclude", "System Volume Information, *", "--exclude=drafts/", "--include=@eaDir"]
    done = run([*caption_command(source, out, tiny_model, *patterns), "--story", "none"])
    assert done.returncode == 0, done.stderr
    assert sorted(path.parent.name for path in out.rglob("manifest.json")) == [
        "000.png",
        "001.png",
        "002.png",
        "trip",
    ]
    assert "4 files left out: 2 text files, no recordings" in done.stderr
    assert reasons(out) == {
        "text files, no recordings (.ts, .mts, .m2ts)": 2,
        "System Volume Information, * (by --exclude)": 1,
        "drafts/ (by --exclude)": 1,
    }
    again = run([*caption_command(source, out, tiny_model, *patterns), "--story", "none"])
    assert again.returncode == 0 and "nothing new" in again.stdout and "4 files left out" in again.stderr


def test_variables_part_patterns_by_commas(source: Path, tmp_path: Path, tiny_model: Path) -> None:
    out = tmp_path / "out"
    settings = {"GPUCAPT_EXCLUDE": " System Volume Information? copied/ ,, drafts,", "GPUCAPT_INCLUDE": ""}
    done = run(caption_command(source, out, tiny_model), **settings)
    assert done.returncode == 0, done.stderr
    assert len(rows(out, "trip")) == 3
    assert reasons(out)["System Volume Information? copied/ (by --exclude)"] == 1
    assert reasons(out)["@eaDir/ (by default)"] == 3


def test_the_command_line_wins_over_the_variable(source: Path, tmp_path: Path, tiny_model: Path) -> None:
    out = tmp_path / "out"
    done = run(caption_command(source, out, tiny_model, "--exclude=Sys*"), GPUCAPT_EXCLUDE="*")
    assert done.returncode == 0, done.stderr
    assert len(rows(out, "drafts")) == 1


def test_stills_that_are_left_out_later_lose_their_rows(
    source: Path, tmp_path: Path, tiny_model: Path
) -> None:
    """As those that are gone do."""
    out = tmp_path / "out"
    for pattern, frames in (("none", 3), ("*1.png", 2), ("none", 3)):
        done = run(caption_command(source, out, tiny_model, f"--exclude={pattern}"))
        assert done.returncode == 0, done.stderr
        assert len(rows(out, "trip")) == frames


def test_nothing_that_is_meant_is_nothing_to_do(source: Path, tmp_path: Path, tiny_model: Path) -> None:
    done = run(caption_command(source, tmp_path / "out", tiny_model, "--exclude=*"))
    assert done.returncode == 1
    assert "there is nothing to caption" in done.stderr and "by --exclude" in done.stderr


@pytest.mark.parametrize("option", ["--exclude", "--include"])
@pytest.mark.parametrize("line", [["caption"], ["ingest", "plan"]])
def test_what_is_no_pattern_is_wrong_usage(tmp_path: Path, line: list[str], option: str) -> None:
    done = run(command(*line, tmp_path, tmp_path / "out", f"{option}=a[b"))
    assert done.returncode == 2
    assert "is no pattern" in done.stderr and "Traceback" not in done.stderr


def test_a_recording_whose_name_a_text_might_have(tmp_path: Path, tiny_model: Path) -> None:
    """What is neither a text nor a recording is looked at, as ever."""
    (tmp_path / "in").mkdir()
    write_photograph(tmp_path / "in" / "1.jpg", "cat")
    (tmp_path / "in" / "torn.ts").write_bytes(b"\x47\x40\x00\x10" + b"\xff" * 184)
    (tmp_path / "in" / "empty.m2ts").touch()
    done = run(caption_command(tmp_path / "in", tmp_path / "out", tiny_model))
    assert done.returncode == 3
    assert [error["key"] for error in summary(tmp_path / "out")["errors"]] == ["empty.m2ts", "torn.ts"]
