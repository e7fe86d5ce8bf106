"""From decoded frames to what players show: RGB, upright, in shape, whole pictures, as bright as screens are.

FFmpeg's filters do the work; numpy turns and lays on white.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, cast

from pipeline.media.hdr import CURVES, write_lut
from pipeline.runtime.temp_folders import ScratchFolder

if TYPE_CHECKING:
    import numpy as np
    from av.filter import Graph
    from av.video.frame import VideoFrame
    from numpy.typing import NDArray

_MOST_ASPECT = 16
"""Pixels that are longer than that, in headers that are damaged or jokes, are taken as square."""


class RgbFilter:
    """Converts the frames of one video; what they need may change in the middle of it."""

    def __init__(self, most_width: int | None = None) -> None:
        """Frames that are wider than ``most_width`` become so narrow."""
        self._most_width = most_width
        self._needs: tuple[object, ...] | None = None
        self._graph: Graph | None = None
        self._files = ExitStack()
        self._luts: dict[str, Path] = {}

    def __call__(self, frame: VideoFrame, aspect: float) -> NDArray[np.uint8]:
        """The frame as (height, width, 3) RGB; its pixels are `aspect` times as wide as they are high."""
        import numpy as np

        has_alpha = any(component.is_alpha for component in frame.format.components)
        size = self._shown_size(frame, aspect)
        colours = (int(frame.color_trc), int(frame.colorspace), int(frame.color_range))
        needs = (frame.width, frame.height, frame.format.name, size, bool(frame.interlaced_frame), colours)
        if needs != self._needs:
            self._graph, self._needs = self._build(frame, size, has_alpha), needs
        assert self._graph is not None
        matrix = display_matrix(frame)
        frame.pts = None
        self._graph.push(frame)
        if frame.interlaced_frame:  # the filter waits for another frame, or for the end
            self._graph.push(None)
            self._needs = None
        image = np.asarray(self._graph.pull().to_ndarray(), dtype=np.uint8)
        return np.ascontiguousarray(_turned(_on_white(image) if has_alpha else image, matrix))

    def __enter__(self) -> RgbFilter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._graph = None
        self._files.close()

    def _build(self, frame: VideoFrame, size: tuple[int, int], has_alpha: bool) -> Graph:
        from fractions import Fraction

        from av.filter import Graph

        graph = Graph()
        last = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000)
        )
        for name, arguments in self._steps(frame, size, has_alpha):
            step = graph.add(name, arguments)
            last.link_to(step)
            last = step
        last.link_to(graph.add("buffersink"))
        graph.configure()
        return graph

    def _steps(self, frame: VideoFrame, size: tuple[int, int], has_alpha: bool) -> Iterator[tuple[str, str]]:
        if frame.interlaced_frame:
            # It looks at one frame alone, so that a frame is the same wherever reading began.
            yield "estdif", "mode=frame:deint=all"
        curve = CURVES.get(int(frame.color_trc))
        if curve is not None:
            yield "format", "gbrp12"
            yield "lut3d", f"file={_escaped(self._lut(curve))}:interp=tetrahedral"
        if size != (frame.width, frame.height):
            yield "scale", f"w={size[0]}:h={size[1]}"
        yield "format", "rgba" if has_alpha else "rgb24"

    def _shown_size(self, frame: VideoFrame, aspect: float) -> tuple[int, int]:
        """Width and height with square pixels, before the picture is turned."""
        is_odd = not 1 / _MOST_ASPECT <= aspect <= _MOST_ASPECT
        width, height = frame.width if is_odd else max(1, round(frame.width * aspect)), frame.height
        if self._most_width is not None and width > self._most_width:
            width, height = self._most_width, max(1, round(height * self._most_width / width))
        return width, height

    def _lut(self, curve: str) -> Path:
        if curve not in self._luts:
            folder = self._files.enter_context(ScratchFolder())
            self._luts[curve] = write_lut(folder / "sdr.cube", curve)
        return self._luts[curve]


def _escaped(path: Path) -> str:
    """A path as a value in the description of a filter."""
    text = str(path)
    for special in ("\\", "'", ":"):
        text = text.replace(special, "\\" + special)
    return text


def _on_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    import numpy as np

    alpha = rgba[..., 3:].astype(np.uint16)
    return ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def display_matrix(frame: VideoFrame) -> tuple[int, int, int, int] | None:
    """(a, b, c, d): the pixel at (x, y) is shown at (a x + c y, b x + d y)."""
    import numpy as np
    from av.sidedata.sidedata import SideData, Type

    # PyAV's stubs have another class for it.
    for data in cast("list[SideData]", list(frame.side_data)):
        if data.type == Type.DISPLAYMATRIX:
            a, b, _, c, d, *_ = np.frombuffer(bytes(data), np.int32, 9).tolist()
            return a, b, c, d
    return None


def _turned(image: NDArray[np.uint8], matrix: tuple[int, int, int, int] | None) -> NDArray[np.uint8]:
    """The picture turned and mirrored, by quarters, as a display matrix says."""
    if matrix is None or not any(matrix):
        return image
    a, b, c, d = matrix
    across, down = a, d
    if abs(b) + abs(c) > abs(a) + abs(d):
        image, across, down = image.swapaxes(0, 1), c, b
    return image[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]
