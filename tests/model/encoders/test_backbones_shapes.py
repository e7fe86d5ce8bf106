"""What earlier captioners made of a backbone: cut short, with another end, or with layers behind it."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from model.captioner import _fuse_batch_norm
from model.encoders.backbones import Encoder, Shape, build_encoder
from model.errors import GpucaptError


def pixels(encoder: Encoder, images: torch.Tensor) -> torch.Tensor:
    return images * encoder.get_buffer("scale") - encoder.get_buffer("shift")


def pictures(count: int = 2) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 64, 64), dtype=torch.uint8)


@torch.no_grad()
def test_a_resnet_ends_after_as_many_blocks_as_asked() -> None:
    encoder = build_encoder("resnet18", grid=3, shape=Shape(stages=3)).eval()
    assert encoder.channels == 256
    images = pictures()
    whole = torchvision.models.resnet18().eval()
    early = nn.Sequential(*list(whole.children())[:-3])
    early.load_state_dict(encoder.backbone.state_dict())
    maps = early(pixels(encoder, images))
    assert maps.shape == (2, 256, 4, 4)
    expected = nn.functional.adaptive_avg_pool2d(maps, 3).permute(0, 2, 3, 1)
    torch.testing.assert_close(encoder(images), expected)


@torch.no_grad()
@pytest.mark.parametrize("name", ["mobilenet_v2", "timm/resnest14d"])
def test_a_convolution_and_a_norm_come_behind_the_backbone(name: str) -> None:
    if name.startswith("timm/"):
        pytest.importorskip("timm")
    encoder = build_encoder(name, shape=Shape(channels=24, norm=True)).eval()
    convolution, norm = encoder.head.children()
    assert isinstance(norm, nn.BatchNorm2d)
    norm.running_mean = torch.randn(24)
    images = pictures()
    maps = encoder.backbone(pixels(encoder, images))
    expected = norm(convolution(maps)).permute(0, 2, 3, 1)
    assert encoder.channels == expected.shape[3] == 24
    torch.testing.assert_close(encoder(images), expected)
    _fuse_batch_norm(encoder.head)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in encoder.head.modules())
    torch.testing.assert_close(encoder(images), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_norm_alone_keeps_the_depth() -> None:
    encoder = build_encoder("resnet18", shape=Shape(norm=True)).eval()
    assert encoder.channels == 512
    assert "head.0.running_mean" in encoder.state_dict()


@torch.no_grad()
def test_a_densenet_may_go_without_its_last_relu() -> None:
    images = pictures()
    assert (build_encoder("densenet121").eval()(images) >= 0).all()
    encoder = build_encoder("densenet121", shape=Shape(rectified=False)).eval()
    features = torchvision.models.densenet121().eval().features
    features.load_state_dict(
        dict(zip(features.state_dict(), encoder.backbone.state_dict().values(), strict=True))
    )
    found = encoder(images)
    assert (found < 0).any()
    torch.testing.assert_close(found, features(pixels(encoder, images)).permute(0, 2, 3, 1))


@torch.no_grad()
def test_a_grid_of_one_is_the_mean_over_the_picture() -> None:
    encoder, images = build_encoder("resnet18").eval(), pictures()
    expected = encoder(images).mean(dim=(1, 2))
    encoder.grid = 1
    torch.testing.assert_close(encoder(images)[:, 0, 0], expected)


@pytest.mark.parametrize(
    ("name", "shape", "named"),
    [
        ("mobilenet_v2", Shape(stages=3), "mobilenet_v2 cannot end after 3 stages"),
        ("resnet18", Shape(stages=5), "resnet18 cannot end after 5 stages"),
        ("resnet18", Shape(rectified=False), "resnet18 has no ReLU at its end"),
    ],
)
def test_what_a_backbone_does_not_have_is_one_line(name: str, shape: Shape, named: str) -> None:
    with pytest.raises(GpucaptError, match=named):
        build_encoder(name, shape=shape)


def test_unknown_options_are_one_line() -> None:
    with pytest.raises(GpucaptError, match="blocks"):
        Shape.from_json({"blocks": 3})
