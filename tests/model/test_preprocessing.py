"""Pictures made ready as the captioners that gpucapt takes over made theirs."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from torchvision import transforms

from model.errors import GpucaptError
from model.preprocessing import Preparation
from tests.media import photograph

SIZES = [(100, 80), (40, 250), (250, 40), (256, 256), (257, 255), (224, 224), (3, 7), (1, 20), (400, 1001)]
"""(width, height)"""


def pictures() -> list[NDArray[np.uint8]]:
    noise = np.random.default_rng(0).integers(0, 256, (333, 501, 3), dtype=np.uint8)
    whole = map(photograph, ("astronaut", "cat", "rocket", "officer"))
    return [noise, *whole, *(photograph("cat", size=size) for size in SIZES)]


def test_the_square_in_the_middle_is_torchvisions() -> None:
    theirs = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
    ours = Preparation(224, filter="bilinear", shorter_side=256)
    for picture in pictures():
        expected = np.asarray(theirs(Image.fromarray(picture))).transpose(2, 0, 1)
        assert np.array_equal(ours(picture), expected), picture.shape


@pytest.mark.parametrize("shape", [(2, 30_000), (30_000, 3)])
def test_of_a_panorama_only_the_middle_is_enlarged(shape: tuple[int, int]) -> None:
    """All of it, enlarged to a shorter side of 256 pixels, would take gigabytes."""
    middle = np.linspace(0, 255, max(shape)).astype(np.uint8).reshape(-1, 1, 1)
    picture = np.broadcast_to(middle if shape[0] > shape[1] else middle.transpose(1, 0, 2), (*shape, 3))
    ready = Preparation(224, filter="bilinear", shorter_side=256)(np.ascontiguousarray(picture))
    assert ready.shape == (3, 224, 224)
    assert set(np.unique(ready)) <= {126, 127, 128}


def test_resizing_as_scikit_image_does_needs_no_scikit_image() -> None:
    transform = pytest.importorskip("skimage.transform")
    from skimage import img_as_ubyte

    ours = Preparation(256, filter="skimage")
    for picture in pictures():
        expected = img_as_ubyte(transform.resize(picture, (256, 256))).transpose(2, 0, 1).astype(int)
        difference = np.abs(ours(picture).astype(int) - expected)
        assert difference.max() <= 1, picture.shape
        assert (difference > 0).mean() < 0.003, "but for ties, the same"


@pytest.mark.parametrize("filter_", ["bilinear", "bicubic"])
def test_resizing_as_pillow_does(filter_: str) -> None:
    how = Image.Resampling[filter_.upper()]
    for picture in pictures():
        expected = np.asarray(Image.fromarray(picture).resize((256, 256), how)).transpose(2, 0, 1)
        assert np.array_equal(Preparation(256, filter=filter_)(picture), expected)  # type: ignore[arg-type]
        swapped = Preparation(256, channels="bgr", filter=filter_)(picture)  # type: ignore[arg-type]
        assert np.array_equal(swapped, expected[::-1])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"filter": "lanczos"}, "filter 'lanczos'; use area, bilinear, bicubic, skimage"),
        ({"channels": "grb"}, "channels 'grb'; use rgb, bgr"),
        ({"size": 224, "shorter_side": 200, "filter": "bilinear"}, "224 pixels cannot be cut"),
        ({"size": 224, "shorter_side": 256}, "filter area; use bilinear or bicubic"),
    ],
)
def test_what_cannot_be_is_one_line(options: dict[str, object], named: str) -> None:
    with pytest.raises(GpucaptError, match=named):
        Preparation(**options)  # type: ignore[arg-type]
