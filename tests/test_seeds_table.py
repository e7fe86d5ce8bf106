"""docs/seeds.md against the program: what its tables and its commands name is there."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipeline.cli.main import app
from tests.test_settings import documented

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs" / "seeds.md"
HEADER = ["what it does", "here", "shown by"]
CODE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
TEST = re.compile(r"(tests/[\w/]+\.py)::(test_\w+)")


@dataclass(frozen=True, slots=True)
class Row:
    """A feature of an earlier captioner, in the section of that captioner."""

    section: str
    feature: str
    here: str
    shown_by: str


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def rows() -> list[Row]:
    """The rows of all tables of features."""
    found: list[Row] = []
    section, inside = "", False
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            section = line.lstrip("# ")
        if not line.startswith("|"):
            inside = False
        elif cells(line) == HEADER:
            inside = True
        elif inside and not set(line) <= set("|- "):
            assert len(cells(line)) == 3, f"not three cells: {line}"
            found.append(Row(section, *cells(line)))
    return found


def pages() -> list[Path]:
    return [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]


@cache
def anchors(page: Path) -> frozenset[str]:
    """What links can lead to in a page: its headings, as GitHub spells them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ +(.+)$", text, flags=re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings)


@cache
def defined_in(file: str) -> frozenset[str]:
    """The tests of a file that are not left out for good."""
    path = REPOSITORY / file
    if not path.is_file():
        return frozenset()
    nodes = ast.parse(path.read_text(encoding="utf-8")).body
    left_out = ("pytest.mark.skip(", "pytest.mark.skip)", "pytest.mark.xfail")
    return frozenset(
        node.name
        for node in nodes
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and not any(mark in f"{ast.unparse(one)})" for one in node.decorator_list for mark in left_out)
    )


@cache
def program() -> Any:
    return typer.main.get_command(app)


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the words after `gpucapt` name, and what follows its name."""
    command = program()
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        assert words[0] in command.commands, f"there is no command {words[0]!r}"
        command, words = command.commands[words[0]], words[1:]
    return command, words


def options_of(command: Any) -> set[str]:
    """Every option of a command and of those below it."""
    own = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return own.union(*map(options_of, getattr(command, "commands", {}).values()))


def check_code(text: str) -> bool:
    """Whether a piece of code is one that can be looked up; fails where it does not exist."""
    words = shlex.split(text)
    if words[0] == "gpucapt":
        command, rest = command_of([word for word in words[1:] if word != "…"])
        for word in rest:
            assert not word.startswith("--") or word in options_of(command), f"{text}: no {word}"
        return True
    if words[0].startswith("--"):
        assert words[0] in options_of(program()), f"no command has {words[0]}"
        return True
    if words[0].startswith("GPUCAPT_") or words[0] == "OPENAI_API_KEY":
        assert words[0] in documented(), f"{words[0]} is no setting"
        return True
    if words[0] == "make":
        assert f"\n{words[1]}:" in (REPOSITORY / "Makefile").read_text(encoding="utf-8"), text
        return True
    return False


def check_link(page: Path, link: str) -> None:
    """A link of a page leads to a file and, in a page, to a heading."""
    if "://" in link:
        return
    file, _, anchor = link.partition("#")
    target = (page.parent / file).resolve() if file else page
    assert target.exists(), f"{page.name}: {link}: there is no such file"
    assert not anchor or anchor in anchors(target), f"{page.name}: {link}: there is no such heading"


def shell_commands(page: Path) -> Iterator[str]:
    """The command lines of a page that begin with `gpucapt`, each on one line."""
    for block in re.findall(
        r"^ *```sh\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    ):
        for line in re.sub(r" *\\\n *", " ", block).splitlines():
            if re.match(r"\s*(\.venv/bin/)?gpucapt( |$)", line):
                yield line.strip()


def parse(line: str) -> None:
    """Have the command line take a command as a shell would hand it over, without running it."""
    line = re.split(r" [|<>] ", line)[0]
    words = shlex.split(line, comments=True)[1:]
    command, rest = command_of(words)
    if rest and rest != ["--help"]:
        command.make_context("gpucapt", list(rest))


def test_each_of_the_five_has_a_table_and_a_way_to_move_over() -> None:
    text = PAGE.read_text(encoding="utf-8")
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    captioners = [one for one in sections if "| what it does | here | shown by |" in one]
    assert len(captioners) == 5
    for section in captioners:
        assert "### Moving over\n" in section, section.splitlines()[0]
        assert "```sh\n" in section.partition("### Moving over\n")[2], section.splitlines()[0]
    assert len(rows()) > 100
    assert len({(row.section, row.feature) for row in rows()}) == len(rows()), "a feature is there twice"


def test_no_row_is_without_a_test_that_exists() -> None:
    for row in rows():
        named = TEST.findall(row.shown_by)
        assert named, f"{row.section}: {row.feature!r} names no test"
        for file, test in named:
            assert test in defined_in(file), f"{row.section}: {row.feature!r}: there is no {file}::{test}"


def test_no_row_names_a_command_an_option_or_a_page_that_is_not_there() -> None:
    for row in rows():
        links = LINK.findall(row.here)
        for link in links:
            check_link(PAGE, link)
        checked = [check_code(code) for code in CODE.findall(LINK.sub("", row.here))]
        assert links or any(checked), f"{row.section}: {row.feature!r}: nothing says where it is"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_every_command_in_the_documents_is_one(page: Path) -> None:
    for line in shell_commands(page):
        try:
            parse(line)
        except Exception as error:
            pytest.fail(f"{page.name}: {line}: {getattr(error, 'message', error)}")


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_every_link_in_the_documents_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        check_link(page, link)


def test_everything_that_can_be_installed_is_pinned() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pinned = {}
    for line in (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, _, version = line.partition(";")[0].strip().partition("==")
            pinned.setdefault(canonicalize_name(name), version.strip())
    wanted = [
        *project["dependencies"],
        *(one for extra in project["optional-dependencies"].values() for one in extra),
    ]
    for requirement in map(Requirement, wanted):
        version = pinned.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not in constraints.txt"
        assert requirement.specifier.contains(version, prereleases=True), (
            f"{requirement} is pinned to {version}"
        )


def test_the_bundled_captioner_is_small() -> None:
    """17 MB in half precision: it goes where a ResNet alone would not."""
    files = list((REPOSITORY / "model" / "pretrained").iterdir())
    assert {path.name for path in files} == {"config.json", "vocabulary.json", "model.safetensors"}
    assert sum(path.stat().st_size for path in files) < 20_000_000


def test_the_checks_see_what_they_are_for() -> None:
    """Checks that find nothing to check would pass for ever."""
    assert sum(1 for page in pages() for _ in shell_commands(page)) > 40
    for wrong in ("gpucapt capture", "gpucapt caption --beems 3", "--beems 3", "GPUCAPT_BEEMS", "make tea"):
        with pytest.raises(AssertionError):
            check_code(wrong)
    with pytest.raises(AssertionError):
        check_link(PAGE, "operate.md#no-such-heading")
    with pytest.raises(Exception, match="No such option"):
        parse("gpucapt caption in/ out/ --beems 3")
    assert "test_no_such_test" not in defined_in("tests/test_seeds_table.py")
