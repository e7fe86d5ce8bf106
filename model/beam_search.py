"""Beam search over a batch of pictures at once, with exactly the result of one picture at a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from model.decoders.base import Decoder, DecoderState


@dataclass(frozen=True, slots=True)
class Search:
    """What a search may say and when it stops.

    `length_penalty` a ranks hypotheses by log-probability / (words + 1)^a; 0 is the plain sum.
    `forbidden`: indices that never appear (padding, `<start>`, and `<unk>` where it is not allowed).
    `plain`: what the first code of Show, Attend and Tell did and its heirs do: nothing is forbidden, `<end>`
    may be the first word, and at the length limit nothing is made to end that would not.
    `results`: how many ended hypotheses of a picture to tell, best first; more than one takes longer, since
    the search goes on until no continuation can become one of them. The best one stays the same.
    """

    start: int
    end: int
    forbidden: tuple[int, ...] = ()
    beam_size: int = 5
    max_length: int = 40
    length_penalty: float = 0.0
    plain: bool = False
    results: int = 1


@dataclass(slots=True)
class Ended:
    """The best ended hypotheses of each picture, best first: log_probs (B, N), -inf for empty places, words
    (B, N, T), lengths (B, N)."""

    score: Tensor
    log_probs: Tensor
    words: Tensor
    lengths: Tensor


@dataclass(slots=True)
class Hypotheses:
    """The best hypothesis of each picture: words (B, T) without marks, lengths (B,), log_probs (B,) with
    that of the end word where it was said, attention (B, T, L), L = 0 where a decoder does not attend."""

    words: Tensor
    lengths: Tensor
    log_probs: Tensor
    attention: Tensor
    ended: Ended | None = None
    """Where more than one result was asked for."""


@dataclass(slots=True)
class _Live:
    """Hypotheses that go on: log_probs (B, K) with -inf for empty places, always behind the others."""

    pictures: Tensor  # (B,) rows of the result
    log_probs: Tensor
    words: Tensor  # (B, K, t)
    attention: Tensor  # (B, K, t, L)
    state: DecoderState


@torch.inference_mode()
def beam_search(decoder: Decoder, features: Tensor, search: Search) -> Hypotheses:
    """Search captions for features (B, rows, columns, channels).

    As in Show, Attend and Tell's code: each step keeps the best continuations of all hypotheses of a
    picture; one that ends leaves the beam, which shrinks by it. A picture is done when its beam is
    empty, or when no continuation can still win: log-probabilities only fall, so the bound is exact.
    Done pictures leave the batch. Where nothing has ended within `max_length` words, the best
    unfinished hypothesis is the result.
    """
    count, device = features.shape[0], features.device
    cells = features.shape[1] * features.shape[2] if decoder.attends else 0
    best = Hypotheses(
        words=torch.zeros(count, search.max_length, dtype=torch.long, device=device),
        lengths=torch.zeros(count, dtype=torch.long, device=device),
        log_probs=torch.full((count,), -torch.inf, device=device),
        attention=torch.zeros(count, search.max_length, cells, device=device),
        ended=_none_ended(count, search, device) if search.results > 1 else None,
    )
    score = torch.full((count,), -torch.inf, device=device)
    live = _Live(
        pictures=torch.arange(count, device=device),
        log_probs=torch.zeros(count, 1, device=device),
        words=torch.zeros(count, 1, 0, dtype=torch.long, device=device),
        attention=torch.zeros(count, 1, 0, cells, device=device),
        state=decoder.start(features),
    )
    room = torch.full((count,), search.beam_size, device=device)
    last = torch.full((count, 1), search.start, dtype=torch.long, device=device)
    for length in range(search.max_length + 1):
        logits, live.state, attention = decoder.step(last, live.state)
        log_probs = logits.float().log_softmax(dim=2)
        if search.forbidden and not search.plain:
            log_probs[:, :, list(search.forbidden)] = -torch.inf
        if length == 0 and not search.plain:
            log_probs[:, :, search.end] = -torch.inf  # a caption has a word
        if length == search.max_length:
            _keep_unfinished(best, score, live, search)
            log_probs = log_probs if search.plain else _only(log_probs, search.end)
        parents, words, totals = _continuations(live.log_probs, log_probs, room, search.beam_size)
        looked = _pick(attention, parents).float()
        grown = _Live(
            live.pictures,
            totals,
            torch.cat([_pick(live.words, parents), words.unsqueeze(2)], dim=2),
            torch.cat([_pick(live.attention, parents), looked.unsqueeze(2)], dim=2),
            live.state,
        )
        ended = (words == search.end) & totals.isfinite()
        _keep_ended(best, score, grown, ended, search)
        if length == search.max_length:
            break
        room = room - ended.sum(dim=1)
        going = (words != search.end) & totals.isfinite()
        to_beat = score if best.ended is None else best.ended.score[:, -1]
        going &= (_bound(totals, search).amax(dim=1) > to_beat[live.pictures]).unsqueeze(1)
        width = int(going.sum(dim=1).max())
        if width == 0:
            break
        live, room, last = _compact(grown, going, parents, width, room)
    return best


def _continuations(
    so_far: Tensor, log_probs: Tensor, room: Tensor, beam_size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The best `beam_size` continuations: parent, word and log-probability, each (B, K), best first.

    Places beyond a picture's `room` (B,) get -inf.
    """
    size = log_probs.shape[2]
    flat = (so_far.unsqueeze(2) + log_probs).flatten(1)
    totals, index = flat.topk(min(beam_size, flat.shape[1]), dim=1)
    beyond = torch.arange(totals.shape[1], device=totals.device) >= room.unsqueeze(1)
    return index // size, index % size, totals.masked_fill(beyond, -torch.inf)


