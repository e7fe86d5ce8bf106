"""Which backbone a file's tensors are of, told by their names and shapes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import torch
import torchvision.models as zoo
from torch import Size, Tensor

from model.encoders.backbones import TORCHVISION_ENCODERS, build_encoder

CANDIDATES = (
    *("resnet101", "resnext101_32x8d", "resnet50", "mobilenet_v2", "densenet121", "squeezenet1_0"),
    *("shufflenet_v2_x0_5", "wide_resnet50_2", "resnet18", "resnet34", "resnet152", "resnext50_32x4d"),
    *("wide_resnet101_2", "squeezenet1_1", "shufflenet_v2_x1_0", "densenet161", "densenet169", "densenet201"),
)
"""Backbones that earlier captioners had, the most frequent ones first, and their kin."""

RESNESTS = ("timm/resnest50d", "timm/resnest101e", "timm/resnest26d", "timm/resnest14d")
"""ResNeSts, whose authors' layers have the names that timm's have."""

_BATCHES = "num_batches_tracked"
"""A counter that BatchNorm has since torch 0.4.1, and needs for nothing."""


@dataclass(frozen=True, slots=True)
class Backbone:
    """A backbone by its name here, its tensors as `Encoder` names them, and what was behind it."""

    name: str
    tensors: dict[str, Tensor]
    rest: dict[str, Tensor]


def recognised(state: dict[str, Tensor]) -> Backbone | None:
    """The backbone that an `nn.Sequential` of its children begins with: tensors by their names there.

    Raises GpucaptError for a ResNeSt where timm is not installed.
    """
    splits_attention = any(".conv2.fc1." in theirs for theirs in state)
    for name in RESNESTS if splits_attention else CANDIDATES:
        names = dict(_names(name))
        needed = {theirs for theirs in names if not theirs.endswith(_BATCHES)}
        if any(theirs not in state or state[theirs].shape != names[theirs][1] for theirs in needed):
            continue
        rest = {theirs: tensor for theirs, tensor in state.items() if theirs not in names}
        if _continues(rest, names):
            continue
        tensors = {
            f"backbone.{ours}": state[theirs] if theirs in state else torch.zeros(shape, dtype=torch.long)
            for theirs, (ours, shape) in names.items()
        }
        return Backbone(name, tensors, rest)
    return None


def _continues(rest: dict[str, Tensor], names: dict[str, tuple[str, Size]]) -> bool:
    """Whether what is left belongs to a child of the backbone: then it is of a larger one of its kind."""
    children = {theirs.partition(".")[0] for theirs in names}
    return any(theirs.partition(".")[0] in children for theirs in rest)


@cache
def _names(name: str) -> tuple[tuple[str, tuple[str, Size]], ...]:
    return tuple(_pairs_of_timm(name) if name.startswith("timm/") else _pairs(name))


def _pairs(name: str) -> Iterator[tuple[str, tuple[str, Size]]]:
    """Each tensor's name in an `nn.Sequential(*model.children())`, its name in our trunk, its shape."""
    with torch.device("meta"):
        model = zoo.get_model(name, weights=None)
    theirs = {id(tensor): called for called, tensor in _all(torch.nn.Sequential(*model.children()))}
    for ours, tensor in _all(TORCHVISION_ENCODERS[name](model)):
        yield theirs[id(tensor)], (ours, tensor.shape)


def _pairs_of_timm(name: str) -> Iterator[tuple[str, tuple[str, Size]]]:
    """The same of timm's extractor of features (`net`), whose children are called as the model's are."""
    with torch.device("meta"):
        trunk = build_encoder(name).backbone
    children = {child: place for place, (child, _) in enumerate(trunk.get_submodule("net").named_children())}
    for ours, tensor in _all(trunk):
        _, child, rest = ours.split(".", 2)
        yield f"{children[child]}.{rest}", (ours, tensor.shape)


def _all(module: torch.nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def head(rest: dict[str, Tensor]) -> tuple[dict[str, object], dict[str, Tensor]] | None:
    """Layers behind a trunk, a 1 × 1 convolution or a BatchNorm: `Shape`'s options, tensors by our names."""
    indices = sorted({int(match[1]) for name in rest if (match := re.match(r"(\d+)\.", name))})
    options: dict[str, object] = {}
    tensors: dict[str, Tensor] = {}
    for place, index in enumerate(indices):
        layer = {
            name.partition(".")[2]: tensor for name, tensor in rest.items() if name.startswith(f"{index}.")
        }
        weight = layer.get("weight")
        if weight is None:
            return None
        if weight.dim() == 4 and weight.shape[2:] == (1, 1) and "channels" not in options:
            options["channels"] = weight.shape[0]
        elif weight.dim() == 1 and "running_mean" in layer and "norm" not in options:
            options["norm"] = True
            layer.setdefault(_BATCHES, torch.zeros((), dtype=torch.long))
        else:
            return None
        tensors |= {f"head.{place}.{name}": tensor for name, tensor in layer.items()}
    return None if len(tensors) < len(rest) else (options, tensors)
