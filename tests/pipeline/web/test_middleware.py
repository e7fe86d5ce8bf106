"""Who may ask the server, from where, and what every answer says to browsers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.pipeline.web.pictures import error_of, picture, send
from tests.services.gpucapt_server import Server, running

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def closed(model: Path) -> Iterator[Server]:
    """A server that wants a token."""
    with running("--model", model, GPUCAPT_SERVE_TOKEN="s3cret-ü") as found:
        yield found


@pytest.mark.parametrize(
    "sent", [None, "Bearer wrong", "Bearer", "Basic s3cret", "s3cret", "Bearer s3cret-ü2"]
)
def test_without_the_right_token_nothing_is_done(closed: Server, sent: str | None) -> None:
    headers = {} if sent is None else {"Authorization": sent.encode()}
    for method, path in (
        ("POST", "/v1/captions"),
        ("POST", "/v1/videos"),
        ("POST", "/v1/stories"),
        ("GET", "/v1/models"),
        ("GET", "/metrics"),
        ("GET", "/v1/videos/x"),
        ("GET", "/v1/nothing"),
    ):
        response = closed.client.request(method, path, headers=headers)
        assert error_of(response) == (401, "unauthorized"), path
        assert response.headers["www-authenticate"] == "Bearer"


def test_with_the_token_it_works(closed: Server) -> None:
    with httpx.Client(base_url=closed.url, headers={"Authorization": "Bearer s3cret-ü".encode()}) as client:
        assert send(client, picture(size=(48, 48))).status_code == 200


@pytest.mark.parametrize("path", ["/", "/health", "/ready", "/openapi.json", "/page/app.js"])
def test_the_page_and_the_state_are_open(closed: Server, path: str) -> None:
    assert closed.client.get(path).status_code == 200


def test_browsers_are_told_to_be_careful(client: httpx.Client) -> None:
    page = client.get("/")
    policy = dict(
        part.strip().partition(" ")[::2] for part in page.headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    for path in ("/", "/v1/models", "/nowhere", "/openapi.json"):
        headers = client.get(path, headers={"Origin": "https://example.org"}).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in headers


def test_other_sites_and_other_names_are_kept_out(client: httpx.Client) -> None:
    assert client.get("/health", headers={"Host": "localhost:1234"}).status_code == 200
    renamed = client.get("/v1/models", headers={"Host": "evil.example"})
    assert error_of(renamed) == (403, "unknown_host")
    own = f"{client.base_url.host}:{client.base_url.port}"
    for headers in (
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},  # another port of this machine
        {"Origin": "http://evil.example"},  # as from pages of plain HTTP on other machines
        {"Origin": "null"},
    ):
        elsewhere = client.post("/v1/captions", headers=headers)
        assert error_of(elsewhere) == (403, "cross_site")
    for headers in ({"Origin": f"http://{own}"}, {"Sec-Fetch-Site": "same-origin", "Origin": "null"}):
        assert client.post("/v1/captions", headers=headers).status_code == 415, "it is let in"


def test_a_server_with_a_token_answers_to_any_name(closed: Server) -> None:
    assert closed.client.get("/health", headers={"Host": "captions.example"}).status_code == 200


def test_a_token_needs_no_origin(closed: Server) -> None:
    headers = {"Authorization": "Bearer s3cret-ü".encode(), "Origin": "http://proxied.example"}
    assert closed.client.post("/v1/captions", headers=headers).status_code == 415


@pytest.mark.parametrize("path", ["/", "/health", "/ready", "/v1/models", "/metrics"])
def test_heads_are_as_those_of_whole_answers(client: httpx.Client, path: str) -> None:
    head = client.head(path)
    assert head.status_code == 200 and head.content == b""
    assert head.headers["content-type"] == client.get(path).headers["content-type"]


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/nowhere", (404, "not_found")),
        ("GET", "/page/../app.py", (404, "not_found")),
        ("GET", "/page/%2e%2e/app.py", (404, "not_found")),
        ("GET", "/v1/captions", (405, "method_not_allowed")),
        ("PUT", "/v1/videos/x", (405, "method_not_allowed")),
    ],
)
def test_paths_that_are_not_there_are_told_like_all_errors(
    client: httpx.Client, method: str, path: str, expected: tuple[int, str]
) -> None:
    assert error_of(client.request(method, path)) == expected


def test_clients_are_told_what_the_server_takes(client: httpx.Client) -> None:
    content = client.get("/v1/models").json()
    assert content["models"][0]["default"] is True
    assert content["providers"] == ["outline"]
    assert content["limits"] == {
        "image_bytes": 300_000,
        "image_pixels": 1_000_000,
        "images": 4,
        "video_bytes": 2_000_000,
        "video_seconds": 20,
        "text_length": 500,
    }


def test_prometheus_is_told_what_happens_but_no_names(client: httpx.Client) -> None:
    client.get("/v1/videos/some-name")
    client.get("/other-name")
    text = client.get("/metrics").text
    assert 'gpucapt_requests_total{method="GET",path="/v1/videos/{id}",status="404"}' in text
    assert "gpucapt_queue_pictures 0.0" in text
    assert "gpucapt_model_info{" in text
    assert "some-name" not in text and "other-name" not in text
