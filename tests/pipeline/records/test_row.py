"""Rows survive being written to a part file and read again."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import GpucaptError
from pipeline.records.row import Row, illustration_stride, is_illustrated

any_text = st.text(st.characters(codec=None))  # lone surrogates too: file names hold them
rows = st.builds(
    Row,
    position=st.integers(0, 10**9),
    frame=st.integers(0, 10**12) | any_text,
    timestamp_s=st.none() | st.floats(0, 1e9),
    caption=any_text,
    words=st.lists(any_text, max_size=8),
    log_prob=st.floats(-1e6, 0),
    etag=st.none() | any_text,
    attention=st.none() | st.binary(max_size=200),
    grid=st.none() | st.tuples(st.integers(1, 20), st.integers(1, 20)),
    thumbnail=st.none() | st.binary(max_size=200),
    error=st.none() | any_text,
    end_s=st.none() | st.floats(0, 1e9),
    is_alike=st.booleans(),
    gap=st.none() | st.tuples(st.floats(0, 1e9), st.floats(0, 1e9)),
)


@given(rows)
def test_a_row_read_back_is_the_row_written(row: Row) -> None:
    line = row.to_json()
    assert "\n" not in line and "\r" not in line
    assert Row.from_json(line) == row


def test_a_row_that_an_earlier_version_wrote_is_read() -> None:
    line = '{"position":3,"frame":75,"timestamp_s":3.0,"caption":"a dog","words":["a","dog"],"log_prob":-1.5}'
    assert Row.from_json(line) == Row(3, 75, 3.0, "a dog", ["a", "dog"], -1.5)


def test_what_few_rows_have_takes_no_room_in_the_others() -> None:
    assert not {"end_s", "alike", "gap"} & set(json.loads(Row(0, 0, 0.0, "", [], 0.0).to_json()))


@given(rows)
def test_confidence_can_be_told_from_what_files_say(row: Row) -> None:
    said = Row(0, 0, 0.0, row.caption, row.words, round(row.log_prob, 4))
    assert 0 <= row.confidence <= 1
    assert row.confidence == said.confidence == round(row.confidence, 4)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[]",
        "null",
        '{"position": 0}',
        Row(0, "a.jpg", None, "a dog", ["a", "dog"], -1.0).to_json()[:-3],
    ],
)
def test_a_line_that_is_no_row_is_refused_with_its_reason(line: str) -> None:
    with pytest.raises(GpucaptError, match="not a row of captions"):
        Row.from_json(line)


@pytest.mark.parametrize(
    ("position", "stride"), [(0, 1), (299, 1), (300, 2), (599, 2), (600, 4), (1199, 4), (1200, 8)]
)
def test_the_stride_is_the_smallest_power_of_two_that_keeps_300(position: int, stride: int) -> None:
    assert illustration_stride(position) == stride


def test_pictures_kept_stay_few_for_a_film_of_any_length() -> None:
    kept = sum(is_illustrated(position) for position in range(100_000))
    assert 300 <= kept <= 300 + 150 * 9
