"""The child process that decodes videos: FFmpeg is C, and a file that crashes it must not cost the worker.

It is started by ``media/decoder.py`` and talks with it over a socket, a JSON object a message. The pixels go
through shared memory, of which there are several slots, each a file without a name.
"""

from __future__ import annotations

import json
import mmap
import os
import socket
import sys
import threading
import time
from collections import deque
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pipeline.errors import BadInput
from pipeline.media.frame import Frame, Passage
from pipeline.media.liveness import PULSE
from pipeline.media.video_reader import Video
from pipeline.records.frame_selection import Selection

SLOTS = 3
"""Frames that are decoded and not yet taken."""

PULSE_S = 1.0
"""How often the child says how far it is."""


def request(
    path: Path,
    selection: Selection,
    first_position: int,
    after: tuple[int, float] | None,
    passage: Passage | None,
    backend: str,
) -> dict[str, Any]:
    """What the child is asked, as JSON types."""
    return {
        "path": path_text(path),
        "selection": asdict(selection),
        "first_position": first_position,
        "after": after,
        "passage": None if passage is None else asdict(passage),
        "backend": backend,
    }


def path_text(path: Path) -> str:
    """A path of any bytes as text that JSON can hold."""
    return os.fsencode(path.absolute()).hex()


class _Child:
    """Answers one request after the other, until nobody asks any more."""

    def __init__(self, connection: Connection, slots: list[int]) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._slots = slots
        self._free = deque(range(len(slots)))

    def serve(self) -> None:
        """Answer until whoever asks is gone."""
        threading.Thread(target=self._tell_pulse, daemon=True).start()
        while (message := self._receive()) is not None:
            if "free" in message:
                self._free.append(message["free"])
                continue
            try:
                self._answer(message)
            except BadInput as error:
                self._send({"bad": str(error)})
            except OSError:
                raise
            except Exception as error:  # whatever a strange file makes a library do
                self._send({"failed": f"{type(error).__name__}: {error}"})

    def _answer(self, asked: dict[str, Any]) -> None:
        path = Path(os.fsdecode(bytes.fromhex(asked["path"])))
        if "selection" not in asked:
            self._send({"seconds": Video(path).seconds})
            return
        after, passage = asked["after"], asked["passage"]
        video = Video(path, asked["backend"])
        frames = video.frames(
            Selection(**asked["selection"]),
            first_position=asked["first_position"],
            after=None if after is None else (after[0], after[1]),
            passage=None if passage is None else Passage(**passage),
        )
        for frame in frames:
            self._hand_over(frame)
        self._send({"facts": video.facts.to_json()})

    def _hand_over(self, frame: Frame) -> None:
        while not self._free:
            message = self._receive()
            if message is None:
                raise SystemExit
            self._free.append(message["free"])
        slot = self._free.popleft()
        size = frame.image.nbytes
        if os.fstat(self._slots[slot]).st_size < size:
            os.ftruncate(self._slots[slot], size)
        with mmap.mmap(self._slots[slot], size) as memory:
            memory.write(frame.image.data)
        self._send(
            {
                "slot": slot,
                "shape": frame.image.shape,
                "position": frame.position,
                "frame": frame.frame,
                "timestamp_s": frame.timestamp_s,
                "end_s": frame.end_s,
                "is_alike": frame.is_alike,
                "gap": frame.gap,
            }
        )

    def _receive(self) -> dict[str, Any] | None:
        """A request, or a slot that is free again; None where nobody is there any more."""
        try:
            message: dict[str, Any] = json.loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            return None
        return message

    def _send(self, message: dict[str, Any]) -> None:
        with self._sending:
            self._connection.send_bytes(json.dumps(message).encode())

    def _tell_pulse(self) -> None:
        try:
            while True:
                time.sleep(PULSE_S)
                self._send({"pulse": PULSE.beats})
        except OSError:  # who asked is gone; nobody needs what a decoder may be in the middle of
            os._exit(0)


def main() -> None:
    """Serve on the socket, with the slots, whose descriptors the command line names."""
    descriptors = [int(text) for text in sys.argv[1:]]
    connection = Connection(socket.socket(fileno=descriptors[0]).detach())
    _Child(connection, descriptors[1:]).serve()


if __name__ == "__main__":
    main()
