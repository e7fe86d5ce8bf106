"""What people are told of a video that could not be decoded as a whole."""

from __future__ import annotations

from pipeline.records.video_facts import Gap, VideoFacts
from pipeline.reports.text import duration

MOST_GAPS = 20


def damage_line(facts: VideoFacts) -> str | None:
    """Return which stretches are missing: ``12 s of this video could not be decoded: 20.0–32.0 s``.

    None where none is. Of very many the first are named.
    """
    if not facts.gaps:
        return None
    named = ", ".join(_span(gap) for gap in facts.gaps[:MOST_GAPS])
    more = len(facts.gaps) - MOST_GAPS
    rest = f", and {more:,} more" if more > 0 else ""
    length = duration(facts.undecoded_s)
    return f"{length[:1].upper()}{length[1:]} of this video could not be decoded: {named} s{rest}"


def _span(gap: Gap) -> str:
    """A stretch in seconds, exactly enough to tell its ends apart."""
    start, end = gap
    digits = 1 if end - start >= 1 else 3
    return f"{start:.{digits}f}\N{EN DASH}{end:.{digits}f}"
