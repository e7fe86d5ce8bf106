"""What of a network is trained, and what stays as it came."""

from __future__ import annotations

from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from model.decoders.base import Decoder
from model.encoders.backbones import Encoder
from model.errors import GpucaptError
from model.training.recipe import ENCODER_PARTS

PROBE = 128
"""Side of the picture that shows where an encoder's grids get smaller; large enough for five halvings."""


def train_part(encoder: Encoder, part: str) -> list[nn.Parameter]:
    """Let `part` (one of `ENCODER_PARTS`) of an encoder learn and nothing else of it; returns what learns.

    "blocks2-4" is, in a ResNet, what the code around Show, Attend and Tell tunes: all but the stem and the
    first of its four blocks. `encoder_blocks` says what the blocks of other families are.
    """
    if part not in ENCODER_PARTS:
        raise GpucaptError(f"No part of an encoder is called {part!r}; use {', '.join(ENCODER_PARTS)}.")
    encoder.requires_grad_(part == "all")
    if part not in ("none", "all"):
        first = int(part.removeprefix("block").removeprefix("s")[0])
        for module in chain.from_iterable(encoder_blocks(encoder)[first - 1 :]):
            module.requires_grad_(True)
    return [parameter for parameter in encoder.parameters() if parameter.requires_grad]


def train_embeddings(decoder: Decoder, trained: bool) -> None:
    """Let a decoder's word vectors learn, or keep them as they are."""
    decoder.embedding.requires_grad_(trained)


def encoder_blocks(encoder: Encoder) -> list[list[nn.Module]]:
    """The four blocks of an encoder, each a list of modules; what is in none of them is the stem.

    A block is what works at one size of grid. Block 4 is at the last size, which the decoder sees, and
    the others are counted back from it: in ResNets `layer1` to `layer4`; in DenseNets a dense block and
    the transition that leads to its grid; in MobileNets, ShuffleNets and SqueezeNets the layers between
    two halvings. The sizes are not looked up but seen, by sending a picture through.
    """
    steps = _steps(encoder)
    sizes = sorted({size for _, size in steps})[:4]
    if len(sizes) < 4:
        raise GpucaptError(
            f"This encoder works at {len(sizes)} sizes of grid, so it has no blocks 1 to 4; "
            "train all of it or none."
        )
    return [[module for module, size in steps if size == wanted] for wanted in reversed(sizes)]


def _steps(encoder: Encoder) -> list[tuple[nn.Module, int]]:
    """The modules that a picture passes one after the other, each with the side of the grid it gives.

    A module that shrinks the grid more than once is looked into.
    """
    sides = _sides(encoder)
    steps: list[tuple[nn.Module, int]] = []

    def collect(module: nn.Module) -> None:
        entered, left = sides.get(module, (0, 0))
        inside = [child for child in module.children() if any(True for _ in child.parameters())]
        # Halved twice or more. A side that does not divide evenly is rounded, so a little less may be twice.
        if inside and (not left or entered / left > 3):
            for child in inside:
                collect(child)
        elif left:
            steps.append((module, left))

    collect(encoder.backbone)
    return steps


def _sides(encoder: Encoder) -> dict[nn.Module, tuple[int, int]]:
    """For each module of the backbone that takes and gives a grid, the sides of both."""
    sides: dict[nn.Module, tuple[int, int]] = {}

    def seen(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        # Of several maps, as timm gives them, the last is the smallest.
        last = output[-1] if isinstance(output, list | tuple) and output else output
        first = inputs[0] if inputs else None
        if all(isinstance(grid, Tensor) and grid.dim() == 4 for grid in (first, last)):
            sides[module] = (int(first.shape[-1]), int(last.shape[-1]))  # type: ignore[union-attr]

    hooks = [module.register_forward_hook(seen) for module in encoder.backbone.modules()]
    training = encoder.backbone.training
    device = encoder.get_buffer("scale").device
    try:
        with torch.no_grad():
            encoder.backbone.eval()(torch.zeros(1, 3, PROBE, PROBE, device=device))
    finally:
        encoder.backbone.train(training)
        for hook in hooks:
            hook.remove()
    return sides
