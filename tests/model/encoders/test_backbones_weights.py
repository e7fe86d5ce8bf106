"""ImageNet weights are fetched when they are first needed: once, checked, never run. From a real server."""

from __future__ import annotations

import hashlib
import io
import pickle
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import torchvision.models as zoo

from model.encoders.backbones import build_encoder
from model.errors import GpucaptError

NAME = "squeezenet1_1"


class Shelf:
    """A server of one file of weights, and how often it was asked."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.server = server
        self.content = b""
        self.sent = 1.0
        """How much of the file it sends before it hangs up."""
        self.asked = 0

    def put(self, content: bytes, monkeypatch: pytest.MonkeyPatch, *, digest: str | None = None) -> None:
        """Have torchvision find this where its weights are, under a name with a digest, as theirs have."""
        self.content = content
        digest = digest or hashlib.sha256(content).hexdigest()[:8]
        weights = zoo.get_model_weights(NAME)["DEFAULT"].value
        monkeypatch.setattr(weights, "url", f"http://127.0.0.1:{self.server.server_port}/{NAME}-{digest}.pth")


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            shelf.asked += 1
            self.send_response(200)
            self.send_header("Content-Length", str(len(shelf.content)))
            self.end_headers()
            self.wfile.write(shelf.content[: int(len(shelf.content) * shelf.sent)])

        def log_message(self, *arguments: object) -> None:
            pass

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        shelf = Shelf(server)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield shelf
        server.shutdown()
        thread.join()


def saved(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def test_weights_are_fetched_once_and_kept(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = zoo.get_model(NAME, weights=None).state_dict()
    shelf.put(saved(wanted), monkeypatch)
    for _ in range(2):
        found = build_encoder(NAME, weights="imagenet").backbone.state_dict()
        assert torch.equal(found["0.weight"], wanted["features.0.weight"])
    assert shelf.asked == 1
    assert capsys.readouterr().out == "", "the last line of a command is for programs"


def test_a_download_that_breaks_off_is_told_and_not_kept(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.put(saved(zoo.get_model(NAME, weights=None).state_dict()), monkeypatch)
    shelf.sent = 0.6
    with pytest.raises(GpucaptError, match=r"squeezenet1_1 .*--encoder-weights") as told:
        build_encoder(NAME, weights="imagenet")
    assert len(str(told.value).splitlines()) == 1
    shelf.sent = 1.0
    build_encoder(NAME, weights="imagenet")


def test_weights_of_another_digest_are_refused(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.put(saved(zoo.get_model(NAME, weights=None).state_dict()), monkeypatch, digest="0a1b2c3d")
    with pytest.raises(GpucaptError, match="invalid hash"):
        build_encoder(NAME, weights="imagenet")


def test_code_in_weights_is_never_run(shelf: Shelf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    for content in (saved({"features.0.weight": Evil()}), pickle.dumps(Evil(), protocol=2)):
        shelf.put(content, monkeypatch)
        with pytest.raises(GpucaptError, match="--encoder-weights"):
            build_encoder(NAME, weights="imagenet")
    assert not (tmp_path / "ran").exists()
