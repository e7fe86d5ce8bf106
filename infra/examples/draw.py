"""Draws the pictures and the film that the page of `gpucapt serve` offers to be clicked on.

    python infra/examples/draw.py pipeline/web/page/examples

They are painted from noise and polygons, so that they are nobody's photographs, and the same each time. They
are made to look enough like photographs of the outdoors for the bundled captioner to say what they show.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Shape = NDArray[Any]
"""(height, width) of float32: how much of a pixel is covered, from 0 to 1."""
Picture = NDArray[Any]
"""(height, width, 3), RGB from 0 to 1."""
Points = list[tuple[float, float]]
"""Corners in shares of the width and the height."""

WIDTH, HEIGHT = 640, 480


def noise(seed: int, grain: tuple[float, float], octaves: int = 5) -> Shape:
    """Clouds of noise, (height, width) from 0 to 1; ``grain`` is the size of its largest spots in pixels."""
    random = np.random.default_rng(seed)
    total = np.zeros((HEIGHT, WIDTH), np.float32)
    for octave in range(octaves):
        across = max(2, round(WIDTH / grain[0] * 2**octave))
        down = max(2, round(HEIGHT / grain[1] * 2**octave))
        spots = random.random((min(down, HEIGHT), min(across, WIDTH)), dtype=np.float32)
        total += cv2.resize(spots, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) / 2**octave
    total -= total.min()
    return np.asarray(total / total.max())


def between(low: tuple[float, ...], high: tuple[float, ...], part: Shape) -> Picture:
    """Colours between two, as ``part`` (height, width) says."""
    return np.asarray(np.array(low) + part[..., None] * (np.array(high) - np.array(low)), np.float32)


def down() -> Shape:
    """From 0 at the top to 1 at the bottom."""
    return np.repeat(np.linspace(0, 1, HEIGHT, dtype=np.float32)[:, None], WIDTH, axis=1)


def mask(points: Points, soft: float = 1.0, *, smooth: bool = True) -> Shape:
    """A filled shape with soft edges; with ``smooth``, a curve through the points instead of corners."""
    corners = np.array(points, np.float64)
    if smooth:
        corners = _curve(corners)
    shape = np.zeros((HEIGHT, WIDTH), np.float32)
    cv2.fillPoly(shape, [np.round(corners * (WIDTH, HEIGHT) * 16).astype(np.int32)], 1.0, cv2.LINE_8, 4)
    return cv2.GaussianBlur(shape, (0, 0), soft)


def _curve(corners: NDArray[np.float64], steps: int = 12) -> NDArray[np.float64]:
    """A closed Catmull-Rom curve through the corners."""
    before, after, second = np.roll(corners, 1, 0), np.roll(corners, -1, 0), np.roll(corners, -2, 0)
    parts = []
    for t in np.linspace(0, 1, steps, endpoint=False):
        parts.append(
            0.5
            * (
                2 * corners
                + (after - before) * t
                + (2 * before - 5 * corners + 4 * after - second) * t**2
                + (3 * corners - before - 3 * after + second) * t**3
            )
        )
    return np.stack(parts, 1).reshape(-1, 2)


def line(points: Points, width: float, soft: float = 0.8) -> Shape:
    """A stroke; ``width`` in shares of the picture's width."""
    shape = np.zeros((HEIGHT, WIDTH), np.float32)
    path = np.round(np.array(points) * (WIDTH, HEIGHT) * 16).astype(np.int32)
    cv2.polylines(shape, [path], False, 1.0, max(1, round(width * WIDTH)), cv2.LINE_AA, 4)
    return cv2.GaussianBlur(shape, (0, 0), soft)


def oval(x: float, y: float, across: float, tall: float, soft: float = 1.0) -> Shape:
    """An ellipse about (x, y), its half axes in shares of the width."""
    shape = np.zeros((HEIGHT, WIDTH), np.float32)
    centre = (round(x * WIDTH), round(y * HEIGHT))
    cv2.ellipse(shape, centre, (round(across * WIDTH), round(tall * WIDTH)), 0, 0, 360, 1.0, -1, cv2.LINE_AA)
    return cv2.GaussianBlur(shape, (0, 0), soft)


def over(picture: Picture, shape: Shape, colour: Picture | tuple[float, ...]) -> Picture:
    """The picture with a shape painted over it."""
    cover = np.clip(shape, 0, 1)[..., None]
    return np.asarray(picture * (1 - cover) + np.asarray(colour, np.float32) * cover, np.float32)


