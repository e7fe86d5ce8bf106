"""Of a TIFF's pages the photograph is looked at, not its thumbnail; of a letter's, the first."""

from __future__ import annotations

import io

import numpy as np
import pytest
import tifffile  # comes with scikit-image
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import BadInput
from pipeline.media import images
from pipeline.media.images import decode_still, open_still
from pipeline.media.stills.memory import Budget
from pipeline.media.stills.tiff_pages import TiffPages
from tests.media import photograph

PHOTO = photograph("temple", size=(480, 320))
THUMBNAIL = photograph("cat", size=(60, 40))
REDUCED, MASK = 1, 4


def tiff(*pages: tuple[NDArray[np.generic], dict[str, object]], **options: object) -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file, **options) as writer:
        for pixels, how in pages:
            writer.write(pixels, metadata=None, **{"photometric": "rgb", **how})
    return file.getvalue()


def shows(data: bytes, picture: NDArray[np.uint8]) -> bool:
    return np.array_equal(decode_still(data, "x.tif"), picture)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("how", [{"subfiletype": REDUCED}, {}], ids=["flagged", "only small"])
def test_a_thumbnail_before_the_photograph(order: str, how: dict[str, object]) -> None:
    assert shows(tiff((THUMBNAIL, how), (PHOTO, {}), byteorder=order), PHOTO)


def test_a_thumbnail_in_a_large_tiff() -> None:
    assert shows(
        tiff((THUMBNAIL, {"subfiletype": REDUCED}), (PHOTO, {"compression": "zlib"}), bigtiff=True), PHOTO
    )


def test_a_thumbnail_after_the_photograph() -> None:
    assert shows(tiff((PHOTO, {}), (THUMBNAIL, {"subfiletype": REDUCED})), PHOTO)


def test_a_thumbnail_by_the_old_tag() -> None:
    old = {"extratags": [(255, 3, 1, 2, True)]}
    assert shows(tiff((PHOTO[::2, ::2], old), (PHOTO, {})), PHOTO)


def test_a_photograph_in_a_sub_page() -> None:
    """As TIFF/EP has it: the first page is a thumbnail, the photograph is below it."""
    assert shows(tiff((THUMBNAIL, {"subfiletype": REDUCED, "subifds": 1}), (PHOTO, {})), PHOTO)


def test_smaller_versions_in_sub_pages() -> None:
    assert shows(tiff((PHOTO, {"subifds": 1}), (PHOTO[::2, ::2], {"subfiletype": REDUCED})), PHOTO)


@pytest.mark.parametrize("second", [(480, 320), (240, 160), (960, 640)])
def test_pages_of_a_scan(second: tuple[int, int]) -> None:
    assert shows(
        tiff((PHOTO, {"subfiletype": 2}), (photograph("cat", size=second), {"subfiletype": 2})), PHOTO
    )


def test_a_mask_is_no_picture() -> None:
    mask = np.zeros((3200, 4800), bool)
    assert shows(tiff((mask, {"subfiletype": MASK, "photometric": "minisblack"}), (PHOTO, {})), PHOTO)


def test_only_a_thumbnail() -> None:
    assert shows(tiff((THUMBNAIL, {"subfiletype": REDUCED})), THUMBNAIL)


def test_what_is_too_large_is_seen_by_its_smaller_version(monkeypatch: pytest.MonkeyPatch) -> None:
    large = np.zeros((3000, 4000, 3), np.uint8)
    data = tiff(
        (large, {"subifds": 2}),
        *((photograph("temple", size=size), {"subfiletype": REDUCED}) for size in ((1500, 1000), (450, 300))),
    )
    assert decode_still(data, "x.tif").max() == 0
    monkeypatch.setattr(images, "BUDGET", Budget(open_still(data, "x.tif").memory - 1))
    assert shows(data, np.asarray(Image.fromarray(photograph("temple", size=(1500, 1000)))))
    monkeypatch.setattr(images, "BUDGET", Budget(1 << 20))
    with pytest.raises(BadInput, match="too many pixels"):
        decode_still(data, "x.tif")


def test_directories_that_go_round_in_circles() -> None:
    data = bytearray(tiff((THUMBNAIL, {}), (PHOTO, {})))
    pages = TiffPages(bytes(data)).pages
    count = int.from_bytes(data[pages[1].offset :][:2], "little")
    data[pages[1].offset + 2 + 12 * count :][:4] = pages[0].offset.to_bytes(4, "little")
    assert len(TiffPages(bytes(data)).pages) == 2


@settings(max_examples=200, deadline=None)
@given(where=st.floats(0, 1, exclude_max=True), junk=st.binary(min_size=1, max_size=20), is_big=st.booleans())
def test_damage_gives_a_picture_or_a_reason(where: float, junk: bytes, is_big: bool) -> None:
    data = tiff(
        (THUMBNAIL[::4, ::4], {"subfiletype": REDUCED, "subifds": 1}), (THUMBNAIL, {}), bigtiff=is_big
    )
    at = int(where * len(data))
    damaged = data[:at] + junk + data[at + len(junk) :]
    try:
        if open_still(damaged, "x").memory < 1 << 27:
            assert decode_still(damaged, "x").shape[2] == 3
    except BadInput as error:
        assert "\n" not in str(error)
