"""Buckets whose objects may be archived, for tests of several rooms."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.services.archive import Archive, archive_server
from tests.services.faults import Network
from tests.services.s3 import S3Server


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[S3Server, Network]]:
    """A server that archives."""
    with archive_server(tmp_path_factory.mktemp("archive")) as found:
        yield found


@pytest.fixture
def archive(archives: tuple[S3Server, Network], monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    """A new bucket, and this process's environment set to use its server."""
    server, network = archives
    for name in [name for name in os.environ if name.startswith(("AWS_", "GPUCAPT_S3_"))]:
        monkeypatch.delenv(name)
    for name, value in server.variables().items():
        monkeypatch.setenv(name, value)
    yield Archive(server, network, server.make_bucket())
    network.heal()
