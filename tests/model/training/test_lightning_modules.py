"""Encoders, decoders and word vectors by name: each trains a step, is saved and loaded, and captions."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from model.captioner import (
    CaptionNetwork,
    CheckpointConfig,
    SearchDefaults,
    build_network,
    load_captioner,
    save_network,
)
from model.checkpoint import read_tensors
from model.encoders.backbones import TORCHVISION_ENCODERS
from model.preprocessing import Preparation
from model.training.augmentation import augment
from model.training.freezing import train_embeddings, train_part
from model.training.glove import read_glove
from model.training.loss import caption_loss
from model.training.recipe import Recipe
from model.vocabulary import END, PAD, START, UNKNOWN, Vocabulary
from tests.media import PHOTOGRAPHS, photograph
from tests.model.tiny import WORDS

pytestmark = pytest.mark.slow

VOCABULARY = Vocabulary((PAD, *WORDS, UNKNOWN, START, END))
SMALL = {"embedding_size": 8, "hidden_size": 16, "attention_size": 8, "feature_size": 12, "heads": 2}
# One of each family in every run. The others of a family have the same layers, in other numbers.
QUICK = {
    *("resnet18", "resnext50_32x4d", "densenet121", "squeezenet1_1", "timm/resnest50d"),
    *("mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x0_5"),
}
ENCODERS = [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
    for name in (*TORCHVISION_ENCODERS, "timm/resnest50d")
]
SENTENCES = ("a dog runs on grass", "the red boat in water", "a big cat sleeps", "the man sits on sand")


def built(recipe: Recipe) -> tuple[CheckpointConfig, CaptionNetwork]:
    config = CheckpointConfig(
        name=recipe.name,
        encoder={"name": recipe.encoder, "grid": recipe.grid},
        decoder={"name": recipe.decoder, "options": recipe.decoder_options()},
        preparation=Preparation(size=64),
        search=SearchDefaults(max_length=8),
        training={},
    )
    torch.manual_seed(0)
    return config, build_network(config, VOCABULARY)


def captions() -> tuple[Tensor, Tensor]:
    """One caption for each of four pictures."""
    rows = [VOCABULARY.encode(sentence.split()) for sentence in SENTENCES]
    words = torch.zeros(len(rows), 1, max(map(len, rows)), dtype=torch.long)
    for row, sentence in zip(words, rows, strict=True):
        row[0, : len(sentence)] = torch.tensor(sentence)
    return words, torch.tensor([[len(row) - 1] for row in rows])


def one_step(network: CaptionNetwork, part: str) -> None:
    """Train on pictures, BatchNorm kept as it is, as the second stage does."""
    network.train()
    network.encoder.eval()
    learning = [
        *train_part(network.encoder, part),
        *(p for p in network.decoder.parameters() if p.requires_grad),
    ]
    optimizer = torch.optim.AdamW(learning, lr=1e-3)
    pictures = augment(torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8))
    words, lengths = captions()
    forced = network.decoder(network.encoder(pictures), words, lengths)
    loss, _ = caption_loss(forced, lengths, label_smoothing=0.1, attention_regularisation=1.0)
    assert loss.isfinite()
    loss.backward()
    assert all(parameter.grad is not None for parameter in learning)
    optimizer.step()


def assert_trains_and_captions(recipe: Recipe, folder: Path, network: CaptionNetwork | None = None) -> None:
    config, new = built(recipe)
    network = network or new
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    one_step(network, recipe.encoder_trained)
    after = network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    learning = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert changed <= learning, "what is frozen, and BatchNorm's statistics, stay as they were"
    assert any(name.startswith("encoder.") for name in changed) == (recipe.encoder_trained != "none")
    assert any(name.startswith("decoder.") for name in changed)
    save_network(folder / "checkpoint", config, VOCABULARY, network.eval(), torch.float32)
    stored = read_tensors(folder / "checkpoint")
    assert all(torch.equal(tensor, stored[name]) for name, tensor in after.items())
    captioner = load_captioner(folder / "checkpoint", device="cpu", precision="fp32")
    prepared = [captioner.prepare(photograph(name)) for name in list(PHOTOGRAPHS)[:2]]
    for caption in captioner.caption(prepared, beam_size=2):
        assert caption.words
        assert caption.log_prob < 0
        shape = caption.attention.shape
        assert shape[0] == len(caption.words)
        assert (shape[1] > 0) == network.decoder.attends


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_encoder_with_one_decoder(encoder: str, tmp_path: Path) -> None:
    if encoder.startswith("timm/") and importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed")
    recipe = Recipe.from_dict({**SMALL, "encoder": encoder, "encoder_trained": "blocks2-4"})
    assert_trains_and_captions(recipe, tmp_path)


@pytest.mark.parametrize(
    "choice",
    [
        {"decoder": "attention_lstm"},
        {"decoder": "attention_lstm", "attention": "dot", "feature_size": None},
        {"decoder": "lstm"},
        {"decoder": "lstm", "layers": 2},
        {"decoder": "transformer"},
        {"decoder": "transformer", "embedding_size": 6, "layers": 1},
    ],
    ids=str,
)
def test_every_decoder_with_one_encoder(choice: dict[str, Any], tmp_path: Path) -> None:
    recipe = Recipe.from_dict({**SMALL, "encoder": "shufflenet_v2_x0_5", **choice})
    assert_trains_and_captions(recipe, tmp_path)


@pytest.mark.parametrize("part", ["none", "block4", "blocks2-4", "all"])
def test_every_part_of_an_encoder(part: str, tmp_path: Path) -> None:
    recipe = Recipe.from_dict({**SMALL, "encoder": "mobilenet_v2", "encoder_trained": part})
    assert_trains_and_captions(recipe, tmp_path)


@pytest.mark.parametrize("decoder", ["attention_lstm", "lstm", "transformer"])
@pytest.mark.parametrize("trained", [True, False])
def test_every_embedding_with_one_encoder(decoder: str, trained: bool, tmp_path: Path) -> None:
    recipe = Recipe.from_dict({**SMALL, "encoder": "shufflenet_v2_x0_5", "decoder": decoder})
    _, network = built(recipe)
    path = tmp_path / "glove.txt"
    path.write_text("".join(f"{word} {' '.join(['0.25'] * 8)}\n" for word in WORDS[:9]), encoding="utf-8")
    vectors, coverage = read_glove(path, VOCABULARY, 8)
    network.decoder.embedding.weight.data.copy_(vectors)
    train_embeddings(network.decoder, trained)
    assert coverage.found == 9
    assert_trains_and_captions(recipe, tmp_path, network)
    unchanged = torch.equal(network.decoder.embedding.weight[1:], vectors[1:])
    assert unchanged == (not trained)
