"""The decoder of Show and Tell."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from model.decoders.base import Decoder, DecoderState, TeacherForced, start_words


class LSTM(Decoder):
    """Show and Tell: the picture is the first input of an LSTM, words follow (Vinyals et al. 2015, §3.1).

    Of the picture it gets the mean over all cells, once; it does not attend. `normalise` scales that mean to
    a common size first, as encoders differ widely; captioners that always had the same encoder do without.
    """

    attends: ClassVar[bool] = False

    def __init__(
        self,
        vocabulary_size: int,
        channels: int,
        *,
        embedding_size: int = 512,
        hidden_size: int = 512,
        layers: int = 1,
        dropout: float = 0.5,
        normalise: bool = True,
    ) -> None:
        super().__init__()
        norm = nn.LayerNorm(channels) if normalise else nn.Identity()
        self.picture = nn.Sequential(norm, nn.Linear(channels, embedding_size))
        self.embedding = nn.Embedding(vocabulary_size, embedding_size)
        between = dropout if layers > 1 else 0.0
        self.lstm = nn.LSTM(embedding_size, hidden_size, layers, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_size, vocabulary_size)
        start_words(self.embedding, self.output)

    def start(self, features: Tensor) -> DecoderState:
        """(B, rows, columns, channels) → the state after the picture, with one hypothesis each."""
        _, state = self._run(self._first(features))
        return DecoderState((), state)

    def step(self, words: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState, Tensor]:
        """Words (B, K) → logits (B, K, V), next state, attention (B, K, 0)."""
        inputs = self.dropout(self.embedding(words)).unsqueeze(2)
        hiddens, beams = self._run(inputs, (state.beams[0], state.beams[1]))
        logits = self.output(self.dropout(hiddens.squeeze(2)))
        return logits, DecoderState((), beams), logits.new_zeros((*words.shape, 0))

    def forward(self, features: Tensor, words: Tensor, lengths: Tensor) -> TeacherForced:
        """Teacher forcing; see `Decoder.forward`."""
        steps = int(lengths.max())
        state = self.start(features).repeat(words.shape[1])
        inputs = self.dropout(self.embedding(words[:, :, :steps]))
        hiddens, _ = self._run(inputs, (state.beams[0], state.beams[1]))
        real = torch.arange(steps, device=words.device) < lengths.unsqueeze(2)
        captions = torch.arange(lengths.numel(), device=words.device).view(*lengths.shape, 1).expand_as(real)
        return TeacherForced(
            self.output(self.dropout(hiddens[real])),
            words[:, :, 1 : steps + 1][real],
            captions[real],
            hiddens.new_zeros((*lengths.shape, 0)),
        )

    def _first(self, features: Tensor) -> Tensor:
        """(B, rows, columns, channels) → the picture as a first word (B, 1, 1, embedding size)."""
        mean = features.flatten(1, 2).mean(dim=1)
        first: Tensor = self.dropout(self.picture(mean))
        return first.view(features.shape[0], 1, 1, -1)

    def _run(
        self, inputs: Tensor, beams: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Inputs (B, K, T, embedding size), state (B, K, layers, hidden size) twice → outputs (B, K, T,
        hidden size) and the state after them. torch's own layer takes all T at once, which is far faster."""
        shape = inputs.shape[:2]
        flat = inputs.flatten(0, 1)
        if beams is None:
            outputs, state = self.lstm(flat)
        else:
            hidden, memory = (t.flatten(0, 1).transpose(0, 1).contiguous() for t in beams)
            outputs, state = self.lstm(flat, (hidden, memory))
        hidden, memory = (t.transpose(0, 1).view(*shape, *t.shape[::2]) for t in state)
        return outputs.view(*shape, *outputs.shape[1:]), (hidden, memory)
