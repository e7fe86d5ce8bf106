"""The options of `gpucapt caption` that are about streams, and what starts one."""

from __future__ import annotations

from typing import Annotated

import typer

from model.errors import GpucaptError
from pipeline.records.settings import CaptionSettings, Resources
from pipeline.streams.address import is_stream

__all__ = ["Duration", "Reconnect", "Segment", "StreamName", "caption_stream", "is_stream", "refuse_of_files"]

Segment = Annotated[
    float,
    typer.Option(
        envvar="GPUCAPT_SEGMENT", metavar="SECONDS", help="Streams: each so many seconds are a source."
    ),
]
Duration = Annotated[
    float | None,
    typer.Option(
        envvar="GPUCAPT_DURATION",
        metavar="SECONDS",
        help="Streams: stop after so long.",
        show_default="at its end",
    ),
]
Reconnect = Annotated[
    float,
    typer.Option(
        envvar="GPUCAPT_RECONNECT",
        metavar="SECONDS",
        help="Streams: look for a lost one for so long; inf: ever.",
    ),
]
StreamName = Annotated[
    str | None,
    typer.Option(
        envvar="GPUCAPT_STREAM_NAME",
        metavar="NAME",
        help="Streams: the folder of its results.",
        show_default="host and path",
    ),
]


def refuse_of_files(duration: float | None, stream_name: str | None) -> None:
    """Raises typer.BadParameter for what only streams have."""
    if duration is not None:
        raise typer.BadParameter("--duration is for streams; of a film, --max-frames says how much")
    if stream_name is not None:
        raise typer.BadParameter("--stream-name is for streams; files have their names")


def caption_stream(
    source: str,
    destination: str,
    settings: CaptionSettings,
    resources: Resources,
    *,
    segment: float,
    duration: float | None,
    reconnect: float,
    stream_name: str | None,
    progress: str,
) -> int:
    """Caption SOURCE, a camera or a stream; the exit code. Raises typer.BadParameter for wrong usage."""
    from pipeline.streams.address import parse
    from pipeline.streams.capture import check_selection
    from pipeline.streams.run import StreamRun, StreamSettings

    try:
        address = parse(source, stream_name)
        check_selection(settings.selection)
        stream = StreamSettings(segment, duration, reconnect)
    except GpucaptError as error:
        raise typer.BadParameter(str(error)) from error
    return StreamRun(address, destination, settings, resources, stream, progress).run()
