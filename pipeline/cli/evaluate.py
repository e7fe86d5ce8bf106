"""`gpucapt evaluate` on the command line."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(evaluate)


def evaluate(
    model: Annotated[str, typer.Argument(help="A checkpoint directory, or a registered model.")],
    data: Annotated[str, typer.Argument(help="What `gpucapt preprocess` made.")],
    split: Annotated[str, typer.Option(envvar="GPUCAPT_SPLIT")] = "test",
    beam_size: Annotated[int, typer.Option(envvar="GPUCAPT_BEAM_SIZE")] = 5,
    max_length: Annotated[int, typer.Option(envvar="GPUCAPT_MAX_LENGTH")] = 40,
    out: Annotated[
        str | None,
        typer.Option(envvar="GPUCAPT_OUT", help="A folder for the captions and scores of each picture."),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(envvar="GPUCAPT_BATCH_SIZE")] = None,
    device: Annotated[str, typer.Option(envvar="GPUCAPT_DEVICE", metavar="auto|cpu|cuda:N")] = "auto",
    precision: Annotated[
        str, typer.Option(envvar="GPUCAPT_PRECISION", metavar="auto|fp32|bf16|fp16")
    ] = "auto",
    limit: Annotated[int | None, typer.Option(envvar="GPUCAPT_LIMIT", help="Only the first so many.")] = None,
) -> None:
    """Caption a split by beam search and score the captions; prints the scores as JSON."""
    from pipeline.evaluation.evaluate import Evaluating, run_evaluate
    from pipeline.runtime.signals import raised_on_sigterm

    how = Evaluating(split, beam_size, max_length, batch_size, device, precision, limit)
    with raised_on_sigterm():
        scores = run_evaluate(model, data, how, out)
    typer.echo(json.dumps(scores))
