"""captions.jsonl, captions.csv and captions.json: the same rows, each in its format."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import GpucaptError
from pipeline.records.row import Row
from pipeline.records.source_info import SourceKind
from pipeline.reports import append_to_run_csv, run_csv_header, write_outputs
from pipeline.reports.text import json_line, printable
from pipeline.schemas import load_schema
from tests.pipeline.report_rows import Written, bad_still, film_row, info, still_row, write

COLUMNS = ["source", "frame", "timestamp_s", "caption", "log_prob", "model", "model_version"]
HOSTILE_NAMES = [
    "=1+1.jpg",
    '"quoted", and with a comma.jpg',
    "two\nlines\r\nand a\rreturn.jpg",
    "<script>alert(1)</script>.jpg",
    "</script><img src=x onerror=alert(1)>.jpg",
    "🐕‍🦺 Åse\u2028and\u2029more\x85.jpg",
    "bytes that are not text \udcff\udc80.jpg",
    " spaces at both ends ",
]


def test_a_film_has_all_files_and_each_says_the_same(tmp_path: Path) -> None:
    rows = [film_row(0, "a dog runs", log_prob=-3.123456), film_row(1, "two dogs run", log_prob=-0.5)]
    written = write(rows, tmp_path)

    tables = ["captions.jsonl", "captions.csv", "captions.json", "captions.vtt", "captions.srt"]
    assert written.names == [*tables, "story.md", "story.json", "report.html"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(written.names)
    assert written.csv == [
        COLUMNS,
        ["trip/clip.mp4", "0", "0.000", "a dog runs", "-3.1235", "test-model", "0123456789ab"],
        ["trip/clip.mp4", "25", "1.000", "two dogs run", "-0.5000", "test-model", "0123456789ab"],
    ]
    assert written.json_lines[0] == {
        "source": "trip/clip.mp4",
        "frame": 0,
        "timestamp_s": 0.0,
        "caption": "a dog runs",
        "log_prob": -3.1235,
        "model": "test-model",
        "model_version": "0123456789ab",
        "words": ["a", "dog", "runs"],
    }
    assert written.json["rows"] == written.json_lines
    assert written.json["counts"] == {"frames": 2, "errors": 0}


def test_a_still_has_its_name_for_a_frame_and_no_time(tmp_path: Path) -> None:
    written = write([still_row(0, "a b.jpg", "a cat")], tmp_path)
    assert written.csv[1][:4] == ["trip/album", "a b.jpg", "", "a cat"]
    assert written.json_lines[0]["frame"] == "a b.jpg"
    assert written.json_lines[0]["timestamp_s"] is None
    assert not {"captions.vtt", "captions.srt"} & set(written.names)


def test_bad_stills_are_errors_and_not_rows(tmp_path: Path) -> None:
    rows = [
        bad_still(0, "a.jpg", "not an image"),
        still_row(1, "b.jpg", "a cat"),
        bad_still(2, "c.jpg", "empty"),
    ]
    written = write(rows, tmp_path)
    assert [row["frame"] for row in written.json_lines] == ["b.jpg"]
    assert [row[1] for row in written.csv[1:]] == ["b.jpg"]
    assert written.json["errors"] == [
        {"frame": "a.jpg", "reason": "not an image"},
        {"frame": "c.jpg", "reason": "empty"},
    ]
    assert written.json["counts"] == {"frames": 1, "errors": 2}


def test_without_a_story_there_are_no_story_files(tmp_path: Path) -> None:
    rows = [film_row(0, "a dog runs")]
    names = write_outputs(info(), lambda: iter(rows), tmp_path, story=None)
    assert not {"story.md", "story.json"} & set(names)
    assert "The story" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_source_without_rows_still_has_whole_files(tmp_path: Path) -> None:
    written = write([], tmp_path, info("video"))
    assert written.csv == [COLUMNS]
    assert written.json["rows"] == []
    assert written.text("captions.vtt") == "WEBVTT\n"


def test_files_match_their_schemas(tmp_path: Path) -> None:
    rows = [bad_still(0, "bad.jpg", "empty")]
    rows += [still_row(place, name, "a cat on a mat") for place, name in enumerate(HOSTILE_NAMES, 1)]
    for written in (write(rows, tmp_path / "stills"), write([film_row(0, "a dog runs")], tmp_path / "film")):
        jsonschema.validate(written.json, load_schema("captions"))
        jsonschema.validate(json.loads(written.text("story.json")), load_schema("story"))
        for row in written.json_lines:
            jsonschema.validate(row, load_schema("captions-row"))


def test_the_schema_refuses_a_still_with_a_time(tmp_path: Path) -> None:
    row = write([still_row(0, "a.jpg", "a cat")], tmp_path).json_lines[0]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**row, "timestamp_s": 1.0}, load_schema("captions-row"))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**row, "frame": 3}, load_schema("captions-row"))


def test_both_schemas_of_a_row_are_the_same() -> None:
    row = load_schema("captions-row")
    inner = load_schema("captions")["$defs"]["row"]
    assert {name: row[name] for name in inner} == inner
    assert set(row) - set(inner) == {"$schema", "title"}


@pytest.mark.parametrize("name", ["captions", "captions-row", "manifest", "story", "summary"])
def test_schemas_are_schemas(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(load_schema(name))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_names_come_back_as_they_were(tmp_path: Path, name: str) -> None:
    written = write([still_row(0, name, "a cat")], tmp_path, info("stills", f"trip/{name}"))
    assert written.json_lines[0]["frame"] == name
    assert written.json_lines[0]["source"] == f"trip/{name}"
    assert written.json["source"] == f"trip/{name}"
    # UTF-8 cannot hold what was never text; the table has the sign for that.
    assert written.csv[1][:2] == [printable(f"trip/{name}"), printable(name)]


names = st.text(st.characters(codec=None, exclude_characters="\0/"), min_size=1, max_size=30)
rows_of_stills = st.lists(
    st.builds(
        lambda name, words, log_prob: Row(0, name, None, " ".join(words), words, log_prob),
        names,
        st.lists(st.text(min_size=1, max_size=8), max_size=6),
        st.floats(-500, 0),
    ),
    max_size=6,
)
rows_of_films = st.lists(
    st.builds(
        lambda frame, time, words, log_prob: Row(0, frame, time, " ".join(words), words, log_prob),
        st.integers(0, 10**9),
        st.floats(0, 1e6),
        st.lists(st.text(min_size=1, max_size=8), max_size=6),
        st.floats(-500, 0),
    ),
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(rows_of_stills | rows_of_films, names)
def test_tables_read_back_are_the_rows_written(rows: list[Row], key: str) -> None:
    for position, row in enumerate(rows):
        row.position = position
    kind: SourceKind = "video" if rows and rows[0].timestamp_s is not None else "stills"
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        written = Written(
            directory, write_outputs(info(kind, key), lambda: iter(rows), directory, story=None)
        )
        lines, table = written.json_lines, written.csv[1:]
        assert written.json["rows"] == lines
    assert len(lines) == len(table) == len(rows)
    for row, line, record in zip(rows, lines, table, strict=True):
        assert (line["source"], line["frame"], line["caption"], line["words"]) == (
            key, row.frame, row.caption, row.words,
        )  # fmt: skip
        assert line["log_prob"] == pytest.approx(row.log_prob, abs=5.1e-5)
        assert record[:2] == [printable(key), printable(str(row.frame))]
        assert record[3] == printable(row.caption)
        assert float(record[4]) == pytest.approx(line["log_prob"], abs=1e-9)
        if row.timestamp_s is None:
            assert line["timestamp_s"] is None
            assert record[2] == ""
        else:
            assert line["timestamp_s"] == pytest.approx(row.timestamp_s, abs=5.1e-4)
            assert float(record[2]) == pytest.approx(line["timestamp_s"], abs=1.1e-3)


@settings(deadline=None)
@given(st.recursive(st.text(st.characters(codec=None)), st.lists, max_leaves=5))
def test_json_on_a_line_stays_on_a_line(value: object) -> None:
    line = json_line(value)
    assert len(line.splitlines()) == 1
    assert json.loads(line) == value
    line.encode("utf-8")


def test_a_run_s_table_is_one_header_and_the_rows_of_all_sources(tmp_path: Path) -> None:
    first = write([film_row(0, "a dog runs"), film_row(1, "a cat")], tmp_path / "one")
    second = write([still_row(0, "two\nlines.jpg", "a cup")], tmp_path / "two")
    run = io.BytesIO()
    run.write(run_csv_header().encode())
    for written in (first, second):
        with (written.directory / "captions.csv").open("rb") as table:
            append_to_run_csv(table, run)
    (tmp_path / "captions.csv").write_bytes(run.getvalue())
    assert Written(tmp_path, []).csv == [COLUMNS, *first.csv[1:], *second.csv[1:]]


def test_a_foreign_table_does_not_get_into_a_run_s(tmp_path: Path) -> None:
    (tmp_path / "captions.csv").write_text("name,age\nAda,36\n", encoding="utf-8")
    refused = pytest.raises(GpucaptError, match=r"captions\.csv: not a captions\.csv of gpucapt")
    with (tmp_path / "captions.csv").open("rb") as table, refused:
        append_to_run_csv(table, io.BytesIO())


def test_an_error_in_the_middle_reaches_the_caller(tmp_path: Path) -> None:
    def rows() -> object:
        yield film_row(0, "a dog runs")
        raise GpucaptError("part 3 is damaged")

    with pytest.raises(GpucaptError, match="part 3 is damaged"):
        write_outputs(info(), rows, tmp_path, story=None)  # type: ignore[arg-type]
