"""`.ts` is TypeScript's, Qt's and MPEG's: texts are known as such, recordings never are."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sources.recordings import is_known_text, is_shared, is_text
from pipeline.storage.base import Entry
from pipeline.storage.local import LocalStorage

TYPESCRIPT = """\
import { Component, OnInit } from '@angular/core';
/** Größe – 大きさ – размер 🎬 */
export const App = (): JSX.Element => <div title={`G`}>\tGGGG</div>;
"""
QT = """<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE TS>
<TS version="2.1" language="zh_CN">
<context><name>Main</name><message><source>Open</source><translation>打开文件</translation></message></context>
</TS>
"""


def packets(seed: int, count: int, *, before: int = 0, after: int = 0) -> bytes:
    """A transport stream: a table, then video; `before` and `after` bytes lie around each packet."""
    noise = random.Random(seed)
    found = b""
    for number in range(count):
        pid = 0 if number % 40 == 0 else 0x100
        head = bytes((0x47, 0x40 * (number % 40 == 0) | pid >> 8, pid & 0xFF, 0x10 | number % 16))
        body = (
            b"\0\0\xb0\x0d\0\x01\xc1\0\0\0\x01\xf0\0".ljust(184, b"\xff")
            if pid == 0
            else noise.randbytes(184)
        )
        found += noise.randbytes(before) + head + body + noise.randbytes(after)
    return found


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "gb18030"])
@pytest.mark.parametrize("text", [TYPESCRIPT, QT, TYPESCRIPT * 40, QT.replace("\n", "\r\n") * 40])
def test_texts(text: str, encoding: str) -> None:
    for size in (len(text.encode(encoding)), 8192, 8191):
        assert is_text(text.encode(encoding)[:size])


@pytest.mark.parametrize("encoding", ["latin-1", "cp1251", "shift_jis", "koi8-r"])
def test_texts_of_former_times(encoding: str) -> None:
    comment = {"latin-1": "Größe", "shift_jis": "大きさ"}.get(encoding, "размер")
    assert is_text(f"// {comment}\nexport {{}};\n".encode(encoding))


@given(
    st.integers(),
    st.sampled_from([(0, 0), (4, 0), (0, 16)]),
    st.integers(min_value=0, max_value=400),
    st.sampled_from([1, 3, 43]),
)
def test_a_recording_is_none_wherever_it_begins(
    seed: int, around: tuple[int, int], start: int, count: int
) -> None:
    before, after = around
    stream = packets(seed, count + 3, before=before, after=after)
    assert not is_text(stream[start : start + 8192])


def test_a_recording_behind_other_things_is_none() -> None:
    stream = packets(1, 40)
    for garbage in (b"HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\n\r\n", b"\0" * 3000, b"\xff" * 3000):
        assert not is_text((garbage + stream)[:8192])


def test_scrambled_and_empty_recordings_are_none() -> None:
    noise = random.Random(2)
    scrambled = b"".join(bytes((0x47, 1, 0, 0x90 | n % 16)) + noise.randbytes(184) for n in range(40))
    nothing = b"".join(bytes((0x47, 0x1F, 0xFF, 0x10)) + b"\xff" * 184 for _ in range(40))
    assert not is_text(scrambled) and not is_text(nothing)
    assert not is_text(b"") and not is_text(b"\0" * 8192)


@pytest.mark.parametrize("name", ["a.ts", "a.MTS", "a.m2ts"])
def test_only_files_with_such_an_extension_are_looked_at(tmp_path: Path, name: str) -> None:
    storage = LocalStorage(tmp_path)
    for path in (name, "a.mp4"):
        (tmp_path / path).write_text(TYPESCRIPT, encoding="utf-8")
    assert is_known_text(storage, _entry(storage, name))
    assert not is_known_text(storage, _entry(storage, "a.mp4"))
    assert is_shared(name) and not is_shared("ts") and not is_shared("a.tsx")


def test_what_cannot_be_read_is_not_known_to_be_a_text(tmp_path: Path) -> None:
    assert not is_known_text(LocalStorage(tmp_path), Entry("gone.ts", 100, "1", 0.0))


def _entry(storage: LocalStorage, key: str) -> Entry:
    entry = storage.stat(key)
    assert entry is not None
    return entry
