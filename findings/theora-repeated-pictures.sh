#!/usr/bin/env bash
# PyAV 18.1.0 (FFmpeg 8): decoding a Theora film ends with ArgumentError at the first picture that is the same as before.
#
# Expected: a film that shows each picture for three frames is decoded to its end, as the ffmpeg program does.
# Seen:     in Theora a packet of no bytes says "the picture before, again", and FFmpeg's own libtheora encoder writes them.
#   The demuxer hands them out with a pts and size 0; the decoder takes no empty packet that is not the end:
#   container.decode() raises ArgumentError (22, Invalid argument) at the second frame of a good film. The decoder works
#   on: packet by packet, all other pictures come out.
# For:      whoever decodes Ogg by PyAV: demux(), leave out packets of size 0 that have a pts, and show the picture before.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
# imageio-ffmpeg is an ffmpeg program in a wheel, because PyAV's FFmpeg has no encoder of Theora.
"$work/venv/bin/pip" install --quiet --no-deps av==18.1.0 numpy==2.4.6 imageio-ffmpeg==0.8.1

cat > "$work/repeated.py" <<'PYTHON'
import subprocess
import sys

import av
import imageio_ffmpeg

path = f"{sys.argv[1]}/a.ogv"
ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error"]
size = 64
greys = [grey for grey in (50, 100, 150, 200) for _ in range(3)]
raw = "-f rawvideo -pix_fmt gray -s 64x64 -r 25 -i -".split()
pictures = b"".join(bytes([grey]) * size**2 for grey in greys)
subprocess.run([*ffmpeg, *raw, "-c:v", "libtheora", "-q:v", "8", path], input=pictures, check=True)


def grey_of(frame):
    return round(float(frame.to_ndarray(format="gray").mean()) / 10) * 10


print("PyAV", av.__version__, "libavcodec", av.library_versions["libavcodec"], "ffmpeg", imageio_ffmpeg.get_ffmpeg_version())
with av.open(path) as film:
    packets = [(packet.pts, packet.size) for packet in film.demux(video=0)][:-1]
print("packets (pts, size)", packets)
assert len(packets) == 12 and [number for number, size in packets if size] == [0, 3, 6, 9]

decoded = subprocess.run(
    [*ffmpeg, "-i", path, *"-f rawvideo -pix_fmt gray -".split()], stdout=subprocess.PIPE, check=True
).stdout
print("ffmpeg:", by_ffmpeg := [round(decoded[at] / 10) * 10 for at in range(0, len(decoded), size**2)])
assert sorted(set(by_ffmpeg)) == [50, 100, 150, 200]

by_pyav = []
with av.open(path) as film:
    try:
        for frame in film.decode(video=0):
            by_pyav.append(grey_of(frame))
    except av.ArgumentError as error:
        by_pyav.append(repr(error))
print("container.decode():", by_pyav)
assert by_pyav == [50, "ArgumentError(22, 'Invalid argument', 'avcodec_send_packet()')"]

with av.open(path) as film:
    packets = (packet for packet in film.demux(video=0) if packet.size or packet.pts is None)
    print("without empty packets:", others := [(f.pts, grey_of(f)) for packet in packets for f in packet.decode()])
assert others == [(0, 50), (3, 100), (6, 150), (9, 200)]
PYTHON

"$work/venv/bin/python" "$work/repeated.py" "$work"
