"""Decodes in a child process, so that a file that makes a library in C crash or hang costs only itself."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pipeline.errors import BadInput, StorageUnavailable
from pipeline.media.decode_process import SLOTS, Views, path_text, request
from pipeline.media.frame import Frame, KnownFrame, Passage
from pipeline.media.images import BUDGET
from pipeline.records.frame_selection import Selection
from pipeline.records.video_facts import VideoFacts
from pipeline.runtime.config import tuning

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ROOT = Path(__file__).parents[2]
_MOST_CRASHES = 2
"""A source with which the child ends so often is not tried again."""
_LOOK_S = 0.2
_KEPT = 64 << 20
"""A slot that was larger gives its memory back."""


class _Crashed(Exception):
    """The child is gone, or stands still; says how."""


class FrameDecoder:
    """One child process, which is started when it is needed; for one thread."""

    def __init__(self, go_on: Callable[[], None] = lambda: None) -> None:
        """``go_on`` is called now and then while nothing comes, and raises to give up."""
        self._go_on = go_on
        self._child: _Child | None = None
        self.facts: VideoFacts | None = None
        """Of the video whose frames have all come; gaps before a frame came with it."""

    def start(self) -> None:
        """Start the child now, so that it is ready when it is needed."""
        if self._child is None:
            self._child = _Child()

    def frames(
        self,
        path: Path,
        selection: Selection,
        *,
        first_position: int = 0,
        after: KnownFrame | None = None,
        passage: Passage | None = None,
        backend: str = "auto",
    ) -> Generator[Frame, None, None]:
        """The selected frames of a video; see ``OpenVideo.frames``. Sets ``facts`` after the last one.

        Raises BadInput also for a video with which the child ends, or stands still, twice.
        """
        self.facts, crashes = None, 0
        while self.facts is None:
            try:
                asked = request(path, selection, first_position, after, passage, backend)
                for frame in self._once(asked, path.name):
                    yield frame
                    assert isinstance(frame.frame, int) and frame.timestamp_s is not None
                    first_position, after = first_position + 1, (frame.frame, frame.timestamp_s)
            except _Crashed as crash:
                crashes += 1
                if crashes == _MOST_CRASHES:
                    raise _bad(path.name, crash) from None

    def still(self, data: bytes, name: str, *, whole: bool = False) -> NDArray[np.uint8]:
        """The picture in a file's bytes; see ``decode_still``.

        Raises BadInput also for one with which the child ends, or stands still, twice.
        """
        if not data:
            raise BadInput(f"{name}: the file is empty")
        for is_last in (False, True):
            try:
                return self._still_once(data, name, whole)
            except _Crashed as crash:
                self.close()
                if is_last:
                    raise _bad(name, crash) from None
        raise AssertionError  # the loop has returned or raised

    def _still_once(self, data: bytes, name: str, whole: bool) -> NDArray[np.uint8]:
        self.start()
        child = self._child
        assert child is not None
        child.put(data)
        try:
            child.send({"still": name, "size": len(data), "whole": whole})
            opened = _answer(child.receive(self._go_on), name)
            with BUDGET.room(opened["memory"]):
                child.send({"decode": True})
                return child.copy(0, _answer(child.receive(self._go_on), name)["shape"])
        finally:
            child.shrink(0)

    def seconds(self, path: Path) -> float:
        """How long a video lasts, by the times of its frames: what its header claims may be anything.

        Raises BadInput also for a file with which the child ends, or stands still.
        """
        return float(self._ask(path, "seconds"))

    def is_shown_otherwise(self, path: Path) -> bool:
        """Whether gpucapt showed a video wrongly before; see ``is_shown_otherwise``. Raises BadInput."""
        return bool(self._ask(path, "shown otherwise"))

    def _ask(self, path: Path, about: str) -> float:
        self.start()
        assert self._child is not None
        try:
            self._child.send({"path": path_text(path), "about": about})
            value: float = _answer(self._child.receive(self._go_on), path.name)["value"]
        except _Crashed as crash:
            self.close()
            raise BadInput(f"{path.name}: it makes the decoder {crash}") from None
        return value

    def _once(self, asked: dict[str, Any], name: str) -> Iterator[Frame]:
        self.start()
        child = self._child
        assert child is not None
        is_whole = False
        try:
            child.send(asked)
            while True:
                message = child.receive(self._go_on)
                if "slot" in message:
                    yield _frame(message, child.take(message["slot"], message["shape"]))
                elif "facts" in message:
                    is_whole = True
                    self.facts = VideoFacts.from_json(message["facts"])
                    return
                else:
                    is_whole = True
                    _answer(message, name)
        finally:
            if not is_whole:  # it is in the middle of something
                self.close()

    def close(self) -> None:
        """End the child, whatever it does."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def __enter__(self) -> FrameDecoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Child:
    """The process and what is shared with it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self._slots = [os.memfd_create("gpucapt-frame", os.MFD_CLOEXEC) for _ in range(SLOTS)]
        self._views = Views(self._slots)
        descriptors = (theirs.fileno(), *self._slots)
        path = os.environ.get("PYTHONPATH")
        self._process = subprocess.Popen(
            # -P: no module of the current folder is imported.
            [sys.executable, "-P", "-m", "pipeline.media.decode_process", *map(str, descriptors)],
            pass_fds=descriptors,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": f"{_ROOT}{os.pathsep}{path}" if path else str(_ROOT)},
            start_new_session=True,  # Ctrl-C is for the parent, which ends the child in its own time
        )
        theirs.close()
        self._connection = Connection(ours.detach())
        self._beats, self._beat_at = -1, time.monotonic()

    def send(self, message: dict[str, Any]) -> None:
        try:
            self._connection.send_bytes(json.dumps(message).encode())
        except OSError:
            raise _Crashed(self._how()) from None

    def receive(self, go_on: Callable[[], None]) -> dict[str, Any]:
        """The next message that is no sign of life. Raises _Crashed when there are none any more."""
        self._beat_at = time.monotonic()
        patience_s = tuning().decode_timeout
        while True:
            while not self._connection.poll(_LOOK_S):
                go_on()
                if time.monotonic() - self._beat_at > patience_s:
                    raise _Crashed(f"stand still for {patience_s:g} s")
            try:
                message: dict[str, Any] = json.loads(self._connection.recv_bytes())
            except (EOFError, OSError):
                raise _Crashed(self._how()) from None
            if "pulse" not in message:
                return message
            if message["pulse"] != self._beats:
                self._beats, self._beat_at = message["pulse"], time.monotonic()
            elif time.monotonic() - self._beat_at > patience_s:
                raise _Crashed(f"stand still for {patience_s:g} s")

    def take(self, slot: int, shape: list[int]) -> NDArray[np.uint8]:
        """A copy of the frame in a slot, which is then free again."""
        image = self.copy(slot, shape)
        self.send({"free": slot})
        return image

    def copy(self, slot: int, shape: list[int]) -> NDArray[np.uint8]:
        """A copy of the image in a slot."""
        import numpy as np

        size = shape[0] * shape[1] * shape[2]
        image = np.frombuffer(self._views.of(slot, size), np.uint8, size).reshape(shape).copy()
        self.shrink(slot)
        return image

    def shrink(self, slot: int) -> None:
        """Give the memory of a large slot back."""
        if os.fstat(self._slots[slot]).st_size > _KEPT:
            self._views.forget(slot)
            os.ftruncate(self._slots[slot], 0)

    def put(self, data: bytes) -> None:
        """Put a file's bytes into the first slot, which is used for nothing else meanwhile."""
        if os.fstat(self._slots[0]).st_size < len(data):
            os.ftruncate(self._slots[0], len(data))
        self._views.of(0, len(data))[: len(data)] = data

    def _how(self) -> str:
        status = self._process.wait()
        return f"crash ({signal.Signals(-status).name})" if status < 0 else f"end (status {status})"

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._connection.close()
        for slot in self._slots:
            os.close(slot)


def _answer(message: dict[str, Any], name: str) -> dict[str, Any]:
    """The message about a file. Raises BadInput or StorageUnavailable where it tells what is wrong."""
    if "bad" in message:
        raise BadInput(message["bad"])
    if "unavailable" in message:
        raise StorageUnavailable(message["unavailable"])
    if "failed" in message:
        raise BadInput(f"{name}: it cannot be decoded ({message['failed']})")
    return message


def _bad(name: str, crash: _Crashed) -> BadInput:
    return BadInput(f"{name}: it makes the decoder {crash}, twice; the file is damaged, or made to do so")


def _frame(message: dict[str, Any], image: NDArray[np.uint8]) -> Frame:
    gap = message["gap"]
    return Frame(
        message["position"],
        message["frame"],
        message["timestamp_s"],
        image,
        end_s=message["end_s"],
        is_alike=message["is_alike"],
        gap=None if gap is None else (gap[0], gap[1]),
    )
