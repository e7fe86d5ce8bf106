"""Decoders: features of a picture in, a distribution over the next word out, one word at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.errors import GpucaptError


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


class Decoder(Protocol):
    """What search and training ask of a decoder."""

    def start(self, features: Tensor) -> DecoderState:
        """(B, rows, columns, channels) → state with one hypothesis a picture (K = 1)."""
        ...

    def step(self, words: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState, Tensor]:
        """Words (B, K) → logits (B, K, V), next state, attention over cells (B, K, L)."""
        ...

    def forward(self, features: Tensor, words: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Teacher forcing over K reference captions a picture.

        Words (B, K, T) with `<start>` first, lengths (B, K) of words to predict (0: no caption) →
        logits (N, V) of the N words to predict, their targets (N,), attention summed over the words
        of each caption (B, K, L).
        """
        ...


class AttentionLSTM(nn.Module):
    """Show, Attend and Tell: soft attention with a gate on the context (Xu et al. 2015, §3.1.2, §4.2.1).

    Where the paper attends over the raw features, `feature_size` may first project them, which makes
    each step cheaper. Everything of the picture that stays the same from word to word (that projection
    and the attention's keys) is computed once, in `start`.
    """

    def __init__(
        self,
        vocabulary_size: int,
        channels: int,
        *,
        embedding_size: int = 512,
        hidden_size: int = 512,
        attention_size: int = 512,
        feature_size: int | None = None,
        dropout: float = 0.5,
        attention_activation: str = "relu",
    ) -> None:
        super().__init__()
        depth = feature_size or channels
        self.activation = _ACTIVATIONS[attention_activation]
        self.project: nn.Module = nn.Identity()
        if feature_size:
            # (cells, channels) differ widely in scale between encoders: normalise before the projection
            self.project = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, feature_size), nn.ReLU())
        self.key = nn.Linear(depth, attention_size)
        self.query = nn.Linear(hidden_size, attention_size)
        self.score = nn.Linear(attention_size, 1)
        self.gate = nn.Linear(hidden_size, depth)
        self.embedding = nn.Embedding(vocabulary_size, embedding_size)
        self.cell = nn.LSTMCell(embedding_size + depth, hidden_size)
        self.start_hidden = nn.Linear(depth, hidden_size)
        self.start_memory = nn.Linear(depth, hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_size, vocabulary_size)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        nn.init.uniform_(self.output.weight, -0.1, 0.1)
        nn.init.zeros_(self.output.bias)

    def start(self, features: Tensor) -> DecoderState:
        """(B, rows, columns, channels) → state with one hypothesis a picture."""
        cells = self.dropout(self.project(features.flatten(1, 2)))
        mean = cells.mean(dim=1, keepdim=True)
        hidden, memory = self.start_hidden(mean), self.start_memory(mean)
        return DecoderState((cells, self.key(cells)), (hidden, memory))

    def step(self, words: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState, Tensor]:
        """Words (B, K) → logits (B, K, V), next state, attention (B, K, L)."""
        hidden, memory, attention = self._advance(self._word_gates(words), state)
        return self.output(self.dropout(hidden)), DecoderState(state.image, (hidden, memory)), attention

    def forward(self, features: Tensor, words: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Teacher forcing; see `Decoder.forward`."""
        steps = int(lengths.max())
        # Longest first, so that a picture whose captions have ended leaves the batch.
        longest, order = lengths.amax(dim=1).sort(descending=True, stable=True)
        features, words, lengths = features[order], words[order], lengths[order]
        alive = [int((longest > t).sum()) for t in range(steps)]
        word_gates = self._word_gates(words[:, :, :steps])
        state = self.start(features)
        state.beams = tuple(t.expand(-1, words.shape[1], -1) for t in state.beams)
        hiddens, attended = [], words.new_zeros((*lengths.shape, state.image[0].shape[1])).float()
        for t in range(steps):
            n = alive[t]
            if n < state.image[0].shape[0]:
                state = DecoderState(tuple(x[:n] for x in state.image), tuple(x[:n] for x in state.beams))
            hidden, memory, attention = self._advance(word_gates[:n, :, t], state)
            state.beams = (hidden, memory)
            real = (lengths[:n] > t).unsqueeze(2)
            attended = torch.cat([attended[:n] + attention.float() * real, attended[n:]])
            hiddens.append(hidden[real.squeeze(2)])
        targets = [words[:n, :, t + 1][lengths[:n] > t] for t, n in enumerate(alive)]
        logits = self.output(self.dropout(torch.cat(hiddens)))
        return logits, torch.cat(targets), attended[order.argsort()]

    def _word_gates(self, words: Tensor) -> Tensor:
        """The words' share of the four LSTM gates: it needs no picture, so all words go at once."""
        size = self.embedding.embedding_dim
        embedded = self.dropout(self.embedding(words))
        return F.linear(embedded, self.cell.weight_ih[:, :size], self.cell.bias_ih + self.cell.bias_hh)

    def _advance(self, word_gates: Tensor, state: DecoderState) -> tuple[Tensor, Tensor, Tensor]:
        (cells, keys), (hidden, memory) = state.image, state.beams
        energy = self.activation(keys.unsqueeze(1) + self.query(hidden).unsqueeze(2))
        attention = self.score(energy).squeeze(3).softmax(dim=2)
        context = torch.sigmoid(self.gate(hidden)) * torch.bmm(attention.to(cells.dtype), cells)
        size = self.embedding.embedding_dim
        weight = torch.cat([self.cell.weight_ih[:, size:], self.cell.weight_hh], dim=1)
        gates = word_gates + F.linear(torch.cat([context, hidden], dim=2), weight)
        enter, forget, update, leave = gates.chunk(4, dim=2)
        memory = torch.sigmoid(forget) * memory + torch.sigmoid(enter) * torch.tanh(update)
        hidden = torch.sigmoid(leave) * torch.tanh(memory)
        return hidden, memory, attention


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu, "tanh": torch.tanh}
DECODERS: dict[str, type[AttentionLSTM]] = {"attention_lstm": AttentionLSTM}


def build_decoder(name: str, vocabulary_size: int, channels: int, options: dict[str, Any]) -> AttentionLSTM:
    """Build a decoder by name; `options` are its keyword arguments."""
    if name not in DECODERS:
        raise GpucaptError(f"There is no decoder {name!r}. Known are: {', '.join(DECODERS)}.")
    return DECODERS[name](vocabulary_size, channels, **options)