def _compact(
    grown: _Live, going: Tensor, parents: Tensor, width: int, room: Tensor
) -> tuple[_Live, Tensor, Tensor]:
    """Drop pictures that are done and places that are empty; live hypotheses move to the front."""
    front = (~going).to(torch.uint8).sort(dim=1, stable=True).indices[:, :width]
    keep = going.any(dim=1).nonzero().squeeze(1)
    pictures = None if len(keep) == len(going) else keep
    if pictures is not None:
        front, going, parents, room = front[keep], going[keep], parents[keep], room[keep]
        grown = _Live(
            grown.pictures[keep], grown.log_probs[keep], grown.words[keep], grown.attention[keep], grown.state
        )
    log_probs = grown.log_probs.masked_fill(~going, -torch.inf).gather(1, front)
    words = _pick(grown.words, front)
    state = grown.state.select(pictures, parents.gather(1, front))
    live = _Live(grown.pictures, log_probs, words, _pick(grown.attention, front), state)
    return live, room, words[:, :, -1]


def _keep_ended(best: Hypotheses, score: Tensor, grown: _Live, ended: Tensor, search: Search) -> None:
    length = grown.words.shape[2] - 1
    ranked = (grown.log_probs / (length + 1) ** search.length_penalty).masked_fill(~ended, -torch.inf)
    value, place = ranked.max(dim=1)
    better = (value > score[grown.pictures]).nonzero().squeeze(1)
    _store(best, grown, better, place[better], length)
    score[grown.pictures[better]] = value[better]
    if best.ended is not None:
        _rank_ended(best.ended, ranked, grown, length)


def _none_ended(count: int, search: Search, device: torch.device) -> Ended:
    shape = (count, search.results)
    nothing = torch.full(shape, -torch.inf, device=device)
    words = torch.zeros(*shape, search.max_length, dtype=torch.long, device=device)
    lengths = torch.zeros(shape, dtype=torch.long, device=device)
    return Ended(nothing, nothing.clone(), words, lengths)


def _rank_ended(ended: Ended, ranked: Tensor, grown: _Live, length: int) -> None:
    """Merge the hypotheses that end now, those with a finite rank (B, K), into the best so far."""
    rows = grown.pictures
    new = torch.zeros(*ranked.shape, ended.words.shape[2], dtype=torch.long, device=ranked.device)
    new[:, :, :length] = grown.words[:, :, :length]
    all_scores = torch.cat([ended.score[rows], ranked], dim=1)
    score, place = all_scores.topk(ended.score.shape[1], dim=1)
    log_probs = grown.log_probs.masked_fill(ranked.isneginf(), -torch.inf)
    lengths = torch.full_like(ranked, length, dtype=torch.long)
    ended.score[rows] = score
    ended.log_probs[rows] = torch.cat([ended.log_probs[rows], log_probs], dim=1).gather(1, place)
    ended.lengths[rows] = torch.cat([ended.lengths[rows], lengths], dim=1).gather(1, place)
    ended.words[rows] = _pick(torch.cat([ended.words[rows], new], dim=1), place)


def _keep_unfinished(best: Hypotheses, score: Tensor, live: _Live, search: Search) -> None:
    """At the length limit: the result of a picture for which nothing has ended yet."""
    place = live.log_probs.argmax(dim=1)
    none = score[live.pictures].isneginf().nonzero().squeeze(1)
    _store(best, live, none, place[none], live.words.shape[2])


def _store(best: Hypotheses, live: _Live, rows: Tensor, place: Tensor, length: int) -> None:
    pictures = live.pictures[rows]
    best.words[pictures, :length] = live.words[rows, place, :length]
    best.attention[pictures, :length] = live.attention[rows, place, :length]
    best.lengths[pictures] = length
    best.log_probs[pictures] = live.log_probs[rows, place]


def _bound(totals: Tensor, search: Search) -> Tensor:
    """The best score that a hypothesis can still reach: nothing lost from here, longest length."""
    return totals / float((search.max_length + 1) ** search.length_penalty)


def _only(log_probs: Tensor, word: int) -> Tensor:
    masked = torch.full_like(log_probs, -torch.inf)
    masked[:, :, word] = log_probs[:, :, word]
    return masked


def _pick(values: Tensor, beams: Tensor) -> Tensor:
    """values (B, K, …), beams (B, K') → (B, K', …)."""
    rows = torch.arange(beams.shape[0], device=beams.device).unsqueeze(1)
    return values[rows, beams]
