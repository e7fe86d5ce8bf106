"""`gpucapt export`, `explain` and `coco-results` on the command line."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli import options


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(export)
    app.command()(explain)
    app.command()(coco_results)


def _check_format(kind: str) -> str:
    if kind not in ("onnx", "torchscript"):
        raise typer.BadParameter(f"format must be onnx or torchscript, not {kind!r}")
    return kind


def export(
    checkpoint: Annotated[
        str, typer.Argument(help="A checkpoint directory, or a registered model, or bundled.")
    ],
    destination: Annotated[str, typer.Argument(help="A folder for the graphs; also s3://bucket/prefix.")],
    kind: Annotated[
        str,
        typer.Option(
            "--format",
            envvar="GPUCAPT_EXPORT_FORMAT",
            metavar="onnx|torchscript",
            callback=_check_format,
            help="For ONNX Runtime and its like, or for torch without gpucapt.",
        ),
    ] = "onnx",
) -> None:
    """Write a checkpoint as graphs that other programs run: docs/export.md has a short one."""
    from pipeline.models.export import run_export
    from pipeline.runtime.signals import raised_on_sigterm

    with raised_on_sigterm():
        run_export(checkpoint, destination, kind)
    typer.echo(f"{destination}: encoder, decoder, vocabulary.json and export.json ({kind})")


def explain(
    images: Annotated[list[str], typer.Argument(help="Pictures: paths or s3://… objects.")],
    out: Annotated[
        str | None,
        typer.Option(
            envvar="GPUCAPT_EXPLAIN_OUT",
            metavar="FILE.png|FOLDER",
            help="The figure; of several pictures a folder for them.",
            show_default="NAME.explained.png, here",
        ),
    ] = None,
    beams: options.Beams = False,
    model: options.Model = None,
    beam_size: options.BeamSize = 5,
    max_length: options.MaxLength = 40,
    precision: options.Precision = "auto",
    device: options.Device = "auto",
) -> None:
    """Draw where the captioner looks, word by word, as a PNG of each picture.

    Exit status: 0 all done; 3 done, but some pictures could not be used; 1 none could.
    """
    settings = options.caption_settings(
        model=model, beam_size=beam_size, max_length=max_length, precision=precision
    )
    resources = options.resources(device=device)
    from pipeline.evaluation.explain import Explaining

    raise typer.Exit(Explaining(settings, resources, beams=beams).run(images, out))


def coco_results(
    image_info: Annotated[
        str, typer.Argument(help="COCO's list of pictures, such as image_info_test2014.json.")
    ],
    images: Annotated[str, typer.Argument(help="The folder that the pictures are in; also s3://bucket/…")],
    out: Annotated[str, typer.Argument(help="The file of results to write; also s3://bucket/….json")],
    model: options.Model = None,
    beam_size: options.BeamSize = 5,
    max_length: options.MaxLength = 40,
    batch_size: options.BatchSize = "auto",
    precision: options.Precision = "auto",
    device: options.Device = "auto",
    workers: options.Workers = None,
) -> None:
    """Caption the pictures that COCO lists, annotated or not, and write COCO's results JSON.

    OUT appears when it is whole. What is stopped or killed goes on where it was, when OUT is a local file.
    Exit status: 0 all done; 3 done, but some pictures could not be used; 1 none could.
    """
    settings = options.caption_settings(
        model=model, beam_size=beam_size, max_length=max_length, precision=precision
    )
    resources = options.resources(device=device, batch_size=batch_size, workers=workers)
    from pipeline.evaluation.coco_results import CocoResults
    from pipeline.runtime.signals import raised_on_sigterm

    with raised_on_sigterm():
        raise typer.Exit(CocoResults(settings, resources).run(image_info, images, out))
