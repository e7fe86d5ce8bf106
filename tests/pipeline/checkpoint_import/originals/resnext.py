"""Image Captioning with ResNeXt: the tutorial's encoder by another name; here with ResNet-18."""

from __future__ import annotations

import torchvision
from torch import Tensor, nn


class Encoder(nn.Module):
    def __init__(self, encoded_image_size: int = 14) -> None:
        super().__init__()
        self.enc_image_size = encoded_image_size
        self.resnext = nn.Sequential(*list(torchvision.models.resnet18(weights=None).children())[:-2])
        self.adaptive_pool = nn.AdaptiveAvgPool2d((encoded_image_size, encoded_image_size))

    def forward(self, images: Tensor) -> Tensor:
        return self.adaptive_pool(self.resnext(images)).permute(0, 2, 3, 1)
