"""What a video file says of itself: which stream players show, and what must be known to show it right."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pipeline.errors import BadInput
from pipeline.runtime.cpu_limits import available_cores
from pipeline.runtime.temp_folders import ScratchFolder

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.codeccontext import VideoCodecContext
    from av.video.stream import VideoStream

SAFE_FORMATS = "asf,avi,flv,h264,hevc,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mpeg,mpegts,mpegvideo,mxf,ogg"
"""Containers that are opened. What somebody dropped may be a playlist that names other files or hosts."""

DECODER_THREADS = 16  # at most; more buy no speed and hold a frame each

_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""FFmpeg's own decoders of these leave the alpha channel out."""

_PQ, _HLG = 16, 18
_PROGRESSIVE = (0, 1)
"""Field orders of FFmpeg: unknown, progressive. All others are interlaced."""


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """Of the video stream that players show."""

    index: int
    """Its number among all streams of the file."""
    is_first: bool
    """Whether no other video stream, covers included, comes before it."""
    codec: str
    has_alpha: bool
    is_interlaced: bool
    is_hdr: bool
    is_square: bool
    """Whether its pixels are."""
    rate: float
    """Frames a second, as the header says; 25 where it says nothing that can be."""


@contextmanager
def open_container(path: Path) -> Iterator[InputContainer]:
    """The file, opened by PyAV. Raises BadInput."""
    require_content(path)
    import av
    import av.logging

    av.logging.set_level(None)  # what is wrong with an input is said once, by us
    options = {"protocol_whitelist": "file", "format_whitelist": SAFE_FORMATS}
    with utf8_name(path) as name:
        try:
            container = av.open(name, container_options=options, metadata_errors="replace")
        except (av.FFmpegError, OSError, ValueError) as error:
            raise BadInput(
                f"{path.name}: no video that can be read; it is damaged or something else"
            ) from error
        with container:
            yield container


def candidates(container: InputContainer) -> list[VideoStream]:
    """The video streams that may be what players show: no cover, and no track of a single frame."""
    import av.stream

    kinds = av.stream.Disposition
    cover = kinds.attached_pic | kinds.timed_thumbnails | kinds.still_image | kinds.dependent
    found = [stream for stream in container.streams.video if not stream.disposition & cover]
    return [stream for stream in found if stream.frames != 1] or found


def best_first(streams: list[VideoStream]) -> list[VideoStream]:
    """In the order in which players would show them: the default ones first."""
    import av.stream

    return sorted(streams, key=lambda stream: not stream.disposition & av.stream.Disposition.default)


def context_of(stream: VideoStream) -> VideoCodecContext | None:
    """The stream's decoder as the container sets it up; None where no decoder here knows the codec."""
    return stream.codec_context


def facts_of(container: InputContainer, stream: VideoStream) -> StreamFacts:
    """What the headers say about a stream."""
    context = stream.codec_context
    return StreamFacts(
        index=stream.index,
        is_first=stream is container.streams.video[0],
        codec=context.codec.canonical_name,
        has_alpha=_has_alpha(stream),
        is_interlaced=context.field_order not in _PROGRESSIVE,
        is_hdr=context.color_trc in (_PQ, _HLG),
        is_square=stream.sample_aspect_ratio in (None, 0, 1),
        rate=_rate(stream),
    )


def decoder_of(stream: VideoStream, *, threads: int | None = None) -> VideoCodecContext:
    """What decodes a stream."""
    import av

    context = stream.codec_context
    special = _ALPHA_DECODERS.get(context.name) if _has_alpha(stream) else None
    if special is not None:
        context = cast("VideoCodecContext", av.CodecContext.create(special, "r"))
    context.thread_type = "AUTO"
    context.thread_count = threads or max(1, min(DECODER_THREADS, available_cores()))
    return context


def _has_alpha(stream: VideoStream) -> bool:
    context = context_of(stream)
    pixels = None if context is None else context.format
    return stream.metadata.get("alpha_mode") == "1" or (
        pixels is not None and any(component.is_alpha for component in pixels.components)
    )


def _rate(stream: VideoStream) -> float:
    rate = stream.average_rate or stream.guessed_rate
    return float(rate) if rate is not None and 0.01 <= rate <= 1000 else 25.0


def require_content(path: Path) -> None:
    """Raises BadInput for a file that is empty or cannot be opened."""
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise BadInput(f"{path.name}: the file is empty")
    except OSError as error:
        raise BadInput(f"{path.name}: cannot be read: {error.strerror}") from error


@contextmanager
def utf8_name(path: Path) -> Iterator[str]:
    """A name for the file that FFmpeg can be given: it takes no bytes that are not UTF-8."""
    name = str(path.absolute())
    try:
        name.encode()
    except UnicodeEncodeError:
        with ScratchFolder() as folder:
            link = folder / "video"
            link.symlink_to(name)
            yield str(link)
    else:
        yield name
