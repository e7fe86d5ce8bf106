"""H.264 that is sent field by field: both fields are one frame, however they are packed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.media.frame import Passage
from pipeline.media.h264 import H264Packets
from pipeline.media.video_index import index_of
from pipeline.records.frame_selection import Selection
from tests.h264_fields import field, parameters, write_fields
from tests.videos import is_numbered, number_of, numbered, read_video

ALL = Selection(every=None)


@pytest.fixture(scope="module")
def film_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, bool], Path]:
    folder = tmp_path_factory.mktemp("fields")

    @cache
    def make(kind: str, together: bool) -> Path:
        pictures = [numbered(number, 96, 64) for number in range(50)]
        return write_fields(folder / f"{together}.{kind}", pictures, together=together)

    return make


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("kind", ["ts", "mkv", "mp4"])
def test_two_fields_are_one_frame(film_of: Callable[[str, bool], Path], kind: str, together: bool) -> None:
    path = film_of(kind, together)
    frames = list(read_video(path, ALL))
    assert [number_of(frame.image) for frame in frames] == list(range(50))
    assert [frame.frame for frame in frames] == list(range(50))
    assert [frame.timestamp_s for frame in frames] == pytest.approx([n / 25 for n in range(50)], abs=0.001)
    assert index_of(path).count == 50
    for selection in (Selection(every=0.2), Selection(every=0.5)):
        for frame in read_video(path, selection):
            assert np.array_equal(frame.image, frames[int(frame.frame)].image), "half of it is missing"
            assert is_numbered(frame.image)
    pieces = [frame.frame for index in range(4) for frame in read_video(path, ALL, passage=Passage(index, 4))]
    assert pieces == list(range(50))


def test_fields_are_told_from_frames_and_from_each_other() -> None:
    picture = numbered(5, 96, 64)
    head = parameters(96, 64)
    packets = H264Packets(b"")
    assert not packets.is_second_field(head + field(picture, 0, 0, is_key=True))
    assert packets.is_second_field(field(picture, 0, 1, is_key=False))
    assert not packets.is_second_field(field(picture, 1, 0, is_key=False))
    assert not packets.is_second_field(field(picture, 2, 0, is_key=False)), "the other field is lost"
    assert packets.is_second_field(field(picture, 2, 1, is_key=False))
    assert packets.is_key(head + field(picture, 0, 0, is_key=True))
    assert not packets.is_key(field(picture, 1, 0, is_key=False))


@given(extradata=st.binary(max_size=60), packets=st.lists(st.binary(max_size=80), max_size=6))
def test_packets_of_any_bytes_are_only_not_understood(extradata: bytes, packets: list[bytes]) -> None:
    for start in (b"", b"\1dd\0\3\1\0\10g", b"\0\0\1g"):
        read = H264Packets(start + extradata)
        for packet in packets:
            for data in (packet, b"\0\0\1" + packet, b"\0\0\1\x41" + packet):
                assert read.is_key(data) in (True, False)
                assert read.is_second_field(data) in (True, False)
