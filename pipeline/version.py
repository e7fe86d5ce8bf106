"""Which gpucapt this is: its version and, where it runs from a checkout, the commit."""

from __future__ import annotations

import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def code_version() -> str:
    """Such as ``0.1.0``, ``0.1.0+4549f3c`` or, with changes not committed, ``0.1.0+4549f3c-dirty``."""
    try:
        released = version("gpucapt")
    except PackageNotFoundError:
        released = "unknown"
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():  # an installed package may lie in somebody else's checkout
        return released
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return released
    return f"{released}+{found.stdout.strip()}"
