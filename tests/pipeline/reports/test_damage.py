"""What people are told of gaps."""

from __future__ import annotations

import pytest

from pipeline.records.video_facts import Gap, VideoFacts
from pipeline.reports.damage import MOST_GAPS, damage_line


@pytest.mark.parametrize(
    ("gaps", "line"),
    [
        ((), None),
        (((20.0, 32.0),), "12 s of this video could not be decoded: 20.0–32.0 s"),
        (((0.0, 0.04),), "Less than 0.1 s of this video could not be decoded: 0.000–0.040 s"),
        (
            ((1.0, 2.5), (3600.0, 3800.0)),
            "3 min 22 s of this video could not be decoded: 1.0–2.5, 3600.0–3800.0 s",
        ),
    ],
)
def test_the_line_names_each_stretch(gaps: tuple[Gap, ...], line: str | None) -> None:
    assert damage_line(VideoFacts(gaps=gaps)) == line


def test_very_many_gaps_are_counted() -> None:
    gaps = tuple((float(at), at + 0.5) for at in range(1500))
    line = damage_line(VideoFacts(gaps=gaps))
    assert (
        line is not None
        and line.startswith("12 min 30 s of this video")
        and line.endswith(" s, and 1,480 more")
    )
    assert line.count("–") == MOST_GAPS