def grass(seed: int = 1) -> Picture:
    """A lawn from near, with blades, darker and finer towards the back."""
    blades = 0.55 * noise(seed, (5, 22), 4) + 0.45 * noise(seed + 1, (160, 90), 5)
    lawn = between((0.13, 0.27, 0.06), (0.55, 0.70, 0.25), blades)
    return lawn * (0.72 + 0.35 * down()[..., None])


def fur(seed: int, dark: tuple[float, ...], light: tuple[float, ...]) -> Picture:
    """The colours of a coat, lit from above."""
    shade = 0.6 * noise(seed, (9, 5), 4) + 0.4 * noise(seed + 1, (90, 60), 4)
    return between(dark, light, shade)


def dog(picture: Picture, x: float, y: float, size: float, coat: Picture, stride: float = 0.0) -> Picture:
    """A running dog, seen from its left side; ``size`` is its length, ``stride`` where its legs are."""

    def at(points: Points) -> Points:
        return [(x + size * px, y + size * py * WIDTH / HEIGHT) for px, py in points]

    dim = coat * 0.62
    swing = 0.09 * np.sin(stride)
    # Legs on the far side first, then tail, body, near legs, head and ears.
    for hip, reach in ((0.26, -swing), (-0.27, swing)):
        picture = over(
            picture,
            line(at([(hip, 0.05), (hip + reach + 0.03, 0.19), (hip + reach * 2.1, 0.31)]), size * 0.055),
            dim,
        )
    picture = over(
        picture, line(at([(-0.36, -0.06), (-0.46, -0.15), (-0.56, -0.19)]), size * 0.05, 1.2), coat * 0.9
    )
    body = [
        (-0.38, -0.06),
        (-0.28, -0.13),
        (0.0, -0.12),
        (0.26, -0.15),
        (0.36, -0.06),
        (0.33, 0.08),
        (0.18, 0.12),
        (-0.08, 0.06),
        (-0.28, 0.10),
        (-0.37, 0.05),
    ]
    picture = over(picture, mask(at(body), 1.4), coat)
    belly = [
        (-0.3, 0.06),
        (-0.1, 0.02),
        (0.16, 0.08),
        (0.32, 0.03),
        (0.3, 0.10),
        (0.16, 0.13),
        (-0.08, 0.08),
        (-0.27, 0.12),
    ]
    picture = over(picture, 0.55 * mask(at(belly), 3), dim)
    for hip, reach in ((0.29, swing), (-0.31, -swing)):
        picture = over(
            picture,
            line(at([(hip, 0.03), (hip + reach + 0.03, 0.19), (hip + reach * 2.1, 0.32)]), size * 0.06),
            coat,
        )
    neck = [(0.22, -0.13), (0.37, -0.27), (0.47, -0.22), (0.38, 0.0), (0.3, 0.05)]
    picture = over(picture, mask(at(neck), 1.2), coat)
    head = [
        (0.36, -0.29),
        (0.45, -0.33),
        (0.53, -0.28),
        (0.63, -0.23),
        (0.64, -0.18),
        (0.55, -0.16),
        (0.45, -0.16),
        (0.37, -0.2),
    ]
    picture = over(picture, mask(at(head), 1.1), coat)
    ear = [(0.38, -0.30), (0.43, -0.31), (0.42, -0.19), (0.37, -0.15), (0.34, -0.22)]
    picture = over(picture, mask(at(ear), 1.1), coat * 0.55)
    picture = over(
        picture,
        oval(x + size * 0.64, y - size * 0.205 * WIDTH / HEIGHT, size * 0.02, size * 0.018),
        (0.05, 0.04, 0.04),
    )
    picture = over(
        picture,
        oval(x + size * 0.515, y - size * 0.255 * WIDTH / HEIGHT, size * 0.012, size * 0.012),
        (0.04, 0.03, 0.03),
    )
    return over(
        picture,
        mask(at([(0.5, -0.165), (0.6, -0.165), (0.58, -0.12), (0.53, -0.12)]), 0.8),
        (0.78, 0.36, 0.38),
    )


def shadow(picture: Picture, x: float, y: float, across: float) -> Picture:
    """Soft dark on the ground."""
    return np.asarray(picture * (1 - 0.55 * oval(x, y, across, across * 0.16, 9)[..., None]), np.float32)


BROWN = ((0.26, 0.14, 0.06), (0.66, 0.43, 0.22))
BLACK = ((0.03, 0.03, 0.035), (0.20, 0.19, 0.19))


