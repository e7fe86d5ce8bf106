"""A captioner with random weights, small enough for tests: real files, real code, silly captions."""

from __future__ import annotations

from pathlib import Path

import torch

from model.captioner import CheckpointConfig, SearchDefaults, build_network, save_network
from model.preprocessing import Preparation
from model.vocabulary import END, PAD, START, UNKNOWN, Vocabulary

WORDS = (
    *("a", "the", "dog", "cat", "man", "woman", "child", "boat", "red", "blue", "big", "small"),
    *("runs", "sits", "jumps", "sleeps", "on", "in", "over", "grass", "water", "sand", "street", "house"),
)

OPTIONS = {
    "attention_lstm": {"embedding_size": 16, "hidden_size": 32, "attention_size": 16, "feature_size": 24},
    "lstm": {"embedding_size": 16, "hidden_size": 32},
    "transformer": {"embedding_size": 16, "hidden_size": 32, "layers": 2, "heads": 4},
}


def make_tiny_checkpoint(
    directory: Path,
    *,
    seed: int = 0,
    encoder: str = "mobilenet_v2",
    decoder: str = "attention_lstm",
    image_size: int = 64,
    end_bias: float = 2.0,
) -> Path:
    """Write a checkpoint with random weights; a lower `end_bias` makes longer captions."""
    vocabulary = Vocabulary((PAD, *WORDS, UNKNOWN, START, END))
    config = CheckpointConfig(
        name=f"tiny-{encoder}",
        encoder={"name": encoder, "grid": None},
        decoder={"name": decoder, "options": OPTIONS[decoder]},
        preparation=Preparation(size=image_size),
        search=SearchDefaults(),
        training={},
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build_network(config, vocabulary)
        _calibrate(network.encoder, image_size)
        # Freshly initialised layers hardly react; stronger ones give each picture its own caption.
        for name, parameter in network.decoder.named_parameters():
            if parameter.dim() == 2 and not name.startswith("output"):
                parameter.data.normal_(std=4 / parameter.shape[1] ** 0.5)
        network.decoder.output.weight.data.normal_(std=0.7)
        network.decoder.output.bias.data[vocabulary.end] = end_bias
    save_network(directory, config, vocabulary, network)
    return directory


def _calibrate(encoder: torch.nn.Module, image_size: int) -> None:
    """Give BatchNorm the statistics of some coloured noise: without, random features are all alike."""
    coarse = torch.rand(16, 3, 5, 5) * 255
    noise = torch.nn.functional.interpolate(coarse, size=image_size, mode="bicubic").clamp(0, 255)
    norms = [module for module in encoder.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        encoder.train()(noise)
    for norm in norms:
        norm.momentum = 0.1
    encoder.eval()
