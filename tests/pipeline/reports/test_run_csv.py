"""The table of a run: sources of this version and of earlier and later ones under one header."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import GpucaptError
from pipeline.records.row import Row
from pipeline.reports.run_csv import UnsureLimits, append_to_run_csv
from pipeline.reports.tables import CSV_COLUMNS, csv_line, run_csv_header
from pipeline.storage.open import open_storage
from tests.pipeline.report_rows import Written, film_row, info, still_row, write

FORMAT_1_CSV = (
    "source,frame,timestamp_s,caption,log_prob,model,model_version\r\n"
    "old/clip.mp4,0,0.000,a dog runs,-3.2500,old-model,0123456789ab\r\n"
    'old/clip.mp4,25,1.000,"a dog, running",-6.0000,old-model,0123456789ab\r\n'
    "old/clip.mp4,50,2.000,,-0.2500,old-model,0123456789ab\r\n"
)
"""As version c5029aa wrote it; the last frame has no words."""


def put_old(folder: Path, key: str, csv: str = FORMAT_1_CSV, **more: Any) -> None:
    """The two files of format 1 that matter here; ``more`` replaces what captions.json says."""
    (folder / key).mkdir(parents=True)
    (folder / key / "captions.csv").write_bytes(csv.encode())
    head = {"format": 1, "source": key, "kind": "video", "unsure_below": 0.25, **more}
    lines = "".join(f"{json.dumps(name)}: {json.dumps(value)},\n" for name, value in head.items())
    text = f'{{\n{lines}"rows": [\n{{"caption": "a dog runs"}}\n],\n"errors": [\n],\n"counts": {{}}\n}}\n'
    (folder / key / "captions.json").write_text(text)


def joined(folder: Path, *keys: str) -> list[list[str]]:
    run = io.BytesIO()
    run.write(run_csv_header().encode())
    limits = UnsureLimits(open_storage(str(folder)))
    for key in keys:
        with (folder / key / "captions.csv").open("rb") as table:
            append_to_run_csv(table, run, limits)
    (folder / "captions.csv").write_bytes(run.getvalue())
    return Written(folder, []).csv


def test_it_is_one_header_and_the_rows_of_all_sources(tmp_path: Path) -> None:
    first = write([film_row(0, "a dog runs"), film_row(1, "a cat")], tmp_path / "one")
    second = write([still_row(0, "two\nlines.jpg", "a cup")], tmp_path / "two")
    assert joined(tmp_path, "one", "two") == [list(CSV_COLUMNS), *first.csv[1:], *second.csv[1:]]


def test_rows_of_format_1_get_their_confidence(tmp_path: Path) -> None:
    new = write([film_row(0, "a dog runs")], tmp_path / "new")
    put_old(tmp_path, "old/clip.mp4")
    table = joined(tmp_path, "new", "old/clip.mp4")
    assert table[:2] == new.csv
    assert table[2] == [
        "old/clip.mp4", "0", "0.000", "a dog runs", "-3.2500", "old-model", "0123456789ab", "0.4437", "false",
    ]  # fmt: skip
    assert [row[3:5] + row[7:] for row in table[3:]] == [
        ["a dog, running", "-6.0000", "0.2231", "true"],
        ["", "-0.2500", "0.7788", "false"],
    ]


def test_the_limit_is_that_of_each_model_and_the_default_where_none_is_said(tmp_path: Path) -> None:
    put_old(tmp_path, "old/clip.mp4", unsure_below=0.99)
    other = FORMAT_1_CSV.replace("old/clip.mp4", "older.mp4").replace("old-model", "older-model")
    put_old(tmp_path, "older.mp4", other)
    text = (tmp_path / "older.mp4" / "captions.json").read_text()
    (tmp_path / "older.mp4" / "captions.json").write_text(text.replace('"unsure_below": 0.25,\n', ""))
    table = joined(tmp_path, "old/clip.mp4", "older.mp4")
    assert [row[-1] for row in table[1:]] == ["true", "true", "true", "false", "true", "false"]


@pytest.mark.parametrize("document", [None, "", "[]", "not JSON", '{\n"unsure_below": {},\n"rows": [\n]}'])
def test_where_nobody_says_the_limit_unsure_is_empty(tmp_path: Path, document: str | None) -> None:
    put_old(tmp_path, "old/clip.mp4")
    (tmp_path / "old/clip.mp4/captions.json").unlink()
    if document is not None:
        (tmp_path / "old/clip.mp4/captions.json").write_text(document)
    table = joined(tmp_path, "old/clip.mp4")
    assert [row[7:] for row in table[1:]] == [["0.4437", ""], ["0.2231", ""], ["0.7788", ""]]


def test_columns_of_a_later_version_are_left_out(tmp_path: Path) -> None:
    new = write([film_row(0, "a dog runs"), still_row(1, "a, b.jpg", "a cat")], tmp_path / "one")
    later = [[*new.csv[0], "status", "flags"], *([*row, "ok", "night"] for row in new.csv[1:])]
    (tmp_path / "later").mkdir()
    (tmp_path / "later/captions.csv").write_bytes("".join(map(csv_line, later)).encode())
    assert joined(tmp_path, "later") == new.csv


def test_a_foreign_table_does_not_get_into_it(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one/captions.csv").write_text("name,age\nAda,36\n", encoding="utf-8")
    with pytest.raises(GpucaptError, match=r"captions\.csv: not a captions\.csv of gpucapt"):
        joined(tmp_path, "one")


@pytest.mark.parametrize(
    "cut", [len(FORMAT_1_CSV) - 30, len(FORMAT_1_CSV) - 2 - len(",-0.2500,old-model,0123456789ab")]
)
def test_a_table_of_format_1_that_was_cut_off_is_told(tmp_path: Path, cut: int) -> None:
    put_old(tmp_path, "old/clip.mp4", FORMAT_1_CSV[:cut])
    with pytest.raises(GpucaptError, match=r"captions\.csv: damaged"):
        joined(tmp_path, "old/clip.mp4")


words = st.lists(st.text("abcdé,\"'’-", min_size=1, max_size=6), max_size=6)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(words, st.floats(-200, 0)), max_size=5))
def test_rows_of_format_1_come_out_as_this_version_would_write_them(
    captions: list[tuple[list[str], float]],
) -> None:
    rows = [Row(at, at, at / 2, " ".join(said), said, sure) for at, (said, sure) in enumerate(captions)]
    with tempfile.TemporaryDirectory() as folder:
        new = write(rows, Path(folder) / "new", info("video", "old"))
        old = "".join(csv_line(row[:7]) for row in new.csv)
        put_old(Path(folder), "old", old, unsure_below=0.3)
        assert joined(Path(folder), "old") == new.csv
