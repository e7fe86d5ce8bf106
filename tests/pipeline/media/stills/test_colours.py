"""Colours are those that a viewer shows: profiles become sRGB, many bits become eight."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from pipeline.media.images import decode_still
from tests.icc import ADOBE_RGB, DISPLAY_P3, SRGB, cmyk_profile, grey_profile, in_srgb, rgb_profile
from tests.media import photograph, photograph_path

COLOUR = (200, 90, 60)
KINDS = {
    "JPEG": {"quality": 98, "subsampling": 0},
    "PNG": {},
    "WEBP": {"lossless": True},
    "TIFF": {},
    "AVIF": {"quality": 98},
}


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **{**KINDS[kind], **options})
    return file.getvalue()


def middle(data: bytes, **options: bool) -> NDArray[np.float64]:
    image = decode_still(data, "x", **options)
    return image[image.shape[0] // 2, image.shape[1] // 2].astype(float)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("primaries", [DISPLAY_P3, ADOBE_RGB], ids=["Display P3", "Adobe RGB"])
def test_wide_colours_become_srgb(kind: str, primaries: NDArray[np.float64]) -> None:
    stored = saved(Image.new("RGB", (64, 48), COLOUR), kind, icc_profile=rgb_profile(primaries))
    wanted = in_srgb(COLOUR, primaries)
    assert np.abs(wanted - COLOUR).max() > 10
    assert np.abs(middle(stored) - wanted).max() <= 4


def test_a_photograph_in_adobe_rgb_is_as_lcms_shows_it() -> None:
    data = photograph_path("rocket").read_bytes()
    with Image.open(io.BytesIO(data)) as image:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        wanted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert np.array_equal(decode_still(data, "x"), np.asarray(wanted))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_large_pictures_are_converted_after_they_are_shrunk(kind: str) -> None:
    large = Image.new("RGB", (3000, 2100), COLOUR)
    image = decode_still(saved(large, kind, icc_profile=rgb_profile(DISPLAY_P3)), "x")
    assert image.shape == (525, 750, 3)
    assert np.abs(image - in_srgb(COLOUR, DISPLAY_P3)).max() <= 4


def test_what_is_srgb_already_stays_to_the_last_bit() -> None:
    standard = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = Image.fromarray(photograph("cat", size=(90, 60)))
    assert np.array_equal(decode_still(saved(picture, "PNG", icc_profile=standard), "x"), np.asarray(picture))


@pytest.mark.parametrize(
    "profile",
    [
        b"",
        b"no profile at all",
        rgb_profile(SRGB)[:200],
        grey_profile(2.2),
        rgb_profile(DISPLAY_P3).replace(b"curv", b"burp"),
    ],
    ids=["empty", "garbage", "cut off", "of grey", "unknown curve"],
)
def test_a_broken_or_foreign_profile_changes_nothing(profile: bytes) -> None:
    for kind in ("JPEG", "PNG"):
        assert (
            np.abs(
                middle(saved(Image.new("RGB", (64, 48), COLOUR), kind, icc_profile=profile)) - COLOUR
            ).max()
            <= 2
        )


def test_imported_captioners_see_colours_as_they_are_stored() -> None:
    stored = saved(Image.new("RGB", (64, 48), COLOUR), "PNG", icc_profile=rgb_profile(DISPLAY_P3))
    assert (middle(stored, whole=True) == COLOUR).all()


def test_grey_has_profiles_too() -> None:
    dark = middle(saved(Image.new("L", (64, 48), 128), "PNG", icc_profile=grey_profile(1.0)))
    assert np.abs(dark - 188).max() <= 2  # half the light
    assert len(set(dark)) == 1


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_inks_are_what_their_profile_says(kind: str) -> None:
    """A printer whose cyan is green: without its profile the picture would be blue."""
    lab = np.zeros((2, 2, 2, 2, 3), np.uint8)
    lab[..., 1:] = 128
    lab[0, ..., 0, 0] = 255  # paper, whatever magenta and yellow
    lab[1, ..., 0, :] = (140, 60, 180)
    stored = saved(Image.new("CMYK", (64, 48), (255, 0, 0, 0)), kind, icc_profile=cmyk_profile(lab))
    red, green, blue = middle(stored)
    assert green > red + 60 and green > blue + 60
    assert (
        middle(saved(Image.new("CMYK", (64, 48), (0, 0, 0, 0)), kind, icc_profile=cmyk_profile(lab))) > 250
    ).all()


def test_transparency_and_profiles_go_together() -> None:
    seen_through = Image.new("RGBA", (64, 48), (*COLOUR, 0))
    seen_through.paste((*COLOUR, 255), (16, 12, 48, 36))
    image = decode_still(saved(seen_through, "PNG", icc_profile=rgb_profile(DISPLAY_P3)), "x")
    assert (image[0, 0] >= 254).all()
    assert np.abs(image[24, 32] - in_srgb(COLOUR, DISPLAY_P3)).max() <= 4


def test_lab() -> None:
    picture = Image.fromarray(photograph("coffee", size=(60, 40)))
    profiles = (ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"))
    lab = ImageCms.profileToProfile(picture, *profiles, outputMode="LAB")
    image = decode_still(saved(lab, "TIFF"), "x")
    assert np.abs(image.astype(int) - np.asarray(picture)).mean() < 2


def tiff(pixels: NDArray[np.generic], **options: object) -> bytes:
    import tifffile  # comes with scikit-image

    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_tiffs_of_sixteen_bits(order: str, compression: str | None, planes: str) -> None:
    """Pillow shows another picture of those that are stored plane after plane, uncompressed."""
    picture = photograph("coffee", size=(61, 40))
    deep = picture.astype(np.uint16) * 257
    if planes == "separate":
        deep = np.ascontiguousarray(deep.transpose(2, 0, 1))
    stored = tiff(
        deep, photometric="rgb", planarconfig=planes, byteorder=order, compression=compression, rowsperstrip=7
    )
    assert np.array_equal(decode_still(stored, "x"), picture)


def test_deep_planes_are_turned_too() -> None:
    picture = photograph("coffee", size=(61, 40))
    planes = np.ascontiguousarray(picture.transpose(2, 0, 1)).astype(np.uint16) * 257
    stored = tiff(planes, photometric="rgb", planarconfig="separate", extratags=[(274, 3, 1, 6, True)])
    assert np.array_equal(decode_still(stored, "x"), np.rot90(picture, -1))


def test_grey_of_sixteen_bits_whose_white_is_zero() -> None:
    grey = photograph("cat", size=(60, 40))[:, :, 1]
    stored = tiff((255 - grey).astype(np.uint16) * 257, photometric="miniswhite")
    assert np.array_equal(decode_still(stored, "x"), np.repeat(grey[:, :, None], 3, axis=2))
