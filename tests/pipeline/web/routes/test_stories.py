"""/v1/stories: stories begun, steered, mended and exported; the server keeps none of them."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.pipeline.web.pictures import error_of

CAPTIONS = [
    {"caption": "a dog runs on the beach", "timestamp_s": 0.0},
    {"caption": "a dog jumps into the water", "timestamp_s": 3.0},
    {"caption": "a man throws a ball", "timestamp_s": 6.0},
]
EVENTS = {"Accept": "text/event-stream"}


def post(client: httpx.Client, path: str, body: Any, **headers: str) -> httpx.Response:
    return client.post(f"/v1/stories{path}", json=body, headers=headers)


def begun(client: httpx.Client) -> dict[str, Any]:
    response = post(client, "", {"from": {"captions": CAPTIONS, "title": "At the sea"}})
    assert response.status_code == 200, response.text
    story: dict[str, Any] = response.json()
    return story


def events(response: httpx.Response) -> list[tuple[str, Any]]:
    """What a stream told: kinds and data."""
    assert response.headers["content-type"].startswith("text/event-stream")
    blocks = [block.splitlines() for block in response.text.strip().split("\n\n")]
    found = [dict(line.split(": ", 1) for line in block if line[:1] != ":") for block in blocks]
    return [(event["event"], json.loads(event["data"])) for event in found if event]


def test_a_story_of_scenes_knows_where_the_last_one_ends(client: httpx.Client) -> None:
    scenes = [{**one, "end_s": one["timestamp_s"] + 3} for one in CAPTIONS[:2]] + [
        {**CAPTIONS[2], "end_s": 42.5}
    ]
    story = post(client, "", {"from": {"captions": scenes}}).json()
    assert [(one["start_s"], one["end_s"]) for one in story["material"]["scenes"]][-1] == (6.0, 42.5)
    untold = [{**one, "end_s": None} for one in CAPTIONS]
    assert (
        post(client, "", {"from": {"captions": untold}}).json()
        == post(client, "", {"from": {"captions": CAPTIONS}}).json()
    )


def test_a_story_is_begun_steered_told_anew_shortened_and_exported(client: httpx.Client) -> None:
    story = begun(client)
    assert story["title"] == "At the sea"
    assert "dog" in story["turns"][0]["text"]
    assert post(client, "", {"from": {"captions": CAPTIONS, "title": "At the sea"}}).json() == story

    longer = post(client, "/continue", {"story": story}).json()
    steered = post(client, "/continue", {"story": longer, "prompt": "Then a storm comes."}).json()
    assert [turn["kind"] for turn in steered["turns"]] == ["start", "continue", "steer"]
    assert steered["turns"][2]["prompt"] == "Then a storm comes."

    anew = post(client, "/redo", {"story": steered, "index": 2, "prompt": "Then the sun comes out."}).json()
    assert anew["turns"][:2] == steered["turns"][:2]
    assert anew["turns"][2]["prompt"] == "Then the sun comes out."

    shorter = post(client, "/drop", {"story": anew, "index": 1}).json()
    assert shorter["turns"] == [anew["turns"][0], anew["turns"][2]]

    exported = post(client, "/markdown", {"story": shorter})
    assert exported.headers["content-type"].startswith("text/markdown")
    assert exported.text.startswith("# At the sea\n\n")


def test_a_story_comes_in_pieces_for_who_asks_for_them(client: httpx.Client) -> None:
    found = events(post(client, "", {"from": {"captions": CAPTIONS, "title": "At the sea"}}, **EVENTS))
    assert [kind for kind, _ in found] == ["text"] * (len(found) - 1) + ["story"]
    story = found[-1][1]
    assert story == begun(client)
    assert "".join(piece for _, piece in found[:-1]).strip() == story["turns"][0]["text"].strip()


def test_captions_without_times_are_pictures_and_a_text_is_a_beginning(client: httpx.Client) -> None:
    pictures = post(client, "", {"from": {"captions": [{"caption": "a dog on a beach"}]}}).json()
    assert "picture" in pictures["turns"][0]["text"]
    text = post(client, "", {"from": {"text": "Once a dog ran away."}}).json()
    assert "dog" in text["turns"][0]["text"]


STORY = {
    "title": "One",
    "source": "text",
    "turns": [{"kind": "start", "provider": "outline", "text": "One."}],
}


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("", {}, (422, "invalid_request")),
        ("", {"from": {}}, (422, "invalid_request")),
        ("", {"from": {"text": "One.", "video": "two"}}, (422, "invalid_request")),
        ("", {"from": {"text": "  "}}, (422, "invalid_request")),
        ("", {"from": {"text": "x" * 501}}, (413, "too_long")),
        ("", {"from": {"captions": [{"caption": "x" * 2000}] * 13}}, (413, "too_long")),
        ("", {"from": {"video": "unknown"}}, (404, "not_found")),
        ("", {"from": {"text": "One."}, "provider": "openai"}, (422, "unknown_provider")),
        ("", {"from": {"text": "One."}, "prompt": "x" * 1001}, (422, "invalid_request")),
        ("/continue", {"story": STORY}, (409, "nothing_to_tell")),
        ("/continue", {"story": {}}, (422, "invalid_request")),
        ("/continue", {"story": {**STORY, "turns": []}}, (422, "invalid_request")),
        ("/redo", {"story": STORY, "index": 1}, (422, "invalid_request")),
        ("/redo", {"story": STORY, "index": -1}, (422, "invalid_request")),
        ("/drop", {"story": STORY, "index": 0}, (422, "invalid_request")),
        ("/markdown", {"story": "One."}, (422, "invalid_request")),
    ],
)
@pytest.mark.parametrize("headers", [{}, EVENTS], ids=["whole", "in pieces"])
def test_what_makes_no_sense_is_refused(
    client: httpx.Client, path: str, body: Any, headers: dict[str, str], expected: tuple[int, str]
) -> None:
    assert error_of(post(client, path, body, **headers)) == expected


def test_a_body_that_is_too_large_or_no_json_is_refused(client: httpx.Client) -> None:
    kind = {"Content-Type": "application/json"}
    large = client.post("/v1/stories", content=b'{"from": {"text": "' + bytes(200_000), headers=kind)
    assert error_of(large) == (413, "too_large")
    for unsaid in (kind, {"Content-Type": "text/plain"}, {}):
        response = client.post("/v1/stories", content=iter([b"[" * 100_000] * 3), headers=unsaid)
        assert error_of(response) == (413, "too_large")
    assert error_of(client.post("/v1/stories", content=b"{", headers=kind)) == (422, "invalid_request")
    odd = rb'{"story": {"title": "\ud800", "source": "s", "turns": [{"kind": "start", "provider": "outline",'
    odd += rb' "text": "A dog runs."}]}}'
    assert client.post("/v1/stories/markdown", content=odd, headers=kind).status_code == 200
    odd = odd[:-1] + b', "prompt": "Then a storm comes."}'
    assert client.post("/v1/stories/continue", content=odd, headers=kind).status_code == 200
