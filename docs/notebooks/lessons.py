"""What the notebooks share: a dataset that is drawn rather than fetched, and the command line."""

from __future__ import annotations

import csv
import os
import random
import subprocess
import sys
from pathlib import Path

from PIL import Image, ImageDraw

COLOURS = ("red", "green", "blue", "yellow", "white", "purple")
SHAPES = ("circle", "square", "triangle")
PLACES = {
    "top left": (0.3, 0.3),
    "top right": (0.7, 0.3),
    "bottom left": (0.3, 0.7),
    "bottom right": (0.7, 0.7),
}


def dataset(work: Path) -> tuple[Path, Path]:
    """The captions and the folder of pictures: what the environment names, or else drawn below ``work``."""
    named = os.environ.get("GPUCAPT_DATASET"), os.environ.get("GPUCAPT_IMAGES")
    return (Path(named[0]), Path(named[1])) if named[0] and named[1] else draw_dataset(work)


def draw_dataset(folder: Path, pictures: int = 200, size: int = 96, seed: int = 0) -> tuple[Path, Path]:
    """Draw a coloured shape a picture and say so in two ways; → (captions.csv, the folder of pictures)."""
    captions, images = folder / "captions.csv", folder / "pictures"
    images.mkdir(parents=True, exist_ok=True)
    choose = random.Random(seed)
    with captions.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["image", "caption"])
        for number in range(pictures):
            colour, shape, place = map(choose.choice, (COLOURS, SHAPES, list(PLACES)))
            name = f"{number:04}.jpg"
            _draw(colour, shape, PLACES[place], size, choose).save(images / name, quality=92)
            table.writerow([name, f"a {colour} {shape} at the {place}"])
            table.writerow([name, f"at the {place} is a {colour} {shape}"])
    return captions, images


def _draw(
    colour: str, shape: str, place: tuple[float, float], size: int, choose: random.Random
) -> Image.Image:
    image = Image.new("RGB", (size, size), (choose.randint(40, 90),) * 3)
    pen = ImageDraw.Draw(image)
    x, y = ((part + choose.uniform(-0.06, 0.06)) * size for part in place)
    half = size * choose.uniform(0.15, 0.22)
    box = (x - half, y - half, x + half, y + half)
    if shape == "circle":
        pen.ellipse(box, fill=colour)
    elif shape == "square":
        pen.rectangle(box, fill=colour)
    else:
        pen.polygon([(x, y - half), (x - half, y + half), (x + half, y + half)], fill=colour)
    return image


def gpucapt(*arguments: str | Path) -> None:
    """Run a command as one would at a prompt, in this notebook's environment; fail where it does."""
    line = [sys.executable, "-m", "pipeline", *map(str, arguments)]
    print("gpucapt", *arguments)
    ended = subprocess.run(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    told = "\n".join(ended.stdout.splitlines()[-12:])
    if ended.returncode != 0:
        raise RuntimeError(f"it ended with {ended.returncode}:\n{told}")
    print(told)
