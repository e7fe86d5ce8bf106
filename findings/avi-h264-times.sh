#!/usr/bin/env bash
# PyAV 18.1.0 (FFmpeg 8): the frames of an AVI film of H.264 with B-frames have each other's times.
#
# Expected: frames come out in the order of presentation, so frame.pts rises, as it does for the same film in MP4.
# Seen:     AVI stores no times; the demuxer counts the packets, which are in the order of decoding. For MPEG-4 it then
#   moves B-frames to their place. For H.264 it does not: the pictures are in the right order, their times are not (the
#   second frame has the third's, the third the second's, …), and nothing says so. Whoever picks the frame at a time, sorts
#   by pts, or leaves out frames whose pts falls, gets other pictures.
# For:      whoever reads AVI by PyAV: where pts falls, count the frames (number / average_rate) or sort the times alone.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-deps av==18.1.0 numpy==2.4.6

cat > "$work/times.py" <<'PYTHON'
import sys

import av
import numpy as np

COUNT, BITS = 20, 5


def encode(path, codec):
    """Write films whose frames show their number: bright blocks are ones, the lowest bit at the left."""
    with av.open(path, "w") as film:
        stream = film.add_stream(codec, rate=25, options={"bf": "3"})
        stream.width, stream.height, stream.pix_fmt = 64 * BITS, 64, "yuv420p"
        for number in range(COUNT):
            bits = [235 if number >> bit & 1 else 20 for bit in range(BITS)]
            frame = av.VideoFrame.from_ndarray(np.tile(np.uint8(bits).repeat(64), (64, 1)), format="gray")
            frame = frame.reformat(format="yuv420p")
            frame.pts = number
            film.mux(stream.encode(frame))
        film.mux(stream.encode(None))


def shown(frame):
    picture = frame.to_ndarray(format="gray")
    return sum(int(picture[16:48, 64 * bit + 16 : 64 * bit + 48].mean() > 128) << bit for bit in range(BITS))


def read(path):
    """The numbers that the frames show, and their times counted in frames of a 25th of a second from the first."""
    with av.open(path) as film:
        frames = [(shown(frame), frame.time) for frame in film.decode(video=0)]
    return [number for number, _ in frames], [round((time - frames[0][1]) * 25) for _, time in frames]


print("PyAV", av.__version__, "libavformat", av.library_versions["libavformat"])
right = list(range(COUNT))
for name, codec, has_right_times in (
    ("h264.mp4", "libx264", True),
    ("mpeg4.avi", "mpeg4", True),
    ("h264.avi", "libx264", False),
):
    path = f"{sys.argv[1]}/{name}"
    encode(path, codec)
    numbers, times = read(path)
    print(name, "numbers", numbers)
    print(name, "times  ", times)
    assert numbers == right
    assert (times == right) == has_right_times and (times == sorted(times)) == has_right_times
PYTHON

"$work/venv/bin/python" "$work/times.py" "$work"
