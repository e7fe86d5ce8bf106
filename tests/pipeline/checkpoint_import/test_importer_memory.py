"""A file as large as the tutorial's own is imported in the memory of a small machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
GB = 2**30

WRITE = """
import sys, torch
from pathlib import Path
from tests.pipeline.checkpoint_import.originals import tutorial
from tests.pipeline.checkpoint_import.saving import save

encoder, decoder = tutorial.Encoder("resnet101"), tutorial.DecoderWithAttention(512, 512, 512, 9490)
optimiser = torch.optim.Adam(decoder.parameters(), lr=4e-4)
for parameter in decoder.parameters():
    parameter.grad = torch.ones_like(parameter)
optimiser.step()
content = {"epoch": 1, "bleu-4": 0.2, "encoder": encoder, "decoder": decoder, "decoder_optimizer": optimiser}
save(content, Path(sys.argv[1]), {"models": tutorial}, legacy=sys.argv[2] == "legacy")
"""

IMPORT = """
import sys
from pipeline.checkpoint_import.importer import import_checkpoint
from tests.pipeline.checkpoint_import.watching import status

import_checkpoint(sys.argv[1:3], sys.argv[3])
print(status("VmHWM"))
"""


def run(script: str, *arguments: str) -> str:
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_four_hundred_megabytes_take_less_than_one_and_a_half_gigabytes(tmp_path: Path, form: str) -> None:
    path, words = tmp_path / "BEST_checkpoint_coco.pth.tar", tmp_path / "WORDMAP_coco.json"
    names = ["<pad>", *(f"word{i}" for i in range(9486)), "<unk>", "<start>", "<end>"]
    words.write_text(json.dumps({name: i for i, name in enumerate(names)}))
    try:
        run(WRITE, str(path), form)
        assert path.stat().st_size > 400e6
        peak = int(run(IMPORT, str(words), str(path), str(tmp_path / "mine")))
    finally:
        path.unlink(missing_ok=True)
    print(f"{form}: {peak / GB:.2f} GB")
    assert peak < 1.5 * GB
    assert (tmp_path / "mine" / "model.safetensors").stat().st_size > 250e6
    (tmp_path / "mine" / "model.safetensors").unlink()
