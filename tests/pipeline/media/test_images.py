"""Any still becomes upright 8-bit RGB, or says in one line why it cannot."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pipeline.errors import BadInput
from pipeline.media import images
from pipeline.media.images import decode_still, open_still, thumbnail
from pipeline.media.stills.memory import Budget
from tests.media import PHOTOGRAPHS, photograph, photograph_path

SIZE = (120, 80)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def picture() -> Image.Image:
    return Image.fromarray(photograph("astronaut", size=SIZE))


def difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Mean absolute difference, of 255."""
    assert one.shape == other.shape
    return float(np.abs(one.astype(float) - other.astype(float)).mean())


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_photographs_are_what_pillow_shows(name: str) -> None:
    path = photograph_path(name)
    image = decode_still(path.read_bytes(), path.name)
    assert image.dtype == np.uint8
    if name != "rocket":  # in Adobe RGB
        assert difference(image, photograph(name)) == 0


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_pictures_are_turned_as_their_exif_says(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = saved(picture(), kind, exif=exif, **({} if kind == "TIFF" else {"quality": 95}))
    upright = {
        1: lambda image: image,
        2: ImageOps.mirror,
        3: lambda image: image.rotate(180),
        4: ImageOps.flip,
        5: lambda image: ImageOps.mirror(image).rotate(90, expand=True),
        6: lambda image: image.rotate(-90, expand=True),
        7: lambda image: ImageOps.mirror(image).rotate(-90, expand=True),
        8: lambda image: image.rotate(90, expand=True),
    }[orientation](picture())
    assert difference(decode_still(stored, "x"), np.asarray(upright)) < 6


def test_exif_that_is_garbage_does_not_cost_the_picture() -> None:
    stored = saved(picture(), "JPEG", quality=95, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff garbage")
    assert difference(decode_still(stored, "x.jpg"), np.asarray(picture())) < 6


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk(kind: str) -> None:
    stored = saved(picture().convert("CMYK"), kind)
    assert difference(decode_still(stored, "x"), np.asarray(picture())) < 8


def test_cmyk_as_photoshop_stores_it() -> None:
    """Adobe's JPEGs hold the inks inverted, and say so by a marker of their own."""
    stored = saved(picture().convert("CMYK"), "JPEG", quality=95)
    assert b"Adobe" in stored[:200]
    assert difference(decode_still(stored, "x.jpg"), np.asarray(picture())) < 6


def ramp(kind: type[np.generic], top: float) -> NDArray[np.generic]:
    return np.tile(np.linspace(0, top, 256), (16, 1)).astype(kind)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(kind: str) -> None:
    stored = saved(Image.fromarray(ramp(np.uint16, 65535)), kind)
    image = decode_still(stored, "x")
    assert image.shape == (16, 256, 3)
    assert difference(image, np.repeat(ramp(np.uint8, 255)[:, :, None], 3, axis=2).astype(np.uint8)) < 1


def test_sixteen_bit_colour() -> None:
    import cv2

    deep = photograph("coffee", size=SIZE).astype(np.uint16) * 257
    stored = cv2.imencode(".png", deep[:, :, ::-1])[1].tobytes()
    assert difference(decode_still(stored, "x.png"), photograph("coffee", size=SIZE)) <= 1


def test_a_dark_sixteen_bit_picture_stays_dark() -> None:
    stored = saved(Image.fromarray(np.full((8, 8), 2570, np.uint16)), "PNG")
    assert decode_still(stored, "x.png").max() == 10


def test_pictures_of_floats_show_their_range() -> None:
    stored = saved(Image.fromarray(ramp(np.float32, 0.5)), "TIFF")
    image = decode_still(stored, "x.tif")
    assert (image.min(), image.max()) == (0, 255)


@pytest.mark.parametrize("mode", ["L", "1", "P"])
def test_grey_and_palettes(mode: str) -> None:
    stored = saved(picture().convert(mode), "PNG")
    assert difference(decode_still(stored, "x.png"), np.asarray(picture().convert(mode).convert("RGB"))) == 0


def test_transparency_is_laid_on_white() -> None:
    image = picture().convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(SIZE))
    for kind in ("PNG", "WEBP"):
        decoded = decode_still(saved(image, kind, lossless=True), "x")
        assert (decoded[0] > 250).all()
        assert difference(decoded[-1:], np.asarray(picture())[-1:]) < 3


def test_transparent_grey_and_palette_are_laid_on_white() -> None:
    grey = Image.new("LA", (8, 8), (0, 0))
    assert (decode_still(saved(grey, "PNG"), "x.png") == 255).all()
    palette = Image.new("P", (8, 8), 3)
    palette.putpalette([0] * 768)
    assert (decode_still(saved(palette, "PNG", transparency=3), "x.png") == 255).all()
    assert (decode_still(saved(palette, "GIF", transparency=3), "x.gif") == 255).all()
    colour = Image.new("RGB", (8, 8), (1, 2, 3))
    assert (decode_still(saved(colour, "PNG", transparency=(1, 2, 3)), "x.png") == 255).all()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_an_animation_gives_its_first_picture(kind: str) -> None:
    first, second = Image.new("RGB", (16, 16), "red"), Image.new("RGB", (16, 16), "blue")
    image = decode_still(saved(first, kind, save_all=True, append_images=[second]), "x")
    assert difference(image, np.asarray(first)) < 3


@pytest.mark.parametrize("kind", ["BMP", "PPM", "JPEG2000", "AVIF"])
def test_other_kinds_that_people_have(kind: str) -> None:
    if kind not in images._readable_formats():
        pytest.skip(f"this Pillow is built without {kind}")
    assert difference(decode_still(saved(picture(), kind), "x"), np.asarray(picture())) < 6


def test_a_jpeg_of_several_pictures_gives_its_first() -> None:
    stored = saved(picture(), "MPO", save_all=True, append_images=[Image.new("RGB", SIZE)])
    assert difference(decode_still(stored, "x.jpg"), np.asarray(picture())) < 6


def test_the_content_decides_not_the_extension() -> None:
    assert decode_still(saved(picture(), "PNG"), "x.jpg").shape == (80, 120, 3)


# Bad ones


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "empty"),
        (b"just a text", "not a picture"),
        (b"\xff\xd8\xff", "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n", "not a picture"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture"),
    ],
)
def test_what_is_no_picture_says_why(data: bytes, why: str) -> None:
    with pytest.raises(BadInput, match=why) as caught:
        decode_still(data, "x.jpg")
    assert str(caught.value).startswith("x.jpg: ")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_picture_that_is_cut_short_is_bad(kind: str) -> None:
    stored = saved(picture(), kind)
    with pytest.raises(BadInput) as caught:
        decode_still(stored[: len(stored) * 2 // 3], "two\nlines\udce9.jpg")
    assert "\n" not in str(caught.value)
    str(caught.value).encode()


@pytest.mark.slow
def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    stored = saved(Image.new("1", (60_000, 30_000)), "PNG")
    assert len(stored) < 400_000
    with pytest.raises(BadInput, match="too many pixels"):
        decode_still(stored, "bomb.png")


def test_the_limit_is_on_what_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    large = Image.fromarray(photograph("temple", size=(2400, 1600)))
    jpeg, png = saved(large, "JPEG"), saved(large, "PNG")
    monkeypatch.setattr(images, "BUDGET", Budget(open_still(png, "x.png").memory - 1))
    assert decode_still(jpeg, "x.jpg").shape == (800, 1200, 3)
    with pytest.raises(BadInput, match=r"x\.png: the picture has too many pixels: .* GiB"):
        decode_still(png, "x.png")


@pytest.mark.slow
def test_a_phones_two_hundred_megapixels() -> None:
    wide = Image.new("RGB", (16320, 12240), "red")
    wide.paste("blue", (8160, 0, 16320, 12240))
    still = open_still(saved(wide, "JPEG"), "x.jpg")
    assert still.memory < 100 << 20
    image = still.decode()
    assert image.shape == (765, 1020, 3)
    assert difference(image[:, :500], np.full_like(image[:, :500], (254, 0, 0))) < 3


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "CMYK", "I;16"])
@pytest.mark.parametrize("size", [(2050, 1203), (1024, 4100)])
def test_large_pictures_of_every_mode_are_halved_strip_by_strip(mode: str, size: tuple[int, int]) -> None:
    large = Image.fromarray(photograph("coffee", size=size))
    if mode == "I;16":
        grey = np.asarray(large.convert("L"))
        stored, wanted = saved(Image.fromarray(grey.astype(np.uint16) * 257), "PNG"), Image.fromarray(grey)
    else:
        stored, wanted = saved(large.convert(mode), "TIFF" if mode == "CMYK" else "PNG"), large.convert(mode)
    image = decode_still(stored, "x")
    flat = wanted.convert("L" if mode == "1" else "RGB")
    assert difference(image, np.asarray(flat.reduce(2).convert("RGB"))) < 1


