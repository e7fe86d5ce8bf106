"""`gpucapt story`: a story from captions that are there already."""

from __future__ import annotations

from typing import Annotated

import typer

story = typer.Typer(name="story", help="Tell a story from captions.", no_args_is_help=True)


@story.callback()
def about() -> None:
    """Tell a story from captions."""


@story.command("NEW")
@story.command("new", hidden=True)
def new(
    captions: Annotated[
        str, typer.Option("--from", envvar="GPUCAPT_FROM", help="A captions.json that gpucapt wrote.")
    ],
    out: Annotated[str, typer.Option(envvar="GPUCAPT_OUT", help="Where to write the story, as JSON.")],
) -> None:
    """Begin a story."""
    from pipeline.story_files import tell_story

    typer.echo(tell_story(captions, out))
