"""Captioning as earlier captioners do it: one picture at a time, in fp32, with gradients tracked.

This is the measure for the job, so it is written as plainly as theirs: batch size 1, the file read and
resized when its turn comes, the picture copied for each hypothesis, everything that the decoder derives from
the picture derived again at every word, beams kept in Python lists. It uses the modules of the same network
and must find the same captions.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from model.captioner import CaptionNetwork, CheckpointConfig
from model.decoders.registry import AttentionLSTM
from model.encoders.backbones import IMAGENET_MEAN, IMAGENET_STD
from model.vocabulary import Vocabulary


def caption_file(
    path: Path,
    config: CheckpointConfig,
    vocabulary: Vocabulary,
    network: CaptionNetwork,
    *,
    beam_size: int = 5,
    max_length: int = 40,
    device: torch.device | None = None,
) -> str:
    """The caption of one picture. The network is in eval mode and in fp32, on the device."""
    pixels = read_picture(path, config).to(device or torch.device("cpu"))
    maps = network.encoder.backbone(pixels.unsqueeze(0))
    if network.encoder.grid is not None:
        maps = F.adaptive_avg_pool2d(maps, network.encoder.grid)
    features = maps.permute(0, 2, 3, 1).reshape(1, -1, maps.shape[1])
    limit = min(max_length, config.search.max_length)
    forbidden = [vocabulary.pad, vocabulary.start]
    if not config.search.allow_unknown:
        forbidden.append(vocabulary.unknown)
    indices = search(
        features,
        network.decoder,
        vocabulary,
        forbidden,
        beam_size=beam_size,
        max_length=limit,
        length_penalty=config.search.length_penalty,
    )
    return " ".join(vocabulary.decode(indices))


def read_picture(path: Path, config: CheckpointConfig) -> Tensor:
    """A file as the encoder wants it: (3, S, S), normalised."""
    picture = np.asarray(Image.open(path).convert("RGB"))
    resized = config.preparation(picture).astype(np.float32) / 255.0
    mean = torch.tensor(IMAGENET_MEAN).view(3, 1, 1)
    std = torch.tensor(IMAGENET_STD).view(3, 1, 1)
    return (torch.from_numpy(resized) - mean) / std


def search(
    features: Tensor,
    decoder: AttentionLSTM,
    vocabulary: Vocabulary,
    forbidden: list[int],
    *,
    beam_size: int,
    max_length: int,
    length_penalty: float,
) -> list[int]:
    """Beam search for one picture's features (1, L, C): word indices, `<end>` the last of them."""
    k = beam_size
    size = len(vocabulary)
    features = features.expand(k, -1, -1)
    first = decoder.project(features)
    hidden = decoder.start_hidden(first.mean(dim=1))
    memory = decoder.start_memory(first.mean(dim=1))
    previous = torch.full((k,), vocabulary.start, dtype=torch.long, device=features.device)
    sequences: list[list[int]] = [[] for _ in range(k)]
    totals = torch.zeros(k, 1, device=features.device)
    complete: list[list[int]] = []
    complete_totals: list[float] = []
    for step in range(max_length + 1):
        scores, hidden, memory = _next_word(decoder, features, previous, hidden, memory)
        scores[:, forbidden] = -torch.inf
        if step == 0:
            scores[:, vocabulary.end] = -torch.inf
        if step == max_length:
            others = [word for word in range(size) if word != vocabulary.end]
            scores[:, others] = -torch.inf
        scores = totals.expand_as(scores) + scores
        if step == 0:  # all hypotheses are still the same one
            best, words = scores[0].topk(k)
        else:
            best, words = scores.view(-1).topk(min(k, scores.numel()))
        parents = torch.div(words, size, rounding_mode="floor") if step > 0 else torch.zeros_like(words)
        words = words % size
        sequences = [
            [*sequences[parent], word] for parent, word in zip(parents.tolist(), words.tolist(), strict=True)
        ]
        incomplete = [i for i, sequence in enumerate(sequences) if sequence[-1] != vocabulary.end]
        for i in range(len(sequences)):
            if i not in incomplete:
                complete.append(sequences[i])
                complete_totals.append(best[i].item() / (step + 1) ** length_penalty)
        k = len(incomplete)
        if k == 0 or step == max_length:
            break
        sequences = [sequences[i] for i in incomplete]
        hidden = hidden[parents[incomplete]]
        memory = memory[parents[incomplete]]
        features = features[parents[incomplete]]
        previous = words[incomplete]
        totals = best[incomplete].unsqueeze(1)
    return complete[complete_totals.index(max(complete_totals))]


def _next_word(
    decoder: AttentionLSTM, features: Tensor, previous: Tensor, hidden: Tensor, memory: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    cells = decoder.project(features)
    keys = decoder.key(cells)
    query = decoder.query(hidden).unsqueeze(1)
    if decoder.score is None:
        energy = (keys * query).sum(dim=2) * query.shape[2] ** -0.5
    else:
        energy = decoder.score(decoder.activation(keys + query)).squeeze(2)
    attention = energy.softmax(dim=1)
    context = (cells * attention.unsqueeze(2)).sum(dim=1)
    context = torch.sigmoid(decoder.gate(hidden)) * context
    embedded = decoder.embedding(previous)
    gates = decoder.word_gates(embedded) + decoder.state_gates(torch.cat([context, hidden], dim=1))
    enter, forget, update, leave = gates.chunk(4, dim=1)
    memory = torch.sigmoid(forget) * memory + torch.sigmoid(enter) * torch.tanh(update)
    hidden = torch.sigmoid(leave) * torch.tanh(memory)
    return F.log_softmax(decoder.output(hidden), dim=1), hidden, memory
