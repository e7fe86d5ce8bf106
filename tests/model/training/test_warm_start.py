from __future__ import annotations

from typing import Any

import pytest
import torch

from model.captioner import CaptionNetwork
from model.decoders.registry import build_decoder
from model.encoders.backbones import build_encoder
from model.errors import GpucaptError
from model.training.warm_start import transfer
from model.vocabulary import END, PAD, START, UNKNOWN, Vocabulary

FIRST = Vocabulary((PAD, "a", "dog", "runs", "old", UNKNOWN, START, END))
SECOND = Vocabulary((PAD, "new", "runs", "a", "words", "dog", UNKNOWN, START, END))
SIZES = {"embedding_size": 8, "hidden_size": 12}


def network(
    words: Vocabulary, decoder: str = "attention_lstm", encoder: str = "shufflenet_v2_x0_5", **options: Any
) -> CaptionNetwork:
    seen = build_encoder(encoder)
    return CaptionNetwork(seen, build_decoder(decoder, len(words), seen.channels, {**SIZES, **options}))


@pytest.mark.parametrize("decoder", ["attention_lstm", "lstm", "transformer"])
def test_shared_words_take_their_weights_to_their_new_places(decoder: str) -> None:
    options = {"heads": 3} if decoder == "transformer" else {}
    source, target = (network(words, decoder, **options) for words in (FIRST, SECOND))
    source.decoder.output.bias.data.normal_()
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    done = transfer(source, FIRST, target, SECOND)
    for word in ("a", "dog", "runs", PAD, UNKNOWN, START, END):
        i, j = FIRST.index[word], SECOND.index[word]
        for name in ("embedding.weight", "output.weight", "output.bias"):
            assert torch.equal(
                source.decoder.get_parameter(name)[i], target.decoder.get_parameter(name)[j]
            ), (word, name)
    for word in ("new", "words"):
        j = SECOND.index[word]
        assert torch.equal(target.decoder.embedding.weight[j], before["decoder.embedding.weight"][j])
    assert (done.words, done.left) == (3, ())
    for name, tensor in source.state_dict().items():
        if not name.startswith(("decoder.embedding", "decoder.output")):
            assert torch.equal(tensor, target.state_dict()[name]), name
    assert "3 words" in str(done)


def test_the_same_vocabulary_gives_the_same_network() -> None:
    source, target = network(FIRST), network(FIRST)
    transfer(source, FIRST, target, FIRST)
    features = torch.randn(2, 2, 2, source.encoder.channels)
    words = torch.full((2, 1), FIRST.start)
    expected, got = (n.decoder.eval().step(words, n.decoder.start(features))[0] for n in (source, target))
    assert torch.equal(expected, got)


def test_another_encoder_begins_anew_as_a_whole() -> None:
    source, target = network(FIRST, encoder="resnet18"), network(SECOND, encoder="resnet34")
    before = {name: tensor.clone() for name, tensor in target.encoder.state_dict().items()}
    done = transfer(source, FIRST, target, SECOND)
    assert all(torch.equal(before[name], tensor) for name, tensor in target.encoder.state_dict().items())
    assert not done.whole_encoder
    assert "not the encoder" in str(done)
    assert "decoder.word_gates.weight" in done.kept


def test_of_another_decoder_the_word_vectors_come_over() -> None:
    source, target = network(FIRST), network(SECOND, "lstm")
    done = transfer(source, FIRST, target, SECOND)
    assert [name for name in done.kept if name.startswith("decoder.")] == ["decoder.embedding.weight"]
    assert done.whole_encoder


def test_other_sizes_leave_what_does_not_fit() -> None:
    source, target = network(FIRST), network(FIRST, embedding_size=6)
    done = transfer(source, FIRST, target, FIRST)
    assert "decoder.embedding.weight" in done.left
    assert "decoder.word_gates.weight" in done.left
    assert "decoder.output.weight" in done.kept


def test_what_has_nothing_in_common_is_one_line() -> None:
    source = network(FIRST, encoder="resnet18")
    with pytest.raises(GpucaptError, match="Nothing of that checkpoint fits"):
        transfer(source, FIRST, network(SECOND, "lstm", embedding_size=6), SECOND)