def dog_on_grass(step: float = 0.0) -> Picture:
    """A brown dog that runs over a lawn; ``step`` is how far it has come, from 0 to 1."""
    picture = shadow(grass(), 0.5 + 0.3 * step, 0.83, 0.3)
    return dog(picture, 0.47 + 0.3 * step, 0.55, 0.62, fur(5, *BROWN), 0.9 + 18 * step)


def dog_in_snow(step: float = 0.0) -> Picture:
    """A black dog that runs through the snow."""
    snow = between((0.72, 0.77, 0.86), (0.98, 0.98, 1.0), 0.7 * noise(11, (240, 60), 6) + 0.3 * down())
    picture = shadow(snow, 0.5 + 0.3 * step, 0.83, 0.3)
    picture = dog(picture, 0.47 + 0.3 * step, 0.56, 0.6, fur(15, *BLACK), 1.1 + 18 * step)
    powder = np.clip(noise(12, (40, 30), 5) * 1.8 - 0.75, 0, 1) * np.clip((down() - 0.72) * 6, 0, 1)
    return over(picture, powder, (0.95, 0.96, 0.99))


def mountain(step: float = 0.0) -> Picture:
    """Somebody in a red jacket before snowy mountains."""
    sky = between((0.24, 0.47, 0.80), (0.75, 0.86, 0.96), down() * 1.6)
    ridge = [(x / 12, 0.42 - 0.2 * noise(21, (130, 130), 4)[10, min(WIDTH - 1, x * 53)]) for x in range(13)]
    rock = np.clip(noise(22, (70, 50), 6) * 2.2 - 0.8, 0, 1)
    picture = over(
        sky,
        mask([(-0.1, 1.1), (-0.1, 0.4), *ridge, (1.1, 0.4), (1.1, 1.1)], 1.0, smooth=False),
        between((0.33, 0.37, 0.44), (0.92, 0.94, 0.98), rock),
    )
    slope = between((0.78, 0.83, 0.92), (1.0, 1.0, 1.0), noise(23, (260, 50), 6))
    picture = over(
        picture,
        mask([(-0.1, 0.66), (0.3, 0.58), (0.7, 0.66), (1.1, 0.58), (1.1, 1.2), (-0.1, 1.2)], 1.6),
        slope,
    )
    return person(
        picture,
        0.46 + 0.25 * step,
        0.62,
        0.42,
        jacket=(0.80, 0.10, 0.09),
        trousers=(0.10, 0.11, 0.15),
        skin=(0.30, 0.2, 0.17),
        skis=True,
    )


def person(
    picture: Picture,
    x: float,
    y: float,
    size: float,
    *,
    jacket: tuple[float, ...],
    trousers: tuple[float, ...],
    skin: tuple[float, ...],
    skis: bool = False,
) -> Picture:
    """Somebody standing, ``size`` tall in shares of the height, with the middle at (x, y)."""

    def at(points: Points) -> Points:
        return [(x + size * px * HEIGHT / WIDTH, y + size * py) for px, py in points]

    wide = size * HEIGHT / WIDTH
    light = 0.75 + 0.5 * noise(31, (30, 30), 4)[..., None]
    cloth, legs = np.array(jacket) * light, np.array(trousers) * light
    picture = shadow(picture, x, y + size * 0.5, 0.3 * wide)
    if skis:
        for shift in (-0.05, 0.07):
            picture = over(
                picture,
                line(at([(-0.42 + shift, 0.47), (0.42 + shift, 0.53), (0.47 + shift, 0.5)]), wide * 0.03),
                (0.95, 0.75, 0.1),
            )
    for hip in (-0.055, 0.065):
        picture = over(
            picture, line(at([(hip, 0.1), (hip * 1.5 + 0.03, 0.3), (hip * 1.6, 0.48)]), wide * 0.12), legs
        )
    picture = over(
        picture,
        mask(
            at([(-0.1, -0.27), (0.1, -0.27), (0.14, -0.1), (0.13, 0.13), (-0.13, 0.13), (-0.14, -0.1)]), 1.2
        ),
        cloth,
    )
    for side in (-1, 1):
        picture = over(
            picture,
            line(at([(side * 0.11, -0.22), (side * 0.2, -0.06), (side * 0.26, 0.06)]), wide * 0.085),
            cloth * 0.85,
        )
        if skis:
            picture = over(
                picture,
                line(at([(side * 0.27, 0.02), (side * 0.33, 0.48)]), wide * 0.015),
                (0.15, 0.15, 0.15),
            )
    picture = over(picture, oval(*at([(0.0, -0.36)])[0], wide * 0.075, wide * 0.09), skin)
    return over(
        picture,
        mask(at([(-0.08, -0.37), (-0.06, -0.46), (0.05, -0.47), (0.085, -0.37)]), 1.0),
        np.array(jacket) * 0.35,
    )


