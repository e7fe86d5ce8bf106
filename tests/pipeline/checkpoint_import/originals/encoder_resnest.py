"""Img2Story's encoder on ResNeSt: the backbone, and a BatchNorm behind it."""

from __future__ import annotations

from torch import Tensor, nn

from tests.pipeline.checkpoint_import.originals.resnest import ResNet


class EncoderResNeSt(nn.Module):
    def __init__(self, encoded_image_size: int = 14) -> None:
        super().__init__()
        self.enc_image_size = encoded_image_size
        self.encoder_net = nn.Sequential(*list(ResNet().children())[:-2], nn.BatchNorm2d(2048))
        self.adaptive_pool = nn.AdaptiveAvgPool2d((encoded_image_size, encoded_image_size))

    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.adaptive_pool(self.encoder_net(images))
        return maps.permute(0, 2, 3, 1)
