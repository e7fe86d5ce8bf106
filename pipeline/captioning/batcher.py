"""Which pictures go through the captioner together, and what to do when they do not fit.

A full chunk is a batch of its own. What is smaller (the end of a source, a folder in which most stills are
known) is packed together with what is left of other sources, so that a thousand folders of three stills keep
a GPU busy.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from model.errors import GpucaptError
from pipeline.captioning.messages import Chunk

if TYPE_CHECKING:
    from model.captioner import Caption, Captioner
    from pipeline.captioning.messages import Picture

PATIENCE = 16
"""Full batches that a rest waits for company, at most."""

_log = logging.getLogger("gpucapt")

Slot = tuple[Chunk, int]
"""A picture: its chunk, and its index there."""


class Batcher:
    """Packs pictures into batches of ``size``."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._rests: list[Slot] = []
        self._waited = 0

    def add(self, chunk: Chunk) -> Iterator[list[Slot]]:
        """Take a chunk; the batches that are ready now."""
        slots = [(chunk, index) for index in chunk.images]
        if len(slots) >= self._size:
            yield slots
            self._waited += 1
            if self._rests and self._waited >= PATIENCE:
                yield from self.flush()
            return
        if not self._rests:
            self._waited = 0
        self._rests += slots
        while len(self._rests) >= self._size:
            ready, self._rests = self._rests[: self._size], self._rests[self._size :]
            self._waited = 0
            yield ready

    def flush(self) -> Iterator[list[Slot]]:
        """What is left, as a last, smaller batch."""
        ready, self._rests = self._rests, []
        self._waited = 0
        if ready:
            yield ready


class AdaptiveCaptioner:
    """The captioner, with batches cut in halves for as long as they do not fit into the device's memory."""

    def __init__(
        self, captioner: Captioner, *, beam_size: int, max_length: int, alternatives: int = 0
    ) -> None:
        self._captioner = captioner
        self._how = {"beam_size": beam_size, "max_length": max_length}
        if alternatives:
            self._how["alternatives"] = alternatives
        self._limit = 1 << 30

    def caption(self, images: list[Picture]) -> list[Caption]:
        """A caption for each picture. Raises GpucaptError when not even one picture fits."""
        captions: list[Caption] = []
        while len(captions) < len(images):
            part = images[len(captions) : len(captions) + self._limit]
            found = self._try(part)
            if found is not None:
                captions += found
            elif len(part) == 1:
                raise GpucaptError(
                    "the device has too little memory for a single picture; choose a smaller --beam-size or"
                    " another --device"
                )
            else:
                self._limit = (len(part) + 1) // 2
                _log.warning("out of memory with %d pictures; going on with %d", len(part), self._limit)
        return captions

    def _try(self, images: list[Picture]) -> list[Caption] | None:
        import torch

        try:
            return self._captioner.caption(images, **self._how)
        except torch.OutOfMemoryError:
            pass
        except RuntimeError as error:
            if "not enough memory" not in str(error) and "can't allocate memory" not in str(error):
                raise
        # Outside the handler, whose error still holds the tensors that did not fit.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return None


def fill(batch: list[Slot], captions: list[Caption]) -> list[Chunk]:
    """Put captions into the rows of a batch; the chunks that are complete now."""
    complete = []
    for (chunk, index), caption in zip(batch, captions, strict=True):
        row = chunk.rows[index]
        if not math.isfinite(caption.log_prob):
            raise GpucaptError("the model computes no finite numbers; try again with --precision fp32")
        row.caption, row.words, row.log_prob = caption.text, list(caption.words), caption.log_prob
        if row.thumbnail is not None and caption.attention is not None:
            row.attention = caption.attention.tobytes()
            row.grid = (int(caption.attention.shape[1]), int(caption.attention.shape[2]))
        del chunk.images[index]
        if not chunk.images:
            complete.append(chunk)
    return complete
