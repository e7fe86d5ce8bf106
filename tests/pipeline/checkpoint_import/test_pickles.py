"""Files made to do harm, broken files, files of another kind: nothing runs, and one line says why."""

from __future__ import annotations

import builtins
import os
import pickle
import struct
import subprocess
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.checkpoint_import import pickles
from pipeline.checkpoint_import.unpickling import Module, UnsafeFile, read_file, state_dict_of
from pipeline.errors import BadInput
from tests.pipeline.checkpoint_import.crafting import Call, Storage, pickled, tensor, torch_zip
from tests.pipeline.checkpoint_import.watching import Peak, nothing_runs

pytestmark = pytest.mark.slow

MB = 2**20


@pytest.fixture(scope="module", autouse=True)
def imported_beforehand(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What reading itself imports is imported by now."""
    folder = tmp_path_factory.mktemp("good")
    data = pickled({"weight": tensor(Storage(4), 0, (4,), (1,))})
    read_file(torch_zip(folder / "good.pth", data, storages={"0": bytes(16)}))
    (folder / "words.json").write_text("{}")
    read_file(folder / "words.json")


def refused(path: Path, why: str, *, kind: type[BadInput] = UnsafeFile) -> None:
    """Reading it runs nothing, takes little memory, and ends with one line that names it."""
    with Peak() as peak, nothing_runs(), pytest.raises(BadInput) as caught:
        read_file(path)
    message = str(caught.value)
    assert type(caught.value) is kind, message
    assert str(path) in message
    assert why in message
    assert "\n" not in message
    assert peak.grown < 600 * MB


def as_pickle(path: Path, content: Any) -> Path:
    path.write_bytes(pickled(content))
    return path


def as_zip(path: Path, content: Any) -> Path:
    return torch_zip(path, pickled(content))


def as_legacy(path: Path, content: Any) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return path


def touch(path: Path) -> str:
    return f"touch '{path}'"


ATTACKS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "os.system": (lambda canary: Call(os.system, (touch(canary),)), "posix.system"),
    "eval": (lambda canary: Call(builtins.eval, (f"open({str(canary)!r}, 'w')",)), "builtins.eval"),
    "exec": (lambda canary: Call(builtins.exec, (f"open({str(canary)!r}, 'w')",)), "builtins.exec"),
    "Popen": (lambda canary: Call(subprocess.Popen, (touch(canary), -1, None)), "commands.Popen"),
    "getattr": (
        lambda _: Call(getattr, (Call(__import__, ("os",)), "system")),
        "builtins.getattr",
    ),
    "torch.load": (lambda canary: Call(torch.load, (str(canary),)), "torch.serialization.load"),
    "bytes that are a torch file": (
        lambda canary: Call(torch.storage._load_from_bytes, (pickled(Call(os.system, (touch(canary),))),)),
        "torch.storage._load_from_bytes",
    ),
    "torch.hub": (lambda canary: Call(torch.hub.load, (str(canary), "model")), "torch.hub.load"),
    "another rebuilding": (
        lambda canary: Call(torch._utils._rebuild_wrapper_subclass, (eval, torch.float32, (1,))),
        "torch._utils._rebuild_wrapper_subclass",
    ),
    "a layer called": (
        lambda canary: Call(torch.nn.Linear, (10**9, 10**9)),
        "a call of torch.nn.modules.linear.Linear",
    ),
}


@pytest.mark.parametrize("form", [as_pickle, as_zip, as_legacy], ids=["pickle", "zip", "legacy"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_call_is_refused_by_name_and_not_made(
    tmp_path: Path, attack: str, form: Callable[..., Path]
) -> None:
    canary = tmp_path / "canary"
    craft, name = ATTACKS[attack]
    path = form(tmp_path / "checkpoint.pth.tar", {"epoch": 1, "encoder": craft(canary)})
    refused(path, name)
    assert not canary.exists()


def test_these_attacks_would_succeed_elsewhere(tmp_path: Path) -> None:
    """What is refused here does run where Python unpickles it."""
    canary = tmp_path / "canary"
    pickle.loads(pickled(Call(os.system, (touch(canary),))))
    assert canary.exists()


def test_a_name_hides_in_no_other_place(tmp_path: Path) -> None:
    """Protocol 4 takes the parts of a name from the stack: dots lead nowhere."""
    path = tmp_path / "dotted.pkl"
    for module, name in (
        ("torch.nn.modules.module", "torch.hub.load"),
        ("models", "os.system"),
        ("models", "os"),
    ):
        texts = b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name))
        path.write_bytes(b"\x80\x04" + texts + b"\x93(tR.")
        refused(path, f"{module}.{name}")


@pytest.mark.parametrize(
    ("code", "why"),
    [
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"Pos.system\n.", "PERSID"),
        (b"(ios\nsystem\n.", "INST"),
        (b"\x80\x02K\x01Q.", "a reference to something outside it"),
    ],
    ids=["extension registry", "persistent name", "old instance", "persistent id"],
)
def test_instructions_that_no_checkpoint_has_are_refused(tmp_path: Path, code: bytes, why: str) -> None:
    path = tmp_path / "odd.pkl"
    path.write_bytes(code if code[:1] == b"\x80" or code[:1] == b"(" else b"\x80\x02" + code)
    refused(path, why)


def test_an_object_is_its_attributes_and_nothing_else(tmp_path: Path) -> None:
    """Whatever they are called: no `__setstate__` is asked, no `__class__` changed."""
    names = {
        "__class__": "os.system",
        "__setstate__": "x",
        "__reduce__": "y",
        "__dict__": {},
        "path": "os.system",
    }
    body = pickle.dumps(names, protocol=2)[2:-1]
    path = tmp_path / "attributes.pkl"
    path.write_bytes(b"\x80\x02cmodels\nEncoder\n)\x81" + body + b"b.")
    with nothing_runs():
        read = read_file(path)
    assert type(read) is Module
    assert read.path == "models.Encoder"
    assert read.state == names


FOUR = struct.pack("<4f", 1, 2, 3, 4)

LIES: dict[str, Any] = {
    "larger than its storage": (4, 0, (5,), (1,)),
    "far larger": (4, 0, (10**6, 10**6), (10**6, 1)),
    "beyond any number": (4, 0, (10**30,), (1,)),
    "a product beyond any number": (4, 0, (2**62, 2**62, 2**62), (1, 1, 1)),
    "numbers that take hours to multiply": (4, 0, (1 << 40_000_000,) * 2, (1, 1)),
    "an offset beyond it": (4, 4, (1,), (1,)),
    "a huge offset": (4, 2**62, (1,), (1,)),
    "a negative offset": (4, -1, (1,), (1,)),
    "a stride beyond it": (4, 0, (2,), (4,)),
    "a huge stride": (4, 0, (2,), (2**62,)),
    "a negative stride": (4, 3, (4,), (-1,)),
    "one element spread out": (4, 0, (10**9,), (0,)),
    "a negative side": (4, 0, (-4,), (1,)),
    "two negative sides": (4, 0, (-2, -2), (1, 1)),
    "a negative storage": (-4, 0, (4,), (1,)),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_tensor_that_lies_about_its_size_is_refused(tmp_path: Path, lie: str) -> None:
    count, *rest = LIES[lie]
    data = pickled({"weight": tensor(Storage(count), *rest)})
    refused(
        torch_zip(tmp_path / "lie.pth", data, storages={"0": FOUR}),
        "tensor",
    )


def test_the_same_tensor_without_a_lie_is_read(tmp_path: Path) -> None:
    """Without it the tests above could pass for another reason."""
    data = pickled(
        {"weight": tensor(Storage(4), 1, (3,), (1,)), "turned": tensor(Storage(4), 0, (2, 2), (1, 2))}
    )
    read = state_dict_of(read_file(torch_zip(tmp_path / "fine.pth", data, storages={"0": FOUR})))
    assert read["weight"].tolist() == [2, 3, 4]
    assert read["turned"].tolist() == [[1, 3], [2, 4]]


@pytest.mark.parametrize("count", [5, 10**12, 10**30], ids=["a little", "a terabyte", "beyond any number"])
def test_a_storage_that_lies_about_its_size_is_refused(tmp_path: Path, count: int) -> None:
    data = pickled({"weight": tensor(Storage(count), 0, (4,), (1,))})
    refused(torch_zip(tmp_path / "lie.pth", data, storages={"0": FOUR}), "tensors", kind=BadInput)


def test_storages_together_are_no_larger_than_their_file(tmp_path: Path) -> None:
    """Entries of a zip file may overlap; here a thousand names share one megabyte."""
    path = tmp_path / "overlapping.pth"
    data = pickled([Storage(MB // 4, key=str(i)) for i in range(1000)])
    torch_zip(path, data, storages={"0": bytes(MB)})
    with zipfile.ZipFile(path, "a") as archive:
        first = archive.getinfo("archive/data/0")
        for i in range(1, 1000):
            copy = zipfile.ZipInfo(f"archive/data/{i}")
            for name in ("header_offset", "file_size", "compress_size", "CRC", "compress_type"):
                setattr(copy, name, getattr(first, name))
            archive.filelist.append(copy)
        archive._didModify = True  # type: ignore[attr-defined]
    refused(path, "smaller than its tensors", kind=BadInput)


def test_a_zip_bomb_is_refused_unopened(tmp_path: Path) -> None:
    data = pickled({"weight": tensor(Storage(16 * MB), 0, (16 * MB,), (1,))})
    path = torch_zip(tmp_path / "bomb.pth", data, storages={"0": bytes(64 * MB)}, compressed=True)
    assert path.stat().st_size < 2 * MB
    refused(path, "compressed")


def test_a_directory_of_millions_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "directory.pth"
    size = 64 * MB
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 65535, 65535, size, 0, 0)
    path.write_bytes(b"PK" + bytes(size - 2) + end)
    refused(path, "a single value of")


NESTED: dict[str, bytes] = {
    "lists": b"]" * 200_000 + b"a" * 199_999,
    "tuples": b")" + b"\x85" * 200_000,
    "dictionaries": b"}" + b"X\x01\x00\x00\x00k}" * 100_000 + b"s" * 100_000,
    "objects": b"cmodels\nEncoder\nq\x00)\x81" + b"}X\x01\x00\x00\x00kh\x00)\x81" * 30_000 + b"sb" * 30_000,
}


@pytest.mark.parametrize("kind", NESTED)
def test_deep_nesting_does_no_harm(tmp_path: Path, kind: str) -> None:
    """It is read, or refused, and let go of: a recursion would overflow the stack and end the process."""
    path = tmp_path / "deep.pkl"
    path.write_bytes(b"\x80\x02" + NESTED[kind] + b".")
    with Peak() as peak, nothing_runs():
        try:
            read = read_file(path)
        except BadInput:
            return
        with suppress(BadInput):
            state_dict_of(read)
        del read
    assert peak.grown < 600 * MB


@pytest.mark.parametrize(
    ("start", "again"),
    [
        (b"ccollections\nOrderedDict\nq\x01]q\x02(" + b"K\x01K\x02\x86" * 50_000 + b"e", b"h\x01h\x02\x85R"),
        (b"c__builtin__\nset\nq\x01]q\x02(" + b"K\x01" * 50_000 + b"e", b"h\x01h\x02\x85R"),
        (
            b"c_codecs\nencode\nq\x01X\x00\x00\x10\x00" + b"a" * MB + b"q\x02",
            b"h\x01h\x02\x85R",
        ),
        (b"", b"}"),
    ],
    ids=["dictionary copied", "set copied", "text copied", "millions of dictionaries"],
)
def test_a_small_file_cannot_become_a_large_object(tmp_path: Path, start: bytes, again: bytes) -> None:
    path = tmp_path / "copies.pkl"
    path.write_bytes(b"\x80\x02]q\x00(" + start + again * 1_200_000 + b"e.")
    refused(path, f"more than {pickles.MAX_WORK} instructions")


def module(path: str, children: dict[str, Any]) -> Module:
    return Module(path, {"_parameters": {}, "_buffers": {}, "_modules": children})


def test_modules_that_hold_themselves_are_refused() -> None:
    loop = module("models.Encoder", {})
    loop.state["_modules"]["again"] = loop
    with pytest.raises(UnsafeFile, match="without end"):
        state_dict_of(loop)
    shared = module("models.Encoder", {})
    for _ in range(60):  # 2 ** 60 modules, if each is looked at wherever it is used
        shared = module("models.Encoder", {"a": shared, "b": shared})
    with pytest.raises(UnsafeFile, match="without end"):
        state_dict_of(shared)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Small checkpoints of both serialisations, with an optimiser."""
    folder = tmp_path_factory.mktemp("whole")
    network = torch.nn.Sequential(torch.nn.Linear(30, 40), torch.nn.BatchNorm1d(40), torch.nn.Linear(40, 5))
    optimiser = torch.optim.Adam(network.parameters())
    network(torch.ones(3, 30)).sum().backward()
    optimiser.step()
    content = {"epoch": 3, "encoder": network, "state": network.state_dict(), "optimizer": optimiser}
    whole = {}
    for name, new in (("zip", True), ("legacy", False)):
        torch.save(content, folder / name, _use_new_zipfile_serialization=new)
        whole[name] = (folder / name).read_bytes()
    return whole


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_half_a_download_is_said_to_be_one(
    tmp_path: Path, files: dict[str, bytes], form: str, share: float
) -> None:
    path = tmp_path / "BEST_checkpoint.pth.tar"
    path.write_bytes(files[form][: max(20, int(len(files[form]) * share))])
    refused(path, "get it again", kind=BadInput)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it is empty"),
        (b"<!DOCTYPE html><html>Google Drive - Virus scan warning</html>", "it is a web page"),
        (b"\n  <html></html>", "it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
        (b"\x89PNG\r\n\x1a\n", "neither a torch file nor a pickle"),
        (b'{"<pad>": 0, ', "not a word map in whole JSON"),
        (b'{"a":' * 100_000, "not a word map in whole JSON"),
    ],
    ids=["empty", "web page", "web page, indented", "LFS pointer", "picture", "half a word map", "deep JSON"],
)
def test_what_is_no_checkpoint_is_said_to_be_none(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "checkpoint.pth.tar"
    path.write_bytes(content)
    refused(path, why, kind=BadInput)


def test_other_files_of_torch_are_told_apart(tmp_path: Path) -> None:
    program = tmp_path / "program.pt"
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(program))
    refused(program, "TorchScript", kind=BadInput)
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as archive:
        archive.writestr("photo.jpg", b"")
    refused(tmp_path / "some.zip", "not one of torch's", kind=BadInput)
    refused(tmp_path / "nowhere.pth", "there is no such file", kind=BadInput)
    refused(tmp_path, "cannot be read", kind=BadInput)
