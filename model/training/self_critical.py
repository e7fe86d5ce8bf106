"""Self-critical training: captions are drawn from the decoder and learn from what they earn.

Rennie et al. 2017 (self-critical sequence training, REINFORCE on the metric itself), in Luo's variant (2020,
"A Better Variant of Self-Critical Sequence Training"): several captions are drawn of each picture, and the
baseline of each is the mean reward of the others, which takes no decoding of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from model.decoders.registry import Decoder, TeacherForced


class Reward(Protocol):
    """What captions of a picture, as word indices up to `<end>`, are worth."""

    def scores(self, picture: int, captions: Sequence[Sequence[int]]) -> list[float]: ...


@torch.no_grad()
def draw_captions(
    decoder: Decoder,
    features: Tensor,
    *,
    count: int,
    start: int,
    end: int,
    forbidden: Sequence[int],
    longest: int,
) -> tuple[Tensor, Tensor]:
    """Draw `count` captions a picture, word by word, from the decoder's own distribution.

    Features (B, rows, columns, channels) → words (B, count, T), `start` first, and how many of them there are
    to predict (B, count), `end` included. `forbidden` words are never drawn, nor is `end` as the first one; a
    caption of `longest` words ends there.
    """
    state = decoder.start(features)
    state.beams = tuple(t.expand(-1, count, *t.shape[2:]) for t in state.beams)
    last = torch.full((len(features), count), start, dtype=torch.long, device=features.device)
    alive = torch.ones_like(last, dtype=torch.bool)
    drawn = [last]
    for length in range(longest):
        logits, state, _ = decoder.step(last, state)
        logits = _allowed(logits.float().flatten(0, 1), forbidden)
        if length == 0:
            logits[:, end] = -torch.inf
        last = torch.multinomial(logits.softmax(dim=1), 1).view_as(last)
        last = torch.where(alive, last, end)
        drawn.append(last)
        alive &= last != end
        if not alive.any():
            break
    else:
        drawn.append(torch.full_like(last, end))
    words = torch.stack(drawn, dim=2)
    return words, (words[:, :, 1:] == end).int().argmax(dim=2) + 1


def score_drawn(reward: Reward, pictures: Tensor, words: Tensor, lengths: Tensor) -> Tensor:
    """What drawn captions earn: pictures (B,) positions in the dataset, words (B, K, T), lengths (B, K) → (B,
    K).
    """
    earned = []
    for picture, said, sizes in zip(pictures.tolist(), words.tolist(), lengths.tolist(), strict=True):
        captions = [row[1 : size + 1] for row, size in zip(said, sizes, strict=True)]
        earned.append(reward.scores(picture, captions))
    return torch.tensor(earned, device=words.device)


def policy_loss(forced: TeacherForced, rewards: Tensor, forbidden: Sequence[int]) -> Tensor:
    """The sum over all words of -log p(word), times by how much the word's caption beat the picture's others.

    Rewards (B, K), K at least 2. The distribution is the one that was drawn from: without `forbidden` words.
    """
    others = (rewards.sum(dim=1, keepdim=True) - rewards) / (rewards.shape[1] - 1)
    advantage = (rewards - others).flatten()[forced.captions]
    logits = _allowed(forced.logits.float(), forbidden)
    log_probs = logits.log_softmax(dim=1).gather(1, forced.targets.unsqueeze(1)).squeeze(1)
    return -(advantage * log_probs).sum()


def _allowed(logits: Tensor, forbidden: Sequence[int]) -> Tensor:
    mask = torch.zeros(logits.shape[1], dtype=torch.bool, device=logits.device)
    mask[list(forbidden)] = True
    return logits.masked_fill(mask, -torch.inf)
