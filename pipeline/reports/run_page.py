"""runs/<run id>/report.html: one page over all sources of a run, for whoever looks after it.

Like the report of a source it is one file that asks for nothing. Sources and errors are written into it as
they are read from disk, and its script puts some hundred of them on the page at a time: a hundred thousand
cost neither who writes it nor who reads it more than they must.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from pipeline.reports.assets import asset, csp_hash, shown, shown_settings, template
from pipeline.reports.text import duration, printable, script_json

MOST_SOURCES = 100_000
MOST_ERRORS = 2_000
MOST_REASONS = 12

_STATUSES = ("captioned", "already done", "set aside", "left")


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What the page says of the run as a whole. Times are UTC, as ISO 8601 writes them."""

    run: str
    source: str
    destination: str
    started_at: str
    finished_at: str
    seconds: float
    model: str
    settings: dict[str, object]
    counts: dict[str, int]
    """``frames``, ``errors``, ``damaged``, ``sources``; then ``captioned``, ``already_done``, ``set_aside``,
    ``left``."""
    untold: int
    """How many of the errors are stories that could not be told."""
    left_out: dict[str, int] = field(default_factory=dict)
    """How many files were not meant, by the reason."""


@dataclass(frozen=True, slots=True)
class SourceLine:
    """One source of the run.

    ``errors`` counts its stills that were set aside. ``has_no_story`` says that one could not be told.
    ``undecoded_s`` seconds of a film could not be decoded. ``link`` leads to its report where that is not
    simply its key.
    """

    key: str
    status: str
    frames: int
    errors: int
    reason: str | None = None
    has_no_story: bool = False
    undecoded_s: float = 0.0
    link: str | None = None


def write_run_page(
    facts: RunFacts,
    sources: Iterable[SourceLine],
    errors: Iterable[tuple[str, str]],
    reasons: Iterable[tuple[str, int]],
    path: Path,
) -> None:
    """Write the page of a run to ``path``.

    ``sources`` come sorted by key, ``errors`` are keys with reasons, ``reasons`` how often each came, the
    commonest first. The first two are read as streams.
    """
    style = asset("report.css") + asset("run.css")
    script = asset("run.js")
    stream = template("run.html.j2").stream(
        style=style,
        style_hash=csp_hash(style),
        script=script,
        script_hash=csp_hash(script),
        facts=facts,
        day=_day(facts.started_at),
        source=shown(facts.source),
        destination=shown(facts.destination),
        model=shown(facts.model),
        settings=shown_settings(facts.settings),
        left_out=[(printable(reason), files) for reason, files in facts.left_out.items()],
        time=duration(facts.seconds),
        rates=rates(facts),
        run=script_json(
            {
                "counts": [facts.counts[status.replace(" ", "_")] for status in _STATUSES],
                "errors": facts.counts["errors"],
                "reasons": [[printable(why), count] for why, count in reasons],
            }
        ),
        sources=_capped((_source_json(one) for one in sources), MOST_SOURCES),
        errors=_capped((script_json([printable(key), printable(why)]) for key, why in errors), MOST_ERRORS),
        most_sources=MOST_SOURCES,
        most_errors=MOST_ERRORS,
    )
    with path.open("w", encoding="utf-8", newline="") as file:
        for piece in stream:
            file.write(piece)


def rates(facts: RunFacts) -> list[tuple[str, str]]:
    """Return what the run got through, with its unit: frames a second, sources an hour; empty for nothing."""
    captioned, frames = facts.counts["captioned"], facts.counts["frames"]
    if not captioned or facts.seconds <= 0:
        return []
    return [
        ("Frames a second", _figure(frames / facts.seconds)),
        ("Sources an hour", _figure(captioned / facts.seconds * 3600)),
    ]


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _source_json(one: SourceLine) -> str:
    """``[key, status, frames, errors, reason, has_no_story, undecoded, link]``, without what is empty at its
    end.
    """
    line: list[object] = [printable(one.key), _STATUSES.index(one.status), one.frames, one.errors]
    undecoded = duration(one.undecoded_s) if one.undecoded_s else None
    line += [None if one.reason is None else printable(one.reason), one.has_no_story, undecoded, one.link]
    while not line[-1]:
        line.pop()
    return script_json(line)


def _capped(lines: Iterator[str], most: int) -> Iterator[str]:
    for index, line in enumerate(lines):
        if index == most:
            return
        yield line


def _day(at: str) -> str:
    """A time as people say it: ``21 November 2026, 10:15``."""
    time = datetime.fromisoformat(at)
    return f"{time.day} {time:%B %Y, %H:%M}"
