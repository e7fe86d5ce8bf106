from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.beam_search import Search, beam_search
from model.decoders.registry import Decoder, build_decoder
from tests.model.reference_search import search_all, search_one

PAD, UNKNOWN, START, END = 0, 17, 18, 19
SIZE = 20


ATTENTION_LSTM = {"embedding_size": 8, "hidden_size": 12, "attention_size": 5, "feature_size": 7}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "additive": ("attention_lstm", {**ATTENTION_LSTM, "attention": "additive"}),
    "dot": ("attention_lstm", {**ATTENTION_LSTM, "attention": "dot"}),
    "lstm": ("lstm", {"embedding_size": 8, "hidden_size": 12}),
    "two layers": ("lstm", {"embedding_size": 8, "hidden_size": 12, "layers": 2}),
    "transformer": ("transformer", {"embedding_size": 8, "hidden_size": 12, "layers": 2, "heads": 3}),
}


def lively_decoder(seed: int, end_bias: float, kind: str = "additive") -> Decoder:
    """Random weights strong enough that pictures differ in their captions and captions in length."""
    torch.manual_seed(seed)
    name, options = KINDS[kind]
    decoder = build_decoder(name, SIZE, 6, options).eval()
    for parameter in decoder.parameters():
        if parameter.dim() == 2:
            parameter.data.normal_(std=3 / parameter.shape[1] ** 0.5)
    decoder.output.bias.data[END] = end_bias
    return decoder


def search(beam_size: int, **options: object) -> Search:
    return Search(
        start=START,
        end=END,
        forbidden=(PAD, START, UNKNOWN),
        beam_size=beam_size,
        **{"max_length": 14, **options},  # type: ignore[arg-type]
    )


def assert_same_as_reference(decoder: Decoder, features: torch.Tensor, options: Search) -> list[int]:
    found = beam_search(decoder, features, options)
    for i in range(len(features)):
        expected = search_one(decoder, features[i : i + 1], options)
        length = int(found.lengths[i])
        assert found.words[i, :length].tolist() == expected.words
        assert float(found.log_probs[i]) == pytest.approx(expected.log_prob, abs=1e-4)
        for t in range(length):
            torch.testing.assert_close(found.attention[i, t], expected.attention[t], atol=1e-4, rtol=0)
    lengths: list[int] = found.lengths.tolist()
    return lengths