@pytest.mark.slow
@pytest.mark.parametrize("orientation", range(1, 9))
def test_large_pictures_are_turned_after_they_are_shrunk(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    large = Image.fromarray(photograph("coffee", size=(1500, 1100)))
    stored = saved(large, "PNG", exif=exif)
    with Image.open(io.BytesIO(stored)) as image:
        upright = ImageOps.exif_transpose(image).reduce(2)
    assert difference(decode_still(stored, "x"), np.asarray(upright)) < 1


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1999, 1501), (2001, 1503), (2048, 1536), (2053, 4107)])
@pytest.mark.parametrize("options", [{}, {"irreversible": True, "tile_size": (512, 512)}])
def test_jpeg_2000_is_shrunk_while_it_is_decoded(size: tuple[int, int], options: dict[str, object]) -> None:
    """Where Pillow can; it calls pictures damaged whose size it rounds otherwise than the decoder does."""
    large = Image.fromarray(photograph("temple", size=size))
    image = decode_still(saved(large, "JPEG2000", **options), "x.jp2")
    assert 512 <= min(image.shape[:2]) < 1024
    small = large.resize((image.shape[1], image.shape[0]), Image.Resampling.BOX)
    assert difference(image, np.asarray(small)) < 4


@pytest.mark.slow
def test_what_each_kind_takes_is_known_before() -> None:
    """Kinds whose decoders hold more than the picture say so."""
    large = Image.fromarray(photograph("temple", size=(1600, 1200)))
    memory = {kind: open_still(saved(large, kind), "x").memory for kind in ("PNG", "WEBP", "AVIF")}
    assert memory["PNG"] + 4 * 1600 * 1200 < min(memory["WEBP"], memory["AVIF"])
    plain, in_steps = (saved(large, "JPEG", progressive=steps) for steps in (False, True))
    assert open_still(in_steps, "x").memory - open_still(plain, "x").memory >= 2 * 1.5 * 1600 * 1200


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"]),
    where=st.floats(0, 1, exclude_max=True),
    junk=st.binary(min_size=1, max_size=40),
)
def test_damage_anywhere_gives_a_picture_or_a_reason(kind: str, where: float, junk: bytes) -> None:
    stored = saved(Image.fromarray(photograph("cat", size=(32, 24))), kind)
    at = int(where * len(stored))
    damaged = stored[:at] + junk + stored[at + len(junk) :]
    try:
        image = decode_still(damaged, "x")
    except BadInput as error:
        assert "\n" not in str(error)
    else:
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3


