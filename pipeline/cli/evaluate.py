"""`gpucapt evaluate` on the command line."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from pipeline.cli import options


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(evaluate)


def evaluate(
    model: Annotated[str, typer.Argument(help="A checkpoint directory, or a registered model.")],
    data: Annotated[str, typer.Argument(help="What `gpucapt preprocess` made.")],
    split: options.Split = "test",
    beam_size: options.BeamSize = 5,
    max_length: options.MaxLength = 40,
    out: Annotated[
        str | None,
        typer.Option(envvar="GPUCAPT_OUT", help="A folder for the captions and scores of each picture."),
    ] = None,
    batch_size: options.EvaluationBatchSize = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    limit: Annotated[
        int | None, typer.Option(envvar="GPUCAPT_LIMIT", help="Only the first so many pictures.")
    ] = None,
) -> None:
    """Caption a split by beam search and score the captions; prints the scores as JSON."""
    from pipeline.evaluation.evaluate import Evaluating, run_evaluate
    from pipeline.runtime.signals import raised_on_sigterm

    how = Evaluating(split, beam_size, max_length, batch_size, device, precision, limit)
    with raised_on_sigterm():
        scores = run_evaluate(model, data, how, out)
    typer.echo(json.dumps(scores))
