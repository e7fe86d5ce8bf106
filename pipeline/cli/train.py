"""`gpucapt train` on the command line."""

from __future__ import annotations

import inspect
import json
import os
import signal
from dataclasses import Field, fields
from typing import Annotated, Any

import typer

from model.training.recipe import Recipe

_RECIPE_TYPES: dict[str, Any] = {"int": int, "float": float, "str": str, "bool": bool}
_PANELS = {
    "encoder": "Recipe: encoder",
    "decoder": "Recipe: decoder",
    "embedding_size": "Recipe: word embeddings",
    "hidden_size": "Recipe: decoder",
    "epochs": "Recipe: stage one",
    "encoder_trained": "Recipe: stage two",
    "self_critical_epochs": "Recipe: stage three",
    "feature_views": "Recipe: all stages",
    "validation_beam": "Recipe: beam search",
    "precision": "Recipe: execution",
}
"""The panels of the help, by the field of the recipe that each begins with."""


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(_with_recipe_options(train))


def train(
    data: Annotated[str, typer.Argument(help="What `gpucapt preprocess` made.")],
    out: Annotated[str, typer.Argument(help="A folder for the checkpoint and the logs.")],
    recipe: Annotated[
        str | None,
        typer.Option(
            envvar="GPUCAPT_RECIPE",
            metavar="FILE.yaml",
            help="A recipe, as YAML; each of its fields is an option, too.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", envvar="GPUCAPT_RESUME", help="Go on with the run in OUT.")
    ] = False,
    init_from: Annotated[
        str | None,
        typer.Option(
            envvar="GPUCAPT_INIT_FROM",
            metavar="CHECKPOINT",
            help="Begin with the weights of this checkpoint.",
        ),
    ] = None,
    processes: Annotated[
        str,
        typer.Option(
            envvar="GPUCAPT_PROCESSES",
            metavar="auto|N",
            help="How many train together; auto: one a GPU of this machine.",
        ),
    ] = "auto",
    **overrides: Any,
) -> None:
    """Train a captioner; prints the checkpoint and its validation CIDEr as JSON."""
    from pipeline.runtime.signals import Interrupted, raised_on_sigterm
    from pipeline.training.job import load_recipe, run_train
    from pipeline.training.launcher import is_launched
    from pipeline.training.stopped import TrainingStopped

    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        with raised_on_sigterm():
            chosen = load_recipe(recipe, given)
            trained = run_train(data, out, chosen, resume=resume, init_from=init_from, processes=processes)
    except KeyboardInterrupt as stopped:
        raise TrainingStopped(signal.SIGINT) from stopped
    except Interrupted as stopped:
        raise TrainingStopped(stopped.signal_number) from stopped
    if not is_launched() and os.environ.get("RANK", "0") == "0":
        typer.echo(json.dumps({"checkpoint": trained.checkpoint, "val_cider": round(trained.val_cider, 4)}))


def _shown_default(field: Field[Any]) -> str:
    """The default of a recipe's field. The option itself has none: it would replace what FILE.yaml says."""
    if field.default is None:
        return str(field.metadata["unset"])
    return "on" if field.default is True else str(field.default)


def _with_recipe_options(command: Any) -> Any:
    """Give a command an option for each field of a recipe, in place of its ``**overrides``."""
    signature = inspect.signature(command, eval_str=True)
    parameters = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
    panel: str | None = None
    for field in fields(Recipe):
        panel = _PANELS.get(field.name, panel)
        kind = _RECIPE_TYPES[str(field.type).split(" ")[0]]
        option = typer.Option(
            envvar=f"GPUCAPT_{field.name.upper()}",
            help=field.metadata["help"],
            show_default=_shown_default(field),
            rich_help_panel=panel,
        )
        parameters.append(
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[kind | None, option],
            )
        )

    def with_options(**given: Any) -> None:
        command(**given)

    with_options.__name__, with_options.__doc__ = command.__name__, command.__doc__
    with_options.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {one.name: one.annotation for one in parameters}
    return with_options
