"""What an object store refuses, as the user of the command line reads it: one line, exit 1, at once."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipeline.errors import BadInput, StorageUnavailable
from pipeline.storage.open import open_storage
from tests.pipeline.jobs import caption_command, run
from tests.services.s3 import S3Server


def told(source: str, destination: str, model: Path, **environment: str) -> str:
    """The one line with which `gpucapt caption` ends."""
    done = run(caption_command(source, destination, model), **environment)  # type: ignore[arg-type]
    assert done.returncode == 1, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("gpucapt: ")
    assert "internal error" not in lines[0]
    secrets = [value for name, value in {**os.environ, **environment}.items() if "SECRET" in name and value]
    assert not any(secret in lines[0] for secret in secrets)
    return lines[0]


@pytest.fixture
def source(bucket: str) -> str:
    url = f"s3://{bucket}/in"
    open_storage(url).write("a.jpg", b"-")
    return url


def test_wrong_credentials(source: str, tiny_model: Path, tmp_path: Path) -> None:
    line = told(source, str(tmp_path), tiny_model, AWS_SECRET_ACCESS_KEY="not-the-secret")
    assert f"{source}: the secret key is wrong; check AWS_SECRET_ACCESS_KEY" in line
    line = told(source, str(tmp_path), tiny_model, AWS_ACCESS_KEY_ID="nobody")
    assert f"{source}: the access key is unknown there; check AWS_ACCESS_KEY_ID" in line
    assert not any(tmp_path.iterdir())


def test_no_credentials(source: str, tiny_model: Path, tmp_path: Path) -> None:
    none = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    assert "there are no credentials; set AWS_ACCESS_KEY_ID" in told(
        source, str(tmp_path), tiny_model, **none
    )


def test_half_of_the_credentials(source: str, tiny_model: Path, tmp_path: Path) -> None:
    assert "set AWS_SECRET_ACCESS_KEY" in told(source, str(tmp_path), tiny_model, AWS_SECRET_ACCESS_KEY="")


def test_an_unknown_profile(source: str, tiny_model: Path, tmp_path: Path) -> None:
    assert "profile (nowhere)" in told(source, str(tmp_path), tiny_model, AWS_PROFILE="nowhere")


def test_a_bucket_that_is_not_there(source: str, bucket: str, tiny_model: Path, tmp_path: Path) -> None:
    wanted = "there is no such bucket; make it, or name another"
    assert f"s3://none-{bucket}/in: {wanted}" in told(f"s3://none-{bucket}/in", str(tmp_path), tiny_model)
    assert f"s3://none-{bucket}/out: {wanted}" in told(source, f"s3://none-{bucket}/out", tiny_model)


def test_names_that_no_bucket_can_have(tiny_model: Path, tmp_path: Path, source: str) -> None:
    assert "no bucket can have this name" in told("s3://a b/in", str(tmp_path), tiny_model)


def test_a_source_that_is_not_there(bucket: str, tiny_model: Path, tmp_path: Path) -> None:
    assert "does not exist" in told(f"s3://{bucket}/nowhere", str(tmp_path), tiny_model)


def test_a_bucket_that_may_not_be_listed(
    s3_server: S3Server, bucket: str, source: str, tiny_model: Path, tmp_path: Path
) -> None:
    stranger = s3_server.allow_stranger(bucket)
    assert f"{source}: access is denied; ask for the right to list there" in told(
        source, str(tmp_path), tiny_model, **stranger
    )


def test_a_destination_that_may_not_be_written(
    s3_server: S3Server, bucket: str, source: str, tiny_model: Path
) -> None:
    stranger = s3_server.allow_stranger(bucket, "s3:ListBucket", "s3:GetObject")
    line = told(source, f"s3://{bucket}/out", tiny_model, **stranger)
    assert f"s3://{bucket}/out: access is denied; ask for the right to write there" in line


def test_an_object_that_may_not_be_read_costs_that_object_alone(
    s3_server: S3Server, bucket: str, source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    open_storage(f"s3://{bucket}/open").write("b.jpg", b"-")
    for name, value in s3_server.allow_stranger(
        bucket, "s3:ListBucket", "s3:GetObject", below="open/"
    ).items():
        monkeypatch.setenv(name, value)
    storage = open_storage(f"s3://{bucket}")
    assert storage.read("open/b.jpg") == b"-"
    listed = {entry.key: entry for entry in storage.list()}
    for call in (
        lambda: storage.read("in/a.jpg"),
        lambda: storage.stat("in/a.jpg"),
        lambda: storage.download(listed["in/a.jpg"], tmp_path / "fetched"),
    ):
        with pytest.raises(BadInput, match=r"in/a\.jpg: cannot be read: access is denied"):
            call()


def test_looking_at_an_object_with_wrong_keys_ends_the_run(
    bucket: str, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    with pytest.raises(StorageUnavailable, match="the secret key is wrong"):
        open_storage(source).stat("a.jpg")


def test_an_endpoint_where_nobody_listens(source: str, tiny_model: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        nowhere = f"http://127.0.0.1:{free.getsockname()[1]}"
    patience = {"AWS_ENDPOINT_URL": nowhere, "GPUCAPT_S3_FIRST_DEADLINE": "1"}
    line = told(source, str(tmp_path), tiny_model, **patience)
    assert f"{nowhere} cannot be reached" in line and "check AWS_ENDPOINT_URL" in line


@pytest.mark.parametrize("endpoint", ["not-a-url", "http://", "ftp://127.0.0.1/"])
def test_endpoints_that_are_none(source: str, tiny_model: Path, tmp_path: Path, endpoint: str) -> None:
    line = told(source, str(tmp_path), tiny_model, AWS_ENDPOINT_URL=endpoint, GPUCAPT_S3_FIRST_DEADLINE="1")
    assert "endpoint" in line.lower()


def test_an_endpoint_without_its_scheme(source: str, tiny_model: Path, tmp_path: Path) -> None:
    line = told(source, str(tmp_path), tiny_model, AWS_ENDPOINT_URL="me:hush@127.0.0.1:7480")
    assert "hush" not in line
    assert "127.0.0.1:7480; check AWS_ENDPOINT_URL, which begins with http:// or https://" in line


def test_https_where_only_http_is_spoken(
    s3_server: S3Server, source: str, tiny_model: Path, tmp_path: Path
) -> None:
    wrong = s3_server.endpoint.replace("http://", "https://")
    patience = {"AWS_ENDPOINT_URL": wrong, "GPUCAPT_S3_FIRST_DEADLINE": "1"}
    line = told(source, str(tmp_path), tiny_model, **patience)
    assert f"{wrong} cannot be reached (no TLS there; is it http:// and not https://?)" in line


HTML = b"<!DOCTYPE html><title>Welcome</title><p>Log in<br>"
XHTML = b'<html xmlns="http://www.w3.org/1999/xhtml"><body><p>Log in</p></body></html>'


@contextmanager
def web_server(status: int, body: bytes, **headers: str) -> Iterator[str]:
    """The URL of a server that answers everything alike; {path} in a header is what was asked for."""

    class Page(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value.format(path=self.path.partition("?")[0]))
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else body)

        do_GET = do_HEAD = do_PUT = answer

        def log_message(self, format: str, *arguments: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def keys_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials, for where nobody looks at them."""
    for name, value in S3Server("", "key", "hush").variables().items():
        monkeypatch.setenv(name, value)


