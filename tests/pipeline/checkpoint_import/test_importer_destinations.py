"""Where an imported checkpoint goes: told early when it cannot, and nothing half-written stays behind."""

from __future__ import annotations

import signal
from collections.abc import ItemsView, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.checkpoint import write_checkpoint
from model.errors import GpucaptError
from model.vocabulary import Vocabulary
from pipeline.checkpoint_import.importer import import_checkpoint
from pipeline.runtime.signals import Interrupted, raised_on_sigterm

WORDS = Vocabulary(("<pad>", "a", "<unk>", "<start>", "<end>"))


@pytest.mark.parametrize(
    ("destination", "why"),
    [
        ("file/mine", r"file/mine cannot be written \(.*file is not a folder\)"),
        ("file/deep/mine", r"file/deep/mine cannot be written \(.*\)"),
        ("x" * 300, r"cannot be written \(File name too long\)"),
        ("link", "link exists already"),
        ("/proc/mine", r"/proc/mine cannot be written \(.*\)"),
    ],
    ids=["in a file", "deep in a file", "too long", "a link to nothing", "no place for files"],
)
def test_a_place_that_cannot_be_written_is_told_before_anything_is_read(
    tmp_path: Path, destination: str, why: str
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("nowhere")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(GpucaptError, match=why) as caught:
        import_checkpoint([str(tmp_path / "not read")], str(tmp_path / destination))
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


class Stopping(dict[str, Tensor]):
    """Tensors in the midst of whose writing a signal comes."""

    def __init__(self, number: int) -> None:
        super().__init__(weight=torch.ones(2))
        self.number = number

    def items(self) -> ItemsView[str, Tensor]:  # type: ignore[override]
        signal.raise_signal(self.number)
        return super().items()


@pytest.fixture
def heeds_ctrl_c() -> Iterator[None]:
    """Where a shell has started the tests in the background, they ignore Ctrl-C from the outset."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_ctrl_c")
@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGTERM, Interrupted), (signal.SIGINT, KeyboardInterrupt)]
)
def test_a_signal_leaves_what_was_there_and_nothing_else(
    tmp_path: Path, number: int, error: type[BaseException]
) -> None:
    with pytest.raises(error), raised_on_sigterm():
        write_checkpoint(tmp_path / "mine", {}, WORDS, Stopping(number))
    assert list(tmp_path.iterdir()) == []
    write_checkpoint(tmp_path / "mine", {"name": "first"}, WORDS, {"weight": torch.ones(2)})
    with pytest.raises(error), raised_on_sigterm():
        write_checkpoint(tmp_path / "mine", {"name": "second"}, WORDS, Stopping(number))
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert "first" in (tmp_path / "mine" / "config.json").read_text()
