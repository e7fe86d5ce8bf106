"""Patterns of names mean here what they mean in a .gitignore; those that mean nothing are refused."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.errors import GpucaptError
from pipeline.sources.patterns import Pattern


def named(pattern: str, path: str) -> bool:
    """Whether the pattern names a file, or a folder around it."""
    parts = path.split("/")
    folders = ["/".join(parts[:depth]) for depth in range(1, len(parts))]
    one = Pattern(pattern)
    return one.names(path, is_folder=False) or any(one.names(folder, is_folder=True) for folder in folders)


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("draft*", "draft.jpg a/draft2.mp4 drafts/1.jpg", "my-draft.jpg Draft.jpg"),
        ("proxies/", "proxies/1.mp4 a/proxies/b/1.mp4", "proxies a/proxies proxies.mp4"),
        ("/web", "web web/1.jpg", "a/web webs"),
        ("web/src", "web/src web/src/1.ts", "a/web/src web/a/src"),
        ("**/web/src", "web/src a/b/web/src/1.ts", "web/a/src"),
        ("a/**/b", "a/b a/c/b a/c/d/b/1.jpg", "a b x/a/b ab"),
        ("a/**", "a/1.jpg a/b/1.jpg", "a b/a/1.jpg"),
        ("**", "a a/b", ""),
        ("*.mp4", "a.mp4 a/b.mp4 .mp4 x.mp4/a", "a.MP4 a.mp45 mp4"),
        ("?.jpg", "1.jpg é.jpg a/🎬.jpg", "12.jpg .jpg"),
        ("[0-9a].jpg", "7.jpg a.jpg", "b.jpg -.jpg [.jpg"),
        ("[!0-9].jpg", "b.jpg -.jpg", "7.jpg bb.jpg"),
        ("[]-].jpg", "].jpg -.jpg", "a.jpg"),
        ("#recycle", "#recycle/1.jpg a/#recycle", "recycle"),
        (r"\!x\*\[1\]", "!x*[1]", "x !xx[1]"),
        ("a*b*c", "abc a.b.c axbxbxc", "ab acb abcd"),
        ("*ab*ab", "abab xabxab aabaab", "ab aab"),
    ],
)
def test_what_a_pattern_names(pattern: str, yes: str, no: str) -> None:
    assert [path for path in yes.split() if not named(pattern, path)] == []
    assert [path for path in no.split() if named(pattern, path)] == []


def test_names_with_blanks_and_line_breaks() -> None:
    assert named("System Volume Information/", "a/System Volume Information/x.jpg")
    assert named("x.jpg", "two\nlines/x.jpg") and named("two*", "two\nlines/x.jpg")
    assert not named("x.jpg", "x.jpg\n")


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("", "empty"),
        ("/", "empty"),
        ("a//b", "empty"),
        ("!x", "--include|cannot begin"),
        ("a[b", r"no '\]'"),
        ("[]", r"no '\]'"),
        ("x\\", "nothing follows"),
        ("./a", "'.'"),
        ("a/../b", "'..'"),
        ("[z-a]", "range"),
        ("a\0b", "NUL"),
    ],
)
def test_what_is_no_pattern_is_one_line(pattern: str, why: str) -> None:
    with pytest.raises(GpucaptError, match=why) as refused:
        Pattern(pattern)
    assert "\n" not in str(refused.value) and repr(pattern) in str(refused.value)


@given(st.text(alphabet="ab*?[]!^-\\/.#&|~ \n", max_size=12), st.text(alphabet="ab-]\n/", max_size=8))
def test_every_text_is_a_pattern_or_refused_in_one_line(pattern: str, path: str) -> None:
    try:
        Pattern(pattern).names(path, is_folder=False)
    except GpucaptError as error:
        assert "\n" not in str(error)


def test_many_stars_cost_no_more_than_one() -> None:
    """A search that tries each star at each place ends in no lifetime."""
    assert not Pattern("*a" * 60 + "b").names("a" * 4000, is_folder=False)


PIECES = ["a", "b", "#", ".", "*", "?", "/", "[ab]", "[!a]", "[a-c]", "\\*", "\\a", " x", "**/", "/**"]
NAMES = st.sampled_from(["a", "b", "ab", "a.b", "abc", "#a", "a x", "a-b", "*a"])


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("repository")
    subprocess.run(["git", "init", "-q", str(path)], check=True)
    return path


@pytest.mark.slow
@pytest.mark.needs("git")
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=5).map("".join),
    st.sets(st.lists(NAMES, min_size=1, max_size=4).map("/".join), min_size=1),
)
def test_git_ignores_the_same(repository: Path, pattern: str, paths: set[str]) -> None:
    stars = pattern.replace("/**/", "/").removeprefix("**/").removesuffix("/**")
    if "**" in stars:  # git reads those, too, as more than one folder, against its documents
        return
    try:
        Pattern(pattern)
    except GpucaptError:
        return
    line = f"\\{pattern}" if pattern.startswith("#") else pattern
    (repository / ".git" / "info" / "exclude").write_text(f"{line}\n", encoding="utf-8")
    asked = subprocess.run(
        ["git", "-c", "core.ignoreCase=false", "check-ignore", "--no-index", "-z", "--stdin"],
        cwd=repository,
        input="\0".join(paths),
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.returncode in (0, 1), asked.stderr
    assert {path for path in paths if named(pattern, path)} == set(filter(None, asked.stdout.split("\0")))


def test_many_depths_cost_no_time_or_are_refused() -> None:
    """Each more would take many times as long with a deep path."""
    deep = "/".join("d" * 30)
    assert Pattern("**/" * 20 + "x").names(f"{deep}/x", is_folder=False)
    assert not Pattern("**/" * 20 + "x").names(f"{deep}/y", is_folder=False)
    with pytest.raises(GpucaptError, match=r"'\*\*' more than 3 times"):
        Pattern("**/*/" * 10 + "x")