@pytest.mark.parametrize("beam_size", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("kind", list(KINDS))
def test_a_batch_gives_word_for_word_what_one_picture_at_a_time_gives(beam_size: int, kind: str) -> None:
    end_bias = 1.0 if kind in ("two layers", "transformer") else 0.0
    decoder = lively_decoder(1, end_bias, kind)
    lengths = assert_same_as_reference(decoder, torch.randn(12, 3, 2, 6) * 2, search(beam_size))
    assert len(set(lengths)) > 2, "the endings should be ragged, or this shows little"


@pytest.mark.parametrize("beam_size", [1, 3, 6])
def test_captions_that_never_end_are_cut_at_the_limit(beam_size: int) -> None:
    decoder = lively_decoder(2, end_bias=-torch.inf)
    lengths = assert_same_as_reference(decoder, torch.randn(4, 2, 2, 6), search(beam_size, max_length=6))
    assert lengths == [6, 6, 6, 6]


@pytest.mark.parametrize("beam_size", [1, 5])
def test_some_end_and_some_never_do(beam_size: int) -> None:
    decoder = lively_decoder(3, end_bias=-1.0)
    assert_same_as_reference(decoder, torch.randn(16, 2, 2, 6) * 2, search(beam_size, max_length=5))


@given(
    kind=st.sampled_from(list(KINDS)),
    seed=st.integers(0, 10_000),
    beam_size=st.integers(1, 6),
    end_bias=st.floats(-3, 6),
    max_length=st.integers(1, 9),
    penalty=st.sampled_from([0.0, 0.7, 1.0]),
    plain=st.booleans(),
)
@settings(max_examples=75, deadline=None)
def test_any_search_matches_the_reference(
    kind: str, seed: int, beam_size: int, end_bias: float, max_length: int, penalty: float, plain: bool
) -> None:
    decoder = lively_decoder(seed, end_bias, kind)
    features = torch.randn(3, 2, 2, 6) * 2
    options = search(beam_size, max_length=max_length, length_penalty=penalty, plain=plain)
    assert_same_as_reference(decoder, features, options)


def test_the_order_and_company_of_pictures_do_not_matter() -> None:
    decoder = lively_decoder(4, end_bias=1.0)
    features = torch.randn(9, 2, 2, 6) * 2
    together = beam_search(decoder, features, search(5))
    order = torch.randperm(9)
    shuffled = beam_search(decoder, features[order], search(5))
    assert torch.equal(together.words[order], shuffled.words)
    assert torch.equal(together.lengths[order], shuffled.lengths)


@pytest.mark.parametrize("penalty", [0.0, 0.7])
@pytest.mark.parametrize("results", [2, 5])
def test_the_next_best_captions_are_those_of_one_picture_at_a_time(results: int, penalty: float) -> None:
    decoder = lively_decoder(8, end_bias=0.5)
    features = torch.randn(12, 3, 2, 6) * 2
    options = search(5, results=results, length_penalty=penalty)
    found = beam_search(decoder, features, options)
    assert found.ended is not None
    for i in range(len(features)):
        expected = [
            (r.words, r.log_prob) for r in search_all(decoder, features[i : i + 1], options)[:results]
        ]
        rows = zip(found.ended.words[i].tolist(), found.ended.lengths[i].tolist(), strict=True)
        places = found.ended.log_probs[i].isfinite().tolist()
        words = [row[:length] for (row, length), there in zip(rows, places, strict=True) if there]
        assert words == [row for row, _ in expected]
        log_probs = found.ended.log_probs[i, : len(words)].tolist()
        assert log_probs == pytest.approx([log_prob for _, log_prob in expected], abs=1e-4)
    one = beam_search(decoder, features, search(5, length_penalty=penalty))
    assert torch.equal(one.words, found.words), "to ask for more must not change the first"


def test_forbidden_words_never_appear() -> None:
    decoder = lively_decoder(5, end_bias=0.0)
    decoder.output.bias.data[UNKNOWN] = 50
    found = beam_search(decoder, torch.randn(5, 2, 2, 6), search(3))
    assert not (found.words[:, :] == UNKNOWN).any()


def test_no_caption_is_empty() -> None:
    decoder = lively_decoder(6, end_bias=40.0)
    found = beam_search(decoder, torch.randn(5, 2, 2, 6), search(4))
    assert found.lengths.tolist() == [1] * 5


def test_a_plain_search_forbids_nothing() -> None:
    decoder = lively_decoder(6, end_bias=40.0)
    assert beam_search(decoder, torch.randn(5, 2, 2, 6), search(4, plain=True)).lengths.tolist() == [0] * 5
    decoder = lively_decoder(5, end_bias=0.0)
    decoder.output.bias.data[UNKNOWN] = 50
    assert (beam_search(decoder, torch.randn(5, 2, 2, 6), search(1, plain=True)).words == UNKNOWN).all()


def test_a_plain_search_makes_nothing_end_at_the_limit() -> None:
    decoder = lively_decoder(3, end_bias=-1.0)
    features = torch.randn(16, 2, 2, 6) * 2
    made_to_end = beam_search(decoder, features, search(3, max_length=3))
    left = beam_search(decoder, features, search(3, max_length=3, plain=True))
    assert (left.log_probs >= made_to_end.log_probs - 1e-4).all()
    assert (left.log_probs > made_to_end.log_probs + 0.1).any(), "the end word was not paid for"


@pytest.mark.gpu
def test_the_gpu_finds_the_same_captions() -> None:
    decoder = lively_decoder(7, end_bias=1.0)
    features = torch.randn(16, 2, 2, 6)
    on_cpu = beam_search(decoder, features, search(5))
    on_gpu = beam_search(decoder.cuda(), features.cuda(), search(5))
    assert torch.equal(on_cpu.words, on_gpu.words.cpu())
