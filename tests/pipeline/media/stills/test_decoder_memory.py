"""Decoding takes no more memory than was said before: measured by the process's own peak."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.heif import ALPHA, auxiliary, heif, picture
from tests.media import photograph

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are told by Linux"),
]

MEASURE = """
import json, re, sys
from pathlib import Path
import cv2, numpy
from pipeline.media.images import decode_still, open_still
from pipeline.media import images

def told(what):
    return int(re.search(what + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10

data = Path(sys.argv[1]).read_bytes()
images._readable_formats()
Path("/proc/self/clear_refs").write_text("5")
before = told("VmRSS")
still = open_still(data, "x")
still.decode()
print(json.dumps([still.memory, told("VmHWM") - before]))
"""

SIZE = (3000, 2400)
KINDS: dict[str, tuple[str, str, dict[str, object]]] = {
    "JPEG": ("RGB", "JPEG", {}),
    "progressive JPEG": ("RGB", "JPEG", {"progressive": True, "subsampling": 0}),
    "progressive CMYK": ("CMYK", "JPEG", {"progressive": True}),
    "PNG": ("RGB", "PNG", {"compress_level": 1}),
    "transparent PNG": ("RGBA", "PNG", {"compress_level": 1}),
    "palette": ("P", "PNG", {"compress_level": 1}),
    "WebP": ("RGB", "WEBP", {"method": 0}),
    "lossless WebP": ("RGBA", "WEBP", {"lossless": True, "method": 0, "quality": 0}),
    "AVIF": ("RGB", "AVIF", {"speed": 10, "subsampling": "4:4:4"}),
    "transparent AVIF": ("RGBA", "AVIF", {"speed": 10}),
    "JPEG 2000": ("RGB", "JPEG2000", {}),
    "GIF": ("P", "GIF", {}),
    "BMP": ("RGB", "BMP", {}),
    "TIFF": ("RGB", "TIFF", {}),
    "TIFF of one strip": ("RGB", "TIFF", {"compression": "tiff_lzw", "strip_size": 1 << 30}),
    "JPEG in TIFF": ("RGB", "TIFF", {"compression": "jpeg"}),
}


def measured(data: bytes, path: Path) -> tuple[int, int]:
    """What was said, and what it took."""
    path.write_bytes(data)
    root = Path(__file__).resolve().parents[4]
    line = [sys.executable, "-c", MEASURE, str(path)]
    out = subprocess.run(line, capture_output=True, text=True, check=True, cwd=root).stdout
    said, took = json.loads(out)
    return said, took


@pytest.mark.parametrize("kind", KINDS)
def test_pillows(kind: str, tmp_path: Path) -> None:
    mode, name, options = KINDS[kind]
    image = Image.fromarray(photograph("temple", size=SIZE)).convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.linear_gradient("L").resize(SIZE))
    file = io.BytesIO()
    image.save(file, name, **options)
    said, took = measured(file.getvalue(), tmp_path / "x")
    assert took <= said


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p", "yuv420p10le"])
@pytest.mark.parametrize("with_alpha", [False, True])
def test_heic(pixel_format: str, with_alpha: bool, tmp_path: Path) -> None:
    photo = photograph("temple", size=SIZE)
    alpha = [auxiliary(np.ascontiguousarray(photo[:, :, 0]), 1, ALPHA)] if with_alpha else []
    said, took = measured(heif([picture(photo, pixel_format=pixel_format), *alpha]), tmp_path / "x")
    assert took <= said


def test_a_large_progressive_jpeg_takes_a_fraction_of_its_coefficients(tmp_path: Path) -> None:
    image = Image.fromarray(photograph("temple", size=(1500, 1500))).resize((9000, 9000))
    file = io.BytesIO()
    image.save(file, "JPEG", progressive=True, subsampling=0, quality=60)
    said, took = measured(file.getvalue(), tmp_path / "x")
    assert took <= said < 2 * 3 * 9000 * 9000 / 4
