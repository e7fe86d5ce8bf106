#!/usr/bin/env bash
# Pillow 12.3.0: a JPEG 2000 that is whole is "broken" at a quarter or an eighth, depending on its size.
#
# Expected: `reduce = n` decodes a JPEG 2000 at 1/2^n, of any width, as decoding it whole does.
# Seen:     Pillow rounds width / 2^n to the nearest number, OpenJPEG rounds it up (as the standard says). Where the two
#   differ, "OSError: broken data stream when reading image file": a picture 2001 pixels wide can be read whole and halved,
#   not at a quarter (500.25: 500 against 501) or an eighth. At a half the two always agree.
# For:      whoever makes thumbnails of JPEG 2000, and takes the error for a damaged file; reduce only where both agree.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pillow==12.3.0

cat > "$work/reduce.py" <<'PYTHON'
import io

import PIL
from PIL import Image

print("Pillow", PIL.__version__)
for size in ((2000, 1000), (2001, 1001), (1999, 999)):
    file = io.BytesIO()
    Image.radial_gradient("L").resize(size).save(file, "JPEG2000")
    for n in range(4):
        image = Image.open(io.BytesIO(file.getvalue()))
        image.reduce = n
        try:
            image.load()
            print(size, f"1/{2**n}", image.size)
        except OSError as error:
            print(size, f"1/{2**n}", error)
PYTHON

"$work/venv/bin/python" "$work/reduce.py" | tee "$work/seen"
grep -qxF "(2000, 1000) 1/4 (500, 250)" "$work/seen"
grep -qxF "(2001, 1001) 1/1 (2001, 1001)" "$work/seen"
grep -qxF "(2001, 1001) 1/2 (1001, 501)" "$work/seen"
grep -qxF "(2001, 1001) 1/4 broken data stream when reading image file" "$work/seen"
