"""Beam search as one would write it on paper: one picture, one hypothesis at a time, plain lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from model.beam_search import Search


@dataclass(frozen=True)
class Result:
    words: list[int]
    log_prob: float
    attention: list[Tensor]


def search_one(decoder: Any, features: Tensor, search: Search) -> Result:
    """Features (1, rows, columns, channels) → the best caption of this one picture."""
    return search_all(decoder, features, search)[0]


def search_all(decoder: Any, features: Tensor, search: Search) -> list[Result]:
    """All that ended within the length limit, best first; where nothing did, the best that did not."""
    with torch.inference_mode():
        live = [(0.0, [search.start], [], decoder.start(features))]
        finished: list[tuple[float, Result]] = []
        room = search.beam_size
        for length in range(search.max_length + 1):
            if not live or room == 0:
                break
            candidates = []
            for total, words, looked, state in live:
                logits, after, attention = decoder.step(torch.tensor([[words[-1]]]), state)
                log_probs = logits[0, 0].log_softmax(dim=0)
                for word, log_prob in enumerate(log_probs.tolist()):
                    if not search.plain and not _allowed(word, length, search):
                        continue
                    candidates.append((total + log_prob, [*words, word], [*looked, attention[0, 0]], after))
            candidates = [c for c in candidates if c[0] > -torch.inf]
            candidates.sort(key=lambda c: c[0], reverse=True)
            if length == search.max_length and not finished and not candidates:
                break
            survivors = []
            for total, words, looked, state in candidates[:room]:
                if words[-1] == search.end:
                    score = total / len(words[1:]) ** search.length_penalty
                    finished.append((score, Result(words[1:-1], total, looked[:-1])))
                else:
                    survivors.append((total, words, looked, state))
            room -= len(candidates[:room]) - len(survivors)
            if length < search.max_length:
                live = survivors
        if finished:
            return [result for _, result in sorted(finished, key=lambda f: f[0], reverse=True)]
        total, words, looked, _ = live[0]
        return [Result(words[1:], total, looked)]


def _allowed(word: int, length: int, search: Search) -> bool:
    """A caption has a word, ends at the limit, and has none of the forbidden words."""
    if word == search.end:
        return length > 0
    return word not in search.forbidden and length < search.max_length