@pytest.mark.slow
@pytest.mark.parametrize("body", [HTML, XHTML, b"", b"{}"], ids=["html", "xhtml", "nothing", "json"])
@pytest.mark.parametrize("status", [200, 404])
def test_an_endpoint_that_speaks_no_s3(
    keys_for_nobody: None, tiny_model: Path, tmp_path: Path, status: int, body: bytes
) -> None:
    """As when the address of a console is given."""
    with web_server(status, body) as endpoint:
        patience = {"AWS_ENDPOINT_URL": endpoint, "GPUCAPT_S3_FIRST_DEADLINE": "1"}
        line = told("s3://films/in", str(tmp_path / "out"), tiny_model, **patience)
    assert f"{endpoint} does not answer as S3 does" in line and "check AWS_ENDPOINT_URL" in line


@pytest.mark.slow
@pytest.mark.parametrize("body", [HTML, b""], ids=["html", "nothing"])
@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("to", ["{path}/", "https://console.example.com{path}", "{path}"])
def test_an_endpoint_that_redirects(
    keys_for_nobody: None, monkeypatch: pytest.MonkeyPatch, status: int, to: str, body: bytes
) -> None:
    """As web servers add a slash, or send to a login; boto would ask for ever where the bucket is."""
    with web_server(status, body, Location=to) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        wanted = re.escape(f"s3://films/in: {endpoint} does not answer as S3 does (it redirects to ")
        for call in ("exists", "check_place"):
            with pytest.raises(StorageUnavailable, match=f"{wanted}.*; check AWS_ENDPOINT_URL"):
                getattr(open_storage("s3://films/in"), call)()
        for use in (
            lambda: open_storage("s3://films/in").stat("a"),
            lambda: open_storage("s3://films/in").write("a", b""),
        ):
            with pytest.raises(StorageUnavailable, match="check AWS_ENDPOINT_URL"):
                use()


def test_looking_at_an_object_of_a_web_server(keys_for_nobody: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with web_server(200, XHTML) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        with pytest.raises(StorageUnavailable, match="check AWS_ENDPOINT_URL"):
            open_storage("s3://films/in").stat("a.mp4")


def test_a_bucket_in_another_region(keys_for_nobody: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As AWS tells it: boto asks once more, where the answer said."""
    with web_server(301, b"", x_amz_bucket_region="eu-west-1") as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        with pytest.raises(StorageUnavailable, match="the bucket is in another region"):
            open_storage("s3://films/in").exists()
