"""Reports and stories show stills as people number them; tables have them by the bytes of their names."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.captioning.shown_order import ShownOrder
from pipeline.records.row import Row
from pipeline.stories.files import tell_story
from tests.pipeline.jobs import caption, command, manifest, rows, run, write_still

pytestmark = pytest.mark.slow

NUMBERS = [1, 2, 3, 9, 10, 11, 20, 100]
SHOWN = [f"Img{number}.png" for number in NUMBERS]


def shown(folder: Path) -> list[dict[str, object]]:
    """The frames that the report shows, in its order."""
    page = (folder / "report.html").read_text(encoding="utf-8")
    found = re.search(r'id="frames-data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    content: list[dict[str, object]] = json.loads(found[1])
    return content


def test_the_report_and_the_story_take_numbers_as_numbers(tmp_path: Path, tiny_model: Path) -> None:
    for number in NUMBERS:
        write_still(tmp_path / "in" / "cam" / f"Img{number}.png", number)
    (tmp_path / "in" / "cam" / "Img5.png").write_bytes(b"torn")
    assert caption(tmp_path / "in", tmp_path / "out", tiny_model) == 3
    folder = tmp_path / "out" / "cam"
    assert [row["frame"] for row in rows(tmp_path / "out", "cam")] == sorted(SHOWN)
    listed = [line.split(",")[1] for line in (folder / "captions.csv").read_text().splitlines()[1:]]
    assert listed == sorted(SHOWN)
    frames = shown(folder)
    assert [frame["frame"] for frame in frames] == SHOWN
    assert [frame["position"] for frame in frames] == [0, 1, 2, *range(4, 9)], "the torn one is the fourth"
    by_name = {row["frame"]: row["caption"] for row in rows(tmp_path / "out", "cam")}
    assert [frame["caption"] for frame in frames] == [by_name[name] for name in SHOWN]
    told = run(command("story", "new", "--from", folder / "captions.json", "--out", tmp_path / "story.json"))
    assert told.returncode == 0, told.stderr
    assert (tmp_path / "story.json").read_text() == (folder / "story.json").read_text()


def test_a_story_follows_the_numbers(tmp_path: Path) -> None:
    captions = {1: "a dog runs on a beach", 2: "a red car on a road", 10: "two children eat cake"}
    rows = [
        {
            "frame": f"{number}.jpg",
            "timestamp_s": None,
            "caption": text,
            "words": text.split(),
            "log_prob": -1.0,
        }
        for number, text in sorted(captions.items(), key=lambda item: str(item[0]))
    ]
    content = {
        "source": "cam",
        "kind": "stills",
        "model": "m",
        "model_version": "v",
        "fingerprint": "f",
        "rows": rows,
    }
    (tmp_path / "captions.json").write_text(json.dumps(content))
    tell_story(tmp_path / "captions.json", tmp_path / "story.json")
    scenes = json.loads((tmp_path / "story.json").read_text())["material"]["scenes"]
    assert [scene["captions"][0]["caption"] for scene in scenes] == list(captions.values())


def test_padded_numbers_and_stills_that_arrive_later(tmp_path: Path, tiny_model: Path) -> None:
    for number in (1, 10):
        write_still(tmp_path / "in" / "cam" / f"{number}.png", number)
    caption(tmp_path / "in", tmp_path / "out", tiny_model)
    for number in (2, 3):
        write_still(tmp_path / "in" / "cam" / f"{number}.png", number)
    caption(tmp_path / "in", tmp_path / "out", tiny_model)
    assert [frame["frame"] for frame in shown(tmp_path / "out" / "cam")] == [
        "1.png",
        "2.png",
        "3.png",
        "10.png",
    ]
    assert manifest(tmp_path / "out", "cam")["counts"]["frames"] == 4


def lie(path: Path, names: list[str]) -> ShownOrder:
    """Rows of these names in a file, and their order."""
    order, start = ShownOrder(), 0
    with path.open("w", encoding="ascii") as file:
        for position, name in enumerate(names):
            row = Row(position, name, None, "a", ["a"], -1.0, error="torn\nfile é" if position % 2 else None)
            order.add(row, start)
            start += file.write(row.to_json() + "\n")
    return order


def test_names_alike_stay_as_they_lie(tmp_path: Path) -> None:
    names = sorted(
        ["A1", "a01", "a1", "a001", "b\ud800", "a10", "a2"],
        key=lambda name: name.encode("utf-8", "surrogatepass"),
    )
    with lie(tmp_path / "rows", names) as order:
        found = list(order.rows(tmp_path / "rows"))
        assert [row.frame for row in found] == ["A1", "a001", "a01", "a1", "a2", "a10", "b\ud800"]
        assert [row.position for row in found] == list(range(7))
        assert order.is_another


def test_padded_names_have_no_other_order(tmp_path: Path) -> None:
    with lie(tmp_path / "rows", [f"img{number:03}.jpg" for number in range(120)]) as order:
        assert not order.is_another


PEAK = r"""
import re, sys
from pathlib import Path
from pipeline.captioning.shown_order import ShownOrder
from pipeline.records.row import Row

path, count, start = Path(sys.argv[2]), int(sys.argv[1]), 0
with ShownOrder() as order:
    with path.open("w") as file:
        for number in range(count):
            row = Row(number, f"a picture that has a long name {count - number}.jpg", None, "a", ["a"], -1.0)
            order.add(row, start)
            start += file.write(row.to_json() + "\n")
    assert [row.frame for row in order.rows(path)][::1000][0].endswith(" 1.jpg") if count < 10**4 else True
    assert sum(1 for _ in order.rows(path)) == count
print(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_hundred_thousand_names_take_no_memory(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]

    def peak_kib(count: int) -> int:
        line = [sys.executable, "-c", PEAK, str(count), str(tmp_path / "rows")]
        return int(subprocess.run(line, cwd=root, check=True, capture_output=True, text=True).stdout)

    assert peak_kib(100_000) < peak_kib(5_000) + 6 * 1024
