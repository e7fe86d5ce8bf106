"""`gpucapt serve`: captions and stories over HTTP, and the page."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from pipeline.cli import options

# All with SERVE in their names: without it Kubernetes sets the port's variable for a service called gpucapt.
Host = Annotated[
    str,
    typer.Option(
        envvar="GPUCAPT_SERVE_HOST", help="Where to listen; 0.0.0.0 opens the server to the network."
    ),
]
Port = Annotated[
    int, typer.Option(envvar="GPUCAPT_SERVE_PORT", min=0, max=65535, help="0 takes one that is free.")
]
Token = Annotated[
    str | None,
    typer.Option(
        envvar="GPUCAPT_SERVE_TOKEN",
        show_default=False,
        help="What clients must send as a bearer token. Better set as a variable: others see command lines.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(serve)


def serve(
    host: Host = "127.0.0.1",
    port: Port = 8000,
    token: Token = None,
    model: options.Model = None,
    precision: options.Precision = "auto",
    device: options.Device = "auto",
    batch_size: options.BatchSize = "auto",
    workers: options.Workers = None,
) -> None:
    """Serve captions, videos and stories over HTTP, with a page for people.

    Says first where it listens. SIGTERM and Ctrl-C end it in order: what has begun is answered.
    """
    resources = options.resources(device=device, batch_size=batch_size, workers=workers)
    settings = options.caption_settings(
        model=model,
        beam_size=5,
        max_length=40,
        precision=precision,
        every=None,
        fps=None,
        scenes=False,
        max_frames=None,
        skip_duplicates=False,
        story="none",
    )
    from pipeline.web.server import Serving

    Serving(host, port, token or None, model, settings.precision, resources).run()
    # All is answered and nothing is to be kept: no thread that still decodes a film shall hold up the end.
    os._exit(0)
