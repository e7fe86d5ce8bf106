"""`gpucapt export`: what the graphs say, in ONNX Runtime and TorchScript, is what gpucapt says with them."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from model.captioner import Captioner, load_captioner
from model.checkpoint import BUNDLED
from model.errors import GpucaptError
from model.export import captioner_graphs, difference, read_torchscript
from pipeline.cli.main import app
from pipeline.media.images import decode_still
from pipeline.models.export import run_export
from tests.model.tiny import make_tiny_checkpoint
from tests.pipeline.jobs import command, start
from tests.services.s3 import S3Server

pytestmark = pytest.mark.slow

data = pytest.importorskip("skimage.data")

DOCS = Path(__file__).parents[3] / "docs" / "export.md"
DECODERS = ("attention_lstm", "lstm", "transformer", "imported")
WITHOUT_US = "import sys; sys.modules.update(dict.fromkeys(('torch', 'cv2', 'model', 'pipeline')))\n"


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Real photographs, as files."""
    folder = tmp_path_factory.mktemp("photographs")
    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        Image.fromarray(getattr(data, name)()).save(folder / f"{name}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Tiny checkpoints by decoder; SqueezeNet, as it is quickly exported."""
    folder = tmp_path_factory.mktemp("checkpoints")

    def make(decoder: str) -> Path:
        path = folder / decoder
        if not path.exists():
            name = "attention_lstm" if decoder == "imported" else decoder
            make_tiny_checkpoint(path, decoder=name, encoder="squeezenet1_1", end_bias=0.5)
            if decoder == "imported":
                _search_as_earlier_captioners(path)
        return path

    return make


def _search_as_earlier_captioners(checkpoint: Path) -> None:
    """A larger grid than the encoder's own, other pictures, a search that may say anything, or nothing."""
    config = json.loads((checkpoint / "config.json").read_text())
    config["preparation"] = {"size": 64, "channels": "bgr", "filter": "bicubic"}
    config["encoder"]["grid"] = 14
    config["search"] = {"max_length": 12, "length_penalty": 0.0, "allow_unknown": True, "plain": True}
    (checkpoint / "config.json").write_text(json.dumps(config))


def greedy(captioner: Captioner, photographs: list[Path]) -> list[str]:
    """gpucapt's own greedy captions, as long as the checkpoint allows."""
    prepared = [captioner.prepare(decode_still(path.read_bytes(), path.name)) for path in photographs]
    limit = captioner.config.search.max_length
    return [one.text for one in captioner.caption(prepared, beam_size=1, max_length=limit)]


def by_example(folder: Path, photographs: list[Path], tmp_path: Path) -> list[str]:
    """What the program in the docs prints, where there is neither torch nor gpucapt."""
    (example,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    program = tmp_path / "caption.py"
    program.write_text(WITHOUT_US + example, encoding="utf-8")
    return [
        subprocess.run(
            [sys.executable, program, folder, path], capture_output=True, text=True, check=True, cwd=tmp_path
        ).stdout.strip()
        for path in photographs
    ]


@pytest.mark.parametrize(
    "decoder",
    [
        "lstm",
        "transformer",
        pytest.param("imported", marks=pytest.mark.slow),
        pytest.param("bundled", marks=pytest.mark.slow),
    ],
)
def test_the_program_in_the_docs_says_what_gpucapt_says(
    decoder: str, checkpoint: Callable[[str], Path], photographs: list[Path], tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    directory = BUNDLED if decoder == "bundled" else checkpoint(decoder)
    run_export(str(directory), str(tmp_path / "onnx"), "onnx")
    expected = greedy(load_captioner(directory, device="cpu", precision="fp32"), photographs)
    assert len(set(expected)) > 1, "captions that are all alike show nothing"
    assert by_example(tmp_path / "onnx", photographs, tmp_path) == expected


@pytest.mark.parametrize("decoder", DECODERS)
def test_torchscript_says_it_too_several_pictures_and_hypotheses_at_once(
    decoder: str, checkpoint: Callable[[str], Path], photographs: list[Path], tmp_path: Path
) -> None:
    directory = checkpoint(decoder)
    run_export(str(directory), str(tmp_path), "torchscript")
    captioner = load_captioner(directory, device="cpu", precision="fp32")
    about = json.loads((tmp_path / "export.json").read_text())
    schema = json.loads((files("pipeline") / "schemas/export.schema.json").read_text())
    jsonschema.validate(about, schema)
    encoder, step = (read_torchscript(tmp_path / about[half]["file"]) for half in ("encoder", "decoder"))
    prepared = [captioner.prepare(decode_still(path.read_bytes(), path.name)) for path in photographs]
    with torch.inference_mode():
        state = dict(zip(about["encoder"]["outputs"], encoder(torch.tensor(np.stack(prepared))), strict=True))
        # The same hypothesis twice: both must go the same way.
        state = {name: t.repeat_interleave(2, 1) if "beam" in name else t for name, t in state.items()}
        said = _greedy(step, state, about, len(photographs))
    words, unspoken = json.loads((tmp_path / "vocabulary.json").read_text())["words"], _unspoken(about)
    captions = [" ".join(words[word] for word in row if word not in unspoken) for row in said]
    expected = greedy(captioner, photographs)
    assert captions == [text for text in expected for _ in range(2)]
    assert (about["grid"] is None) == (decoder == "lstm")


def _unspoken(about: dict[str, Any]) -> list[int]:
    found: list[int] = about["search"]["unspoken"]
    return found


def _greedy(
    step: torch.nn.Module, state: dict[str, torch.Tensor], about: dict[str, Any], pictures: int
) -> list[list[int]]:
    search = about["search"]
    words = torch.full((pictures, 2), search["start"])
    said: list[list[int]] = [[] for _ in range(pictures * 2)]
    ended = torch.zeros(pictures * 2, dtype=torch.bool)
    for place in range(search["max_length"]):
        found = dict(zip(about["decoder"]["outputs"], step(words, *state.values()), strict=True))
        if not search["end_may_be_first"]:
            assert found["log_probs"][:, :, _unspoken(about)].isneginf().all(), "could be said"
            if place == 0:
                found["log_probs"][:, :, search["end"]] = -torch.inf
        words = found["log_probs"].argmax(2)
        ended |= words.flatten() == search["end"]
        for row, word, over in zip(said, words.flatten().tolist(), ended, strict=True):
            if not over:
                row.append(word)
        state = {name: found.get(f"next_{name}", tensor) for name, tensor in state.items()}
    return said


def test_a_graph_that_computes_something_else_is_noticed(checkpoint: Callable[[str], Path]) -> None:
    captioner = load_captioner(checkpoint("attention_lstm"), device="cpu", precision="fp32")
    graph = captioner_graphs(captioner).decoder

    def as_it_is(*inputs: torch.Tensor) -> list[torch.Tensor]:
        return list(graph.module(*inputs))

    def of_one_picture(*inputs: torch.Tensor) -> list[torch.Tensor]:
        """As a trace that took the number of pictures for a constant."""
        return [tensor[:1].expand_as(tensor) for tensor in graph.module(*inputs)]

    with torch.inference_mode():
        assert difference(graph, as_it_is) == 0
        assert difference(graph, of_one_picture) > 0.01
        assert difference(graph, lambda *inputs: [t[:1] for t in graph.module(*inputs)]) == float("inf")


def test_exporting_again_replaces_the_export_and_nothing_else(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    out = tmp_path / "exported"
    run_export(str(checkpoint("lstm")), str(out), "torchscript")
    first = json.loads((out / "export.json").read_text())["decoder"]["sha256"]
    (out / "encoder.onnx").write_text("of another day")
    (out / "notes.txt").write_text("mine")
    run_export(str(checkpoint("transformer")), str(out), "torchscript")
    again = json.loads((out / "export.json").read_text())["decoder"]["sha256"]
    names = {"encoder.pt", "decoder.pt", "export.json", "vocabulary.json", "notes.txt"}
    assert again != first and {path.name for path in out.iterdir()} == names
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "dog.jpg").write_text("")
    with pytest.raises(GpucaptError, match="holds something else than an export"):
        run_export(str(checkpoint("lstm")), str(tmp_path / "photographs"), "torchscript")
    with pytest.raises(GpucaptError, match="is a file; name a folder"):
        run_export(str(checkpoint("lstm")), str(out / "notes.txt"), "torchscript")


def test_an_export_goes_into_a_bucket(
    checkpoint: Callable[[str], Path], bucket: str, s3_server: S3Server
) -> None:
    run_export(str(checkpoint("lstm")), f"s3://{bucket}/exported", "torchscript")
    listed = s3_server.client.list_objects_v2(Bucket=bucket)["Contents"]
    names = ("decoder.pt", "encoder.pt", "export.json", "vocabulary.json")
    assert [one["Key"] for one in listed] == [f"exported/{name}" for name in names]


@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGTERM])
def test_what_is_stopped_leaves_nothing_behind(
    checkpoint: Callable[[str], Path], tmp_path: Path, ended_by: signal.Signals
) -> None:
    out = tmp_path / "new" / "exported"
    process = start(command("export", checkpoint("lstm"), out, "--format", "torchscript"))
    deadline = time.monotonic() + 120
    while not out.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(ended_by)
    process.communicate(timeout=120)
    assert process.returncode != 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["export", "bundled", "out", "--format", "caffe"], "format must be onnx or torchscript"),
        (["export", "bundled"], "Missing argument"),
    ],
    ids=["format", "destination"],
)
def test_wrong_usage_says_what_is_wrong(words: list[str], said: str) -> None:
    result = CliRunner().invoke(app, words, terminal_width=200)
    assert result.exit_code == 2
    assert said in " ".join(result.output.replace("│", " ").split())


def test_a_model_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["export", str(tmp_path / "nothing"), str(tmp_path / "out")])
    assert isinstance(result.exception, GpucaptError) and "there is no model" in str(result.exception)
    assert not (tmp_path / "out").exists()
