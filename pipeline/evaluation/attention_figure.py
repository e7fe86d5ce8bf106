"""Where a captioner looked, as a picture: the photograph once for each word, bright where it looked."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from model.confidence import confidence

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from model.captioner import Caption
    from model.preprocessing import Preparation

_LONGEST_SIDE = 400  # pixels that a photograph is shrunk to: a panel has no more
_COLUMNS = 6
_DIM = 0.25  # what is left of the picture, without its colours, where it did not look
_GLOW = (102, 80, 24)
"""What is added where it did look, at the most: on what is black, light alone could not be seen."""
_DPI = 100
_HEADING = 0.8  # inches


@dataclass(frozen=True, slots=True)
class FigureRow:
    """A caption, and what to call it beside others."""

    label: str
    caption: Caption


def draw(
    picture: NDArray[np.uint8], rows: Sequence[FigureRow], preparation: Preparation, *, title: str = ""
) -> bytes:
    """A PNG of an RGB picture (H, W, 3) with the attention of each word of its captions.

    One caption is broken into lines of panels; several are a row each, with their labels.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    small = _shrunk(picture)
    panels = [_panels(small, row, preparation) for row in rows]
    if len(rows) == 1:
        columns = min(_COLUMNS, len(panels[0]))
        panels = [panels[0][first : first + columns] for first in range(0, len(panels[0]), columns)]
    columns = max(map(len, panels))
    width, height = _panel_size(small)
    # Room above for the caption, and a little above each panel for its word.
    size = (max(columns * width, 5), len(panels) * (height + 0.35) + _HEADING)
    figure = Figure(figsize=size, dpi=_DPI, facecolor="white")
    heading = _heading(title, rows, characters=int(size[0] * 8))
    figure.suptitle(heading, fontsize=13, y=1 - 0.12 / size[1], va="top", parse_math=False)
    axes = figure.subplots(len(panels), columns, squeeze=False)
    figure.subplots_adjust(0.01, 0.02, 0.99, 1 - _HEADING / size[1], wspace=0.05, hspace=0.3 / height)
    for line, line_axes in zip(panels, axes, strict=True):
        for axis in line_axes:
            axis.set_axis_off()
        for (word, image), axis in zip(line, line_axes, strict=False):
            axis.imshow(image)
            axis.set_title(word, fontsize=11, pad=3, parse_math=False)
    png = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(png, format="png", metadata={"Software": None})
    return png.getvalue()


def _heading(title: str, rows: Sequence[FigureRow], *, characters: int) -> str:
    """The caption of one row; of several, what is common to them: the picture's name."""
    said = title
    if len(rows) == 1:
        said = rows[0].caption.text or "(no words)"
    return "\n".join(textwrap.wrap(said, max(20, characters), max_lines=2, placeholder=" …"))


def _panels(
    picture: NDArray[np.uint8], row: FigureRow, preparation: Preparation
) -> list[tuple[str, NDArray[np.uint8]]]:
    """The picture as it is, then for each word where it looked."""
    caption = row.caption
    sure = f"{confidence(caption.log_prob, len(caption.words)):.2f}"
    first = f"{row.label} ({sure})" if row.label else f"confidence {sure}"
    return [(first, picture), *_looks(picture, caption, preparation)]


def _looks(
    picture: NDArray[np.uint8], caption: Caption, preparation: Preparation
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    import numpy as np

    top, left, height, width = _seen(picture.shape[0], picture.shape[1], preparation)
    dim = picture.mean(axis=2, keepdims=True) * _DIM
    bright = picture * (1 - np.array(_GLOW) / 255) + _GLOW
    for word, cells in zip(caption.words, caption.attention, strict=True):
        looked = np.zeros((*picture.shape[:2], 1), np.float32)
        looked[top : top + height, left : left + width, 0] = _spread(cells, height, width)
        yield word, (dim * (1 - looked) + bright * looked).astype(np.uint8)


def _seen(height: int, width: int, preparation: Preparation) -> tuple[int, int, int, int]:
    """The part of a picture that the captioner is shown: top, left, height and width."""
    if preparation.shorter_side is None:
        return 0, 0, height, width
    side = max(1, round(min(height, width) * preparation.size / preparation.shorter_side))
    return (height - side) // 2, (width - side) // 2, side, side


def _spread(cells: NDArray[np.uint8], height: int, width: int) -> NDArray[Any]:
    """Attention (rows, columns), 255 where it is strongest, over so many pixels, from 0 to 1, smoothly."""
    import cv2
    import numpy as np

    smooth = cv2.resize(cells.astype(np.float32) / 255, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth, 0, 1)


def _shrunk(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    import cv2
    import numpy as np

    height, width = picture.shape[:2]
    scale = _LONGEST_SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, size, interpolation=how), dtype=np.uint8)


def _panel_size(picture: NDArray[np.uint8]) -> tuple[float, float]:
    """Width and height of a panel in inches: of one area, whatever the picture's shape, within reason."""
    ratio = min(max(picture.shape[1] / picture.shape[0], 0.5), 3.0)
    return 1.9 * math.sqrt(ratio), 1.9 / math.sqrt(ratio)
