"""Writes all files of one source but its manifest, in passes over its rows, never holding them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pipeline.records.row import Row
from pipeline.records.source_info import SourceInfo
from pipeline.records.video_facts import VideoFacts
from pipeline.reports.page import PageData, write_page
from pipeline.reports.subtitles import Srt, WebVtt
from pipeline.reports.tables import Csv, Json, JsonLines, TableWriter
from pipeline.reports.text import printable
from pipeline.stories import Story


def write_outputs(
    info: SourceInfo,
    rows: Callable[[], Iterator[Row]],
    directory: Path,
    *,
    story: Story | None,
    film: Sequence[str] | None = (),
    facts: VideoFacts | None = None,
    shown: Callable[[], Iterator[Row]] | None = None,
) -> list[str]:
    """Write the files of one source into ``directory`` (which exists); return their names in writing order.

    ``rows`` gives, each time it is called, a fresh stream of the source's rows in the order of their
    positions. Memory does not grow with their number. Existing files of the same names are replaced.
    ``film``: relative URLs, from the report, of where a video may lie; None: there is none, as of a stream.
    ``facts`` are of a video.
    ``shown``: the same rows in the order in which the report shows them, where that is another one.
    """
    facts = facts or VideoFacts()
    writers: list[TableWriter] = [
        JsonLines(info, directory),
        Csv(info, directory),
        Json(info, directory, facts),
    ]
    if info.kind == "video":
        writers += [WebVtt(info, directory), Srt(info, directory)]
    page = PageData(info.unsure_below)
    names = _write_tables(writers, rows, page if shown is None else None)
    if shown is not None:
        for row in shown():
            page.add(row)
    if story is not None:
        names += _write_story(story, directory)
    path = directory / "report.html"
    write_page(info, shown or rows, page, path, story=story, files=names, film=film, facts=facts)
    return [*names, "report.html"]


def _write_tables(
    writers: list[TableWriter], rows: Callable[[], Iterator[Row]], page: PageData | None
) -> list[str]:
    errors = 0
    try:
        for row in rows():
            if page is not None:
                page.add(row)
            errors += row.error is not None
            if row.error is None:
                for writer in writers:
                    writer.add(row)
        for writer in writers:
            # Set-aside stills are rare: a second pass over the rows costs less than keeping them.
            writer.close((row for row in rows() if row.error is not None) if errors else iter(()))
    except BaseException:
        for writer in writers:
            writer.abandon()
        raise
    return [writer.name for writer in writers]


def _write_story(story: Story, directory: Path) -> list[str]:
    files = {"story.md": story.to_markdown(), "story.json": story.to_json()}
    for name, text in files.items():
        (directory / name).write_text(printable(text), encoding="utf-8", newline="")
    return list(files)
