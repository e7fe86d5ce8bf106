"""`gpucapt import-checkpoint` on the command line."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(import_checkpoint)


def import_checkpoint(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE",
            help="All files of the captioner: its checkpoint, or encoder and decoder, and its vocabulary"
            " (WORDMAP_….json or a pickled one), in any order; also s3://bucket/key.",
        ),
    ],
    destination: Annotated[
        str, typer.Argument(help="A folder for the checkpoint, not there yet; also s3://bucket/prefix.")
    ],
) -> None:
    """Make a checkpoint of the files of an earlier captioner, without running anything that is in them.

    Known are the Show-Attend-and-Tell tutorial and those that docs/seeds.md names. The result is used with
    --model DESTINATION.
    """
    from pipeline.checkpoint_import.importer import import_checkpoint as run
    from pipeline.errors import one_line
    from pipeline.runtime.signals import raised_on_sigterm

    with raised_on_sigterm():
        name = run(files, destination)
    place = one_line(destination)
    typer.echo(f"{name} is in {place}; use it with --model {place}")
