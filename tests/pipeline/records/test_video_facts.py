"""Gaps of a video come out in order and joined, and cover what they covered."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.records.video_facts import VideoFacts, join_gaps, seconds_of

times = st.integers(0, 5_000).map(lambda ms: ms / 1000) | st.floats(0, 1e6)
gaps = st.lists(st.tuples(times, times), max_size=12)


@pytest.mark.parametrize(
    ("told", "joined"),
    [
        ([], ()),
        ([(20.0, 32.0)], ((20.0, 32.0),)),
        ([(20.0, 25.0), (25.0, 32.0)], ((20.0, 32.0),)),  # at the border of two pieces
        ([(20.0, 25.0004), (24.9996, 32.0)], ((20.0, 32.0),)),
        ([(20.0, 32.0), (20.0, 32.0)], ((20.0, 32.0),)),  # two workers told of it
        ([(40.0, 41.0), (1.0, 2.0)], ((1.0, 2.0), (40.0, 41.0))),
        ([(1.0, 9.0), (2.0, 3.0), (8.5, 9.5)], ((1.0, 9.5),)),
        ([(3.0, 3.0), (4.0, 4.0001), (6.0, 5.0)], ()),
    ],
)
def test_gaps_that_touch_are_one(told: list[tuple[float, float]], joined: object) -> None:
    assert join_gaps(told) == joined


@given(gaps)
def test_joined_gaps_are_apart_and_cover_the_same(told: list[tuple[float, float]]) -> None:
    joined = join_gaps(told)
    assert all(start < end for start, end in joined)
    assert all(one[1] < other[0] for one, other in pairwise(joined))
    rounded = [(round(start, 3), round(end, 3)) for start, end in told]
    borders = sorted({time for gap in rounded for time in gap})
    for left, right in pairwise(borders):
        middle = (left + right) / 2
        covered = any(start <= middle < end for start, end in rounded)
        assert covered == any(start <= middle < end for start, end in joined)
    assert join_gaps(joined) == joined
    assert join_gaps(reversed(told)) == joined
    assert 0 <= seconds_of(joined) <= max(borders, default=0) + 0.001


@given(st.sampled_from(["opencv", "pyav", None]), st.text(), gaps)
def test_facts_read_back_are_those_written(backend: Any, why: str, told: list[tuple[float, float]]) -> None:
    facts = VideoFacts(backend, why, tuple(told))
    assert VideoFacts.from_json(json.loads(json.dumps(facts.to_json()))) == facts


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"backend": "vlc", "why": "", "gaps": []},
        {"backend": "pyav", "why": "", "gaps": [[1.0]]},
        {"backend": "pyav", "why": "", "gaps": [[1.0, float("inf")]]},
        {"backend": "pyav", "why": "", "gaps": None},
    ],
)
def test_what_is_no_facts_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        VideoFacts.from_json(fields)
