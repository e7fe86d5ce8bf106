#!/usr/bin/env bash
# PyAV 18.1.0 (FFmpeg 8): a filter graph with estdif gives no frame for one pushed frame, though it looks at that one alone.
#
# Expected: estdif ("edge slope tracing") makes the lines of one field of the other field of the same frame, so one frame in
#   is one frame out, as with hflip.
# Seen:     push(frame), pull() raises BlockingIOError (EAGAIN). The frame comes out once the next one, or the end (None), is
#   pushed: estdif holds one back to reckon times, as yadif and bwdif do, which do look at it. After the end the graph is of no
#   more use: push() raises EOFError. So code that filters one frame after another either gets the picture before, or the
#   last picture never, or needs a new graph for each picture.
# For:      whoever deinterlaces stills or single frames: push the frame and then the end, one graph for each.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-deps av==18.1.0 numpy==2.4.6

cat > "$work/filter.py" <<'PYTHON'
from fractions import Fraction

import av
import av.filter
import numpy as np


def graph_of(name, arguments):
    graph = av.filter.Graph()
    source = graph.add_buffer(width=64, height=64, format=av.VideoFormat("yuv420p"), time_base=Fraction(1, 25))
    graph.link_nodes(source, graph.add(name, arguments), graph.add("buffersink")).configure()
    return graph


def frame_of(number):
    """A frame whose grey is 50, 100, 150, … by its number."""
    frame = av.VideoFrame.from_ndarray(np.full((64, 64), 50 * number + 50, np.uint8), format="gray")
    frame = frame.reformat(format="yuv420p")
    frame.pts, frame.time_base = number, Fraction(1, 25)
    return frame


def outcome(graph, frame):
    """The grey of the frame that comes out once this one is pushed, or the name of the error."""
    try:
        graph.push(frame)
        return round(graph.pull().to_ndarray(format="gray").mean() / 10) * 10
    except (BlockingIOError, EOFError) as error:
        return type(error).__name__


print("PyAV", av.__version__, "libavfilter", av.library_versions["libavfilter"])
for name, arguments, expected in (
    ("hflip", "", [50, 100, 150, "EOFError", "EOFError"]),
    ("estdif", "mode=frame:deint=all", ["BlockingIOError", 50, 100, 150, "EOFError"]),
):
    graph = graph_of(name, arguments)
    pushed = [frame_of(0), frame_of(1), frame_of(2), None, frame_of(3)]
    print(f"{name}: push 50, 100, 150, the end, 200: pull", found := [outcome(graph, frame) for frame in pushed])
    assert found == expected
PYTHON

"$work/venv/bin/python" "$work/filter.py"
