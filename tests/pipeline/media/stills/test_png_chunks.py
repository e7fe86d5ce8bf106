"""PNGs that carry more than a picture are read; what is packed in them does not fill the memory."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from pipeline.media.images import decode_still
from pipeline.media.stills.png_chunks import LARGEST_PROFILE, SIGNATURE, without_texts
from tests.icc import DISPLAY_P3, in_srgb, rgb_profile
from tests.media import photograph

PICTURE = Image.fromarray(photograph("coffee", size=(60, 40)))


def png(*chunks: bytes, after: bytes = b"", image: Image.Image = PICTURE) -> bytes:
    """With chunks before and after the picture."""
    file = io.BytesIO()
    image.save(file, "PNG")
    data = file.getvalue()
    return data[:33] + b"".join(chunks) + data[33:-12] + after + data[-12:]


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def large_profile(size: int) -> bytes:
    """Display P3, with a table that nobody looks at."""
    profile = rgb_profile(DISPLAY_P3)
    return struct.pack(">I", size) + profile[4:] + bytes(size - len(profile))


LONG = b'{"node": 1}' * 200_000
TEXTS = {
    "zTXt": chunk(b"zTXt", b"workflow\0\0" + zlib.compress(LONG)),
    "tEXt": chunk(b"tEXt", b"workflow\0" + LONG),
    "iTXt": chunk(b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(LONG)),
    "many": b"".join(chunk(b"tEXt", b"n%d\0" % i + bytes(1000)) for i in range(2000)),
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
@pytest.mark.parametrize("place", ["before", "after"])
def test_long_texts_cost_nothing(text: bytes, place: str) -> None:
    data = png(text) if place == "before" else png(after=text)
    assert np.array_equal(decode_still(data, "x.png"), np.asarray(PICTURE))


@pytest.mark.parametrize("size", [1_200_000, 9_000_000])
def test_large_profiles_are_heeded(size: int) -> None:
    data = png(
        chunk(b"iCCP", b"p\0\0" + zlib.compress(large_profile(size))),
        image=Image.new("RGB", (9, 9), (200, 90, 60)),
    )
    assert np.abs(decode_still(data, "x.png") - in_srgb((200, 90, 60), DISPLAY_P3)).max() <= 4


@pytest.mark.parametrize(
    "body", [b"p\0\0garbage", b"p\0\0", b"", b"p\0\0" + zlib.compress(large_profile(LARGEST_PROFILE + 1))]
)
def test_a_profile_that_cannot_be_used_is_left_out(body: bytes) -> None:
    assert np.array_equal(decode_still(png(chunk(b"iCCP", body)), "x.png"), np.asarray(PICTURE))


def test_bombs_do_not_go_off() -> None:
    packed = zlib.compress(bytes(200 << 20))
    bombs = [
        chunk(b"zTXt", b"a\0\0" + packed),
        chunk(b"iTXt", b"a\0\1\0\0\0" + packed),
        chunk(b"iCCP", b"a\0\0" + packed),
    ]
    for bomb in bombs:
        tracemalloc.start()
        assert decode_still(png(bomb), "x.png").shape == (40, 60, 3)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 3 * LARGEST_PROFILE


def test_a_turn_that_only_xmp_tells_is_kept() -> None:
    xmp = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
        b"</rdf:RDF></x:xmpmeta>"
    )
    data = png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp), TEXTS["zTXt"])
    assert decode_still(data, "x.png").shape == (60, 40, 3)


def test_pillow_still_refuses_them_itself() -> None:
    """Else all this may go."""
    with pytest.raises(ValueError, match="MAX_TEXT_CHUNK"), Image.open(io.BytesIO(png(TEXTS["zTXt"]))):
        pass
    assert len(LONG) > PngImagePlugin.MAX_TEXT_CHUNK


@given(st.binary(max_size=200))
def test_garbage_passes_through(data: bytes) -> None:
    kept, _ = without_texts(SIGNATURE + data)
    assert len(kept) <= len(SIGNATURE + data)
