#!/usr/bin/env bash
# PyAV 18.1.0 (FFmpeg 8): skip_frame does nothing for VP9 and FFV1, and for AV1 holds as it was at the first packet, for ever.
#
# Expected: stream.codec_context.skip_frame = "NONKEY" makes decode() give the key frames alone (PyAV's own recipe for
#   saving key frames), and a value that is set between two packets holds from the next packet on.
# Seen:     both are so for H.264, HEVC, VP8 and MPEG-4. Of VP9 and FFV1 every frame comes out, nothing is skipped and no
#   error says so. AV1 (libdav1d) takes the value at the first packet and no later one: with NONKEY first and DEFAULT
#   from the third key frame on it leaves out all that is no key frame to the end; the other way round it skips none.
# For:      whoever samples films by their key frames: check frame.key_frame as well, or choose packets by
#   packet.is_keyframe, and open the AV1 decoder anew to change skip_frame.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-deps av==18.1.0 numpy==2.4.6

cat > "$work/skip.py" <<'PYTHON'
import sys

import av
import numpy as np

COUNT, KEYS, CHANGE = 30, [0, 10, 20], 20


def encode(path, codec, options):
    with av.open(path, "w") as film:
        stream = film.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for number in range(COUNT):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64), 5 * number + 20, np.uint8), format="gray")
            frame = frame.reformat(format="yuv420p")
            frame.pts = number
            film.mux(stream.encode(frame))
        film.mux(stream.encode(None))


def decode(path, before, after):
    """The numbers of the frames that come out, where skip_frame changes at the last key frame's packet."""
    with av.open(path) as film:
        decoder = film.streams.video[0].codec_context
        decoder.thread_count = 1
        numbers = []
        for place, packet in enumerate(film.demux(video=0)):
            decoder.skip_frame = before if place < CHANGE else after
            numbers += [round(frame.time * 25) for frame in packet.decode()]
    return numbers


def key_numbers(path):
    with av.open(path) as film:
        return [round(float(packet.pts * packet.time_base) * 25) for packet in film.demux(video=0) if packet.is_keyframe]


print("PyAV", av.__version__, "libavcodec", av.library_versions["libavcodec"])
every = list(range(COUNT))
keys_then_every = [0, 10, *range(CHANGE, COUNT)]
every_then_keys = [*range(CHANGE), CHANGE]
group = {"g": "10"}
no_scenes = {"g": "10", "bf": "0", "sc_threshold": "0"}  # no key frames but the tenth ones
x265 = {"x265-params": "keyint=10:min-keyint=10:scenecut=0:open-gop=0:bframes=0:log-level=none"}
heeds, ignores, stays = [KEYS, keys_then_every, every_then_keys], [every] * 3, [KEYS, KEYS, every]
for codec, options, expected in (
    ("libx264", no_scenes, heeds),
    ("libx265", x265, heeds),
    ("mpeg4", {"g": "10", "sc_threshold": "1000000000"}, heeds),
    ("libvpx", group, heeds),
    ("libvpx-vp9", group, ignores),
    ("ffv1", group, ignores),
    ("libsvtav1", {"g": "10", "preset": "8"}, stays),
):
    path = f"{sys.argv[1]}/{codec}.mkv"
    encode(path, codec, options)
    found = [decode(path, *values) for values in (("NONKEY", "NONKEY"), ("NONKEY", "DEFAULT"), ("DEFAULT", "NONKEY"))]
    print(f"{codec}: frames with NONKEY {len(found[0])}, NONKEY then DEFAULT {len(found[1])}, the reverse {len(found[2])}")
    assert key_numbers(path) == KEYS, key_numbers(path)
    assert found == expected, found
PYTHON

SVT_LOG=1 "$work/venv/bin/python" "$work/skip.py" "$work"  # 1: the encoder tells errors alone
