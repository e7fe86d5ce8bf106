"""The transformer as a decoder of captions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.decoders.base import Decoder, DecoderState, TeacherForced, projection, start_words
from model.errors import GpucaptError


class Transformer(Decoder):
    """A transformer over the words that looks at the picture in each layer (Vaswani et al. 2017, §3).

    Layers normalise what they read and not what they write (Xiong et al. 2020, §3: "pre-norm"), which
    trains without a long warm-up. Positions are the paper's sines (§3.5), so captions may have any length.
    Keys and values of the picture are computed once, in `start`, and those of a word once, when it is
    said: they are the state of a hypothesis. The attention it returns is the last layer's over the
    picture, averaged over the heads.
    """

    def __init__(
        self,
        vocabulary_size: int,
        channels: int,
        *,
        embedding_size: int = 512,
        hidden_size: int = 512,
        layers: int = 3,
        heads: int = 8,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        if hidden_size % heads or hidden_size % 2:
            raise GpucaptError(
                f"A transformer's hidden_size must be even and a multiple of its heads, not {hidden_size} "
                f"with {heads} heads."
            )
        self.project = projection(channels, hidden_size)
        self.embedding = nn.Embedding(vocabulary_size, embedding_size)
        # Words shall be as loud as positions, whether their vectors begin within ± 0.1 or come from GloVe.
        self.word = nn.Sequential(nn.LayerNorm(embedding_size), nn.Linear(embedding_size, hidden_size))
        self.layers = nn.ModuleList(_Layer(hidden_size, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_size, vocabulary_size)
        start_words(self.embedding, self.output)

    def start(self, features: Tensor) -> DecoderState:
        """(B, rows, columns, channels) → the picture's keys and values, and no words yet."""
        cells = self.dropout(self.project(features.flatten(1, 2)))
        image = tuple(layer.look(cells) for layer in self._layers())
        # (B, K = 1, no words, keys and values)
        none = tuple(seen.new_zeros(seen.shape[0], 1, 0, 2 * self.norm.normalized_shape[0]) for seen in image)
        return DecoderState(image, none)

    def step(self, words: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState, Tensor]:
        """Words (B, K) → logits (B, K, V), next state, attention (B, K, L)."""
        hidden, state, attention = self._advance(_Words(words.unsqueeze(2)), state)
        return self.output(hidden).view(*words.shape, -1), state, attention.squeeze(2)

    def forward(self, features: Tensor, words: Tensor, lengths: Tensor) -> TeacherForced:
        """Teacher forcing; see `Decoder.forward`."""
        steps = int(lengths.max())
        real = torch.arange(steps, device=words.device) < lengths.unsqueeze(2)
        state = self.start(features).repeat(words.shape[1])
        hidden, _, attention = self._advance(_Words(words[:, :, :steps], real), state)
        captions = torch.arange(lengths.numel(), device=words.device).view(*lengths.shape, 1).expand_as(real)
        return TeacherForced(
            self.output(hidden),
            words[:, :, 1 : steps + 1][real],
            captions[real],
            (attention.float() * real.unsqueeze(3)).sum(dim=2),
        )

    def _advance(self, words: _Words, state: DecoderState) -> tuple[Tensor, DecoderState, Tensor]:
        """Words that follow those of the state → hidden (N, size), the state after them, attention
        (B, K, T, L)."""
        hidden = self.word(self.embedding(words.indices))
        hidden = self.dropout(hidden + _positions(words.places + state.beams[0].shape[2], hidden.shape[1]))
        kept: list[Tensor] = []
        for layer, cells, past in zip(self._layers(), state.image, state.beams, strict=True):
            maps = len(kept) == len(self.layers) - 1
            hidden, seen, attention = layer(hidden, words, cells, past, maps=maps)
            kept.append(seen)
        return self.norm(hidden), DecoderState(state.image, tuple(kept)), attention

    def _layers(self) -> list[_Layer]:
        return [layer for layer in self.layers if isinstance(layer, _Layer)]


class _Words:
    """Words (B, K, T), of which N are real: layers see those alone, (N, …), and attention sees all.

    Captions of a batch are half as long as its longest one, and layers are most of the work.
    """

    def __init__(self, words: Tensor, real: Tensor | None = None) -> None:
        self.real = real
        self.shape = words.shape
        self.indices = self.pick(words)
        self.places = self.pick(torch.arange(words.shape[2], device=words.device).expand(words.shape))

    def pick(self, values: Tensor) -> Tensor:
        """(B, K, T, …) → (N, …)"""
        return values.flatten(0, 2) if self.real is None else values[self.real]

    def spread(self, values: Tensor) -> Tensor:
        """(N, size) → (B, K, T, size), zeros where there is no real word."""
        if self.real is None:
            return values.view(*self.shape, -1)
        spread = values.new_zeros(*self.shape, values.shape[1])
        spread[self.real] = values
        return spread


