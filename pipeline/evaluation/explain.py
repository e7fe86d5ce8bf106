"""What `gpucapt explain` does: a figure of each picture, with its caption and where each word came from."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from model.errors import GpucaptError
from pipeline.captioning.single_picture import captions_by_beam_size, read_picture
from pipeline.errors import BadInput, StorageUnavailable, WrongUsage, one_line
from pipeline.models.resolve import resolve_model
from pipeline.records.settings import CaptionSettings, Resources
from pipeline.storage import staging
from pipeline.storage.open import is_s3
from pipeline.storage.versions import OURS

if TYPE_CHECKING:
    from model.captioner import Captioner


class Explaining:
    """One model, any number of pictures; with `beams` one caption for each beam size beside each other."""

    def __init__(self, settings: CaptionSettings, resources: Resources, *, beams: bool = False) -> None:
        self._settings = settings
        self._resources = resources
        self._beams = beams

    def run(self, images: Sequence[str], out: str | None) -> int:
        """Draw them all; the exit status. A picture that cannot be used costs one line, and itself."""
        named = dict(zip(images, _targets(images, out), strict=True))
        _check_targets(named)
        captioner = self._load()
        done = 0
        for image, target in named.items():
            try:
                captions = self._draw(captioner, image, target)
            except StorageUnavailable:
                raise
            except BadInput as error:
                print(f"gpucapt: {error}", file=sys.stderr)
            else:
                done += 1
                for label, caption in captions.items():
                    print(f"{one_line(target)}:{label} {caption}", flush=True)
        return 0 if done == len(named) else 3 if done else 1

    def _load(self) -> Captioner:
        model = resolve_model(self._settings.model)
        from model.captioner import load_captioner

        captioner = load_captioner(
            model.directory, device=self._resources.device, precision=self._settings.precision
        )
        if not captioner.decoder.attends:
            raise GpucaptError(
                f"{model.name} cannot be explained: its decoder, {captioner.config.decoder['name']}, looks at"
                " the picture as a whole and not at places; attention_lstm and transformer do"
            )
        return captioner

    def _draw(self, captioner: Captioner, image: str, target: str) -> dict[str, str]:
        from pipeline.evaluation.attention_figure import FigureRow, draw

        picture = read_picture(image, whole=captioner.prepare.whole)
        captions = captions_by_beam_size(captioner, picture, self._settings, each=self._beams)
        rows = [
            FigureRow(f"beam {size}" if self._beams else "", caption) for size, caption in captions.items()
        ]
        png = draw(picture, rows, captioner.config.preparation, title=one_line(_name(image)))
        with staging.output_file(target) as path:
            _write(path, png, target)
        return {f" {row.label}:" if row.label else "": row.caption.text or "(no words)" for row in rows}


def _write(path: Path, png: bytes, target: str) -> None:
    fresh = path.with_name(f"{OURS}{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_bytes(png)
        fresh.replace(path)
    except OSError as error:
        raise GpucaptError(f"{one_line(target)} cannot be written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            fresh.unlink()


def _name(image: str) -> str:
    return PurePosixPath(image.rstrip("/")).name or "picture"


def _targets(images: Sequence[str], out: str | None) -> list[str]:
    """Where each figure goes; two pictures of one name get two files."""
    if out == "":
        raise WrongUsage("--out is empty; name a file or a folder, . for the current one")
    if len(set(images)) < len(images):
        raise WrongUsage("a picture is named twice; name each once")
    if len(images) > 1 and out is not None and out.lower().endswith(".png"):
        raise WrongUsage(f"{out} would be one figure of several pictures; name a folder for them")
    single = out is not None and len(images) == 1 and not _is_folder(out)
    if out is not None and single:
        return [out]
    names: list[str] = []
    for image in images:
        stem = PurePosixPath(_name(image)).stem
        name, number = f"{stem}.explained.png", 1
        while name in names:
            number += 1
            name = f"{stem}-{number}.explained.png"
        names.append(name)
    return names if out is None else [f"{out.rstrip('/')}/{name}" for name in names]


def _is_folder(out: str) -> bool:
    """Of one picture, OUT is a folder where there is such a folder, or it is written as one."""
    try:
        return out.endswith("/") or (not is_s3(out) and staging.local(out).is_dir())
    except OSError:  # a name that is too long
        return False


def _check_targets(named: dict[str, str]) -> None:
    """Raises GpucaptError where a figure would replace a picture, or what is no file."""
    pictures = {staging.identity(image) for image in named} - {None}
    for target in named.values():
        staging.check_output_file(target)
        if staging.identity(target) in pictures:
            raise WrongUsage(f"{one_line(target)} is one of the pictures; name another file for the figure")
