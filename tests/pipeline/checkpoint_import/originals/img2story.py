"""Img2Story's networks: the tutorial's, on other backbones, and with a decoder of its own.

Each encoder is called as in its module (`encoder_densenet` and so on, MobileNet's first one in `models`). All
of them end in `CHANNELS`, which are 2048 there.
"""

from __future__ import annotations

import torchvision
from torch import Tensor, nn

from tests.pipeline.checkpoint_import.originals import tutorial

CHANNELS = 64


class _Grid(nn.Module):
    def __init__(self, encoded_image_size: int) -> None:
        super().__init__()
        self.enc_image_size = encoded_image_size
        self.adaptive_pool = nn.AdaptiveAvgPool2d((encoded_image_size, encoded_image_size))

    def forward(self, images: Tensor) -> Tensor:
        return self.adaptive_pool(self.encoder_net(images)).permute(0, 2, 3, 1)


class Encoder(_Grid):
    """The first one: MobileNet under the name of the tutorial's ResNet, its convolution beside it."""

    def __init__(self, encoded_image_size: int = 14) -> None:
        super().__init__(encoded_image_size)
        self.resnet = nn.Sequential(*list(torchvision.models.mobilenet_v2(weights=None).children())[:-1])
        self.conv1 = nn.Conv2d(1280, CHANNELS, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.adaptive_pool(self.conv1(self.resnet(images))).permute(0, 2, 3, 1)


def _convolved(backbone: str, channels: int) -> nn.Sequential:
    net = torchvision.models.get_model(backbone, weights=None)
    return nn.Sequential(*list(net.children())[:-1], nn.Conv2d(channels, CHANNELS, 1))


class EncoderMobilenet(_Grid):
    def __init__(self, encoded_image_size: int = 14) -> None:
        super().__init__(encoded_image_size)
        self.encoder_net = _convolved("mobilenet_v2", 1280)


class EncoderSqueezenet(_Grid):
    def __init__(self, encoded_image_size: int = 14) -> None:
        super().__init__(encoded_image_size)
        self.encoder_net = _convolved("squeezenet1_0", 512)


class EncoderShufflenet(_Grid):
    def __init__(self, encoded_image_size: int = 14) -> None:
        super().__init__(encoded_image_size)
        self.encoder_net = _convolved("shufflenet_v2_x0_5", 1024)


class EncoderDensenet(_Grid):
    def __init__(self, encoded_image_size: int = 8) -> None:
        super().__init__(encoded_image_size)
        self.encoder_net = _convolved("densenet121", 1024)


class EncoderResnet101(_Grid):
    """With its average pool: every cell is the same. Here on ResNet-18, which is quicker."""

    def __init__(self, encoded_image_size: int = 14) -> None:
        super().__init__(encoded_image_size)
        self.encoder_net = nn.Sequential(*list(torchvision.models.resnet18(weights=None).children())[:-1])


class DecoderWithAttention(tutorial.DecoderWithAttention):
    """The gate has a hidden layer, and so has the output, with or without a tanh behind it."""

    def __init__(self, *sizes: int, encoder_dim: int, tanh: bool = True) -> None:
        super().__init__(*sizes, encoder_dim=encoder_dim)
        hidden, words = self.decode_step.hidden_size, sizes[-1]
        del self.f_beta, self.fc
        self.attention_learner_1 = nn.Linear(hidden, 40)
        self.leaky_relu = nn.LeakyReLU(0.01)
        self.attention_learner_2 = nn.Linear(40, encoder_dim)
        self.fc_1 = nn.Linear(hidden, 36)
        self.fc_2 = nn.Linear(36, words)
        if tanh:
            self.tanh = nn.Tanh()

    def gate(self, hidden: Tensor) -> Tensor:
        return self.sigmoid(self.attention_learner_2(self.leaky_relu(self.attention_learner_1(hidden))))

    def scores(self, hidden: Tensor) -> Tensor:
        deep = self.fc_1(self.dropout(hidden))
        return self.fc_2(self.tanh(deep) if hasattr(self, "tanh") else deep)
