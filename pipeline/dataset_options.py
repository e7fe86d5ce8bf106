"""`gpucapt preprocess` on the command line."""

from __future__ import annotations

from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(preprocess)


def preprocess(
    dataset: Annotated[str, typer.Argument(help="Captions: a JSON file as Karpathy's.")],
    images: Annotated[str, typer.Argument(help="The folder of the pictures.")],
    out: Annotated[str, typer.Argument(help="A folder for the HDF5 and JSON files.")],
    min_word_freq: Annotated[
        int, typer.Option(envvar="GPUCAPT_MIN_WORD_FREQ", help="Rarer words are unknown.")
    ] = 5,
    max_length: Annotated[
        int, typer.Option(envvar="GPUCAPT_MAX_LENGTH", help="Words a caption, at most.")
    ] = 50,
    captions_per_image: Annotated[int, typer.Option(envvar="GPUCAPT_CAPTIONS_PER_IMAGE")] = 5,
    image_size: Annotated[
        int, typer.Option(envvar="GPUCAPT_IMAGE_SIZE", help="Side of the square, in pixels.")
    ] = 256,
    max_bad: Annotated[
        int, typer.Option(envvar="GPUCAPT_MAX_BAD", help="Pictures left out, at most, before it is an error.")
    ] = 100,
    workers: Annotated[
        int | None, typer.Option(envvar="GPUCAPT_WORKERS", help="[default: the cores]")
    ] = None,
) -> None:
    """Make a dataset of pictures and captions ready for training."""
    from pipeline.dataset_commands import run_preprocess
    from pipeline.interruption import raised_on_sigterm

    settings: dict[str, Any] = {
        "min_word_freq": min_word_freq,
        "max_length": max_length,
        "captions_per_image": captions_per_image,
        "image_size": image_size,
        "max_bad": max_bad,
    }
    if workers is not None:
        settings["workers"] = workers
    with raised_on_sigterm():
        run_preprocess(dataset, images, out, **settings)
