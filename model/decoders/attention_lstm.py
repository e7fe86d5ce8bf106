"""The decoder of Show, Attend and Tell."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from model.decoders.base import Decoder, DecoderState, TeacherForced, projection, start_words
from model.errors import GpucaptError


class AttentionLSTM(Decoder):
    """Show, Attend and Tell: soft attention with a gate on the context (Xu et al. 2015, §3.1.2, §4.2.1).

    Where the paper attends over the raw features, `feature_size` may first project them, and where it
    scores a cell by a small network ("additive", Bahdanau et al. 2015), `attention` "dot" takes the
    scaled product of query and key (Vaswani et al. 2017, §3.2.1): both make each step much cheaper.
    Everything of the picture that stays the same from word to word (that projection and the
    attention's keys) is computed once, in `start`.

    Some earlier captioners differ in details: `start_activation` "tanh" bounds the first state,
    `gate_size` puts a hidden layer into the gate (with a LeakyReLU behind it), and `output_size` one
    before the words ("deep output"), followed by `output_activation`.
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
        attention: str = "additive",
        attention_activation: str = "relu",
        start_activation: str = "none",
        gate_size: int | None = None,
        output_size: int | None = None,
        output_activation: str = "tanh",
    ) -> None:
        super().__init__()
        depth = feature_size or channels
        if attention not in ("additive", "dot"):
            raise GpucaptError(f"There is no attention {attention!r}; use additive or dot.")
        self.activation = _activation(attention_activation)
        self.start_activation = _activation(start_activation)
        self.project: nn.Module = nn.Identity()
        if feature_size:
            self.project = projection(channels, feature_size)
        self.key = nn.Linear(depth, attention_size)
        self.query = nn.Linear(hidden_size, attention_size)
        self.score = nn.Linear(attention_size, 1) if attention == "additive" else None
        self.gate: nn.Module = nn.Linear(hidden_size, depth)
        if gate_size:
            self.gate = nn.Sequential(
                nn.Linear(hidden_size, gate_size), nn.LeakyReLU(0.01), nn.Linear(gate_size, depth)
            )
        self.embedding = nn.Embedding(vocabulary_size, embedding_size)
        # The LSTM's four gates in two matrices: the words' share can be had for all words at once.
        self.word_gates = nn.Linear(embedding_size, 4 * hidden_size)
        self.state_gates = nn.Linear(depth + hidden_size, 4 * hidden_size, bias=False)
        self.start_hidden = nn.Linear(depth, hidden_size)
        self.start_memory = nn.Linear(depth, hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.deep: nn.Module = nn.Identity()
        if output_size:
            self.deep = nn.Linear(hidden_size, output_size)
        self.output_activation = _activation(output_activation if output_size else "none")
        self.output = nn.Linear(output_size or hidden_size, vocabulary_size)
        start_words(self.embedding, self.output)

    def start(self, features: Tensor) -> DecoderState:
        """(B, rows, columns, channels) → state with one hypothesis a picture."""
        cells = self.dropout(self.project(features.flatten(1, 2)))
        mean = cells.mean(dim=1, keepdim=True)
        hidden, memory = (self.start_activation(to(mean)) for to in (self.start_hidden, self.start_memory))
        return DecoderState((cells, self.key(cells)), (hidden, memory))

    def step(self, words: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState, Tensor]:
        """Words (B, K) → logits (B, K, V), next state, attention (B, K, L)."""
        hidden, memory, attention = self._advance(self._embed(words), state)
        return self._say(hidden), DecoderState(state.image, (hidden, memory)), attention

    def forward(self, features: Tensor, words: Tensor, lengths: Tensor) -> TeacherForced:
        """Teacher forcing; see `Decoder.forward`."""
        # Longest first, so that pictures whose captions have ended can leave the batch.
        longest, order = lengths.amax(dim=1).sort(descending=True, stable=True)
        features, words, lengths = features[order], words[order], lengths[order]
        captions = torch.arange(lengths.numel(), device=words.device).view(lengths.shape)[order]
        steps = int(longest[0])
        pictures = [int((longest > t).sum()) for t in range(steps)]
        word_gates = self._embed(words[:, :, :steps]).unbind(dim=2)
        state = self.start(features).repeat(words.shape[1])
        attended = words.new_zeros((*lengths.shape, state.image[0].shape[1]), dtype=torch.float)
        n, finished, hiddens, targets, owners = len(words), [], [], [], []
        for t in range(steps):
            if pictures[t] <= 0.8 * n:  # copying the rest is worth it only now and then
                n = pictures[t]
                finished.append(attended[n:])
                attended = attended[:n]
                state = DecoderState(tuple(x[:n] for x in state.image), tuple(x[:n] for x in state.beams))
            hidden, memory, attention = self._advance(word_gates[t][:n], state)
            state.beams = (hidden, memory)
            real = lengths[:n] > t
            attended = attended + attention.float() * real.unsqueeze(2)
            hiddens.append(hidden[real])
            targets.append(words[:n, :, t + 1][real])
            owners.append(captions[:n][real])
        logits = self._say(torch.cat(hiddens))
        attended = torch.cat([attended, *reversed(finished)])
        return TeacherForced(logits, torch.cat(targets), torch.cat(owners), attended[order.argsort()])

    def _embed(self, words: Tensor) -> Tensor:
        """Words → their share of the gates (…, 4 * hidden size)."""
        gates: Tensor = self.word_gates(self.dropout(self.embedding(words)))
        return gates

    def _say(self, hidden: Tensor) -> Tensor:
        """Hidden state (…, hidden size) → logits (…, V)."""
        logits: Tensor = self.output(self.output_activation(self.deep(self.dropout(hidden))))
        return logits

    def _advance(self, word_gates: Tensor, state: DecoderState) -> tuple[Tensor, Tensor, Tensor]:
        (cells, keys), (hidden, memory) = state.image, state.beams
        attention = self._score(self.query(hidden), keys).softmax(dim=2)
        context = torch.sigmoid(self.gate(hidden)) * torch.bmm(attention.to(cells.dtype), cells)
        gates = word_gates + self.state_gates(torch.cat([context, hidden], dim=2))
        enter, forget, update, leave = gates.chunk(4, dim=2)
        memory = torch.sigmoid(forget) * memory + torch.sigmoid(enter) * torch.tanh(update)
        hidden = torch.sigmoid(leave) * torch.tanh(memory)
        return hidden, memory, attention

    def _score(self, query: Tensor, keys: Tensor) -> Tensor:
        """Query (B, K, A), keys (B, L, A) → how much each cell matters (B, K, L)."""
        if self.score is None:
            return torch.bmm(query * query.shape[2] ** -0.5, keys.to(query.dtype).transpose(1, 2))
        energy = self.activation(keys.unsqueeze(1) + query.unsqueeze(2))
        scores: Tensor = self.score(energy).squeeze(3)
        return scores


def _unchanged(values: Tensor) -> Tensor:
    return values


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "none": _unchanged,
}


def _activation(name: str) -> Callable[[Tensor], Tensor]:
    if name not in _ACTIVATIONS:
        raise GpucaptError(f"There is no activation {name!r}; use {', '.join(_ACTIVATIONS)}.")
    return _ACTIVATIONS[name]
