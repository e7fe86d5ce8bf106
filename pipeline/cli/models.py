"""`gpucapt promote`, `rollback` and `models` on the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli import options

if TYPE_CHECKING:
    from pipeline.models.registry import Champions, Version


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(promote)
    app.command()(rollback)
    app.command()(models)


def promote(
    model: Annotated[
        str, typer.Argument(help="A checkpoint directory or s3:// URL, or a registered NAME/VERSION.")
    ],
    name: Annotated[
        str | None,
        typer.Option(envvar="GPUCAPT_NAME", help="Under which name.", show_default="the checkpoint's"),
    ] = None,
    version: Annotated[
        str | None,
        typer.Option(
            envvar="GPUCAPT_MODEL_VERSION",
            help="Under which version.",
            show_default="the digest of the weights",
        ),
    ] = None,
    if_better: Annotated[
        str | None,
        typer.Option(
            envvar="GPUCAPT_IF_BETTER",
            metavar="DATA",
            help="Only if it beats the champion on this dataset, as `gpucapt preprocess` made it.",
        ),
    ] = None,
    split: options.Split = "test",
    metric: Annotated[str, typer.Option(envvar="GPUCAPT_METRIC", help="What has to be better.")] = "CIDEr",
    least_gain: Annotated[
        float, typer.Option(envvar="GPUCAPT_LEAST_GAIN", help="By how much at least.")
    ] = 0.0,
    evaluation: Annotated[
        str | None,
        typer.Option(
            envvar="GPUCAPT_EVALUATION",
            metavar="DIR",
            help="The OUT of its `gpucapt evaluate`.",
            show_default="evaluate it now",
        ),
    ] = None,
    beam_size: options.BeamSize = 5,
    max_length: options.MaxLength = 40,
    batch_size: options.EvaluationBatchSize = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
) -> None:
    """Register a model and make it the champion, which jobs use when no model is named.

    The registry is where GPUCAPT_MODELS says: a folder or s3://bucket/prefix.

    The last line is JSON: {"promoted": …, "version": …, "champion": …, "why": …}. That the champion
    is better, and stays, is no error.
    """
    from pipeline.evaluation.evaluate import Evaluating
    from pipeline.evaluation.promote import METRICS, Gate
    from pipeline.evaluation.promote import promote as run
    from pipeline.runtime.signals import raised_on_sigterm

    known = {one.lower(): one for one in METRICS}
    if metric.lower() not in known:
        raise typer.BadParameter(f"metric must be one of {', '.join(METRICS)}, not {metric!r}")
    gate = None
    if if_better is not None:
        how = Evaluating(split, beam_size, max_length, batch_size, device, precision)
        gate = Gate(if_better, known[metric.lower()], least_gain, how)
    with raised_on_sigterm():
        told = run(model, name=name, version=version, gate=gate, evaluation=evaluation)
    typer.echo(json.dumps(told, ensure_ascii=False))


def rollback() -> None:
    """Make the previous champion of the registry (GPUCAPT_MODELS) the champion again.

    The last line is JSON: {"champion": …, "withdrawn": …}.
    """
    from pipeline.evaluation.promote import rollback as run

    typer.echo(json.dumps(run(), ensure_ascii=False))


def models(
    as_json: Annotated[bool, typer.Option("--json", help="All that is known of them, as JSON.")] = False,
) -> None:
    """List the registered models, the latest first, and which of them is the champion.

    The registry is where GPUCAPT_MODELS says: a folder or s3://bucket/prefix.
    """
    from pipeline.models.registry import Registry

    registry = Registry.required()
    champions = registry.champions()
    found = sorted(registry.versions(), key=lambda one: (one.registered_at, one.id), reverse=True)
    if as_json:
        typer.echo(json.dumps(_as_json(champions, found), ensure_ascii=False, indent=2))
        return
    for line in _table([_row(champions, one) for one in found]):
        typer.echo(line)
    if not found:
        typer.echo(f"there is no model in {registry.url} yet; `gpucapt promote MODEL` registers one")


_HEADINGS = ("", "model", "registered", "BLEU-4", "CIDEr", "evaluated on")


def _row(champions: Champions, version: Version) -> tuple[str, ...]:
    best = champions.champion
    mark = "champion" if best is not None and best.id == version.id else ""
    scores = [f"{version.metrics[name]:.3f}" if name in version.metrics else "" for name in _HEADINGS[3:5]]
    about = version.evaluation
    where = f"{about.get('dataset')} {about.get('split')}" if about else ""
    return mark, version.id, version.registered_at[:16].replace("T", " "), *scores, where


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    lines = [_HEADINGS, *rows] if rows else []
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def _as_json(champions: Champions, found: list[Version]) -> dict[str, Any]:
    told = json.loads(champions.to_json())
    del told["format"]
    return {**told, "models": [{"id": one.id, **json.loads(one.to_json())} for one in found]}
