"""HEIC as phones and cameras write it: upright, in its colours, the picture that the file is about."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import BadInput
from pipeline.media.images import NotAPicture, decode_still
from tests import heif
from tests.heif import auxiliary, grid, mirrored, picture, turned
from tests.icc import DISPLAY_P3, in_srgb, rgb_profile
from tests.media import photograph

SHOWN = np.zeros((96, 128, 3), np.uint8)
SHOWN[:48, :64], SHOWN[:48, 64:], SHOWN[48:, :64], SHOWN[48:, 64:] = (
    (220, 30, 30),
    (30, 200, 30),
    (30, 30, 220),
    (230, 220, 30),
)


def looks_like(data: bytes, wanted: NDArray[np.uint8]) -> bool:
    image = decode_still(data, "IMG_0001.HEIC")
    return image.shape == wanted.shape and float(np.abs(image.astype(int) - wanted).mean()) < 6


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p", "yuv420p10le"])
@pytest.mark.parametrize("brand", [b"heic", b"mif1", b"heix"])
def test_eight_and_ten_bits(pixel_format: str, brand: bytes) -> None:
    assert looks_like(heif.heif([picture(SHOWN, pixel_format=pixel_format)], brand=brand), SHOWN)


def orientation(value: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif.tobytes().removeprefix(b"Exif\0\0")


@pytest.mark.parametrize("said_by_exif", [None, 1, 6])
@pytest.mark.parametrize(
    ("properties", "stored"),
    [
        ([], SHOWN),
        ([turned(1)], np.rot90(SHOWN, -1)),
        ([turned(2)], np.rot90(SHOWN, 2)),
        ([turned(3)], np.rot90(SHOWN, 1)),
        ([mirrored(0)], SHOWN[::-1]),
        ([mirrored(1)], SHOWN[:, ::-1]),
        ([turned(1), mirrored(1)], np.rot90(SHOWN[:, ::-1], -1)),
    ],
    ids=["upright", "a quarter", "half", "three quarters", "upside down", "left to right", "both"],
)
def test_its_properties_say_how_it_lies_and_exif_does_not(
    properties: list[tuple[bytes, bool]], stored: NDArray[np.uint8], said_by_exif: int | None
) -> None:
    """Phones write both; to heed both would turn it twice."""
    items = [picture(np.ascontiguousarray(stored), *properties)]
    if said_by_exif is not None:
        items.append(heif.exif(orientation(said_by_exif), 1))
    assert looks_like(heif.heif(items), SHOWN)


def test_tiles_as_iphones_store_it() -> None:
    tiles = [
        picture(np.ascontiguousarray(SHOWN[top : top + 64, left : left + 64]), hidden=True)
        for top in (0, 32)
        for left in (0, 64)
    ]
    upper = heif.heif([*tiles, grid(1, 2, 128, 64, [1, 2])], primary=5)
    assert looks_like(upper, SHOWN[:64])
    on_its_side = heif.heif([*tiles, grid(1, 2, 128, 64, [3, 4], turned(3))], primary=5)
    assert looks_like(on_its_side, np.rot90(SHOWN[32:], 3))


def test_the_primary_picture_of_several() -> None:
    other = np.zeros((200, 300, 3), np.uint8)
    assert looks_like(heif.heif([picture(other), picture(SHOWN), picture(other)], primary=2), SHOWN)


def test_what_accompanies_a_picture_is_not_taken_for_it() -> None:
    thumbnail = picture(np.zeros((64, 64, 3), np.uint8), hidden=True, references=[(b"thmb", [1])])
    depth = auxiliary(np.full((64, 64), 90, np.uint8), 1, heif.DEPTH)
    gain = auxiliary(np.full((64, 64), 90, np.uint8), 1, b"urn:com:apple:photo:2020:aux:hdrgainmap")
    assert looks_like(heif.heif([picture(SHOWN), thumbnail, depth, gain]), SHOWN)


def test_transparency_is_laid_on_white() -> None:
    alpha = np.zeros((96, 128), np.uint8)
    alpha[:48] = 255
    wanted = SHOWN.copy()
    wanted[48:] = 255
    assert looks_like(heif.heif([picture(SHOWN), auxiliary(alpha, 1, heif.ALPHA)]), wanted)


def test_display_p3_becomes_srgb() -> None:
    plain = np.full((64, 64, 3), (200, 90, 60), np.uint8)
    data = heif.heif([picture(plain, heif.profile(rgb_profile(DISPLAY_P3)))])
    assert np.abs(decode_still(data, "x").mean(axis=(0, 1)) - in_srgb((200, 90, 60), DISPLAY_P3)).max() < 5


def test_large_ones_are_shrunk() -> None:
    photo = photograph("temple", size=(1536, 1024))
    assert looks_like(heif.heif([picture(photo)]), np.asarray(Image.fromarray(photo).reduce(2)))


def test_one_that_is_cut_short_is_bad() -> None:
    data = heif.heif([picture(photograph("temple", size=(256, 192)))])
    for share in (0.05, 0.3, 0.6, 0.9):
        with pytest.raises(BadInput) as caught:
            decode_still(data[: int(share * len(data))], "x.heic")
        assert str(caught.value).startswith("x.heic: ")


def test_another_codec_is_named_as_what_cannot_be_read() -> None:
    data = heif.heif([picture(SHOWN)]).replace(b"hvc1", b"vvc1")
    with pytest.raises(NotAPicture, match="HEIC"):
        decode_still(data, "x.heic")
