"""What every decoder promises, whatever is inside."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from model.decoders.registry import DECODERS, Decoder, build_decoder
from model.errors import GpucaptError
from model.precision import Precision, autocast

SIZE, CHANNELS = 20, 6
PAD, START, END = 0, 18, 19
ATTENTION = {"embedding_size": 8, "hidden_size": 12, "attention_size": 5}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "attention_lstm": ("attention_lstm", {**ATTENTION, "feature_size": 7}),
    "lstm": ("lstm", {"embedding_size": 8, "hidden_size": 12, "layers": 2}),
    "transformer": ("transformer", {"embedding_size": 6, "hidden_size": 12, "layers": 2, "heads": 3}),
    # As earlier captioners have them.
    "bounded start": (
        "attention_lstm",
        {**ATTENTION, "attention_activation": "tanh", "start_activation": "tanh"},
    ),
    "deep output": ("attention_lstm", {**ATTENTION, "gate_size": 6, "output_size": 9}),
    "plain picture": ("lstm", {"embedding_size": 8, "hidden_size": 12, "normalise": False}),
}
EVERY = pytest.mark.parametrize("name", list(KINDS))


def decoder(name: str, seed: int = 0) -> Decoder:
    torch.manual_seed(seed)
    kind, options = KINDS[name]
    return build_decoder(kind, SIZE, CHANNELS, options).eval()


def test_each_kind_of_decoder_is_tested() -> None:
    assert {kind for kind, _ in KINDS.values()} == set(DECODERS)


def captions() -> tuple[Tensor, Tensor]:
    """Captions of three pictures, two each, of ragged lengths; the last picture has but one."""
    torch.manual_seed(1)
    lengths = torch.tensor([[3, 5], [7, 1], [4, 0]])
    words = torch.randint(1, 17, (3, 2, 9))
    words[:, :, 0] = START
    for picture in range(3):
        for k in range(2):
            length = int(lengths[picture, k])
            words[picture, k, length] = END
            words[picture, k, length + 1 :] = PAD
    return words, lengths


@EVERY
def test_teacher_forcing_says_what_steps_say(name: str) -> None:
    network = decoder(name)
    words, lengths = captions()
    features = torch.randn(3, 2, 3, CHANNELS)
    with torch.no_grad():
        forced = network(features, words, lengths)
        for picture in range(3):
            for k in range(2):
                mine = forced.captions == picture * 2 + k
                length = int(lengths[picture, k])
                assert forced.targets[mine].tolist() == words[picture, k, 1 : length + 1].tolist()
                state, looked = network.start(features[picture : picture + 1]), torch.zeros(())
                for t in range(length):
                    logits, state, attention = network.step(words[picture : picture + 1, k : k + 1, t], state)
                    torch.testing.assert_close(forced.logits[mine][t], logits[0, 0], atol=1e-5, rtol=1e-4)
                    looked = looked + attention[0, 0]
                if length:
                    torch.testing.assert_close(forced.attended[picture, k], looked, atol=1e-5, rtol=1e-4)
    assert len(forced.logits) == int(lengths.sum())
    assert not forced.attended[2, 1].any(), "no caption, no attention"


@EVERY
def test_the_words_to_come_are_not_looked_at(name: str) -> None:
    network = decoder(name)
    words, lengths = captions()
    features = torch.randn(3, 2, 2, CHANNELS)
    other = words.clone()
    other[1, 0, 4] = (words[1, 0, 4] + 1) % 17
    with torch.no_grad():
        before, after = network(features, words, lengths), network(features, other, lengths)
    mine = before.captions == 2
    torch.testing.assert_close(before.logits[mine][:4], after.logits[mine][:4])
    assert not torch.allclose(before.logits[mine][4], after.logits[mine][4])


@EVERY
def test_pictures_matter_and_attention_is_a_share_of_their_cells(name: str) -> None:
    network = decoder(name)
    logits, _, attention = network.step(
        torch.full((2, 1), START), network.start(torch.randn(2, 3, 4, CHANNELS))
    )
    assert not torch.allclose(logits[0], logits[1])
    if network.attends:
        assert attention.shape == (2, 1, 12)
        torch.testing.assert_close(attention.sum(dim=2), torch.ones(2, 1))
    else:
        assert attention.shape == (2, 1, 0)


@EVERY
def test_hypotheses_of_a_picture_do_not_mix(name: str) -> None:
    network = decoder(name)
    features = torch.randn(2, 2, 2, CHANNELS)
    words = torch.tensor([[3, 4, 5], [6, 7, 8]])
    with torch.no_grad():
        together, state, _ = network.step(words, network.start(features).repeat(3))
        # Each goes on from another one's state, the second picture's alone.
        state = state.select(torch.tensor([1]), torch.tensor([[2, 0, 0]]))
        onward, _, _ = network.step(torch.tensor([[9, 9, 10]]), state)
        for k, before, word in ((0, 8, 9), (1, 6, 9), (2, 6, 10)):
            alone = network.start(features[1:])
            _, alone, _ = network.step(torch.tensor([[before]]), alone)
            expected, _, _ = network.step(torch.tensor([[word]]), alone)
            torch.testing.assert_close(onward[0, k], expected[0, 0], atol=1e-5, rtol=1e-4)
    assert together.shape == (2, 3, SIZE)


@EVERY
def test_every_weight_learns(name: str) -> None:
    network = decoder(name).train()
    words, lengths = captions()
    forced = network(torch.randn(3, 2, 2, CHANNELS), words, lengths)
    loss = torch.nn.functional.cross_entropy(forced.logits, forced.targets)
    loss.backward()
    still = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert still == []


@EVERY
def test_reduced_precision_gives_nearly_the_same(name: str) -> None:
    network = decoder(name)
    features = torch.randn(3, 2, 2, CHANNELS)
    words, lengths = captions()
    with torch.no_grad():
        expected = network(features, words, lengths).logits.softmax(dim=1)
        with autocast("bf16", torch.device("cpu")):
            forced = network(features.bfloat16(), words, lengths)
            state = network.start(features.bfloat16())
            for t in range(2):
                logits, state, _ = network.step(words[:, :1, t], state)
    torch.testing.assert_close(forced.logits.float().softmax(dim=1), expected, atol=0.02, rtol=0)
    assert logits.isfinite().all()


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@EVERY
def test_the_gpu_learns_and_says_nearly_the_same(name: str, precision: Precision) -> None:
    network = decoder(name)
    features = torch.randn(3, 2, 2, CHANNELS)
    words, lengths = captions()
    with torch.no_grad():
        expected = network(features, words, lengths).logits.softmax(dim=1)
    network = network.cuda()
    with autocast(precision, torch.device("cuda")):
        forced = network(features.cuda(), words.cuda(), lengths.cuda())
        state = network.start(features.cuda())
        for t in range(2):
            logits, state, _ = network.step(words[:, :1, t].cuda(), state)
    torch.testing.assert_close(forced.logits.float().softmax(dim=1).cpu(), expected, atol=0.02, rtol=0)
    assert logits.isfinite().all()
    torch.nn.functional.cross_entropy(forced.logits.float(), forced.targets).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@torch.no_grad()
def test_a_bounded_start_and_a_deep_output_are_what_they_say() -> None:
    features = torch.randn(2, 2, 2, CHANNELS)
    network = decoder("bounded start")
    mean = features.flatten(1, 2).mean(dim=1, keepdim=True)
    hidden, memory = network.start(features).beams
    torch.testing.assert_close(hidden, network.get_submodule("start_hidden")(mean).tanh())
    torch.testing.assert_close(memory, network.get_submodule("start_memory")(mean).tanh())
    network = decoder("deep output")
    first, hidden_layer, second = network.get_submodule("gate").children()
    assert isinstance(hidden_layer, torch.nn.LeakyReLU)
    assert [first.weight.shape, second.weight.shape] == [(6, 12), (CHANNELS, 6)]
    logits, state, _ = network.step(torch.full((2, 1), START), network.start(features))
    deep = network.get_submodule("deep")(state.beams[0]).tanh()
    torch.testing.assert_close(logits, network.output(deep))


def test_the_projections_of_the_picture_are_made_once_a_picture() -> None:
    network = decoder("transformer")
    calls = []
    for layer in network.get_submodule("layers").children():
        layer.get_submodule("image_in").register_forward_hook(lambda *_: calls.append(1))
    state = network.start(torch.randn(2, 2, 2, CHANNELS))
    for _ in range(4):
        _, state, _ = network.step(torch.full((2, 1), 3), state)
    assert len(calls) == 2  # layers


def test_names_and_options_that_do_not_exist_are_one_line() -> None:
    with pytest.raises(GpucaptError, match="attention_lstm, lstm, transformer"):
        build_decoder("parrot", SIZE, CHANNELS, {})
    with pytest.raises(GpucaptError, match="heads"):
        build_decoder("lstm", SIZE, CHANNELS, {"heads": 3})
    with pytest.raises(GpucaptError, match="activation 'sigmoid'; use relu, tanh, none"):
        build_decoder("attention_lstm", SIZE, CHANNELS, {"start_activation": "sigmoid"})
    with pytest.raises(GpucaptError, match="multiple of its heads"):
        build_decoder("transformer", SIZE, CHANNELS, {"hidden_size": 20, "heads": 3})
