"""ResNeSt, written down once more with its authors' names: a ResNet whose blocks weigh two answers."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class rSoftMax(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        """(B, 2 C, 1, 1) → the same, each channel of the first half and its like of the second being 1."""
        shares: Tensor = values.view(len(values), 2, -1).softmax(dim=1)
        return shares.reshape(values.shape)


class SplAtConv2d(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        between = max(channels * 2 // 4, 32)
        self.conv = nn.Conv2d(channels, channels * 2, 3, padding=1, groups=2, bias=False)
        self.bn0 = nn.BatchNorm2d(channels * 2)
        self.relu = nn.ReLU(inplace=True)
        self.fc1 = nn.Conv2d(channels, between, 1)
        self.bn1 = nn.BatchNorm2d(between)
        self.fc2 = nn.Conv2d(between, channels * 2, 1)
        self.rsoftmax = rSoftMax()

    def forward(self, maps: Tensor) -> Tensor:
        first, second = self.relu(self.bn0(self.conv(maps))).chunk(2, dim=1)
        whole = (first + second).mean(dim=(2, 3), keepdim=True)
        weights = self.rsoftmax(self.fc2(self.relu(self.bn1(self.fc1(whole)))))
        of_first, of_second = weights.chunk(2, dim=1)
        return of_first * first + of_second * second


class Bottleneck(nn.Module):
    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        if stride > 1:
            self.avd_layer = nn.AvgPool2d(3, stride, padding=1)
        self.conv2 = SplAtConv2d(channels)
        self.conv3 = nn.Conv2d(channels, channels * 4, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels * 4)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = nn.Sequential(
            nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False),
            nn.Conv2d(inputs, channels * 4, 1, bias=False),
            nn.BatchNorm2d(channels * 4),
        )

    def forward(self, maps: Tensor) -> Tensor:
        out = self.conv2(self.relu(self.bn1(self.conv1(maps))))
        if hasattr(self, "avd_layer"):
            out = self.avd_layer(out)
        return torch.relu(self.bn3(self.conv3(out)) + self.downsample(maps))


class ResNet(nn.Module):
    """With one block in each layer, the smallest that there is."""

    def __init__(self) -> None:
        super().__init__()
        stem: list[nn.Module] = []
        for inputs, outputs, stride in ((3, 32, 2), (32, 32, 1), (32, 64, 1)):
            stem += [nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)]
            stem += [nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
        self.conv1 = nn.Sequential(*stem[:-2])
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        self.layer1 = nn.Sequential(Bottleneck(64, 64, 1))
        self.layer2 = nn.Sequential(Bottleneck(256, 128, 2))
        self.layer3 = nn.Sequential(Bottleneck(512, 256, 2))
        self.layer4 = nn.Sequential(Bottleneck(1024, 512, 2))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(2048, 1000)