def sunset(step: float = 0.0) -> Picture:
    """Two people on a beach against the evening sky."""
    sky = between((0.30, 0.18, 0.38), (1.0, 0.62, 0.25), down() * 1.5)
    sky = over(sky, np.clip(noise(51, (300, 40), 5) * 1.6 - 0.7, 0, 0.6), (0.95, 0.45, 0.30))
    sky = over(sky, oval(0.66, 0.5, 0.045, 0.045, 2), (1.0, 0.93, 0.66))
    sea = between((0.20, 0.12, 0.22), (0.95, 0.58, 0.28), 0.8 * noise(52, (240, 12), 5))
    picture = over(sky, mask([(-0.1, 0.58), (1.1, 0.58), (1.1, 0.84), (-0.1, 0.84)], 1, smooth=False), sea)
    sand = between((0.09, 0.06, 0.08), (0.34, 0.22, 0.19), noise(53, (160, 30), 6))
    picture = over(picture, mask([(-0.1, 0.80), (0.4, 0.78), (1.1, 0.83), (1.1, 1.1), (-0.1, 1.1)], 2), sand)
    black = (0.035, 0.025, 0.04)
    for x, size in ((0.36, 0.44), (0.47, 0.40)):
        picture = person(picture, x + 0.15 * step, 0.66, size, jacket=black, trousers=black, skin=black)
    return picture


def finished(picture: Picture, seed: int, grain: float = 0.018) -> NDArray[np.uint8]:
    """As a camera would have it: a little unsharp and grainy, darker towards the corners. RGB."""
    picture = cv2.GaussianBlur(np.clip(picture, 0, 1), (0, 0), 0.7)
    grains = np.random.default_rng(seed).normal(0, grain, picture.shape).astype(np.float32)
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    corners = (1 - 0.16 * (x**2 + y**2) ** 1.2)[..., None].astype(np.float32)
    return np.asarray(np.round(np.clip(picture * corners + grains, 0, 1) * 255), np.uint8)


Draw = Callable[[float], Picture]

PICTURES: dict[str, tuple[str, Draw]] = {
    "mountain": ("In the mountains", mountain),
    "lawn": ("On the lawn", dog_on_grass),
    "beach": ("At sunset", sunset),
    "snow": ("In the snow", dog_in_snow),
}

FILM: tuple[tuple[Draw, float], ...] = ((dog_on_grass, 4), (dog_in_snow, 3), (mountain, 4))
"""What happens in the film, each for so many seconds."""

FRAMES_PER_SECOND = 10
FILM_SIZE = (320, 240)


def film() -> Iterator[NDArray[np.uint8]]:
    """The film's frames, RGB."""
    for draw, seconds in FILM:
        count = round(seconds * FRAMES_PER_SECOND)
        for place in range(count):
            picture = finished(draw(place / count - 0.5), place, grain=0)
            yield cv2.resize(picture, FILM_SIZE, interpolation=cv2.INTER_AREA).astype(np.uint8)


def write_film(path: Path) -> None:
    """Write the film as VP8 in WebM, which every browser plays."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"VP80"), FRAMES_PER_SECOND, FILM_SIZE)
    for picture in film():
        writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    writer.release()


def write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write a picture as JPEG."""
    cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 84])


def main(out: Path) -> None:
    """Write the pictures, the film, and what the page has to know of them."""
    out.mkdir(parents=True, exist_ok=True)
    examples: list[dict[str, str]] = []
    for seed, (name, (label, draw)) in enumerate(PICTURES.items()):
        write_picture(out / f"{name}.jpg", finished(draw(0.0), seed))
        examples.append({"kind": "picture", "file": f"{name}.jpg", "label": label})
    write_film(out / "outdoors.webm")
    write_picture(out / "outdoors.jpg", finished(dog_on_grass(-0.2), 9))
    examples.append(
        {
            "kind": "film",
            "file": "outdoors.webm",
            "poster": "outdoors.jpg",
            "label": "Out of doors, 11 seconds",
        }
    )
    (out / "examples.json").write_text(json.dumps(examples, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
