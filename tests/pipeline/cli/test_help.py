"""`--help` of every command tells of every option what it does and what it is when it is not given."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest
import typer

from model.training.recipe import Recipe
from pipeline.cli.main import app
from tests.pipeline.jobs import command, run

pytestmark = pytest.mark.slow


WITHOUT_DEFAULT = {
    *("--fps", "--max-frames", "--limit", "--if-better", "--token", "--recipe", "--init-from"),
    *("--from", "--text", "--steer", "--markdown"),
    "evaluate --out",
}
"""Options that do nothing where they are not given. All others say what holds then."""


def commands(here: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command with the words that call it."""
    yield " ".join(words), here
    for name, below in getattr(here, "commands", {}).items():
        yield from commands(below, (*words, name))


COMMANDS = dict(commands(typer.main.get_command(app)))


def squeezed(text: str) -> str:
    """Text without what depends on where its lines end."""
    return re.sub(r"[\s│]", "", text)


class Panel:
    """A box of the help: the rows of a table whose last column is the help."""

    def __init__(self, lines: list[str]) -> None:
        start = len(lines[0]) - len(lines[0].lstrip("│* "))
        self.rows: dict[str, list[str]] = {}
        for line in lines:
            if not line[1:start].strip("* ") and line[start] != " ":
                name = line[start:].split()[0]
                assert name not in self.rows
                self.rows[name] = []
            self.rows[name].append(line.rstrip("│"))

    def row(self, name: str) -> list[str] | None:
        """The lines of an option; where they are short of room, its name is cut off."""
        fits = [
            row
            for shown, row in self.rows.items()
            if shown == name or (shown.endswith("…") and name.startswith(shown[:-1]))
        ]
        assert len(fits) <= 1, f"{name} is shown twice"
        return fits[0] if fits else None

    def column(self, helps: dict[str, str]) -> int:
        """Where the help begins: in the first line of every row, at the same place."""
        firsts = [(row[0], helps[name].split()[0][:6]) for name in helps if (row := self.row(name))]
        fits = [
            place
            for place in range(1, max(len(line) for line, _ in firsts))
            if all(line[place - 1] == " " and line.startswith(word, place) for line, word in firsts)
        ]
        assert fits, "a help is missing"
        return fits[0]


def panels(output: str) -> list[Panel]:
    boxes = re.findall(
        r"^╭─ (?:Arguments|Options|Recipe: .*?) ─+╮\n(.*?)^╰", output, re.DOTALL | re.MULTILINE
    )
    return [Panel(box.splitlines()) for box in boxes]


def name_of(parameter: Any) -> str:
    """What the help calls it."""
    if parameter.param_type_name == "option":
        return str(parameter.opts[0])
    return parameter.metavar or str(parameter.name) + ("..." if parameter.nargs != 1 else "")


def default_of(words: str, parameter: Any) -> str | None:
    """How the default is shown; None where there is none to show."""
    if isinstance(parameter.show_default, str):
        return f"[default: ({parameter.show_default})]"
    is_flag = parameter.default is False and not parameter.secondary_opts
    if parameter.required or is_flag:
        return None
    if parameter.default is None:
        name = name_of(parameter)
        assert {name, f"{words} {name}"} & WITHOUT_DEFAULT, f"{name} does not say what holds without it"
        return None
    return f"[default: {parameter.default}]"


@pytest.mark.parametrize("columns", ["80", "200"])
@pytest.mark.parametrize("words", COMMANDS)
def test_every_option_has_a_help_and_a_default(words: str, columns: str) -> None:
    done = run(command(*words.split(), "--help"), COLUMNS=columns)
    assert done.returncode == 0, done.stderr
    assert squeezed(COMMANDS[words].help) in squeezed(done.stdout)
    parameters = {name_of(one): one for one in COMMANDS[words].params if not one.hidden}
    assert all(one.help for one in parameters.values()), [
        name for name in parameters if not parameters[name].help
    ]
    helps = {name: str(one.help) for name, one in parameters.items()} | {
        "--help": "Show this message and exit."
    }
    found = set()
    for panel in panels(done.stdout):
        column = panel.column(helps)
        for name in parameters:
            if (row := panel.row(name)) is None:
                continue
            found.add(name)
            told = squeezed("".join(line[column:] for line in row))
            assert told.startswith(squeezed(helps[name])), name
            default = default_of(words, parameters[name])
            assert default is None or squeezed(default) in told, name
    assert found == set(parameters)


def test_a_recipe_is_told_field_by_field() -> None:
    """The help comes from the recipe, so that no field can be without."""
    shown = {one.name: one for one in COMMANDS["train"].params}
    for field in fields(Recipe):
        assert shown[field.name].help == field.metadata["help"]
        assert (field.default is None) == bool(field.metadata["unset"]), field.name
        # Given on the command line it replaces what the recipe's file says; not given it must not.
        assert shown[field.name].default is None


def test_the_check_sees_what_it_is_for() -> None:
    assert len(COMMANDS) > 20
    assert sum(len(one.params) for one in COMMANDS.values()) > 200
    lines = ["--one-lo…  <int>  What it", "                  does.  ", "--two      <str>  Else.  "]
    box = "\n".join(["╭─ Options ───╮", *(f"│ {line} │" for line in lines), "╰─╯"])
    (panel,) = panels(box)
    assert panel.column({"--one-long": "What it does.", "--two": "Else."}) == 20
    with pytest.raises(AssertionError, match="help is missing"):
        panel.column({"--one-long": "What it does.", "--two": "Something."})
