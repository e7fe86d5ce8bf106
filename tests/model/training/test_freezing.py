from __future__ import annotations

import pytest
import torch
from torch import nn

from model.encoders.backbones import build_encoder
from model.errors import GpucaptError
from model.training.freezing import encoder_blocks, train_part
from model.training.recipe import ENCODER_PARTS


def names_in_training(encoder: nn.Module) -> set[str]:
    return {name for name, parameter in encoder.named_parameters() if parameter.requires_grad}


def top(names: set[str]) -> set[str]:
    """The children of the backbone that these parameters belong to."""
    return {name.split(".")[1] for name in names}


@pytest.mark.parametrize(
    ("part", "children"),
    [
        ("none", set()),
        ("block4", {"7"}),
        ("blocks3-4", {"6", "7"}),
        ("blocks2-4", {"5", "6", "7"}),
        ("blocks1-4", {"4", "5", "6", "7"}),
        ("all", {"0", "1", "4", "5", "6", "7"}),
    ],
)
def test_blocks_of_a_resnet_are_its_layers(part: str, children: set[str]) -> None:
    # conv1, bn1, relu, maxpool, layer1 … layer4: the children()[5:] of earlier captioners are blocks 2 to 4.
    encoder = build_encoder("resnet18")
    learning = train_part(encoder, part)
    assert top(names_in_training(encoder)) == children
    assert len(learning) == len(names_in_training(encoder))


@pytest.mark.parametrize(
    ("name", "block2", "block4"),
    [
        (
            "densenet121",
            {"5", "6"},
            {"9", "10", "11"},
        ),  # transition1, denseblock2; transition3, denseblock4, norm5
        ("mobilenet_v2", {"4", "5", "6"}, {"14", "15", "16", "17", "18"}),
        ("shufflenet_v2_x0_5", {"2"}, {"4", "5"}),  # stage2; stage4, conv5
        ("squeezenet1_1", {"3", "4"}, {"9", "10", "11", "12"}),
        ("mobilenet_v3_small", {"2", "3"}, {"9", "10", "11", "12"}),
    ],
)
def test_blocks_of_other_families_are_what_works_at_one_size_of_grid(
    name: str, block2: set[str], block4: set[str]
) -> None:
    encoder = build_encoder(name)
    train_part(encoder, "block4")
    assert top(names_in_training(encoder)) == block4
    train_part(encoder, "blocks3-4")
    later = names_in_training(encoder)
    train_part(encoder, "blocks2-4")
    assert top(names_in_training(encoder) - later) == block2


def test_blocks_of_a_timm_encoder_are_found_as_well() -> None:
    pytest.importorskip("timm")
    encoder = build_encoder("timm/resnest14d")
    train_part(encoder, "blocks2-4")
    assert {name.split(".")[2] for name in names_in_training(encoder)} == {"layer2", "layer3", "layer4"}


def test_every_part_is_larger_than_the_one_before_and_finding_it_changes_nothing() -> None:
    encoder = build_encoder("mobilenet_v3_large").train()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    sizes = [sum(p.numel() for p in train_part(encoder, part)) for part in ENCODER_PARTS]
    assert sizes == sorted(sizes)
    assert sizes[0] == 0
    assert sizes[-1] == sum(p.numel() for p in encoder.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in encoder.state_dict().items())
    assert encoder.backbone.training
    assert not any(module._forward_hooks for module in encoder.modules())


def test_parts_and_encoders_without_them_are_one_line() -> None:
    encoder = build_encoder("resnet18")
    with pytest.raises(GpucaptError, match="blocks2-4"):
        train_part(encoder, "the middle")
    encoder.backbone = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.Conv2d(8, 8, 3, stride=2))
    with pytest.raises(GpucaptError, match="all of it or none"):
        encoder_blocks(encoder)
