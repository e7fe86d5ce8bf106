"""captions.jsonl, captions.csv and captions.json: the same rows, each in its format."""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import GpucaptError
from pipeline.records.row import Row
from pipeline.records.source_info import SourceKind
from pipeline.records.video_facts import VideoFacts
from pipeline.reports import write_outputs
from pipeline.reports.text import json_line, printable
from pipeline.schemas import load_schema
from tests.pipeline.report_rows import Written, bad_still, film_row, info, still_row, write

COLUMNS = ["source", "frame", "timestamp_s", "caption", "log_prob", "model", "model_version"]
COLUMNS += ["confidence", "unsure"]
MODEL = ["test-model", "0123456789ab"]
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
    rows = [film_row(0, "a dog runs", log_prob=-3.123456), film_row(1, "two dogs run", log_prob=-6.5)]
    written = write(rows, tmp_path)

    tables = ["captions.jsonl", "captions.csv", "captions.json", "captions.vtt", "captions.srt"]
    assert written.names == [*tables, "story.md", "story.json", "report.html"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(written.names)
    assert written.csv == [
        COLUMNS,
        ["trip/clip.mp4", "0", "0.000", "a dog runs", "-3.1235", *MODEL, "0.4580", "false"],
        ["trip/clip.mp4", "25", "1.000", "two dogs run", "-6.5000", *MODEL, "0.1969", "true"],
    ]
    assert written.json_lines[0] == {
        "source": "trip/clip.mp4",
        "frame": 0,
        "timestamp_s": 0.0,
        "caption": "a dog runs",
        "log_prob": -3.1235,
        "model": "test-model",
        "model_version": "0123456789ab",
        "confidence": 0.458,
        "unsure": False,
        "words": ["a", "dog", "runs"],
    }
    assert written.json["rows"] == written.json_lines
    assert written.json["counts"] == {"frames": 2, "errors": 0}


def test_a_row_that_stands_for_a_scene_says_where_it_ends(tmp_path: Path) -> None:
    rows = [film_row(0, "a dog runs"), film_row(1, "a cat")]
    rows[0].timestamp_s, rows[0].end_s = 4.0, 8.00049
    written = write(rows, tmp_path)
    assert [row.get("end_s") for row in written.json_lines] == [8.0, None]
    assert "end_s" not in written.json_lines[1]
    assert written.json["rows"] == written.json_lines
    assert written.csv[0] == COLUMNS
    jsonschema.validate(written.json, load_schema("captions"))


def test_what_is_for_ourselves_stays_out_of_the_files(tmp_path: Path) -> None:
    rows = [film_row(0, "a dog runs"), film_row(1, "a cat")]
    rows[1].is_alike, rows[1].gap = True, (0.2, 0.9)
    row = write(rows, tmp_path).json_lines[1]
    assert not {"is_alike", "alike", "gap"} & set(row)


@pytest.mark.parametrize(
    ("limit", "unsure"), [(0.0, False), (0.1969, False), (0.19691, True), (0.3, True), (1.0, True)]
)
def test_unsure_is_what_lies_below_the_limit_as_both_are_written(
    tmp_path: Path, limit: float, unsure: bool
) -> None:
    written = write(
        [film_row(0, "two dogs run", log_prob=-6.5)], tmp_path, replace(info(), unsure_below=limit)
    )
    assert written.json["unsure_below"] == limit
    assert written.json_lines[0]["confidence"] == 0.1969
    assert written.json_lines[0]["unsure"] is unsure
    assert written.csv[1][-1] == str(unsure).lower()


GAPS = VideoFacts("pyav", "AV1, which OpenCV here cannot decode", ((1.0, 2.5), (20.0, 32.0)))


def test_captions_json_tells_how_a_film_was_read_and_what_is_missing(tmp_path: Path) -> None:
    rows = [film_row(0, "a dog runs")]
    found = Written(
        tmp_path, write_outputs(info(), lambda: iter(rows), tmp_path, story=None, facts=GAPS)
    ).json
    jsonschema.validate(found, load_schema("captions"))
    assert found["reading"] == {"backend": "pyav", "why": "AV1, which OpenCV here cannot decode"}
    assert found["gaps"] == [{"from_s": 1.0, "to_s": 2.5}, {"from_s": 20.0, "to_s": 32.0}]
    assert found["undecoded_s"] == 13.5
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "14 s of this video could not be decoded: 1.0–2.5, 20.0–32.0 s" in page


def test_a_whole_film_has_no_gaps_and_stills_have_none_to_have(tmp_path: Path) -> None:
    film = write([film_row(0, "a dog runs")], tmp_path / "film")
    assert (film.json["gaps"], film.json["undecoded_s"]) == ([], 0)
    assert "reading" not in film.json  # nobody told
    assert "could not be decoded" not in film.text("report.html")
    stills = write([still_row(0, "a.jpg", "a cat")], tmp_path / "stills")
    assert not {"gaps", "undecoded_s", "reading"} & set(stills.json)


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


FORMAT_1_ROW = {
    "source": "clip.mp4", "frame": 10, "timestamp_s": 1.0, "caption": "a dog", "log_prob": -3.25,
    "model": "test-model", "model_version": "0123456789ab", "words": ["a", "dog"],
}  # fmt: skip
FORMAT_1 = {
    "format": 1, "source": "clip.mp4", "kind": "video", "model": "test-model",
    "model_version": "0123456789ab", "fingerprint": "5b7c-91d0", "settings": {"beam_size": 2},
    "rows": [FORMAT_1_ROW], "errors": [], "counts": {"frames": 1, "errors": 0},
}  # fmt: skip


def test_the_schemas_take_what_an_earlier_version_wrote() -> None:
    jsonschema.validate(FORMAT_1, load_schema("captions"))
    jsonschema.validate(FORMAT_1_ROW, load_schema("captions-row"))


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},  # without what format 2 has
        {"gaps": []},
        {"reading": {"backend": "pyav", "why": ""}},
        {"rows": [{**FORMAT_1_ROW, "confidence": 0.5, "unsure": False}]},
        {"rows": [{**FORMAT_1_ROW, "end_s": 2.0}]},
        {"format": 3},
    ],
)
def test_the_schema_keeps_the_formats_apart(change: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**FORMAT_1, **change}, load_schema("captions"))


@pytest.mark.parametrize("name", ["gaps", "undecoded_s", "confidence", "unsure"])
def test_the_schema_misses_what_format_2_must_have(tmp_path: Path, name: str) -> None:
    found = write([film_row(0, "a dog runs")], tmp_path).json
    jsonschema.validate(found, load_schema("captions"))
    (found if name in found else found["rows"][0]).pop(name)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(found, load_schema("captions"))


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
        assert line["confidence"] == round(math.exp(line["log_prob"] / (len(row.words) + 1)), 4)
        assert line["unsure"] == (line["confidence"] < 0.3)
        assert record[7:] == [f"{line['confidence']:.4f}", str(line["unsure"]).lower()]
        jsonschema.validate(line, load_schema("captions-row"))
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


def test_an_error_in_the_middle_reaches_the_caller(tmp_path: Path) -> None:
    def rows() -> object:
        yield film_row(0, "a dog runs")
        raise GpucaptError("part 3 is damaged")

    with pytest.raises(GpucaptError, match="part 3 is damaged"):
        write_outputs(info(), rows, tmp_path, story=None)  # type: ignore[arg-type]
