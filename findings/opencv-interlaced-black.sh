#!/usr/bin/env bash
# OpenCV 5.0.0.93: VideoCapture reads interlaced films as black pictures, and says that all went well.
#
# Expected: read() of a film of one grey after another gives these greys, or False where OpenCV cannot convert the frames.
# Seen:     a progressive film comes out right. The same film with the encoder's interlaced tools (flags=+ilme+ildct, as in
#   television, DVDs and camcorders) gives (True, picture) as often as it has frames, and each picture is zeros. FFmpeg's
#   swscale refuses to make a progressive BGR picture of an interlaced frame ("Cannot convert interlaced to progressive
#   frames" on stderr), and OpenCV goes on all the same.
#   MPEG-2 and H.264 alike; CAP_PROP_CONVERT_RGB=0 does not help.
#   PyAV 18.1.0 reads the same files right.
# For:      whoever captions, classifies or tests films by cv2.VideoCapture: read interlaced ones by PyAV or FFmpeg.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-deps opencv-python-headless==5.0.0.93 av==18.1.0 numpy==2.4.6

cat > "$work/read.py" <<'PYTHON'
import sys

import av
import cv2
import numpy as np

GREYS = [60, 100, 140, 180]


def encode(path, codec, options):
    with av.open(path, "w") as film:
        stream = film.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 720, 576, "yuv420p"
        for number, grey in enumerate(GREYS):
            frame = av.VideoFrame.from_ndarray(np.full((576, 720, 3), grey, np.uint8), format="rgb24")
            frame = frame.reformat(format="yuv420p")
            frame.pts = number
            film.mux(stream.encode(frame))
        film.mux(stream.encode(None))


def by_opencv(path):
    capture = cv2.VideoCapture(path)
    means = []
    while True:
        ok, picture = capture.read()
        if not ok:
            return means
        means.append(round(float(picture.mean())))


def by_pyav(path):
    with av.open(path) as film:
        return [round(float(frame.to_ndarray(format="rgb24").mean())) for frame in film.decode(video=0)]


def is_right(means):
    return len(means) == len(GREYS) and all(abs(mean - grey) < 8 for mean, grey in zip(means, GREYS))


# Each step has a process of its own: what an encoder leaves in memory would show in the pictures that nothing is written to.
step, path, codec, flags = sys.argv[1:]
if step == "encode":
    encode(path, codec, {"flags": "+ilme+ildct"} if flags == "interlaced" else {})
elif step == "pyav":
    print(f"PyAV {av.__version__} {codec} {flags}: {(means := by_pyav(path))}", flush=True)
    assert is_right(means)
else:
    print(f"OpenCV {cv2.__version__} {codec} {flags}: {(means := by_opencv(path))}", flush=True)
    assert means == [0] * len(GREYS) if flags == "interlaced" else is_right(means)
PYTHON

for film in "a.mpg mpeg2video" "a.mp4 libx264"; do
    for flags in progressive interlaced; do
        for step in encode pyav opencv; do
            "$work/venv/bin/python" "$work/read.py" $step "$work/"$film $flags
        done
    done
done
