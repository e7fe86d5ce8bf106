#!/usr/bin/env bash
# Pillow 12.3.0 and OpenCV 5.0 show another picture of a TIFF whose 16-bit colours are stored plane after plane.
#
# Expected: the same picture as from the file with its colours pixel by pixel (baseline TIFF's PlanarConfiguration 2 against
#   1), or an error.
# Seen:     no error, and another picture. Pillow takes an uncompressed plane for one of 8 bits: it shows the left half of the
#   picture, twice as wide; compressed (deflate) it is right. OpenCV is right where it is asked for 8 bits, and wrong where
#   it is asked for all of them (IMREAD_UNCHANGED). With 8 bits in the file both are right.
# For:      whoever reads scanners' and laboratories' TIFFs; read such planes by their offsets (tags 273 and 279).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pillow==12.3.0 opencv-python-headless==5.0.0.93 tifffile==2026.3.3 numpy==2.4.6

cat > "$work/planes.py" <<'PYTHON'
import io

import cv2
import numpy as np
import PIL
import tifffile
from PIL import Image

print("Pillow", PIL.__version__, "OpenCV", cv2.__version__)
picture = np.zeros((40, 60, 3), np.uint8)
picture[:, :30], picture[:, 30:] = (200, 30, 30), (30, 30, 200)  # red on the left, blue on the right


def tiff(pixels, planes, compression):
    file = io.BytesIO()
    layout = pixels if planes == "contig" else np.ascontiguousarray(pixels.transpose(2, 0, 1))
    tifffile.imwrite(file, layout, photometric="rgb", planarconfig=planes, compression=compression)
    return file.getvalue()


def judged(seen):
    if np.abs(seen.astype(int) - picture).max() <= 1:
        return "right"
    return f"wrong, left {seen[20, 15].tolist()}, right {seen[20, 45].tolist()}"


for bits in (8, 16):
    for planes in ("contig", "separate"):
        for compression in (None, "zlib"):
            data = tiff(picture if bits == 8 else picture.astype(np.uint16) * 257, planes, compression)
            pillow = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
            in_memory = np.frombuffer(data, np.uint8)
            eight = cv2.imdecode(in_memory, cv2.IMREAD_COLOR)[..., ::-1]
            deep = cv2.imdecode(in_memory, cv2.IMREAD_UNCHANGED)[..., ::-1] >> bits - 8
            print(bits, planes, compression, "| Pillow", judged(pillow), end=" ")
            print("| OpenCV 8 bits", judged(eight), "| OpenCV unchanged", judged(deep))
PYTHON

"$work/venv/bin/python" "$work/planes.py" 2> /dev/null | tee "$work/seen"
grep -q "^8 separate None | Pillow right" "$work/seen"
grep -q "^16 contig None | Pillow right" "$work/seen"
grep -q "^16 separate zlib | Pillow right" "$work/seen"
grep -q "^16 separate None | Pillow wrong" "$work/seen"
grep -q "^16 separate None .* OpenCV 8 bits right | OpenCV unchanged wrong" "$work/seen"
grep -q "^16 separate zlib .* OpenCV unchanged wrong" "$work/seen"
grep -q "^8 separate None .* OpenCV unchanged right" "$work/seen"
