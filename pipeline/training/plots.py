"""What people look at while a network trains: its curves, and captions of a few validation pictures.

Drawn after each epoch, into `curves.png` and `samples/<stage>-<epoch>.png` in OUT. A
picture that cannot be drawn costs nothing but itself.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from model.words import join
from pipeline.storage import staging

if TYPE_CHECKING:
    from PIL.Image import Image

    from model.training.epoch_log import Epoch, Listeners
    from pipeline.datasets.captioned_pictures import CaptionedPictures

log = logging.getLogger(__name__)

_PANELS = {
    "loss (cross-entropy a word)": ("train_loss", "val_loss"),
    "top-5 accuracy": ("train_top5", "val_top5"),
    "CIDEr of decoded validation captions": ("val_cider",),
    "reward (CIDEr-D of drawn captions)": ("train_reward",),
}
_WORDS_SHOWN = 12
_TILE, _LINE, _GAP = 128, 18, 4  # pixels: a picture, a line of text, between them


def listeners(data: Path, output: staging.Output) -> Listeners:
    """What to do after each epoch: draw, and send OUT where it lies in an object store."""
    from model.training.epoch_log import Listeners
    from pipeline.datasets.captioned_pictures import CaptionedPictures

    validation = CaptionedPictures(data, "val")

    def ended(epoch: Epoch) -> None:
        try:
            draw_curves(output.path)
            draw_samples(output.path / "samples" / f"{epoch.stage}-{epoch.number:03d}.png", epoch, validation)
        except (OSError, ValueError) as error:
            log.warning("epoch %d could not be drawn: %s", epoch.number, error)
        output.save_now_and_then()

    return Listeners(ended)


def read_curves(out: Path) -> tuple[dict[str, list[tuple[int, float]]], dict[str, int]]:
    """All stages' figures one after the other: (epoch, value) by name, and the epoch each stage begins at."""
    from model.training.epoch_log import read_rows

    curves: dict[str, list[tuple[int, float]]] = defaultdict(list)
    begins: dict[str, int] = {}
    for number, row in enumerate(read_rows(out / "metrics.csv"), start=1):
        begins.setdefault(row["stage"], number)
        for name in (name for names in _PANELS.values() for name in names if row[name]):
            curves[name].append((number, float(row[name])))
    return curves, begins


def draw_curves(out: Path) -> None:
    """`curves.png`: loss, accuracy, CIDEr and reward over the epochs of all stages."""
    from matplotlib.figure import Figure

    curves, begins = read_curves(out)
    panels = {title: names for title, names in _PANELS.items() if any(name in curves for name in names)}
    if not panels:
        return
    figure = Figure(figsize=(5 * len(panels), 3.6), layout="constrained")
    row = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, names) in zip(row, panels.items(), strict=True):
        for name in (name for name in names if name in curves):
            epochs, values = zip(*curves[name], strict=True)
            axes.plot(epochs, values, marker="o", markersize=3, label=name.partition("_")[0])
        for stage, epoch in begins.items():
            if epoch > 1:
                axes.axvline(epoch - 0.5, color="gray", linewidth=0.8, linestyle="--")
                place = {"transform": axes.get_xaxis_transform(), "va": "top"}
                axes.text(epoch - 0.5, 1.0, f" {stage}", fontsize=7, **place)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if len(names) > 1:
            axes.legend(fontsize=8)
    _save(figure, out / "curves.png")


def draw_samples(path: Path, epoch: Epoch, pictures: CaptionedPictures) -> None:
    """A row a picture: itself, then for each of its caption's words where the decoder looked, in light."""
    from PIL import Image, ImageDraw, ImageFont

    samples = [sample for sample in epoch.samples if sample.words]
    if not samples:
        return
    columns = 1 + min(_WORDS_SHOWN, max(len(sample.words) for sample in samples))
    row_height = _TILE + 2 * _LINE
    sheet = Image.new("RGB", (columns * (_TILE + _GAP), len(samples) * (row_height + _GAP)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(_LINE - 4)
    for number, sample in enumerate(samples):
        top = number * (row_height + _GAP)
        pixels = np.moveaxis(pictures.batch([sample.index])["pictures"][0], 0, 2)
        picture = Image.fromarray(pixels).resize((_TILE, _TILE), Image.Resampling.BILINEAR)
        pen.text((2, top), join(sample.words), fill="black", font=font)
        sheet.paste(picture, (0, top + _LINE))
        seen = zip(sample.words[: columns - 1], sample.attention, strict=False)  # not every decoder looks
        for column, (word, attention) in enumerate(seen, start=1):
            left = column * (_TILE + _GAP)
            sheet.paste(_lit(picture, attention), (left, top + _LINE))
            pen.text((left + 2, top + _LINE + _TILE), word, fill="black", font=font)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".tmp")
    sheet.save(fresh, format="png")
    fresh.replace(path)


def _lit(picture: Image, attention: NDArray[np.float32]) -> Image:
    """The picture dark, but for where attention (rows, columns) is."""
    from PIL import Image as Images

    light = Images.fromarray((attention / max(float(attention.max()), 1e-12)).astype(np.float32))
    shades = np.asarray(light.resize(picture.size, Images.Resampling.BICUBIC)).clip(0, 1)
    return Images.fromarray((np.asarray(picture) * (0.2 + 0.8 * shades[:, :, None])).astype(np.uint8))


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".tmp")
    figure.savefig(fresh, dpi=90, format="png")
    fresh.replace(path)
