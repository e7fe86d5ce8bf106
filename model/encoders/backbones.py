"""Encoders by name: a torchvision or timm backbone without its classifier, as a grid of features."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.encoders.zoo import zoo
from model.errors import GpucaptError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Trunk = Callable[[Any], nn.Module]
_TIMM_HEADS = ("fc.", "head.", "head_fc.", "classifier.")
"""Layers behind the features; models tuned for something else have others, or none."""


def _without_head(model: Any) -> nn.Module:
    """ResNet and its kin: all children but the average pool and the classifier."""
    return nn.Sequential(*list(model.children())[:-2])


def _features(model: Any) -> nn.Module:
    features: nn.Module = model.features
    return features


def _densenet(model: Any) -> nn.Module:
    return nn.Sequential(*model.features.children(), nn.ReLU())


def _shufflenet(model: Any) -> nn.Module:
    return nn.Sequential(model.conv1, model.maxpool, model.stage2, model.stage3, model.stage4, model.conv5)


_FAMILIES: dict[Trunk, tuple[str, ...]] = {
    _without_head: (
        *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
        *("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d"),
        *("wide_resnet50_2", "wide_resnet101_2"),
    ),
    _densenet: ("densenet121", "densenet161", "densenet169", "densenet201"),
    _features: (
        *("squeezenet1_0", "squeezenet1_1"),
        *("mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large"),
    ),
    _shufflenet: tuple(f"shufflenet_v2_x{width}" for width in ("0_5", "1_0", "1_5", "2_0")),
}
_STEM = 4  # what a ResNet has before its blocks: convolution, BatchNorm, ReLU, pool
TORCHVISION_ENCODERS: dict[str, Trunk] = {name: trunk for trunk, names in _FAMILIES.items() for name in names}


@dataclass(frozen=True, slots=True)
class Shape:
    """How much of a backbone is used and what is put behind it; the defaults are all of it, and nothing.

    `stages`: of a ResNet's four blocks, the first so many. `rectified`: with the ReLU at a DenseNet's end.
    `channels`: a 1 × 1 convolution to that depth. `norm`: a BatchNorm, after the convolution.
    """

    stages: int | None = None
    rectified: bool = True
    channels: int | None = None
    norm: bool = False

    @classmethod
    def from_json(cls, options: dict[str, Any]) -> Shape:
        try:
            return cls(**options)
        except TypeError as error:
            raise GpucaptError(f"An encoder does not take these options ({error}).") from error

    def cut(self, name: str, trunk: nn.Module) -> nn.Module:
        """Leave out of a trunk what is not wanted."""
        if self.stages is not None:
            if name not in _FAMILIES[_without_head] or not 1 <= self.stages <= 4:
                raise GpucaptError(
                    f"{name} cannot end after {self.stages} stages: of a ResNet's, 1 to 4 can be had."
                )
            trunk = nn.Sequential(*list(trunk.children())[: _STEM + self.stages])
        if not self.rectified:
            if name not in _FAMILIES[_densenet]:
                raise GpucaptError(
                    f"{name} has no ReLU at its end that could be left out, as DenseNets have."
                )
            trunk = nn.Sequential(*list(trunk.children())[:-1])
        return trunk

    def head(self, channels: int) -> nn.Module:
        """What comes behind a trunk of that depth."""
        layers: list[nn.Module] = []
        if self.channels is not None:
            layers.append(nn.Conv2d(channels, self.channels, 1))
        if self.norm:
            layers.append(nn.BatchNorm2d(self.channels or channels))
        return nn.Sequential(*layers)


class Encoder(nn.Module):
    """Pixels to a grid of features.

    `channels` is the depth of each cell; `grid` forces a grid of that many cells a side by average
    pooling (earlier captioners use 14), None keeps the backbone's own, 1 is the mean over the picture.
    """

    def __init__(self, backbone: nn.Module, grid: int | None = None, shape: Shape | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.grid = grid
        # In memory whatever the default device: a checkpoint, whose network begins without any, lacks them.
        mean, std = (torch.tensor(values, device="cpu") for values in (IMAGENET_MEAN, IMAGENET_STD))
        # One multiplication and one subtraction turn bytes into what the backbone was trained on.
        self.register_buffer("scale", (1 / (255 * std)).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("shift", (mean / std).view(1, 3, 1, 1), persistent=False)
        depth = self._probe()
        shape = shape or Shape()
        self.head = shape.head(depth)
        self.channels = shape.channels or depth

    def _probe(self) -> int:
        training = self.backbone.training
        with torch.no_grad():
            maps = self.backbone.eval()(torch.zeros(1, 3, 64, 64))
        self.backbone.train(training)
        return int(maps.shape[1])

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) uint8 → (B, rows, columns, channels)."""
        scale, shift = self.get_buffer("scale"), self.get_buffer("shift")
        pixels = (images.to(scale.dtype) * scale - shift).contiguous(memory_format=torch.channels_last)
        maps: Tensor = self.head(self.backbone(pixels))
        if self.grid is not None and maps.shape[-2:] != (self.grid, self.grid):
            maps = F.adaptive_avg_pool2d(maps, self.grid)
        return maps.permute(0, 2, 3, 1)


