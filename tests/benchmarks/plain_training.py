"""A training step as earlier captioners take it: one caption a picture, everything derived again at every
word.

This is the measure for training on stored features, so it is written as plainly as theirs: a batch is as many
captions, each with a copy of its picture's features; sorted by length, so that those that have ended drop
out; at every word the features go through the attention's projection again; all logits are kept padded. It
uses the modules of the same network and must find the same loss.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence

from model.decoders.attention_lstm import AttentionLSTM


def loss(decoder: AttentionLSTM, features: Tensor, captions: Tensor, lengths: Tensor) -> Tensor:
    """Features (N, rows, columns, channels), captions (N, T) with both marks, lengths (N,) of words to
    predict.
    """
    lengths, order = lengths.sort(dim=0, descending=True)
    cells = features[order].flatten(1, 2)
    captions = captions[order]
    mean = decoder.project(cells).mean(dim=1)
    hidden, memory = decoder.start_hidden(mean), decoder.start_memory(mean)
    embedded = decoder.dropout(decoder.embedding(captions))
    steps = int(lengths[0])
    predictions = features.new_zeros(len(captions), steps, decoder.output.out_features)
    alphas = features.new_zeros(len(captions), steps, cells.shape[1])
    for t in range(steps):
        n = sum(length > t for length in lengths.tolist())
        seen = decoder.project(cells[:n])
        energy = decoder.activation(decoder.key(seen) + decoder.query(hidden[:n]).unsqueeze(1))
        assert decoder.score is not None
        alpha = decoder.score(energy).squeeze(2).softmax(dim=1)
        context = torch.sigmoid(decoder.gate(hidden[:n])) * (seen * alpha.unsqueeze(2)).sum(dim=1)
        gates = decoder.word_gates(embedded[:n, t])
        gates = gates + decoder.state_gates(torch.cat([context, hidden[:n]], dim=1))
        enter, forget, update, leave = gates.chunk(4, dim=1)
        memory = torch.sigmoid(forget) * memory[:n] + torch.sigmoid(enter) * torch.tanh(update)
        hidden = torch.sigmoid(leave) * torch.tanh(memory)
        predictions[:n, t] = decoder.output(decoder.dropout(hidden))
        alphas[:n, t] = alpha
    scores = pack_padded_sequence(predictions, lengths.cpu(), batch_first=True).data
    targets = pack_padded_sequence(captions[:, 1:], lengths.cpu(), batch_first=True).data
    return F.cross_entropy(scores, targets) + ((1.0 - alphas.sum(dim=1)) ** 2).mean()


def step(
    decoder: AttentionLSTM,
    optimizer: torch.optim.Optimizer,
    features: Tensor,
    captions: Tensor,
    lengths: Tensor,
) -> float:
    """One step of the optimiser; returns the loss."""
    found = loss(decoder, features, captions, lengths)
    optimizer.zero_grad()
    found.backward()
    nn.utils.clip_grad_value_(decoder.parameters(), 5.0)
    optimizer.step()
    return float(found.detach())
