"""The server against its own OpenAPI document, by Schemathesis: odd requests, and no server error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx

from tests.services.gpucapt_server import Server

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)


def test_schemathesis_finds_nothing(server: Server, tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("schemathesis")
    line = [str(program), "run", f"{server.url}/openapi.json", f"--checks={','.join(CHECKS)}"]
    line += ["--phases=examples,coverage,fuzzing", "--max-examples=10", "--seed=1", "--no-color"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout
    assert "14 selected / 14 total" in done.stdout


def test_the_document_names_every_path_with_its_errors(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], (method, path)
            if path.startswith("/v1/"):
                assert "401" in operation["responses"], (method, path)
    form = document["paths"]["/v1/captions"]["post"]["requestBody"]["content"]["multipart/form-data"]
    assert {"images", "uris", "beam_size", "attention"} <= set(form["schema"]["properties"])
    assert document["paths"]["/v1/captions"]["post"]["responses"]["200"]["content"]["application/json"][
        "example"
    ]
