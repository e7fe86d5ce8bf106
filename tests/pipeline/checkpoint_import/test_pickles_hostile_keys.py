"""Keys made to be hashed for ever, or so deep that hashing them ends the process; numbers without end."""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch

from pipeline.checkpoint_import.importer import import_checkpoint
from pipeline.checkpoint_import.unpickling import read_file, read_vocabulary
from pipeline.errors import BadInput
from tests.pipeline.checkpoint_import.crafting import pickled

pytestmark = pytest.mark.slow

PRIME = 2**61 - 1
"""Python's hash of a whole number is what its division by this leaves: multiples are all alike."""
MANY = 60_000
DEEP = b"N" + b"\x85" * 300_000
"""A tuple in a tuple in a tuple …"""


def long(number: int) -> bytes:
    """A number as a pickle has it."""
    data = number.to_bytes(number.bit_length() // 8 + 1, "little")
    return (
        b"\x8a" + bytes([len(data)]) if len(data) < 256 else b"\x8b" + struct.pack("<i", len(data))
    ) + data


def alike(numbers: Iterable[int], after: bytes = b"") -> bytes:
    return b"".join(long(number) + after for number in numbers)


MULTIPLES = range(PRIME, PRIME * MANY, PRIME)
LEGACY = b"".join(map(pickled, (0x1950A86A20F9469CFC6C, 1001, {}, {})))
"""What comes before the keys of the storages in a file of torch before 1.6."""

HOSTILE = {
    "numbers alike": b"}(" + alike(MULTIPLES, b"N") + b"u",
    "numbers alike in the lowest bits": b"}(" + alike((i << 40 for i in range(MANY)), b"N") + b"u",
    "numbers alike in a list of pairs": b"ccollections\nOrderedDict\n]("
    + alike(MULTIPLES, b"N\x86")
    + b"e\x85R",
    "numbers alike in a set": b"c__builtin__\nset\n](" + alike(MULTIPLES) + b"e\x85R",
    "numbers alike to remember by": b"N" + b"".join(b"p%d\n" % number for number in MULTIPLES),
    "an endless number": b"}" + long(1 << 32_000_000) + b"Ns",
    "a deep tuple": b"}" + DEEP + b"Ns",
    "a deep tuple in a pair": b"ccollections\nOrderedDict\n]" + DEEP + b"N\x86a\x85R",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_dictionary_of_hostile_keys_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "keys.pkl"
    path.write_bytes(b"\x80\x02" + HOSTILE[kind] + b".")
    with pytest.raises(BadInput, match=r"keys\.pkl"):
        read_file(path)


@pytest.mark.parametrize(
    "keys", [b"]" + DEEP + b"a", b"]]a", b"](" + alike(MULTIPLES) + b"e", b"]X\x01\x00\x00\x000a", b"}"]
)
def test_a_list_of_storages_that_lists_something_else_is_refused(tmp_path: Path, keys: bytes) -> None:
    path = tmp_path / "old.pth"
    path.write_bytes(LEGACY + b"\x80\x02" + keys + b".")
    with pytest.raises(BadInput, match="its tensors are not those that it lists"):
        read_file(path)


def test_a_word_map_of_numbers_that_are_alike_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "WORDMAP.json"
    path.write_text(json.dumps({f"w{number}": number for number in MULTIPLES}))
    with pytest.raises(BadInput, match="is none of 0 to"):
        read_vocabulary(path)


def test_an_optimiser_that_knows_its_parameters_by_address_is_read(tmp_path: Path) -> None:
    """As torch's did until 1.5: some hundred numbers, far larger than indices."""
    path = tmp_path / "optimiser.pkl"
    state = {0x7F0000000000 + 64 * i: {"step": i} for i in range(1000)}
    path.write_bytes(pickle.dumps(state, protocol=2))
    assert read_file(path) == state


def test_what_a_file_holds_is_told_in_few_words(tmp_path: Path) -> None:
    """However long its keys are, and of whatever kind."""
    path = tmp_path / "keys.pkl"
    path.write_bytes(pickle.dumps({"\x01" * 15_000_000: torch.Size, b"\x02" * 15_000_000: [], 2**62: []}))
    with pytest.raises(BadInput) as caught:
        import_checkpoint([str(path)], str(tmp_path / "mine"))
    assert "a bytes, a int, which is no checkpoint" in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_directory_that_points_beyond_any_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "far.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled({}))
        archive.filelist[0].header_offset = 2**64 - 1
    with pytest.raises(BadInput, match="its directory does not fit its content"):
        read_file(path)
