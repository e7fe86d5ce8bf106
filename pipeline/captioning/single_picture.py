"""One picture, wherever it lies: read, captioned (with several beam sizes), and as material of a story."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from pipeline.errors import BadInput, WrongUsage
from pipeline.records.row import Row
from pipeline.records.settings import CaptionSettings, Resources
from pipeline.records.source_info import SourceInfo
from pipeline.stories import Material
from pipeline.stories.files import is_same_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from model.captioner import Caption, Captioner


def captions_by_beam_size(
    captioner: Captioner, picture: NDArray[np.uint8], settings: CaptionSettings, *, each: bool
) -> dict[int, Caption]:
    """Caption an RGB picture with the beam size of the settings; with `each`, with all from 1 up to it."""
    prepared = [captioner.prepare(picture)]
    sizes = range(1 if each else settings.beam_size, settings.beam_size + 1)
    return {
        size: captioner.caption(prepared, beam_size=size, max_length=settings.max_length)[0] for size in sizes
    }


def read_picture(place: str, *, whole: bool = False) -> NDArray[np.uint8]:
    """One picture, wherever it lies, as RGB; see `decode_still`. Raises BadInput where it is none."""
    from pipeline.media.images import decode_still
    from pipeline.sources.discovery import kind_of
    from pipeline.storage.open import is_s3, open_object, open_storage
    from pipeline.storage.staging import LARGEST_BYTES, identity

    storage, key = open_object(place)
    entry = storage.stat(key) if key else None
    if entry is None and open_storage(place).exists():
        raise BadInput(f"{place}: this is a folder; `gpucapt caption` takes folders")
    if entry is None and not is_s3(place) and identity(place) is not None:
        raise BadInput(f"{place}: this is a device or a pipe, not a file")
    if entry is None:
        raise BadInput(f"{place}: there is no such file")
    if entry.size > LARGEST_BYTES or kind_of(entry.name) == "video":
        raise BadInput(f"{place}: this is no picture; `gpucapt caption` takes films")
    return decode_still(storage.read(key), place, whole=whole)


def line_of_picture(place: str, out: str | None, settings: CaptionSettings, resources: Resources) -> str:
    """A picture's caption as the line that a story goes on by, which is to be written to another file. Raises
    BadInput where it is no picture.
    """
    if is_same_file(out, place):
        raise WrongUsage(f"the story would replace {place}; name another file")
    (row,) = picture_material(place, settings, resources).rows
    return f"Then: {row.caption}."


def picture_material(place: str, settings: CaptionSettings, resources: Resources) -> Material:
    """A picture's caption as material. Raises BadInput where it is no picture."""
    from pipeline.models.lazy_model import LazyModel
    from pipeline.models.resolve import resolve_model

    model = resolve_model(settings.model)
    pixels = read_picture(place, whole=model.sees_whole)
    captioner = LazyModel(model, settings, resources).load()
    (caption,) = captioner.caption(
        [captioner.prepare(pixels)], beam_size=settings.beam_size, max_length=settings.max_length
    )
    if not caption.words:
        raise BadInput(f"{place}: the model finds no words for it; begin the story with --text")
    name = PurePosixPath(place.replace("\\", "/")).name
    info = SourceInfo(name, "stills", model.name, model.version, "", unsure_below=model.unsure_below)
    row = Row(0, name, None, caption.text, list(caption.words), caption.log_prob)
    title = " ".join(PurePosixPath(name).stem.replace("_", " ").replace("-", " ").split())
    return Material(title[:1].upper() + title[1:] or name, name, info, [row])
