"""An eighth of a progressive JPEG by its DC coefficients is the eighth that libjpeg gives."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.errors import BadInput
from pipeline.media.images import decode_still
from pipeline.media.stills.dc_scans import an_eighth
from pipeline.media.stills.jpeg_markers import BadJpeg, JpegMarkers
from tests.media import photograph


def progressive(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", progressive=True, **options)
    return file.getvalue()


def by_libjpeg(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.draft(None, (max(1, image.width // 8), max(1, image.height // 8)))
    image.load()
    return image


def difference(one: Image.Image, other: Image.Image) -> np.ndarray:
    assert (one.mode, one.size) == (other.mode, other.size)
    return np.abs(np.asarray(one, np.int16) - np.asarray(other, np.int16))


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    width=st.integers(64, 400),
    height=st.integers(64, 300),
    mode=st.sampled_from(["L", "RGB", "CMYK"]),
    subsampling=st.sampled_from([0, 1, 2]),
    quality=st.integers(5, 100),
    restart=st.sampled_from([0, 1, 3, 50]),
    name=st.sampled_from(["astronaut", "coffee", "galaxies"]),
)
def test_it_is_what_libjpeg_gives(
    width: int, height: int, mode: str, subsampling: int, quality: int, restart: int, name: str
) -> None:
    subsampling = subsampling if mode == "RGB" else 0
    picture = Image.fromarray(photograph(name, size=(width, height))).convert(mode)
    data = progressive(picture, quality=quality, subsampling=subsampling, restart_marker_blocks=restart)
    wrong = difference(an_eighth(data), by_libjpeg(data))
    if subsampling == 0:
        assert wrong.max() <= (1 if mode == "RGB" else 0)
    else:  # libjpeg takes some detail of the colours, which have fewer samples, from other scans
        assert wrong.mean() < 8


@pytest.mark.parametrize("size", [(2, 3), (7, 9), (8, 8), (9, 17), (1, 200)])
def test_sizes_that_are_no_multiples(size: tuple[int, int]) -> None:
    data = progressive(Image.fromarray(photograph("coffee", size=size)), subsampling=0)
    # (Pillow does not let libjpeg divide a side below 8.)
    assert an_eighth(data).size == (-(-size[0] // 8), -(-size[1] // 8))


def test_colours_that_are_no_ycbcr() -> None:
    data = progressive(Image.fromarray(photograph("coffee", size=(200, 160))), keep_rgb=True, quality=95)
    assert difference(an_eighth(data), by_libjpeg(data)).max() == 0


def test_a_large_one_is_decoded_so() -> None:
    picture = Image.fromarray(photograph("temple", size=(6200, 4200)))
    data = progressive(picture, quality=90)
    image = decode_still(data, "x.jpg")
    assert image.shape == (525, 775, 3)
    assert np.abs(image.astype(int) - np.asarray(picture.reduce(8))).mean() < 2


def test_it_lies_as_its_exif_says_and_has_its_profile() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.new("RGB", (5000, 4096), "white")
    picture.paste("red", (0, 0, 5000, 2048))
    image = decode_still(progressive(picture, exif=exif), "x.jpg")
    assert image.shape == (625, 512, 3)
    assert np.abs(image[300, 450].astype(int) - (254, 0, 0)).max() < 4 and image[300, 50].min() > 250


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_one_that_is_cut_short_is_bad_wherever_it_ends(share: float) -> None:
    data = progressive(Image.fromarray(photograph("temple", size=(640, 480))))
    with pytest.raises(BadJpeg):
        an_eighth(data[: int(share * len(data))])
    large = progressive(Image.fromarray(photograph("temple", size=(4200, 4100))), quality=30)
    with pytest.raises(BadInput, match="cut off"):
        decode_still(large[: int(share * len(large))], "x.jpg")


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(where=st.floats(0, 1, exclude_max=True), junk=st.binary(min_size=1, max_size=30))
def test_damage_gives_a_picture_or_a_reason(where: float, junk: bytes) -> None:
    data = progressive(Image.fromarray(photograph("cat", size=(150, 110))), restart_marker_blocks=5)
    at = 2 + int(where * (len(data) - 2))
    damaged = data[:at] + junk + data[at + len(junk) :]
    try:
        if JpegMarkers(damaged).frame.blocks < 1e6:
            an_eighth(damaged)
    except BadJpeg:
        pass


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_garbage_after_the_first_bytes(data: bytes) -> None:
    with contextlib.suppress(BadJpeg):
        an_eighth(b"\xff\xd8" + data)
