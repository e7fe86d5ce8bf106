"""The sample input of the demo: photographs that come inside well-known packages, and a film made of them.

Nothing is downloaded. The photographs are real and free:

- astronaut (Eileen Collins, NASA), rocket (SpaceX), grace_hopper (US Navy): public domain
- chelsea (Stéfan van der Walt), coffee (Rachel Michetti), camera (Lav Varshney): CC0
- china (danielbuechele on Flickr), flower (vultilion on Flickr): CC BY 2.0
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]
else:
    Image = Any

PHOTOGRAPHS = {
    "skimage": ["astronaut.png", "camera.png", "chelsea.png", "coffee.png", "rocket.jpg"],
    "sklearn": ["china.jpg", "flower.jpg"],
    "matplotlib": ["grace_hopper.jpg"],
}
FOLDERS = {"skimage": "data", "sklearn": "datasets/images", "matplotlib": "mpl-data/sample_data"}
CREDITS = "\n".join((__doc__ or "").splitlines()[2:])

SIZE = (640, 360)
FRAMES_A_SECOND = 15


@dataclass(frozen=True, slots=True)
class Shot:
    """A slow pan over a photograph: the middle of a window moves from ``start`` to ``end``.

    Both are parts of the photograph's width and height; ``width`` is the window's, as a part of the largest
    that fits.
    """

    photograph: str
    start: tuple[float, float]
    end: tuple[float, float]
    width: float = 0.85
    seconds: float = 2.0


SHOTS = (
    Shot("chelsea.png", (0.3, 0.5), (0.7, 0.5)),
    Shot("coffee.png", (0.4, 0.6), (0.6, 0.5)),
    Shot("china.jpg", (0.7, 0.5), (0.3, 0.5)),
    Shot("astronaut.png", (0.5, 0.3), (0.5, 0.38), 1.0),
    Shot("camera.png", (0.5, 0.3), (0.5, 0.4), 1.0),
    Shot("rocket.jpg", (0.5, 0.7), (0.5, 0.35), 0.95),
)


def photographs() -> list[Path]:
    """The photographs where their packages have them. Raises FileNotFoundError when one is not there."""
    found = [folder_of(package) / name for package, names in PHOTOGRAPHS.items() for name in names]
    for path in found:
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: install the versions of constraints.txt")
    return found


def folder_of(package: str) -> Path:
    """Where a package keeps its photographs; the package itself is not imported."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"{package} is not installed: pip install 'gpucapt[demo]'")
    return Path(spec.submodule_search_locations[0]) / FOLDERS[package]


def build(folder: Path, *, shots: tuple[Shot, ...] = SHOTS) -> list[Path]:
    """Put the photographs into ``folder/photographs`` and the film beside it; the files made."""
    stills = folder / "photographs"
    stills.mkdir(parents=True, exist_ok=True)
    made = [Path(shutil.copyfile(path, stills / path.name)) for path in photographs()]
    made.append(write_film(folder / "film.webm", shots))
    # A file that has just changed may still be on its way; these are complete.
    for path in made:
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 3600))
    return made


def write_film(path: Path, shots: tuple[Shot, ...] = SHOTS) -> Path:
    """Encode the shots one after the other as VP8, which browsers play. Raises OSError when OpenCV cannot."""
    import cv2

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"VP80"), FRAMES_A_SECOND, SIZE)
    if not writer.isOpened():
        raise OSError(f"OpenCV cannot write VP8 to {path}")
    files = {found.name: found for found in photographs()}
    for shot in shots:
        for frame in frames(shot, files[shot.photograph]):
            writer.write(frame)
    writer.release()
    return path


def frames(shot: Shot, photograph: Path) -> Iterator[Image]:
    """The frames of one shot, (height, width, 3) BGR."""
    import cv2
    import numpy as np

    image = cv2.imread(str(photograph), cv2.IMREAD_COLOR)
    if image is None:
        raise OSError(f"OpenCV cannot read {photograph}")
    height, width = image.shape[:2]
    window = shot.width * min(width, height * SIZE[0] / SIZE[1])
    scale = SIZE[0] / window
    count = round(shot.seconds * FRAMES_A_SECOND)
    for index in range(count):
        part = index / max(1, count - 1)
        smooth = part * part * (3 - 2 * part)
        x, y = (a + (b - a) * smooth for a, b in zip(shot.start, shot.end, strict=True))
        centre_x = clamp(x * width, window / 2, width - window / 2)
        centre_y = clamp(y * height, SIZE[1] / scale / 2, height - SIZE[1] / scale / 2)
        moved = np.array(
            [[scale, 0, SIZE[0] / 2 - scale * centre_x], [0, scale, SIZE[1] / 2 - scale * centre_y]]
        )
        frame = cv2.warpAffine(image, moved, SIZE, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        yield frame.astype(np.uint8, copy=False)


def clamp(value: float, low: float, high: float) -> float:
    """The value, moved into the range if it is outside."""
    return max(low, min(value, high))


if __name__ == "__main__":
    build(Path(sys.argv[1]))
