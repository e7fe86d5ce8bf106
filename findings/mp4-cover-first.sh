#!/usr/bin/env bash
# PyAV 18.1.0 and OpenCV 5.0.0.93 (FFmpeg 8): an MP4 film whose tags stand before its tracks is read as one picture, its cover.
#
# Expected: the first video stream of a film is the film; a cover, as shops, phones and taggers put into the tags, comes
#   after it or does not count.
# Seen:     FFmpeg makes streams in the order in which it meets them, and a cover (moov/udta/meta/ilst/covr) is a video stream
#   with one packet. The order of the boxes in moov is free. With udta after trak streams.video[0] is the film, with udta
#   before trak it is the cover: PyAV's decode(video=0) and OpenCV's VideoCapture give one picture of the cover's size and
#   then the end, and no error.
# For:      whoever opens films by streams.video[0], decode(video=0) or cv2: take streams.best("video"), or a stream without
#   Disposition.attached_pic.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-deps \
    av==18.1.0 numpy==2.4.6 opencv-python-headless==5.0.0.93 pillow==12.3.0

cat > "$work/cover.py" <<'PYTHON'
import io
import struct
import sys
from pathlib import Path

import av
import cv2
import numpy as np
from PIL import Image

COUNT, FILM, COVER = 10, (320, 240), (64, 64)


def encode(path):
    with av.open(str(path), "w") as film:
        stream = film.add_stream("libx264", rate=25)
        (stream.width, stream.height), stream.pix_fmt = FILM, "yuv420p"
        for number in range(COUNT):
            frame = av.VideoFrame.from_ndarray(np.full(FILM[::-1], 10 * number + 50, np.uint8), format="gray")
            frame = frame.reformat(format="yuv420p")
            frame.pts = number
            film.mux(stream.encode(frame))
        film.mux(stream.encode(None))


def box(kind, *parts):
    content = b"".join(parts)
    return struct.pack(">I4s", len(content) + 8, kind) + content


def boxes(content):
    while content:
        size, kind = struct.unpack(">I4s", content[:8])
        yield kind, content[:size]
        content = content[size:]


def tags_with_cover():
    jpeg = io.BytesIO()
    Image.new("RGB", COVER, "red").save(jpeg, "JPEG")
    cover = box(b"covr", box(b"data", struct.pack(">II", 13, 0), jpeg.getvalue()))  # 13: JPEG
    handler = box(b"hdlr", bytes(8) + b"mdirappl" + bytes(9))
    return box(b"udta", box(b"meta", bytes(4), handler, box(b"ilst", cover)))


def with_tags(film, order):
    """The film with a cover; its moov is its last box, so that nothing that moov points to moves."""
    *others, (kind, moov) = boxes(film)
    assert kind == b"moov"
    parts = {kind: content for kind, content in boxes(moov[8:])} | {b"udta": tags_with_cover()}
    return b"".join(content for _, content in others) + box(b"moov", *(parts[kind] for kind in order))


def by_pyav(path):
    with av.open(str(path)) as film:
        return [(frame.width, frame.height) for frame in film.decode(video=0)]


def best_of_pyav(path):
    with av.open(str(path)) as film:
        return [(frame.width, frame.height) for frame in film.decode(film.streams.best("video"))]


def by_opencv(path):
    capture, sizes = cv2.VideoCapture(str(path)), []
    while True:
        ok, picture = capture.read()
        if not ok:
            return sizes
        sizes.append(picture.shape[1::-1])


print("PyAV", av.__version__, "OpenCV", cv2.__version__, "libavformat", av.library_versions["libavformat"])
source = Path(sys.argv[1]) / "film.mp4"
encode(source)
for order, expected in (
    ([b"mvhd", b"trak", b"udta"], [FILM] * COUNT),
    ([b"mvhd", b"udta", b"trak"], [COVER]),
):
    path = source.with_name("cover.mp4")
    path.write_bytes(with_tags(source.read_bytes(), order))
    found = {read.__name__: read(path) for read in (by_pyav, by_opencv, best_of_pyav)}
    print(b" ".join(order).decode(), {name: f"{len(sizes)} of {sizes[0]}" for name, sizes in found.items()})
    assert found["by_pyav"] == found["by_opencv"] == expected and found["best_of_pyav"] == [FILM] * COUNT
PYTHON

"$work/venv/bin/python" "$work/cover.py" "$work"
