"""The options that several commands share; each is also read from ``GPUCAPT_<OPTION>``."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from model.errors import GpucaptError
from pipeline.records.frame_selection import Selection
from pipeline.records.settings import CaptionSettings, Resources

if TYPE_CHECKING:
    from pipeline.sources.choice import Choice

Model = Annotated[
    str | None,
    typer.Option(
        envvar="GPUCAPT_MODEL",
        metavar="DIR|S3-URL|NAME[/VERSION]",
        help="Checkpoint directory, or a registered model.",
        show_default="the champion, else the bundled one",
    ),
]
BeamSize = Annotated[
    int, typer.Option(envvar="GPUCAPT_BEAM_SIZE", help="Hypotheses of the beam search; 1 is greedy.")
]
Beams = Annotated[
    bool,
    typer.Option(
        "--beams",
        envvar="GPUCAPT_BEAMS",
        help="A caption for each beam size from 1 to --beam-size, beside each other.",
    ),
]
MaxLength = Annotated[int, typer.Option(envvar="GPUCAPT_MAX_LENGTH", help="Words a caption, at most.")]
Precision = Annotated[
    str,
    typer.Option(
        envvar="GPUCAPT_PRECISION",
        metavar="auto|fp32|bf16|fp16",
        help="Floating-point precision; auto: what the device does best.",
    ),
]
Every = Annotated[
    float | None,
    typer.Option(
        envvar="GPUCAPT_EVERY",
        metavar="SECONDS",
        help="One frame of a video each so many seconds.",
        show_default="1",
    ),
]
Fps = Annotated[
    float | None, typer.Option(envvar="GPUCAPT_FPS", help="So many frames of a video each second.")
]
Scenes = Annotated[
    bool, typer.Option("--scenes", envvar="GPUCAPT_SCENES", help="One frame of each scene of a video.")
]
MaxFrames = Annotated[
    int | None, typer.Option(envvar="GPUCAPT_MAX_FRAMES", help="Stop after so many frames of a source.")
]
SkipDuplicates = Annotated[
    bool,
    typer.Option(
        "--skip-duplicates",
        envvar="GPUCAPT_SKIP_DUPLICATES",
        help="Leave out frames that look like the last one.",
    ),
]
VideoBackend = Annotated[
    str,
    typer.Option(
        envvar="GPUCAPT_VIDEO_BACKEND",
        metavar="auto|opencv|pyav",
        help="What decodes videos; auto: what is right for the file.",
    ),
]
Story = Annotated[
    str, typer.Option(envvar="GPUCAPT_STORY", metavar="outline|openai|none", help="Who tells the story.")
]
Device = Annotated[
    str,
    typer.Option(
        envvar="GPUCAPT_DEVICE",
        metavar="auto|cpu|cuda:N",
        help="Device to run the model on; auto: a GPU if there is one.",
    ),
]
BatchSize = Annotated[
    str,
    typer.Option(envvar="GPUCAPT_BATCH_SIZE", metavar="auto|N", help="Pictures that are captioned together."),
]
Workers = Annotated[
    int | None,
    typer.Option(envvar="GPUCAPT_WORKERS", help="Threads that decode.", show_default="the cores, at most 16"),
]
Split = Annotated[
    str, typer.Option(envvar="GPUCAPT_SPLIT", help="Split of the dataset to evaluate on: train, val or test.")
]
EvaluationBatchSize = Annotated[
    int | None,
    typer.Option(
        envvar="GPUCAPT_BATCH_SIZE",
        help="Pictures that are captioned together.",
        show_default="as suits the device",
    ),
]


def _check_progress(how: str) -> str:
    if how not in ("auto", "bar", "log", "none"):
        raise typer.BadParameter(f"progress must be auto, bar, log or none, not {how!r}")
    return how


ShowProgress = Annotated[
    str,
    typer.Option(
        "--progress",
        envvar="GPUCAPT_PROGRESS",
        metavar="auto|bar|log|none",
        help="How to show progress.",
        callback=_check_progress,
    ),
]


def _patterns(context: typer.Context, parameter: typer.CallbackParam, given: list[str] | None) -> list[str]:
    """Several in one variable are parted by commas: names have blanks, at which typer would part them."""
    source = context.get_parameter_source(str(parameter.name))
    if source is None or source.name != "ENVIRONMENT":
        return given or []
    return [part for text in os.environ[str(parameter.envvar)].split(",") if (part := text.strip())]


Exclude = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        envvar="GPUCAPT_EXCLUDE",
        metavar="PATTERN",
        help="Leave out files and folders of this name, as .gitignore names them. May be repeated; in the"
        " variable, patterns are parted by commas.",
        show_default="what a NAS or an editor leaves behind",
        callback=_patterns,
    ),
]
Include = Annotated[
    list[str] | None,
    typer.Option(
        "--include",
        envvar="GPUCAPT_INCLUDE",
        metavar="PATTERN",
        help="Take nevertheless what --exclude, or by its name the default, leaves out. May be repeated.",
        show_default="nothing",
        callback=_patterns,
    ),
]


def choice(exclude: list[str] | None, include: list[str] | None) -> Choice:
    """Which files are meant. Raises typer.BadParameter for what is no pattern."""
    from pipeline.sources.choice import Choice

    try:
        return Choice(exclude or (), include or ())
    except GpucaptError as error:
        raise typer.BadParameter(str(error)) from error


def caption_settings(
    *,
    model: str | None,
    beam_size: int,
    max_length: int,
    precision: str,
    every: float | None = None,
    fps: float | None = None,
    scenes: bool = False,
    max_frames: int | None = None,
    skip_duplicates: bool = False,
    video_backend: str = "auto",
    story: str = "outline",
) -> CaptionSettings:
    """The settings from what the command line says. Raises typer.BadParameter for what makes no sense."""
    given = [
        name for name, is_given in (("--every", every), ("--fps", fps), ("--scenes", scenes)) if is_given
    ]
    if len(given) > 1:
        raise typer.BadParameter(
            f"{' and '.join(given)} are different ways to choose frames; give one of them"
        )
    if every is None and fps is None and not scenes:
        every = 1.0
    try:
        selection = Selection(every, fps, scenes, max_frames, skip_duplicates)
        return CaptionSettings(selection, beam_size, max_length, precision, story, model, video_backend)
    except GpucaptError as error:
        raise typer.BadParameter(str(error)) from error


def resources(*, device: str, batch_size: str = "auto", workers: int | None = None) -> Resources:
    """The resources from what the command line says. Raises typer.BadParameter for what makes no sense.

    And ModuleNotFoundError where nothing is installed to work with: no input is to be blamed for that.
    """
    for name in ("torch", "torchvision", "av", "cv2", "numpy", "PIL"):
        if find_spec(name) is None:
            raise ModuleNotFoundError(name=name)
    size: int | None = None
    if batch_size != "auto":
        try:
            size = int(batch_size)
        except ValueError:
            raise typer.BadParameter(f"batch-size must be auto or a number, not {batch_size!r}") from None
    try:
        return Resources(device, size) if workers is None else Resources(device, size, workers)
    except GpucaptError as error:
        raise typer.BadParameter(str(error)) from error
