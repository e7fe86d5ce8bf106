"""``manifest.json``: the last file of a source's output, and the word that the rest is whole.

Before any output of a source is replaced its manifest is removed, and it comes back after the last of them. A
reader that finds a manifest therefore finds the files that it names; one that reads while they are replaced
can tell by their SHA-256.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import BadInput
from pipeline.records.source_info import SourceInfo
from pipeline.runtime.clock import now
from pipeline.storage.base import Storage, sha256

NAME = "manifest.json"
FORMAT = 2
"""1: without undecoded_s."""


@dataclass(frozen=True, slots=True)
class OutputFile:
    """One output: its name, its size in bytes, its SHA-256 in hexadecimal."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Counts:
    """``frames`` have a caption, ``errors`` were set aside."""

    frames: int
    errors: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What was done for one source, and with what."""

    info: SourceInfo
    counts: Counts
    files: tuple[OutputFile, ...]
    segment: dict[str, object] | None = None
    """Of a stream: which part of it this is, and what is missing."""
    undecoded_s: float = 0.0
    """Of a video: how many seconds of it could not be decoded."""

    def to_json(self) -> bytes:
        """The content of manifest.json."""
        info = self.info
        content: dict[str, object] = {
            "format": FORMAT,
            "source": info.key,
            "kind": info.kind,
            "fingerprint": info.fingerprint,
            "model": info.model,
            "model_version": info.model_version,
            "settings": info.settings,
            "counts": asdict(self.counts),
            **({"undecoded_s": self.undecoded_s} if info.kind == "video" else {}),
            **({} if self.segment is None else {"segment": self.segment}),
            "files": [asdict(file) for file in self.files],
            "created_at": now(),
        }
        return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


@dataclass(frozen=True, slots=True)
class Done:
    """What a job needs to know of a manifest that is there."""

    fingerprint: str
    counts: Counts
    names: tuple[str, ...]
    undecoded_s: float = 0.0
    format: int = FORMAT


def manifest_key(source_key: str) -> str:
    """Where a source's manifest lies under DESTINATION."""
    return f"{source_key}/{NAME}"


def describe(path: Path) -> OutputFile:
    """A finished output as the manifest lists it."""
    return OutputFile(path.name, path.stat().st_size, sha256(path))


def read_done(storage: Storage, source_key: str) -> Done | None:
    """The manifest of a source; None when there is none, or none that can be read."""
    try:
        content: Any = json.loads(storage.read(manifest_key(source_key)))
        counts = content["counts"]
        return Done(
            str(content["fingerprint"]),
            Counts(int(counts["frames"]), int(counts["errors"])),
            tuple(str(file["name"]) for file in content["files"]),
            float(content.get("undecoded_s", 0.0)),
            int(content.get("format", FORMAT)),
        )
    except (ValueError, KeyError, TypeError, RecursionError, BadInput):
        return None
