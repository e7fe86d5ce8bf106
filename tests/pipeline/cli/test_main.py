"""The command line: help without torch, exit codes, settings from the environment, errors of one line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from model.errors import GpucaptError
from pipeline.cli.main import app
from pipeline.errors import WrongUsage
from pipeline.stories import Story
from pipeline.stories.files import tell_story
from tests.pipeline.jobs import caption, command, manifest, rows, run, write_stills

pytestmark = pytest.mark.slow


HEAVY = ("torch", "cv2", "numpy", "PIL", "matplotlib", "boto3", "h5py", "jinja2", "airflow")


@pytest.mark.parametrize(
    "words",
    [
        "",
        "caption",
        "ingest plan",
        "ingest shard",
        "ingest finish",
        "story NEW",
        "preprocess",
        "train",
        "evaluate",
        "promote",
        "rollback",
        "models",
        "ask",
        "export",
        "explain",
        "coco-results",
    ],
)
def test_help_is_there_for_every_command(words: str) -> None:
    result = CliRunner().invoke(app, [*words.split(), "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom pipeline.cli.main import main\nsys.argv = ['gpucapt', 'caption', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = run([*command()[:1], "-c", code])
    assert "GPUCAPT_BEAM_SIZE" in done.stdout
    assert done.stderr.strip() == "[]"


def test_planning_and_finishing_need_no_torch(tmp_path: Path, tiny_model: Path) -> None:
    write_stills(tmp_path / "incoming/album", 1)
    code = (
        "import sys\nfrom pipeline.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print([name for name in ('torch', 'cv2', 'numpy') if name in sys.modules], file=sys.stderr)"
    )
    arguments = ["ingest", "plan", "--settle=0", str(tmp_path / "incoming"), str(tmp_path / "out")]
    done = run([*command()[:1], "-c", code, *arguments])
    assert done.stderr.strip() == "[]"
    done = run([*command()[:1], "-c", code, "ingest", "finish", json.loads(done.stdout)["run"]])
    assert done.stderr.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["caption"], "Missing argument"),
        (["caption", "a", "b", "--beam-size", "0"], "beam-size must be at least 1"),
        (["caption", "a", "b", "--beam-size", "five"], "valid integer"),
        (["caption", "a", "b", "--precision", "int4"], "precision must be one of"),
        (["caption", "a", "b", "--story", "tragedy"], "story must be one of"),
        (["caption", "a", "b", "--batch-size", "many"], "batch-size must be auto or a number"),
        (["caption", "a", "b", "--every", "2", "--fps", "3"], "give one of them"),
        (["caption", "a", "b", "--every", "0"], "every must be a number above 0"),
        (["caption", "a", "b", "--max-frames", "0"], "max-frames must be at least 1"),
        (["caption", "a", "a/b"], "overlap"),
        (["caption", "a", "b", "--progress", "dance"], "progress must be"),
        (["ingest", "shard", "a", "--progress", "dance"], "progress must be"),
        (["ingest", "plan", "a", "b", "--shard-size", "big"], "shard-size must be"),
        (["ingest", "plan", "a", "b", "--shards", "1025"], "less than or equal to 1024"),
        (["juggle"], "No such command"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_usage_is_2_and_says_what_is_wrong(words: list[str], said: str) -> None:
    result = CliRunner().invoke(app, words, terminal_width=200)
    assert result.exit_code == 2
    assert said in " ".join(result.output.replace("│", " ").split())


@pytest.mark.slow
def test_exit_codes_and_messages_of_the_real_command(tmp_path: Path, tiny_model: Path) -> None:
    album, out = write_stills(tmp_path / "album", 2), tmp_path / "out"
    (album / "bad.jpg").write_text("no picture")
    line = command("caption", album, out, "--beam-size", "1")
    done = run(line, GPUCAPT_MODEL=str(tiny_model), GPUCAPT_PROGRESS="none")
    assert done.returncode == 3, done.stderr
    assert "captioned 1 source (2 frames), 1 set aside; see" in done.stdout
    assert "gpucapt: set aside album/bad.jpg: bad.jpg: not a picture" in done.stderr
    assert "Traceback" not in done.stderr
    done = run(line, GPUCAPT_MODEL=str(tiny_model))
    assert (done.returncode, done.stdout) == (
        0,
        "captioned 0 sources (0 frames), 1 already done; nothing new\n",
    )
    done = run(command("caption", tmp_path / "missing", out), GPUCAPT_MODEL=str(tiny_model))
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1 and "does not exist" in done.stderr
    done = run([*command("caption", tmp_path / "missing", out), "--debug"], GPUCAPT_MODEL=str(tiny_model))
    assert done.returncode == 1 and "Traceback" in done.stderr


@pytest.mark.parametrize(
    "words", [["caption", "s3://nowhere/in", "out"], ["ingest", "plan", "s3://nowhere/in", "out"]]
)
def test_a_setting_that_makes_no_sense_is_wrong_usage_in_one_line(words: list[str]) -> None:
    done = run(command(*words), GPUCAPT_S3_DEADLINE="soon")
    assert done.returncode == 2
    assert done.stderr.startswith("gpucapt: GPUCAPT_S3_DEADLINE is 'soon': ")
    assert len(done.stderr.splitlines()) == 1


def test_every_option_can_be_set_in_the_environment(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_stills(tmp_path / "album", 3)
    settings = {
        **{"MODEL": str(tiny_model), "BEAM_SIZE": "3", "MAX_LENGTH": "5", "BATCH_SIZE": "2", "WORKERS": "1"},
        **{"PRECISION": "fp32", "DEVICE": "cpu", "MAX_FRAMES": "2", "STORY": "none", "PROGRESS": "none"},
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"GPUCAPT_{name}", value)
    result = CliRunner().invoke(app, ["caption", str(tmp_path / "album"), str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    found = manifest(tmp_path / "out", "album")["settings"]
    wanted = {"beam_size": 3, "max_length": 5, "precision": "fp32", "max_frames": 2, "story": "none"}
    assert found == wanted
    assert len(rows(tmp_path / "out", "album")) == 2


def test_a_story_is_told_from_captions(tmp_path: Path, tiny_model: Path) -> None:
    album, out = write_stills(tmp_path / "album", 3), tmp_path / "out"
    caption(album, out, tiny_model)
    words = [
        "story",
        "NEW",
        "--from",
        str(out / "album/captions.json"),
        "--out",
        str(tmp_path / "my/story.json"),
    ]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    told = Story.from_json((tmp_path / "my/story.json").read_text(encoding="utf-8"))
    assert told == Story.from_json((out / "album/story.json").read_text(encoding="utf-8"))
    words[3] = str(out / "album/manifest.json")
    done = run(command(*words))
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1 and "is not a captions.json" in done.stderr


@pytest.mark.parametrize("out", ["captions.json", "new/../captions.json", "alias.json", "twin.json"])
def test_a_story_does_not_replace_what_it_is_told_from(tmp_path: Path, out: str) -> None:
    captions = tmp_path / "captions.json"
    captions.write_text("{}", encoding="utf-8")
    (tmp_path / "alias.json").symlink_to("captions.json")
    os.link(captions, tmp_path / "twin.json")
    words = ["story", "NEW", "--from", str(captions), "--out", f"{tmp_path}/{out}"]
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, WrongUsage)
    assert "name another file" in str(result.exception)
    assert captions.read_text(encoding="utf-8") == "{}"


@pytest.mark.parametrize("wrong", ["NaN", "2", '"much"', "null"])
def test_captions_with_a_confidence_that_is_none_are_refused(tmp_path: Path, wrong: str) -> None:
    captions = tmp_path / "captions.json"
    head = '"source": "album", "kind": "stills", "model": "m", "model_version": "v", "fingerprint": "f"'
    row = '{"frame": "a.jpg", "timestamp_s": null, "caption": "dogs", "log_prob": -3.0, "words": ["dogs"]}'
    captions.write_text(f'{{{head}, "unsure_below": {wrong}, "rows": [{row}]}}', encoding="utf-8")
    with pytest.raises(GpucaptError, match="is not a captions"):
        tell_story(captions, tmp_path / "story.json")
    captions.write_text(f'{{{head}, "unsure_below": 0.5, "rows": [{row}]}}', encoding="utf-8")
    assert tell_story(captions, tmp_path / "story.json") is not None


def test_captions_that_are_nested_too_deeply_are_no_bug(tmp_path: Path) -> None:
    captions = tmp_path / "captions.json"
    captions.write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(GpucaptError, match="is not a captions"):
        tell_story(captions, tmp_path / "story.json")


def test_a_source_that_links_to_itself_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for words in (["caption"], ["ingest", "plan"]):
        result = CliRunner().invoke(app, [*words, str(tmp_path / "loop"), str(tmp_path / "out")])
        assert result.exit_code == 1
        assert isinstance(result.exception, GpucaptError)
        assert f"{tmp_path}/loop does not exist" in str(result.exception)