@pytest.mark.parametrize(
    ("size", "decoded"), [((1000, 800), (1000, 800)), ((4000, 1024), (2000, 512)), ((4096, 4096), (512, 512))]
)
def test_large_jpegs_are_decoded_smaller_but_never_below_512(
    size: tuple[int, int], decoded: tuple[int, int]
) -> None:
    large = Image.fromarray(photograph("flower", size=size))
    image = decode_still(saved(large, "JPEG", quality=95), "x.jpg")
    assert (image.shape[1], image.shape[0]) == decoded
    whole = large.resize((256, 256), Image.Resampling.BICUBIC)
    seen = Image.fromarray(image).resize((256, 256), Image.Resampling.BICUBIC)
    assert difference(np.asarray(seen), np.asarray(whole)) < 2


# Thumbnails


@pytest.mark.parametrize(
    ("size", "small"),
    [((640, 480), (320, 240)), ((200, 100), (200, 100)), ((3200, 4), (320, 1)), ((300, 3000), (64, 640))],
)
def test_thumbnails_are_small_jpegs_of_the_same_shape(size: tuple[int, int], small: tuple[int, int]) -> None:
    jpeg = thumbnail(photograph("rocket", size=size))
    with Image.open(io.BytesIO(jpeg)) as image:
        assert (image.format, image.size) == ("JPEG", small)


def test_thumbnails_keep_their_colours() -> None:
    with Image.open(io.BytesIO(thumbnail(photograph("flower", size=(320, 200))))) as image:
        assert difference(np.asarray(image), photograph("flower", size=(320, 200))) < 5