def build_encoder(
    name: str, *, weights: str | Path | None = None, grid: int | None = None, shape: Shape | None = None
) -> Encoder:
    """Build an encoder by name (`resnext101_32x8d`, `mobilenet_v2`, `timm/resnest50d`, …).

    `weights`: None for random ones, "imagenet" for torchvision's (from its cache, else downloaded),
    or a file with the state dict of the whole torchvision model (safetensors, or a torch file that
    is read weights-only). `shape` is for what earlier captioners made of a backbone.
    """
    shape = shape or Shape()
    if name.startswith("timm/"):
        backbone = _timm_backbone(name.removeprefix("timm/"), weights)
        try:
            return Encoder(shape.cut(name, backbone), grid, shape)
        except (AssertionError, RuntimeError, ValueError) as error:
            raise GpucaptError(
                f"{name} cannot be an encoder: it does not take pictures of any size ({error})"
            ) from error
    if name not in TORCHVISION_ENCODERS:
        known = ", ".join(TORCHVISION_ENCODERS)
        raise GpucaptError(f"There is no encoder {name!r}. Known are: {known}, and timm/<name>.")
    model = zoo.get_model(name, weights=None)
    if weights is not None:
        _load_weights(model, name, weights)
    return Encoder(shape.cut(name, TORCHVISION_ENCODERS[name](model)), grid, shape)


def _load_weights(model: nn.Module, name: str, weights: str | Path) -> None:
    state = _download(name) if weights == "imagenet" else read_tensors(Path(weights))
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise GpucaptError(
            f"{weights} does not hold the weights of torchvision's {name} ({str(error).splitlines()[0]})"
        ) from error


def _download(name: str) -> dict[str, Tensor]:
    """torchvision's weights from its cache, else fetched: checked by the digest in their name, only data."""
    enum = zoo.get_model_weights(name)
    try:
        with redirect_stdout(sys.stderr):  # torch says what it fetches, where results belong
            state = enum["DEFAULT"].get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, HTTPException, RuntimeError, EOFError, UnpicklingError) as error:
        reason = " ".join(str(error).split())[:200]
        raise GpucaptError(
            f"ImageNet weights for {name} are neither in torchvision's cache nor can they be fetched "
            f"({reason}). Give a file with --encoder-weights."
        ) from error
    return dict(state)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a flat dict of tensors from safetensors or a torch file, never running code from it."""
    if not path.is_file():
        raise GpucaptError(f"{path}: there is no such weights file.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise GpucaptError(f"{path} cannot be read as a file of weights ({type(error).__name__}).") from error
    if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise GpucaptError(f"{path} is not a plain state dict.")
    return loaded


def _timm_backbone(name: str, weights: str | Path | None) -> nn.Module:
    try:
        import timm
    except ImportError as error:
        raise GpucaptError("Encoders named timm/… need timm: pip install 'gpucapt[timm]'.") from error
    if not timm.is_model(name):
        raise GpucaptError(f"timm has no model {name!r}; see timm.list_models().")

    return _LastMap(_timm_features(name, weights))


class _LastMap(nn.Module):
    """timm's feature extractor, last stage only."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, pixels: Tensor) -> Tensor:
        last: Tensor = self.net(pixels)[-1]
        return last


def _timm_features(name: str, weights: str | Path | None) -> nn.Module:
    import timm

    options: dict[str, Any] = {"features_only": True, "out_indices": (-1,), "pretrained": weights is not None}
    if weights is not None and weights != "imagenet":
        state = read_tensors(Path(weights))
        _check_timm_weights(timm.create_model(name), state, name, weights)
        options["pretrained_cfg_overlay"] = {"state_dict": state}
    try:
        net: nn.Module = timm.create_model(name, **options)
    except Exception as error:  # of many kinds: timm's, torch's, those of the hub that keeps the weights
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if weights == "imagenet":
            raise GpucaptError(
                f"Weights for timm/{name} are neither in the Hugging Face cache nor can they be fetched "
                f"({reason}) Give a file with --encoder-weights."
            ) from error
        raise GpucaptError(f"timm/{name} cannot be built as an encoder ({reason})") from error
    return net


def _check_timm_weights(whole: nn.Module, state: dict[str, Tensor], name: str, weights: str | Path) -> None:
    """timm itself takes what it finds in a file and leaves the rest random."""
    wanted, there = (
        {key: tensor.shape for key, tensor in tensors.items() if not key.startswith(_TIMM_HEADS)}
        for tensors in (whole.state_dict(), state)
    )
    if wanted != there:
        first = min(key for key in wanted.keys() | there.keys() if wanted.get(key) != there.get(key))
        raise GpucaptError(
            f"{weights} does not hold the weights of timm's {name}, for one {first!r} is another."
        )
