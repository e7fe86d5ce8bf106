"""A person at a terminal: asks for pictures, one at a time, and captions each."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from model.confidence import confidence
from model.errors import GpucaptError
from pipeline.captioning.single_picture import captions_by_beam_size, read_picture
from pipeline.cli import options
from pipeline.errors import one_line
from pipeline.models.lazy_model import LazyModel
from pipeline.models.resolve import resolve_model
from pipeline.records.settings import CaptionSettings, Resources
from pipeline.runtime.progress import waiting

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from model.captioner import Caption

QUESTION = "Picture (a path or s3://…; nothing to end): "


def ask(
    model: options.Model = None,
    beam_size: options.BeamSize = 5,
    beams: options.Beams = False,
    max_length: options.MaxLength = 40,
    precision: options.Precision = "auto",
    device: options.Device = "auto",
) -> None:
    """Ask for pictures at the terminal and caption each; the same as gpucapt alone."""
    settings = options.caption_settings(
        model=model, beam_size=beam_size, max_length=max_length, precision=precision
    )
    resources = options.resources(device=device)
    Prompt(settings, resources, beams=beams).run()


class Prompt:
    """One sitting: the model is loaded once, while the first path is being typed.

    With ``beams`` each picture gets a caption for each beam size up to that of the settings.
    """

    def __init__(self, settings: CaptionSettings, resources: Resources, *, beams: bool = False) -> None:
        self._settings = settings
        self._beams = beams
        model = resolve_model(settings.model)
        self._whole = model.sees_whole
        self._model = LazyModel(model, settings, resources)

    def run(self) -> None:
        """Ask until an empty line, the end of the input or Ctrl-C; what cannot be used costs one line."""
        _edit_lines()
        threading.Thread(target=self._load_early, name="model", daemon=True).start()
        while place := _asked():
            try:
                picture = read_picture(place, whole=self._whole)
            except GpucaptError as error:
                typer.echo(f"gpucapt: {one_line(str(error))}", err=True)
            else:
                for size, caption in self._captions(picture).items():
                    told = _told(caption, self._model.unsure_below)
                    typer.echo(f"  beam {size}{told}" if self._beams else told)

    def _load_early(self) -> None:
        # What goes wrong here goes wrong again, and is told, when the first picture needs the model.
        with contextlib.suppress(Exception):
            self._model.load()

    def _captions(self, picture: NDArray[np.uint8]) -> dict[int, Caption]:
        with waiting("loading the model"):
            captioner = self._model.load()
        return captions_by_beam_size(captioner, picture, self._settings, each=self._beams)


def _edit_lines() -> None:
    """Cursor keys, history and completion of paths, where Python has them."""
    with contextlib.suppress(ImportError):
        import readline

        readline.set_completer_delims("\n")
        readline.parse_and_bind("tab: complete")


def _asked() -> str:
    """What was typed or pasted, without the quotes that shells and file managers put around a path."""
    try:
        line = input(QUESTION).strip()
    except (EOFError, KeyboardInterrupt):
        typer.echo()
        return ""
    if len(line) > 1 and line[0] == line[-1] and line[0] in "'\"":
        line = line[1:-1]
    return str(Path(line).expanduser()) if line.startswith("~") else line


def _told(caption: Caption, unsure_below: float) -> str:
    sure = confidence(caption.log_prob, len(caption.words))
    doubt = ", unsure" if sure < unsure_below else ""
    return f"  {caption.text or '(no words)'}  (confidence {sure:.2f}{doubt})"
