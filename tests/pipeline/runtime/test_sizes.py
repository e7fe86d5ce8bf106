"""A size means the same in every setting that is one, and what is none is told in one line."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from typer.testing import CliRunner

from pipeline.cli.main import app
from pipeline.errors import WrongUsage
from pipeline.ingest import plan as module
from pipeline.runtime.config import Tuning, tuning
from pipeline.runtime.sizes import format_size, parse_size

SIZES = [name for name in Tuning.model_fields if name.endswith("_size")]
WRITTEN = {
    "500000000": 500_000_000,
    "6000000b": 6_000_000,
    "7M": 7 << 20,
    "7m": 7 << 20,
    "7Mi": 7 << 20,
    "7 MiB": 7 << 20,
    "7MB": 7_000_000,
    " 7mb ": 7_000_000,
    "2G": 2 << 30,
    "2GiB": 2 << 30,
    "2GB": 2 * 10**9,
    "1.5G": 3 << 29,
    "0.5TB": 5 * 10**11,
    "8192K": 8 << 20,
    "8192KB": 8_192_000,
    "1P": 1 << 50,
}
NONE = (
    *("", "plenty", "G", "B", "2X", "2GG", "2Gbit", "2iB", "1e9", "1,5G", ".", "2.G", "0x10", "2 G B", "٢G"),
    *("-1", "-2G", "+2G", "0", "0K", "0.0G", "0.4", "inf", "nan", "-inf"),
    *("8E", "9" * 30, "9" * 5000, f"1{'0' * 18}T", "2\N{KELVIN SIGN}"),
)
FORMS = ("such as 512M or 2GB", "K, M, G or T (powers of 1024)", "KB, MB, GB or TB (powers of 1000)")


@given(st.integers(1, (1 << 63) - 1))
@example(1)
@example(16 << 20)
@example(20 * 10**9)
@example((1 << 63) - 1)
def test_what_is_formatted_parses_back(size: int) -> None:
    text = format_size(size)
    assert parse_size(text) == parse_size(text.lower()) == parse_size(size) == size
    assert len(text) <= len(str(size))


@given(st.integers(1, 999), st.sampled_from("KMGTP"))
def test_a_letter_is_a_power_of_1024_and_with_b_of_1000(number: int, letter: str) -> None:
    power = "KMGTP".index(letter) + 1
    for unit in (letter, f"{letter}i", f"{letter}iB"):
        assert parse_size(f"{number}{unit}") == number * 1024**power
    assert parse_size(f"{number}{letter}B") == number * 1000**power


@given(st.text(string.printable, max_size=8) | st.text(max_size=4) | st.floats().map(str))
@example("2\N{KELVIN SIGN}")
def test_anything_else_is_refused_in_one_line(text: str) -> None:
    try:
        size = parse_size(text)
    except ValueError as error:
        assert all(form in str(error) for form in FORMS)
        assert str(error).isprintable()
    else:
        assert text.strip()[0] in string.digits
        assert 1 <= size < 1 << 63


def test_a_size_may_have_a_least() -> None:
    assert parse_size("5M", least=5 << 20) == 5 << 20
    with pytest.raises(ValueError, match="at least 5M"):
        parse_size("5MB", least=5 << 20)


def test_all_settings_of_sizes_are_known() -> None:
    assert sorted(SIZES) == sorted(
        ["s3_piece_size", "s3_part_size", "spool_size", "serve_image_size", "serve_video_size"]
    )


@pytest.mark.parametrize("name", SIZES)
def test_every_setting_reads_sizes_alike(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = f"GPUCAPT_{name.upper()}"
    for text, size in WRITTEN.items():
        monkeypatch.setenv(setting, text)
        assert getattr(tuning(), name) == size, text
    for text in filter(None, NONE):  # an empty setting is none
        monkeypatch.setenv(setting, text)
        with pytest.raises(WrongUsage) as told:
            tuning()
        assert str(told.value).startswith(f"{setting} is {text!r}: it must be a size")
        assert all(form in str(told.value) for form in FORMS)
        assert len(str(told.value).splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("by_option", [True, False], ids=["option", "variable"])
def test_shards_have_sizes_of_the_same_meaning(by_option: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    class Planning(module.Planning):
        def run(self) -> dict[str, Any]:
            sizes.append(self.shard_size)
            return {}

    monkeypatch.setattr(module, "Planning", Planning)

    def plan(text: str) -> Any:
        line = ["ingest", "plan", "a", "b", *([f"--shard-size={text}"] if by_option else [])]
        env = {} if by_option else {"GPUCAPT_SHARD_SIZE": text}
        return CliRunner().invoke(app, line, env=env, terminal_width=400)

    for text in WRITTEN:
        assert plan(text).exit_code == 0
    assert sizes == list(WRITTEN.values())
    for text in filter(None, NONE):
        told = plan(text)
        assert told.exit_code == 2, text
        said = " ".join(told.output.replace("│", " ").split())
        assert "shard-size must be a size" in said
        assert all(form in said for form in FORMS)
