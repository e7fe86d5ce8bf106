"""The command line. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from typing import Annotated, TextIO

import typer

from model.errors import GpucaptError
from pipeline.cli import options
from pipeline.cli import stream_options as streams
from pipeline.cli.ask import ask
from pipeline.cli.datasets import register as register_datasets
from pipeline.cli.evaluate import register as register_evaluation
from pipeline.cli.export import register as register_export
from pipeline.cli.import_checkpoint import register as register_importing
from pipeline.cli.ingest import ingest
from pipeline.cli.models import register as register_promotion
from pipeline.cli.serve import register as register_serve
from pipeline.cli.story import story
from pipeline.cli.train import register as register_training
from pipeline.errors import WrongUsage
from pipeline.runtime.cpu_limits import limit_threads
from pipeline.runtime.malloc import keep_freed_memory
from pipeline.runtime.result_file import last_line_kept
from pipeline.runtime.signals import Interrupted, end_on_sigterm_as_first_process
from pipeline.training.launcher import left_to_launcher

_EXTRAS = {
    **dict.fromkeys(("torch", "torchvision", "cv2", "h5py", "safetensors", "numpy", "PIL"), "worker"),
    **dict.fromkeys(("onnx", "onnxscript", "onnxruntime"), "export"),
    **dict.fromkeys(("fastapi", "uvicorn", "starlette", "python_multipart", "prometheus_client"), "web"),
    **dict.fromkeys(("lightning", "pycocoevalcap", "yaml", "tensorboard"), "train"),
}
"""Packages that only some commands need, and the extra that brings them."""

app = typer.Typer(
    name="gpucapt",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(ingest)
app.add_typer(story)
register_datasets(app)
register_training(app)
register_evaluation(app)
register_promotion(app)
register_serve(app)
register_importing(app)
register_export(app)
app.command()(ask)


def _tell_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"gpucapt {version('gpucapt')}")
        except PackageNotFoundError:
            typer.echo("gpucapt, not installed")
        raise typer.Exit


@app.callback()
def common(
    debug: Annotated[
        bool, typer.Option("--debug", envvar="GPUCAPT_DEBUG", help="Show where errors come from.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_tell_version, help="Tell the version.")
    ] = False,
) -> None:
    """Captions, reports and stories for videos and photographs."""
    _log_to_stderr(logging.DEBUG if debug else logging.INFO)


@app.command()
def caption(
    source: Annotated[
        str,
        typer.Argument(
            help="A folder of videos and photographs, or one file, also s3://bucket/prefix; a camera"
            " (/dev/video0) or a stream (rtsp://…, http://…, udp://…)."
        ),
    ],
    destination: Annotated[
        str, typer.Argument(help="A folder for the results, made if need be; also s3://bucket/prefix.")
    ],
    model: options.Model = None,
    beam_size: options.BeamSize = 5,
    max_length: options.MaxLength = 40,
    batch_size: options.BatchSize = "auto",
    precision: options.Precision = "auto",
    device: options.Device = "auto",
    every: options.Every = None,
    fps: options.Fps = None,
    scenes: options.Scenes = False,
    max_frames: options.MaxFrames = None,
    skip_duplicates: options.SkipDuplicates = False,
    video_backend: options.VideoBackend = "auto",
    story: options.Story = "outline",
    exclude: options.Exclude = None,
    include: options.Include = None,
    workers: options.Workers = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", envvar="GPUCAPT_OVERWRITE", help="Caption again what is done already."),
    ] = False,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed", envvar="GPUCAPT_RETRY_FAILED", help="Look again at stills that were set aside."
        ),
    ] = False,
    segment: streams.Segment = 60.0,
    duration: streams.Duration = None,
    reconnect: streams.Reconnect = 300.0,
    stream_name: streams.StreamName = None,
    progress: options.ShowProgress = "auto",
) -> None:
    """Caption every video and every folder of photographs in SOURCE that is not done yet.

    A camera or a stream is captioned as it comes, in segments, until it is over, --duration is, or Ctrl-C.

    Exit status: 0 all done, or nothing left to do; 3 done, but some input was set aside, or a story could not
    be told (the reasons are in DESTINATION/runs/…/summary.json); 1 nothing could be done; 2 wrong usage.
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
    resources = options.resources(device=device, batch_size=batch_size, workers=workers)
    if streams.is_stream(source):
        code = streams.caption_stream(
            source,
            destination,
            settings,
            resources,
            segment=segment,
            duration=duration,
            reconnect=reconnect,
            stream_name=stream_name,
            progress=progress,
        )
        raise typer.Exit(code)
    streams.refuse_of_files(duration, stream_name)
    from pipeline.storage.open import refuse_overlap

    try:
        refuse_overlap(source, destination)
    except GpucaptError as error:
        raise typer.BadParameter(str(error)) from error
    from pipeline.captioning.run import CaptionRun

    run = CaptionRun(source, destination, settings, resources, overwrite, retry_failed, progress, choice)
    raise typer.Exit(run.run())


def main() -> None:
    """Run the command line: errors that people can mend are one line, others are said to be bugs."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    debug = "--debug" in sys.argv
    if debug:
        # Wherever it stands: people add it to the end of a command that failed.
        sys.argv = [sys.argv[0], "--debug", *(word for word in sys.argv[1:] if word != "--debug")]
    debug = debug or os.environ.get("GPUCAPT_DEBUG", "").lower() in ("1", "true", "yes", "on")
    if set(sys.argv[1:]) <= {"--debug"} and sys.stdin.isatty() and sys.stdout.isatty():
        # A person who says nothing more, such as `docker run -it gpucapt`; anyone else is shown the help.
        sys.argv.append("ask")
    end_on_sigterm_as_first_process()
    limit_threads()
    keep_freed_memory()
    try:
        with last_line_kept(os.environ.get("GPUCAPT_RESULT_FILE")):
            app()
    except GpucaptError as error:
        code = 2 if isinstance(error, WrongUsage) else 1
        _end(" ".join(str(error).split()), code, debug)
    except Interrupted as error:
        # Threads may be in the middle of a batch; what is safe is on disk, and nothing waits for them.
        _end(str(error), 128 + error.signal_number, debug)
    except Exception as error:
        _end(_unexpected(error), 1, debug)


def _unexpected(error: Exception) -> str:
    """A missing package of an extra that is not installed, or a bug."""
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    extra = _EXTRAS.get((missing or "").partition(".")[0])
    if extra is not None:
        return f"this needs {missing}, which is not installed: pip install 'gpucapt[{extra}]'"
    text = " ".join(str(error).split())
    return f"internal error: {type(error).__name__}: {text}; --debug shows where"


def _end(reason: str, code: int, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    transfers = sys.modules.get("pipeline.storage.s3.multipart")
    if transfers is not None:  # its threads end with the process: what they are uploading must not remain
        transfers.abort_all()
    if not left_to_launcher(reason):
        print(f"gpucapt: {reason}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to what is the standard error at the time, so that a progress bar and log lines keep apart."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


def _log_to_stderr(level: int) -> None:
    handler = _Stderr()
    form = "gpucapt: %(message)s" if sys.stderr.isatty() else "%(asctime)s %(levelname)s gpucapt %(message)s"
    handler.setFormatter(logging.Formatter(form))
    for name in ("gpucapt", "pipeline", "model"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False


if __name__ == "__main__":
    main()
