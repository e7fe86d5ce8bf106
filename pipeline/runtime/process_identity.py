"""Which process this is, in words that another process can check: is the one that wrote them gone?"""

from __future__ import annotations

import os
import socket
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Process:
    """A process beyond its number, which is used again.

    ``machine`` tells one boot of one machine (and one container's table of processes) from another,
    ``started`` one user of a number from the next. Both are empty where the system does not tell; such a
    process is never known to be gone.
    """

    host: str
    machine: str
    pid: int
    started: str

    @classmethod
    def of_this(cls) -> Process:
        """The process that calls."""
        pid = os.getpid()
        return cls(socket.gethostname(), _machine(), pid, _started(pid) or "")

    @classmethod
    def from_json(cls, fields: dict[str, object]) -> Process:
        """The inverse of ``to_json``; what is missing is taken as unknown."""
        pid = fields.get("pid")
        return cls(
            str(fields.get("host", "")),
            str(fields.get("machine", "")),
            pid if isinstance(pid, int) else 0,
            str(fields.get("started", "")),
        )

    def to_json(self) -> dict[str, object]:
        """The process as JSON types."""
        return asdict(self)

    def is_gone(self) -> bool:
        """Whether it is certain, from here, that the process no longer runs."""
        if not self.machine or not self.started or self.pid <= 0 or self.machine != _machine():
            return False
        return _started(self.pid) != self.started


@cache
def _machine() -> str:
    """This boot of this machine, and the table in which its process numbers count."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """When a process began, in the kernel's ticks; None when there is none, or only what is left of one."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # The name, in parentheses, can hold anything; what follows its last one is fields 3 (state) to 52.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else fields[19]
