"""`gpucapt preprocess` and `import-dataset` on the command line."""

from __future__ import annotations

import json
import signal
from typing import Annotated, Any

import typer

from model.words import DEFAULT_TOKENIZER


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(preprocess)
    app.command("import-dataset")(import_dataset)


def preprocess(
    dataset: Annotated[
        str,
        typer.Argument(
            help="Captions: Karpathy's JSON, COCO's captions_*.json (or their folder), Flickr's .token.txt,"
            " or CSV with the columns image,caption."
        ),
    ],
    images: Annotated[str, typer.Argument(help="The folder of the pictures.")],
    out: Annotated[str, typer.Argument(help="A folder for the HDF5 and JSON files.")],
    min_word_freq: Annotated[
        int,
        typer.Option(envvar="GPUCAPT_MIN_WORD_FREQ", help="A word that is not more frequent is unknown."),
    ] = 5,
    max_length: Annotated[
        int, typer.Option(envvar="GPUCAPT_MAX_LENGTH", help="Words a caption, at most.")
    ] = 50,
    captions_per_image: Annotated[
        int,
        typer.Option(
            envvar="GPUCAPT_CAPTIONS_PER_IMAGE", help="More are sampled from, fewer repeated to reach it."
        ),
    ] = 5,
    image_size: Annotated[
        int, typer.Option(envvar="GPUCAPT_IMAGE_SIZE", help="Side of the square, in pixels.")
    ] = 256,
    tokenizer: Annotated[
        str,
        typer.Option(
            envvar="GPUCAPT_TOKENIZER",
            metavar="auto|words",
            help="How captions in scripts without blanks become words: each character is one, or what stands"
            " between blanks in them.",
        ),
    ] = DEFAULT_TOKENIZER,
    vocabulary: Annotated[
        str | None,
        typer.Option(
            envvar="GPUCAPT_VOCABULARY",
            metavar="FILE",
            help="A WORDMAP_….json, a checkpoint's vocabulary.json or a vocab.pkl.",
            show_default="the train split's words",
        ),
    ] = None,
    splits: Annotated[
        str | None,
        typer.Option(
            envvar="GPUCAPT_SPLITS",
            metavar="TRAIN,VAL,TEST",
            help="Make splits of these shares.",
            show_default="those of DATASET, else 0.8,0.1,0.1",
        ),
    ] = None,
    split_seed: Annotated[
        int, typer.Option(envvar="GPUCAPT_SPLIT_SEED", help="Another number, other splits.")
    ] = 123,
    dataset_name: Annotated[
        str | None,
        typer.Option(
            envvar="GPUCAPT_DATASET_NAME",
            metavar="NAME",
            help="Part of the files' names.",
            show_default="DATASET's",
        ),
    ] = None,
    max_bad: Annotated[
        int, typer.Option(envvar="GPUCAPT_MAX_BAD", help="Pictures left out, at most, before it is an error.")
    ] = 100,
    workers: Annotated[
        int | None,
        typer.Option(
            envvar="GPUCAPT_WORKERS", help="Processes that decode pictures.", show_default="the cores"
        ),
    ] = None,
) -> None:
    """Make a dataset of pictures and captions ready for training.

    Does nothing where OUT holds the same already; goes on where a run was killed. dataset.html in OUT shows
    what it consists of.
    """
    from pipeline.datasets.job import run_preprocess
    from pipeline.runtime.signals import Interrupted, raised_on_sigterm

    settings: dict[str, Any] = {
        "min_word_freq": min_word_freq,
        "max_length": max_length,
        "captions_per_image": captions_per_image,
        "image_size": image_size,
        "tokenizer": tokenizer,
        "seed": split_seed,
        "max_bad": max_bad,
    }
    if workers is not None:
        settings["workers"] = workers
    try:
        with raised_on_sigterm():
            result = run_preprocess(
                dataset, images, out, vocabulary=vocabulary, splits=splits, name=dataset_name, **settings
            )
    except KeyboardInterrupt as error:
        raise Interrupted(signal.SIGINT) from error
    typer.echo(json.dumps(result))


def import_dataset(
    folder: Annotated[
        str, typer.Argument(help="Where TRAIN_IMAGES_….hdf5, …_CAPTIONS_….json and WORDMAP_….json lie.")
    ],
    channels: Annotated[
        str,
        typer.Option(
            envvar="GPUCAPT_CHANNELS",
            metavar="rgb|bgr",
            help="The order in the HDF5 files; bgr where OpenCV has read the pictures, unconverted.",
        ),
    ] = "rgb",
) -> None:
    """Make HDF5 files that an earlier captioner has preprocessed usable where they lie.

    Checks them, and writes dataset.json and references beside them; changes nothing that is there.
    """
    from pipeline.datasets.job import run_import_dataset

    if channels not in ("rgb", "bgr"):
        raise typer.BadParameter(f"channels must be rgb or bgr, not {channels!r}")
    typer.echo(json.dumps(run_import_dataset(folder, channels)))
