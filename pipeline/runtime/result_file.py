"""The last line of a command's output, into a file: for schedulers that cannot read it from the output."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from model.errors import GpucaptError


@contextlib.contextmanager
def last_line_kept(file: str | None) -> Iterator[None]:
    """Write the last line that is printed on the standard output meanwhile into ``file``, as a JSON string.

    Nothing is written where nothing was printed, or no file is named. Raises GpucaptError when the file
    cannot be written; where the command fails anyway, that is only told, and it ends as it would have.
    """
    if not file:
        yield
        return
    stream = sys.stdout
    sys.stdout = watched = _Watched(stream)
    has_failed = False
    try:
        yield
    except BaseException as ending:
        has_failed = not (isinstance(ending, SystemExit) and ending.code in (None, 0))
        raise
    finally:
        sys.stdout = stream
        if watched.last_line:
            _keep(Path(file), watched.last_line, is_all=not has_failed)


def _keep(path: Path, line: str, *, is_all: bool) -> None:
    try:
        _write(path, json.dumps(line) + "\n")
    except GpucaptError as error:
        if is_all:
            raise
        print(f"gpucapt: {error}", file=sys.stderr)


def _write(path: Path, text: str) -> None:
    """Whole or not at all: whoever waits for the file may look at any time."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        raise GpucaptError(
            f"the result cannot be written to {path} ({error.strerror}); "
            "GPUCAPT_RESULT_FILE must name a file in a folder that is there and writable"
        ) from error


class _Watched:
    """A text stream that remembers the last line that went through it and was not empty."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._last = ""
        self._begun = ""

    def write(self, text: str) -> int:
        """Pass the text on. First: what is no text, the stream refuses."""
        written: int = self._stream.write(text)
        *ended, self._begun = f"{self._begun}{text}".split("\n")
        self._last = next((line for line in reversed(ended) if line.strip()), self._last)
        return written

    @property
    def last_line(self) -> str:
        """That line; also without a line end, if it is the very last."""
        return self._begun.strip() or self._last.strip()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