class _Layer(nn.Module):
    """Look back at the words, look at the picture, think."""

    def __init__(self, size: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_self, self.norm_image, self.norm_thought = (nn.LayerNorm(size) for _ in range(3))
        self.self_in = nn.Linear(size, 3 * size)  # query, key and value
        self.self_out = nn.Linear(size, size)
        self.image_query = nn.Linear(size, size)
        self.image_in = nn.Linear(size, 2 * size)  # key and value
        self.image_out = nn.Linear(size, size)
        self.thought = nn.Sequential(nn.Linear(size, 4 * size), nn.GELU(), nn.Linear(4 * size, size))
        self.dropout = nn.Dropout(dropout)

    def look(self, cells: Tensor) -> Tensor:
        """Cells (B, L, size) → their keys and values (B, L, 2 * size)."""
        seen: Tensor = self.image_in(cells)
        return seen

    def forward(
        self, hidden: Tensor, words: _Words, cells: Tensor, past: Tensor, *, maps: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Hidden (N, size) of words, keys and values of cells (B, L, 2 * size) and of earlier words (B, K, t,
        2 * size) → hidden, keys and values of all words (B, K, t + T, 2 * size), attention (B, K, T, L)
        where `maps` asks for it, else nothing."""
        size = hidden.shape[1]
        new = words.spread(self.self_in(self.norm_self(hidden)))
        query, past = new[..., :size], torch.cat([past, new[..., size:]], dim=2)
        keys, values = map(self._split, past.chunk(2, dim=3))
        # One word may see all that are there; several at once each see what came before them.
        causal = bool(words.shape[2] > 1)  # tracing, for an export, makes a tensor of the comparison
        looked = _looked(self._split(query), keys, values, causal=causal)
        hidden = hidden + self.dropout(self.self_out(words.pick(self._join(looked))))
        query = words.spread(self.image_query(self.norm_image(hidden)))
        looked, attention = self._look(query, cells, maps=maps)
        hidden = hidden + self.dropout(self.image_out(words.pick(looked)))
        hidden = hidden + self.dropout(self.thought(self.norm_thought(hidden)))
        return hidden, past, attention

    def _look(self, query: Tensor, cells: Tensor, *, maps: bool) -> tuple[Tensor, Tensor]:
        """Query (B, K, T, size), keys and values of cells (B, L, 2 * size) → what is seen (B, K, T, size),
        attention."""
        shape = query.shape
        query = self._split(query.flatten(1, 2))
        keys, values = map(self._split, cells.chunk(2, dim=2))
        if not maps:
            looked = F.scaled_dot_product_attention(query, keys, values)
            return self._join(looked).view(shape), query.new_zeros(0)
        weights = (query @ keys.transpose(2, 3) / math.sqrt(query.shape[3])).softmax(dim=3)
        looked = weights.to(values.dtype) @ values
        return self._join(looked).view(shape), weights.mean(dim=1).view(*shape[:3], -1)

    def _split(self, values: Tensor) -> Tensor:
        """(…, T, size) → (…, heads, T, size / heads)"""
        return values.view(*values.shape[:-1], self.heads, -1).transpose(-3, -2)

    @staticmethod
    def _join(values: Tensor) -> Tensor:
        """The other way round."""
        return values.transpose(-3, -2).flatten(-2)


def _looked(query: Tensor, keys: Tensor, values: Tensor, *, causal: bool) -> Tensor:
    """Attention, each (B, K, heads, T, size). In four dimensions torch has faster kernels, and ONNX any."""
    looked = F.scaled_dot_product_attention(
        query.flatten(0, 1), keys.flatten(0, 1), values.flatten(0, 1), is_causal=causal
    )
    return looked.view(query.shape)


def _positions(places: Tensor, size: int) -> Tensor:
    """Sines and cosines of places (N,): (N, size)."""
    rates = torch.exp(torch.arange(0, size, 2, device=places.device) * (-math.log(10_000) / size))
    angles = places.unsqueeze(1) * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)
