"""Good files, damaged at random: whatever comes of it, nothing runs, and errors are for people."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.checkpoint_import.unpickling import read_file, state_dict_of
from pipeline.checkpoint_import.word_maps import words_of
from pipeline.errors import BadInput
from tests.pipeline.checkpoint_import.watching import Peak, nothing_runs

Edit = tuple[float, int, bytes]
"""A place as a share of the file, how many bytes go there, and what comes instead."""

EDITS = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.sampled_from([0, 1, 1, 2, 8, 100]),
        st.one_of(
            st.binary(max_size=9),
            # Instructions that call, make, copy, refer and repeat.
            st.sampled_from(
                [b"R", b"b", b"\x81", b"Q", b"0", b"2", b"(", b"u", b"s", b"cos\nsystem\n", b"h\x00", b"e"]
            ),
            st.sampled_from([b"\xff\xff\xff\x7f", b"\xff" * 8, b"\x8a\xff" + b"\x7f" * 255]),
        ),
    ),
    min_size=1,
    max_size=4,
)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("good")
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    content = {"epoch": 3, "encoder": network, "state": network.state_dict()}
    torch.save(content, folder / "zip")
    torch.save(content, folder / "legacy", _use_new_zipfile_serialization=False)
    (folder / "pickle").write_bytes(pickle.dumps({"word2idx": {"a": 0, "b": 1}, "list": [1, (2.5, None)]}))
    (folder / "json").write_text('{"a": 0, "b": 1}')
    files = [folder / name for name in ("zip", "legacy", "pickle", "json")]
    for path in files:
        read_file(path)
    return [path.read_bytes() for path in files]


def damaged(data: bytes, edits: list[Edit]) -> bytes:
    for share, gone, new in edits:
        at = int(share * len(data))
        data = data[:at] + new + data[at + gone :]
    return data


def parts(content: object) -> list[object]:
    return list(content.values()) if isinstance(content, dict) else [content]


@settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    database=None,
)
@given(which=st.integers(0, 3), edits=EDITS)
def test_damage_never_runs_anything_nor_ends_in_anything_but_a_line(
    good: list[bytes], tmp_path: Path, which: int, edits: list[Edit]
) -> None:
    path = tmp_path / "file"
    path.write_bytes(damaged(good[which], edits))
    with Peak() as peak, nothing_runs():
        try:
            content = read_file(path)
            words_of(content, "file")
            for part in parts(content):
                state_dict_of(part)
        except BadInput as error:
            assert "\n" not in str(error)
    assert peak.grown < 100 * 2**20
