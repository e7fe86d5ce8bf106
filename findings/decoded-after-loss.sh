#!/usr/bin/env bash
# PyAV 18.1.0 (FFmpeg 8): after packets that cannot be decoded, H.264 and VP9 give wrong pictures as if they were right ones.
#
# Expected: once packets failed, the frames that are made of the lost ones are left out or have is_corrupt set, until the next
#   key frame. HEVC leaves them out.
# Seen:     six packets of zeros fail (InvalidDataError each). The frames after them are decoded upon older pictures
#   than those they were made from, and come out with is_corrupt False, in order, each at its own time, none missing; no
#   error after the gap. They show numbers that are not theirs, until the next key frame. So "catch the error and go on", which
#   gets all of a film that can be read, also gets some seconds of pictures that the film never had.
# For:      whoever reads damaged films: after an error, leave out frames until one whose key_frame is set.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-deps av==18.1.0 numpy==2.4.6

cat > "$work/loss.py" <<'PYTHON'
import sys

import av
import numpy as np

COUNT, BITS, KEY_EVERY, LOST = 30, 5, 20, range(6, 12)
HEIGHT, WIDTH = 128, 64 * BITS


def encode(path, codec, options):
    """Write a film whose frames show their number on grey: bright blocks are ones, the lowest bit at the left."""
    with av.open(path, "w") as film:
        stream = film.add_stream(codec, rate=25, options={"g": str(KEY_EVERY), **options})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(COUNT):
            picture = np.full((HEIGHT, WIDTH), 90, np.uint8)
            picture[32:96] = np.uint8([235 if number >> bit & 1 else 20 for bit in range(BITS)]).repeat(64)
            frame = av.VideoFrame.from_ndarray(picture, format="gray")
            frame = frame.reformat(format="yuv420p")
            frame.pts = number
            film.mux(stream.encode(frame))
        film.mux(stream.encode(None))


def shown(frame):
    picture = frame.to_ndarray(format="gray")
    return sum(int(picture[48:80, 64 * bit + 16 : 64 * bit + 48].mean() > 128) << bit for bit in range(BITS))


def read(path):
    """Of each frame: its number by its time, the number that it shows, is_corrupt. And the numbers of failed packets."""
    frames, failed = [], []
    with av.open(path) as film:
        for number, packet in enumerate(film.demux(video=0)):
            if number in LOST:
                empty = av.Packet(bytes(packet.size))
                empty.stream, empty.time_base = packet.stream, packet.time_base
                empty.pts, empty.dts = packet.pts, packet.dts
                packet = empty
            try:
                frames += [(round(frame.time * 25), shown(frame), frame.is_corrupt) for frame in packet.decode()]
            except av.InvalidDataError:
                failed.append(number)
    return frames, failed


print("PyAV", av.__version__, "libavcodec", av.library_versions["libavcodec"])
last_before, after = LOST.start - 1, range(LOST.stop, COUNT)
for codec, options in (
    ("libx264", {"bf": "0", "sc_threshold": "0"}),
    ("libvpx-vp9", {"lag-in-frames": "0"}),
    ("libx265", {"x265-params": f"bframes=0:keyint={KEY_EVERY}:log-level=none"}),
):
    encode(f"{sys.argv[1]}/a.mkv", codec, options)
    frames, failed = read(f"{sys.argv[1]}/a.mkv")
    later = [frame for frame in frames if frame[0] > last_before]
    wrong = [(number, what) for number, what, _ in later if number != what]
    print(f"{codec}: failed {failed}, frames after {[number for number, *_ in later]}, is_corrupt", end=" ")
    print(sum(is_corrupt for *_, is_corrupt in later), "of them; (number, number shown) of the wrong ones:", wrong)
    assert not any(is_corrupt for *_, is_corrupt in frames)
    assert frames[: LOST.start] == [(number, number, False) for number in range(LOST.start)]
    if codec == "libx265":
        assert not wrong and later[0][0] == KEY_EVERY
    else:
        assert failed == list(LOST) and [number for number, *_ in later] == list(after)
        assert len(wrong) >= 6 and all(number < KEY_EVERY for number, _ in wrong)
PYTHON

"$work/venv/bin/python" "$work/loss.py" "$work"
