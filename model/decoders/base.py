"""What search and training ask of a decoder, and what they are given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn


@dataclass(slots=True)
class DecoderState:
    """What a decoder carries from word to word.

    `image`: tensors (B, …), one entry a picture, computed once and never changed by a step.
    `beams`: tensors (B, K, …), one entry a hypothesis (search) or a reference caption (training).
    """

    image: tuple[Tensor, ...]
    beams: tuple[Tensor, ...]

    def select(self, pictures: Tensor | None, beams: Tensor) -> DecoderState:
        """Keep `pictures` (indices (B',), None for all) and of each the `beams` (B', K')."""
        image, hypotheses = self.image, self.beams
        if pictures is not None:
            image = tuple(t[pictures] for t in image)
            hypotheses = tuple(t[pictures] for t in hypotheses)
        rows = torch.arange(beams.shape[0], device=beams.device).unsqueeze(1)
        return DecoderState(image, tuple(t[rows, beams] for t in hypotheses))

    def repeat(self, count: int) -> DecoderState:
        """`count` hypotheses of each picture that go on from its one: K = 1 becomes K = `count`."""
        return DecoderState(self.image, tuple(t.expand(-1, count, *t.shape[2:]) for t in self.beams))


@dataclass(slots=True)
class TeacherForced:
    """What a decoder makes of given captions, N words of them in all.

    `logits`: (N, V), one row a word to predict. `targets`: (N,) those words. `captions`: (N,) the caption
    each belongs to, as `picture * K + k`; a caption's words come in their order. `attended`: (B, K, L)
    attention summed over the words of each caption, L = 0 where a decoder does not attend.
    """

    logits: Tensor
    targets: Tensor
    captions: Tensor
    attended: Tensor


class Decoder(nn.Module):
    """The interface of all decoders; called, one does teacher forcing."""

    attends: ClassVar[bool] = True
    """Whether it looks at places of the picture. If not, its attention has L = 0 cells."""
    of_words: ClassVar[tuple[str, ...]] = ("embedding.weight", "output.weight", "output.bias")
    """The tensors that have one row for each word of the vocabulary."""
    embedding: nn.Embedding
    output: nn.Linear

    def start(self, features: Tensor) -> DecoderState:
        """(B, rows, columns, channels) → state with one hypothesis a picture (K = 1)."""
        raise NotImplementedError

    def step(self, words: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState, Tensor]:
        """Words (B, K) → logits (B, K, V), next state, attention over cells (B, K, L)."""
        raise NotImplementedError

    def forward(self, features: Tensor, words: Tensor, lengths: Tensor) -> TeacherForced:
        """Teacher forcing over K reference captions a picture.

        Words (B, K, T) with `<start>` first, lengths (B, K) of words to predict (0: no caption).
        """
        raise NotImplementedError


def start_words(embedding: nn.Embedding, output: nn.Linear) -> None:
    """Give both ends of a decoder small weights to begin with, so that no word is preferred."""
    nn.init.uniform_(embedding.weight, -0.1, 0.1)
    nn.init.uniform_(output.weight, -0.1, 0.1)
    nn.init.zeros_(output.bias)


def projection(channels: int, size: int) -> nn.Module:
    """Cells (…, channels) → (…, size). Encoders differ widely in scale: normalised before."""
    return nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, size), nn.ReLU())
