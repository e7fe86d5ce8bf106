"""What pages are made of: templates, styles and scripts from the package, and the digests that allow them."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import resources

import jinja2

from pipeline.reports.text import printable, single_spaced


@cache
def asset(name: str) -> str:
    """Return a file of ``pipeline/templates``."""
    text = resources.files("pipeline").joinpath("templates", name).read_text(encoding="utf-8")
    return text.replace("\r\n", "\n")


@cache
def template(name: str) -> jinja2.Template:
    """Return a template that escapes whatever is put into it."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(asset(name))


def csp_hash(text: str) -> str:
    """Return how a Content-Security-Policy names a style or script that is in the page."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def shown(value: object) -> str:
    """Return a value on one line, as UTF-8 can hold it."""
    return printable(single_spaced(str(value)))


def shown_settings(settings: dict[str, object]) -> dict[str, str]:
    """Return settings as people read them, without those that say nothing."""
    given = {name: value for name, value in sorted(settings.items()) if value is not None}
    return {shown(name.replace("_", " ").capitalize()): shown(_said(value)) for name, value in given.items()}


def _said(value: object) -> object:
    return ("yes" if value else "no") if isinstance(value, bool) else value
