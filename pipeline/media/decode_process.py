"""The child process that decodes: FFmpeg and Pillow's libraries are C, and must not take the worker along.

It is started by ``media/decoder.py`` and talks with it over a socket, a JSON object a message. Pixels, and
stills as they are stored, go through shared memory, of which there are several slots, each a file without a
name.
"""

from __future__ import annotations

import errno
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
from typing import TYPE_CHECKING, Any

from pipeline.errors import BadInput, StorageUnavailable
from pipeline.media.frame import Frame, Passage
from pipeline.media.images import open_still
from pipeline.media.liveness import PULSE
from pipeline.media.video_reader import OpenVideo, is_shown_otherwise
from pipeline.records.frame_selection import Selection

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SLOTS = 3
"""Frames that are decoded and not yet taken."""

_OF_THE_MACHINE = (errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT)
"""What no file is to blame for."""

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


class Views:
    """The memory of slots, mapped anew only where one has changed its size: mapping costs as copying does."""

    def __init__(self, slots: list[int]) -> None:
        self._slots = slots
        self._views: dict[int, tuple[int, memoryview]] = {}

    def of(self, slot: int, size: int) -> memoryview:
        """At least so many bytes of a slot, which has them."""
        now = os.fstat(self._slots[slot]).st_size
        if slot not in self._views or self._views[slot][0] != now:
            self._views[slot] = now, memoryview(mmap.mmap(self._slots[slot], now))
        return self._views[slot][1]

    def forget(self, slot: int) -> None:
        """A slot is about to lose its memory."""
        self._views.pop(slot, None)


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
        self._views = Views(slots)

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
            except StorageUnavailable as error:
                self._send({"unavailable": str(error)})
            except Exception as error:  # whatever a strange file makes a library do
                if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
                    self._send({"unavailable": f"nothing can be decoded: {error.strerror}"})
                else:
                    self._send({"failed": f"{type(error).__name__}: {error}"})

    def _answer(self, asked: dict[str, Any]) -> None:
        if "still" in asked:
            self._decode_still(asked)
            return
        path = Path(os.fsdecode(bytes.fromhex(asked["path"])))
        if asked.get("about") == "seconds":
            self._send({"value": OpenVideo(path).seconds})
            return
        if asked.get("about") == "shown otherwise":
            self._send({"value": is_shown_otherwise(path)})
            return
        after, passage = asked["after"], asked["passage"]
        video = OpenVideo(path, asked["backend"])
        frames = video.frames(
            Selection(**asked["selection"]),
            first_position=asked["first_position"],
            after=None if after is None else (after[0], after[1]),
            passage=None if passage is None else Passage(**passage),
        )
        for frame in frames:
            self._hand_over(frame)
        self._send({"facts": video.facts.to_json()})

    def _decode_still(self, asked: dict[str, Any]) -> None:
        """The still in the first slot; first what memory it takes, for which who asked may have to wait."""
        data = bytes(self._views.of(0, asked["size"])[: asked["size"]])
        still = open_still(data, asked["still"], whole=asked["whole"])
        self._send({"memory": still.memory})
        if self._receive() is None:
            raise SystemExit
        image = still.decode()
        self._fill(0, image)
        self._send({"shape": image.shape})

    def _hand_over(self, frame: Frame) -> None:
        while not self._free:
            message = self._receive()
            if message is None:
                raise SystemExit
            self._free.append(message["free"])
        slot = self._free.popleft()
        self._fill(slot, frame.image)
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

    def _fill(self, slot: int, image: NDArray[np.uint8]) -> None:
        if os.fstat(self._slots[slot]).st_size < image.nbytes:
            os.ftruncate(self._slots[slot], image.nbytes)
        self._views.of(slot, image.nbytes)[: image.nbytes] = image.reshape(-1).data

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
