"""The table of settings in docs/operate.md against the settings that there are."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import typer

from model.training.recipe import Recipe
from pipeline.cli.main import app
from pipeline.runtime.config import Tuning
from pipeline.runtime.sizes import format_size
from pipeline.stories import StorySettings

REPOSITORY = Path(__file__).resolve().parents[1]
PROGRAM = ("containers", "dags", "infra", "model", "pipeline")
SHORT_NAME = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")
"""How the DAGs name a setting, without its prefix, where they read it: the first argument of a function."""


def documented() -> dict[str, str]:
    """The settings in the tables, each with its default as it is written there."""
    rows: dict[str, str] = {}
    for line in (REPOSITORY / "docs" / "operate.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)]
        if len(cells) == 5 and (match := re.fullmatch(r"`([A-Z][A-Z0-9_]+)`", cells[1])):
            assert match[1] not in rows, f"{match[1]} is there twice"
            assert cells[3], f"{match[1]} is not explained"
            rows[match[1]] = cells[2]
    return rows


def options(command: Any) -> Iterator[Any]:
    """The parameters of a command and of those below it."""
    yield from command.params
    for below in getattr(command, "commands", {}).values():
        yield from options(below)


def of_the_command_line() -> dict[str, set[str]]:
    """The variables that options are also read from, each with the defaults that it has."""
    found: dict[str, set[str]] = defaultdict(set)
    for option in options(typer.main.get_command(app)):
        if option.envvar:
            names = [option.envvar] if isinstance(option.envvar, str) else option.envvar
            for name in names:
                found[name] |= {shown(option.default)}
    # An option for a field of a recipe has no default of its own.
    for field in fields(Recipe):
        found[f"GPUCAPT_{field.name.upper()}"] |= {shown(field.default)}
    return found


def of_the_storage() -> dict[str, set[str]]:
    """What pydantic reads."""
    return {
        f"{settings.model_config['env_prefix']}{name.upper()}": {
            shown(format_size(field.default) if name.endswith("_size") else field.default)
        }
        for settings in (Tuning, StorySettings)
        for name, field in settings.model_fields.items()
    }


def named_in_the_program() -> set[str]:
    """Whatever is called GPUCAPT_… in a file of the program, and what the DAGs read by its short name."""
    found: set[str] = set()
    for folder in PROGRAM:
        for path in (REPOSITORY / folder).rglob("*"):
            if path.suffix in (".py", ".sh", ".yaml", ".yml") or path.name == "Dockerfile":
                text = path.read_text(encoding="utf-8")
                found |= set(re.findall(r"\bGPUCAPT_[A-Z0-9_]*[A-Z0-9]\b", text))
    for path in (REPOSITORY / "dags").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Name(), args=[ast.Constant(value=str(name)), *_]):
                    if SHORT_NAME.fullmatch(name):
                        found.add(f"GPUCAPT_{name}")
    return found


def shown(default: Any) -> str:
    """A default as the table shows it."""
    if default is None or default == "None":
        return ""
    if isinstance(default, bool) or default in ("True", "False"):
        return "on" if default in (True, "True") else "off"
    return f"`{default}`"


def test_the_table_has_every_setting_and_no_other() -> None:
    there = set(of_the_command_line()) | set(of_the_storage()) | named_in_the_program()
    table = {name for name in documented() if name.startswith("GPUCAPT_")}
    assert sorted(there - table) == [], "missing from docs/operate.md"
    assert sorted(table - there) == [], "in docs/operate.md, but read by nobody"


def test_the_table_tells_the_defaults_that_there_are() -> None:
    table = documented()
    for name, defaults in {**of_the_command_line(), **of_the_storage()}.items():
        # Where commands have different defaults, those of the others are in the explanation.
        assert table[name] in defaults, name


def test_the_variables_of_aws_are_among_them() -> None:
    wanted = {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_DEFAULT_REGION",
        "AWS_PROFILE",
        "AWS_ENDPOINT_URL",
    }
    assert wanted <= set(documented())
