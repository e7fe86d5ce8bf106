"""One picture, one caption for each beam size: what a wider search finds, and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.records.settings import CaptionSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from model.captioner import Caption, Captioner


def captions_by_beam_size(
    captioner: Captioner, picture: NDArray[np.uint8], settings: CaptionSettings, *, each: bool
) -> dict[int, Caption]:
    """Caption an RGB picture with the beam size of the settings; with `each`, with all from 1 up to it."""
    prepared = [captioner.prepare(picture)]
    sizes = range(1 if each else settings.beam_size, settings.beam_size + 1)
    return {
        size: captioner.caption(prepared, beam_size=size, max_length=settings.max_length)[0] for size in sizes
    }
