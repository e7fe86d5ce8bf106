"""`gpucapt ingest`: the three steps of the drop folder."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from model.errors import GpucaptError
from pipeline.cli import options
from pipeline.runtime.sizes import parse_size

ingest = typer.Typer(
    name="ingest", help="The drop folder, in three steps: plan, shard, finish.", no_args_is_help=True
)


@ingest.command()
def plan(
    incoming: Annotated[str, typer.Argument(envvar="GPUCAPT_INCOMING", help="The folder for new files.")],
    destination: Annotated[
        str, typer.Argument(envvar="GPUCAPT_DESTINATION", help="A folder for the results.")
    ],
    model: options.Model = None,
    beam_size: options.BeamSize = 5,
    max_length: options.MaxLength = 40,
    precision: options.Precision = "auto",
    every: options.Every = None,
    fps: options.Fps = None,
    scenes: options.Scenes = False,
    max_frames: options.MaxFrames = None,
    skip_duplicates: options.SkipDuplicates = False,
    video_backend: options.VideoBackend = "auto",
    story: options.Story = "outline",
    exclude: options.Exclude = None,
    include: options.Include = None,
    settle: Annotated[
        float,
        typer.Option(
            envvar="GPUCAPT_SETTLE",
            min=0,
            max=10**6,
            metavar="SECONDS",
            help="Leave files alone that are younger, and files on disk that still change.",
        ),
    ] = 10.0,
    shard_size: Annotated[
        str,
        typer.Option(
            envvar="GPUCAPT_SHARD_SIZE",
            help="About how much input a shard is, such as 500M or 2G. A larger film or folder is cut into"
            " pieces of this size, which are captioned by as many workers and joined at the end.",
        ),
    ] = "512M",
    shards: Annotated[
        int | None,
        typer.Option(
            envvar="GPUCAPT_SHARDS",
            min=1,
            max=1024,
            help="How many shards, rather than by size.",
            show_default="by size",
        ),
    ] = None,
    archive: Annotated[
        str | None,
        typer.Option(
            envvar="GPUCAPT_ARCHIVE", help="Where done inputs go.", show_default="archive beside INCOMING"
        ),
    ] = None,
    failed: Annotated[
        str | None,
        typer.Option(
            envvar="GPUCAPT_FAILED", help="Where bad inputs go.", show_default="failed beside INCOMING"
        ),
    ] = None,
    most_shards: Annotated[
        int,
        typer.Option(
            envvar="GPUCAPT_MOST_SHARDS", min=1, help="Never more shards than this; they grow instead."
        ),
    ] = 1024,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait", envvar="GPUCAPT_WAIT", help="First wait until what is arriving now has settled."
        ),
    ] = False,
) -> None:
    """Look at what is in INCOMING and cut it into shards.

    The last line is JSON, for `finish` and `shard`: {"run": …, "shards": […]}. With nothing to do there
    are no shards.
    """
    settings = options.caption_settings(
        model=model,
        beam_size=beam_size,
        max_length=max_length,
        precision=precision,
        every=every,
        fps=fps,
        scenes=scenes,
        max_frames=max_frames,
        skip_duplicates=skip_duplicates,
        video_backend=video_backend,
        story=story,
    )
    choice = options.choice(exclude, include)
    from pipeline.ingest.plan import Planning
    from pipeline.storage.open import refuse_overlap

    try:
        refuse_overlap(incoming, destination)
    except GpucaptError as error:
        raise typer.BadParameter(str(error)) from error
    size = _bytes(shard_size)
    planning = Planning(
        incoming, destination, settings, settle, size, shards, archive, failed, most_shards, wait, choice
    )
    typer.echo(json.dumps(planning.run()))


@ingest.command()
def shard(
    uri: Annotated[str, typer.Argument(metavar="URI", help="One of the shards that plan printed.")],
    device: options.Device = "auto",
    batch_size: options.BatchSize = "auto",
    workers: options.Workers = None,
    progress: options.ShowProgress = "auto",
) -> None:
    """Caption the sources of one shard. Ends well once it is recorded what became of each, good or bad."""
    from pipeline.ingest.shard import run_shard

    resources = options.resources(device=device, batch_size=batch_size, workers=workers)
    typer.echo(run_shard(uri, resources, progress))


@ingest.command()
def finish(run: Annotated[str, typer.Argument(metavar="RUN", help="The run that plan printed.")]) -> None:
    """Merge what the shards did, write the run's summary and table, and move the inputs away."""
    from pipeline.ingest.finish import finish as finish_run

    typer.echo(finish_run(run))


def _bytes(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise typer.BadParameter(f"shard-size {error}, not {text!r}") from error
