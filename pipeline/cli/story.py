"""`gpucapt story`: stories from captions that are there already, from a picture or a text; turn by turn."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from pipeline.cli import options
from pipeline.errors import WrongUsage
from pipeline.stories.providers import PROVIDERS

story = typer.Typer(
    name="story", help="Tell stories from captions, a picture or a text.", no_args_is_help=True
)

_names = "|".join(PROVIDERS)
Provider = Annotated[
    str,
    typer.Option(envvar="GPUCAPT_PROVIDER", metavar=_names, help="Who tells it: rules, or a language model."),
]
OtherProvider = Annotated[
    str | None,
    typer.Option(
        envvar="GPUCAPT_PROVIDER",
        metavar=_names,
        help="Who tells it: rules, or a language model.",
        show_default="who told that turn before",
    ),
]
Steer = Annotated[
    str | None,
    typer.Option(envvar="GPUCAPT_STEER", metavar="LINE", help="A line of your own that says how it goes."),
]
File = Annotated[str, typer.Argument(metavar="STORY", help="A story.json.")]
Number = Annotated[int, typer.Argument(metavar="TURN", help="Which turn, from 1, as `show` numbers them.")]
Out = Annotated[
    str | None,
    typer.Option(
        envvar="GPUCAPT_OUT", help="Where to write the story, as JSON.", show_default="STORY itself"
    ),
]
Markdown = Annotated[
    str | None, typer.Option(envvar="GPUCAPT_MARKDOWN", metavar="FILE", help="Write it as Markdown, too.")
]


@story.callback()
def about() -> None:
    """Tell stories from captions, a picture or a text: begin, go on, steer, tell anew, drop, export."""


@story.command("new")
@story.command("NEW", hidden=True)
def new(
    out: Annotated[str, typer.Option(envvar="GPUCAPT_OUT", help="Where to write the story, as JSON.")],
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            envvar="GPUCAPT_FROM",
            metavar="CAPTIONS.JSON|PICTURE",
            help="A captions.json that gpucapt wrote, or a picture.",
        ),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            envvar="GPUCAPT_TEXT", help="A text to begin with instead; captions a line each, or prose."
        ),
    ] = None,
    provider: Provider = "outline",
    steer: Steer = None,
    markdown: Markdown = None,
    model: options.Model = None,
    beam_size: options.BeamSize = 5,
    max_length: options.MaxLength = 40,
    precision: options.Precision = "auto",
    device: options.Device = "auto",
) -> None:
    """Begin a story."""
    from pipeline.captioning.single_picture import picture_material
    from pipeline.stories import Material, start_story
    from pipeline.stories.files import new_story, require_another, text_material, write_markdown, write_story

    require_another(markdown, source, out)
    if (source is None) == (text is None):
        raise typer.BadParameter("a story begins --from captions or a picture, or with a --text: give one")
    _known(provider)
    teller = _Teller()
    if text is not None:
        begun = start_story(text_material(text), provider, prompt=steer, told=teller.told)
        write_story(begun, out)
    else:
        settings = options.caption_settings(
            model=model, beam_size=beam_size, max_length=max_length, precision=precision
        )

        def picture(place: str) -> Material:
            return picture_material(place, settings, options.resources(device=device))

        with new_story(str(source), out, picture) as (material, keep):
            begun = keep(start_story(material, provider, prompt=steer, told=teller.told))
    if markdown is not None:
        write_markdown(begun, markdown)
    teller.end(begun.to_markdown())


@story.command("continue")
@story.command("CONTINUE", hidden=True)
def go_on(
    file: File,
    provider: Provider = "outline",
    steer: Steer = None,
    picture: Annotated[
        str | None,
        typer.Option(
            "--from",
            envvar="GPUCAPT_FROM",
            metavar="PICTURE",
            help="A picture that says how it goes instead.",
        ),
    ] = None,
    out: Out = None,
    markdown: Markdown = None,
    model: options.Model = None,
    beam_size: options.BeamSize = 5,
    max_length: options.MaxLength = 40,
    precision: options.Precision = "auto",
    device: options.Device = "auto",
) -> None:
    """Add a turn; with --steer, one that follows a line of your own, with --from what a picture shows."""
    from pipeline.captioning.single_picture import line_of_picture
    from pipeline.stories import continue_story
    from pipeline.stories.files import read_story, require_another, write_markdown, write_story

    require_another(markdown, file, out, picture)
    if picture is not None and steer is not None:
        raise typer.BadParameter("a turn follows a --steer or a picture (--from): give one of them")
    _known(provider)
    teller = _Teller()
    before = read_story(file)
    if picture is not None:
        settings = options.caption_settings(
            model=model, beam_size=beam_size, max_length=max_length, precision=precision
        )
        steer = line_of_picture(picture, out, settings, options.resources(device=device))
    longer = continue_story(before, provider, prompt=steer, told=teller.told)
    write_story(longer, out or file)
    if markdown is not None:
        write_markdown(longer, markdown)
    teller.end(f"{longer.turns[-1].text}\n")


@story.command()
def redo(
    file: File,
    turn: Number,
    provider: OtherProvider = None,
    steer: Steer = None,
    out: Out = None,
    markdown: Markdown = None,
) -> None:
    """Tell a turn anew; those after it stay."""
    from pipeline.stories import redo_turn
    from pipeline.stories.files import read_story, require_another, write_markdown, write_story

    require_another(markdown, file, out)
    if provider is not None:
        _known(provider)
    teller = _Teller()
    before = read_story(file)
    index = _index(turn, len(before.turns))
    after = redo_turn(before, index, provider, prompt=steer, told=teller.told)
    write_story(after, out or file)
    if markdown is not None:
        write_markdown(after, markdown)
    teller.end(f"{after.turns[index].text}\n")


@story.command()
def drop(file: File, turn: Number, out: Out = None, markdown: Markdown = None) -> None:
    """Leave a turn out; the first one cannot be."""
    from pipeline.stories import drop_turn
    from pipeline.stories.files import read_story, require_another, write_markdown, write_story

    require_another(markdown, file, out)
    before = read_story(file)
    after = drop_turn(before, _index(turn, len(before.turns)))
    write_story(after, out or file)
    if markdown is not None:
        write_markdown(after, markdown)
    typer.echo(f"dropped turn {turn}; {len(after.turns)} left")


@story.command()
def show(file: File) -> None:
    """List the turns with their numbers, who told them, and what steered them."""
    from pipeline.stories.files import read_story

    found = read_story(file)
    typer.echo(found.title)
    for number, turn in enumerate(found.turns, start=1):
        who = f"{turn.provider}, {turn.model}" if turn.model else turn.provider
        steered = f": {turn.prompt}" if turn.prompt else ""
        typer.echo(f"\n{number}. {turn.kind} ({who}){steered}\n{turn.text}")


@story.command()
def export(
    file: File,
    out: Annotated[
        str | None, typer.Option(envvar="GPUCAPT_OUT", help="A file for it.", show_default="print it")
    ] = None,
) -> None:
    """Tell the whole story as Markdown."""
    from pipeline.stories.files import read_story, require_another, write_markdown

    require_another(out, file)
    found = read_story(file)
    if out is None:
        typer.echo(found.to_markdown(), nl=False)
    else:
        write_markdown(found, out)


class _Teller:
    """Shows a turn while it is told where a person looks on, else when it is done."""

    def __init__(self) -> None:
        self._live = sys.stdout.isatty()

    def told(self, piece: str) -> None:
        if self._live:
            typer.echo(piece, nl=False)

    def end(self, text: str) -> None:
        typer.echo("" if self._live else text, nl=self._live)


def _known(provider: str) -> None:
    if provider not in PROVIDERS:
        raise typer.BadParameter(f"provider must be one of {', '.join(PROVIDERS)}, not {provider!r}")


def _index(turn: int, count: int) -> int:
    if not 1 <= turn <= count:
        raise WrongUsage(f"the story has no turn {turn}; it has {count}" + (" turns" if count > 1 else ""))
    return turn - 1
