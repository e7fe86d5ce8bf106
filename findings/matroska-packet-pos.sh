#!/usr/bin/env bash
# PyAV 18.1.0 (FFmpeg 8): packet.pos of Matroska and WebM is where the block's header is, not where the packet's bytes are.
#
# Expected: the packet.size bytes of the file at packet.pos are the packet, as in MP4 and AVI.
# Seen:     in Matroska and WebM they begin with the block's header (track number, time, flags: four bytes here), and lack as
#   many bytes at the end. FFmpeg documents pos as "byte position in stream, -1 if unknown" and no more. Whoever reads,
#   hashes or changes the packets of a film at their pos is right in MP4, and has every packet wrong in Matroska.
# For:      whoever makes an index of byte ranges or damages films in tests: compare with bytes(packet) first.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-deps av==18.1.0 numpy==2.4.6

cat > "$work/positions.py" <<'PYTHON'
import sys
from pathlib import Path

import av
import numpy as np

COUNT = 10


def encode(path, codec):
    noise = np.random.default_rng(0)
    with av.open(str(path), "w") as film:
        stream = film.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for number in range(COUNT):
            frame = av.VideoFrame.from_ndarray(noise.integers(0, 255, (64, 64), np.uint8), format="gray")
            frame = frame.reformat(format="yuv420p")
            frame.pts = number
            film.mux(stream.encode(frame))
        film.mux(stream.encode(None))


def distances(path):
    """How many bytes after its pos each packet's own bytes are in the file."""
    content = path.read_bytes()
    with av.open(str(path)) as film:
        return [content.find(bytes(packet), packet.pos) - packet.pos for packet in film.demux(video=0) if packet.size]


print("PyAV", av.__version__, "libavformat", av.library_versions["libavformat"])
for name, codec, header in (
    ("a.mp4", "libx264", 0),
    ("a.avi", "libx264", 0),
    ("a.mkv", "libx264", 4),
    ("a.webm", "libvpx", 4),
):
    path = Path(sys.argv[1]) / name
    encode(path, codec)
    print(name, "packets begin after their pos by", found := distances(path))
    assert found == [header] * COUNT
PYTHON

"$work/venv/bin/python" "$work/positions.py" "$work"
