"""Real pictures and films for tests: photographs from well-known wheels, and films made of them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.services.programs import works

Picture = NDArray[np.uint8]
"""(height, width, 3), RGB."""

PHOTOGRAPHS = {
    "astronaut": ("skimage", "data/astronaut.png"),
    "cat": ("skimage", "data/chelsea.png"),
    "coffee": ("skimage", "data/coffee.png"),
    "rocket": ("skimage", "data/rocket.jpg"),
    "galaxies": ("skimage", "data/hubble_deep_field.jpg"),
    "motorcycle": ("skimage", "data/motorcycle_left.png"),
    "temple": ("sklearn", "datasets/images/china.jpg"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
    "officer": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
}
"""Colour photographs: name → package that carries it, path inside."""

CODECS = {".webm": "VP80", ".mp4": "mp4v", ".avi": "MJPG"}
"""What OpenCV's wheels can write, by extension."""


def photograph_path(name: str) -> Path:
    """Where the photograph lies on disk."""
    package, inside = PHOTOGRAPHS[name]
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"the photograph {name} comes with {package}, which is not installed")
    return Path(spec.origin).parent / inside


def photograph(name: str, *, size: tuple[int, int] | None = None) -> Picture:
    """A photograph, resized to (width, height) if asked."""
    with Image.open(photograph_path(name)) as image:
        rgb = image.convert("RGB")
        return np.asarray(rgb.resize(size, Image.Resampling.BILINEAR) if size else rgb)


def write_photograph(path: Path, name: str, *, size: tuple[int, int] | None = None) -> Path:
    """A photograph as a file of the kind that the path's extension says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photograph(name, size=size)).save(path)
    return path


def pan(name: str, frames: int, *, size: tuple[int, int] = (96, 64)) -> Iterator[Picture]:
    """A slow pan over a photograph: a window of (width, height) that moves a fifth of its width."""
    width, height = size
    wide = photograph(name, size=(width + width // 5, height))
    for number in range(frames):
        left = round((width // 5) * number / max(frames - 1, 1))
        yield wide[:, left : left + width]


def write_video(
    path: Path,
    scenes: Sequence[str] = ("astronaut", "coffee", "rocket"),
    *,
    frames_each: int = 20,
    fps: float = 10.0,
    size: tuple[int, int] = (96, 64),
) -> Path:
    """A film of pans over photographs with a cut after each; VP8 .webm, MPEG-4 .mp4 or MJPEG .avi."""
    return write_frames(
        path, (frame for name in scenes for frame in pan(name, frames_each, size=size)), fps=fps, size=size
    )


def write_frames(
    path: Path, frames: Iterator[Picture], *, fps: float = 10.0, size: tuple[int, int] = (96, 64)
) -> Path:
    """A film of the given frames, each of (width, height) `size`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*CODECS[path.suffix]), fps, size)
    assert writer.isOpened(), f"OpenCV cannot write {path.name}"
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def has_ffmpeg() -> bool:
    """Whether Debian's ffmpeg is there: it makes what OpenCV cannot (H.264, variable rates, rotation)."""
    return works("ffmpeg")


def ffmpeg(source: Path, *options: str, to: Path) -> Path:
    """Convert a film: `ffmpeg -i source OPTIONS to`."""
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-i", str(source), *options, str(to)]
    subprocess.run(command, check=True, capture_output=True)
    return to
