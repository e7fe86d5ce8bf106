"""POST /v1/captions: what a program gets for its pictures, and what it is told where it gets nothing."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from model.captioner import Captioner, load_captioner
from model.confidence import confidence
from pipeline.media.images import decode_still
from tests.pipeline.web.pictures import error_of, picture, send
from tests.rounding import ROUNDING_UNITS, units_apart
from tests.services.gpucapt_server import Server


@pytest.fixture(scope="module")
def captioner(model: Path) -> Captioner:
    return load_captioner(model, device="cpu", precision="fp32")


def test_a_picture_gets_the_caption_that_a_job_gives_it(client: httpx.Client, captioner: Captioner) -> None:
    data = picture("cat")
    expected = captioner.caption([captioner.prepare(decode_still(data, "cat"))], max_length=12)[0]
    answer = send(client, ("cat.jpg", data), max_length=12).json()
    assert answer["model"] == captioner.name
    assert answer["model_version"] == captioner.version
    (found,) = answer["captions"]
    assert (found["image"], found["caption"]) == ("cat.jpg", expected.text)
    assert found["words"] == list(expected.words)
    assert units_apart([found["log_prob"]], [expected.log_prob]) <= ROUNDING_UNITS
    assert found["confidence"] == pytest.approx(confidence(expected.log_prob, len(expected.words)), abs=1e-3)
    assert found["alternatives"] == []
    assert "attention" not in found


def test_alternatives_and_attention_come_when_asked_for(client: httpx.Client) -> None:
    (found,) = send(client, picture(), alternatives=3, attention=True, max_length=12).json()["captions"]
    texts = [found["caption"], *(other["caption"] for other in found["alternatives"])]
    assert len(texts) == len(set(texts)) > 1
    for one in (found, *found["alternatives"]):
        assert one["probability"] == pytest.approx(np.exp(one["log_prob"]), rel=1e-3)
    grid = found["attention"]
    maps = [base64.b64decode(one) for one in grid["maps"]]
    assert len(maps) == len(found["words"])
    assert all(len(one) == grid["rows"] * grid["columns"] and max(one) == 255 for one in maps)


def test_a_picture_that_cannot_be_used_costs_itself_alone(client: httpx.Client) -> None:
    answer = send(client, picture("cat"), ("notes.txt", b"no picture"), picture("coffee"), ("empty.png", b""))
    assert answer.status_code == 200
    found = answer.json()["captions"]
    assert [one["image"] for one in found] == ["0.jpg", "notes.txt", "2.jpg", "empty.png"]
    assert [one.get("error", {}).get("code") for one in found] == [
        None,
        "unsupported_image",
        None,
        "unreadable_image",
    ]
    assert found[0]["caption"] == send(client, picture("cat")).json()["captions"][0]["caption"]
    assert "notes.txt" in found[1]["error"]["message"]


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def many_pixels() -> bytes:
    file = io.BytesIO()
    Image.new("L", (2000, 1000)).save(file, "PNG")
    return file.getvalue()


def bomb() -> bytes:
    """A small file that says it is a huge picture."""
    data = bytearray(picture(kind="PNG"))
    data[16:24] = struct.pack(">II", 30_000, 30_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"%!PS-Adobe-3.0\n", (415, "unsupported_image")),
        (b"", (422, "unreadable_image")),
        (cut(picture(kind="PNG")), (422, "unreadable_image")),
        (many_pixels(), (422, "too_many_pixels")),
        (bomb(), (422, "too_many_pixels")),
        (bytes(300_001), (413, "too_large")),
    ],
    ids=["no picture", "empty", "cut short", "too many pixels", "bomb", "too large"],
)
def test_where_no_picture_can_be_used_the_status_says_why(
    client: httpx.Client, data: bytes, expected: tuple[int, str]
) -> None:
    response = send(client, ("odd.png", data))
    assert error_of(response) == expected
    assert "odd.png" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"beam_size": 0}, (422, "invalid_request")),
        ({"beam_size": 1000}, (422, "invalid_request")),
        ({"beam_size": 2, "alternatives": 2}, (422, "invalid_request")),
        ({"max_length": "long"}, (422, "invalid_request")),
        ({"beamsize": 3}, (422, "invalid_request")),
        ({"beam_size": ["2", "3"]}, (422, "invalid_request")),
        ({"uris": ["http://localhost/cat.jpg"]}, (422, "unsupported_uri")),
        ({"uris": ["file:///etc/passwd"]}, (422, "unsupported_uri")),
        ({"uris": ["s3://pictures/closed/cat.jpg"]}, (403, "uri_not_allowed")),
        ({"uris": ["s3://pictures/open/../closed/cat.jpg"]}, (422, "unsupported_uri")),
        ({"uris": ["s3://pictures/open/"]}, (403, "uri_not_allowed")),
        ({"uris": ["s3://picture/open/cat.jpg"]}, (403, "uri_not_allowed")),
    ],
)
def test_what_makes_no_sense_or_is_not_allowed_is_refused(
    client: httpx.Client, fields: dict[str, object], expected: tuple[int, str]
) -> None:
    files = () if "uris" in fields else (picture(),)
    assert error_of(send(client, *files, **fields)) == expected


def test_too_many_pictures_are_refused(client: httpx.Client) -> None:
    assert error_of(send(client, *[picture(size=(32, 32))] * 5)) == (413, "too_many_images")


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        ("application/json", b"{}", (415, "unsupported_media_type")),
        ("text/plain", b"uris=s3://pictures/open/cat.jpg", (415, "unsupported_media_type")),
        ("multipart/form-data", b"", (415, "unsupported_media_type")),
        ("multipart/form-data; boundary=x", b"--y--", (422, "invalid_request")),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\nno name\r\n--x--\r\n", (422, "invalid_request")),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\nbroken off',
            (422, "invalid_request"),
        ),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="other"; filename="a"\r\n\r\n1\r\n--x--\r\n',
            (422, "invalid_request"),
        ),
    ],
)
def test_a_body_that_is_no_form_is_refused(
    client: httpx.Client, kind: str, body: bytes, expected: tuple[int, str]
) -> None:
    response = client.post("/v1/captions", content=body, headers={"Content-Type": kind})
    assert error_of(response) == expected


def test_no_upload_touches_the_disk_whatever_it_is_called(client: httpx.Client, temporary: Path) -> None:
    before = sorted(temporary.rglob("*"))
    large = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8))
    file = io.BytesIO()
    large.save(file, "BMP")
    hostile = "../../../tmp/x<script>\r\n.jpg"
    (found,) = send(client, (hostile, file.getvalue())).json()["captions"]
    assert found["caption"]
    assert "\n" not in found["image"]
    assert sorted(temporary.rglob("*")) == before


def test_pictures_of_several_clients_go_through_the_model_together(server: Server) -> None:
    data = [picture(name, size=(64, 64)) for name in ("cat", "coffee", "rocket", "flower")]
    alone = [send(server.client, one).json()["captions"][0]["caption"] for one in data]
    before = batches(server.client)
    with ThreadPoolExecutor(16) as pool:
        clients = [httpx.Client(base_url=server.url, timeout=240) for _ in range(16)]
        rounds = range(6)
        found = list(
            pool.map(lambda n: [send(clients[n], data[n % 4]) for _ in rounds], range(16)),
        )
        for client in clients:
            client.close()
    for number, answers in enumerate(found):
        assert [one.status_code for one in answers] == [200] * len(rounds)
        assert {one.json()["captions"][0]["caption"] for one in answers} == {alone[number % 4]}
    count, pictures = (now - then for now, then in zip(batches(server.client), before, strict=True))
    assert pictures == 16 * len(rounds)
    assert count < pictures / 2, "most should have had company"


def batches(client: httpx.Client) -> tuple[float, float]:
    """How many batches there were, and how many pictures in them."""
    lines = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if line[:1] != "#")
    return float(lines["gpucapt_batch_pictures_count"]), float(lines["gpucapt_batch_pictures_sum"])


def test_memory_does_not_grow_with_the_number_of_requests(server: Server) -> None:
    data = [picture(name, size=(64, 64)) for name in ("cat", "coffee", "rocket")]

    def ask(count: int) -> int:
        for number in range(count):
            assert send(server.client, data[number % 3], max_length=8).status_code == 200
        memory = server.memory_kb()
        if memory is None:
            pytest.skip("this system does not tell the memory of a process (/proc/…/status)")
        return memory

    before = ask(100)
    assert ask(300) < before + 10_000  # a picture that stayed would be 12 kB, decoded
