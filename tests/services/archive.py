"""An object store that archives: moto's, where objects of some storage classes must be restored to be read.

Ceph has no such classes. moto restores at once; what else AWS says of restoring, and Intelligent-Tiering, the
proxy before it says (``tests.services.faults``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.services.faults import Network, faulty_network
from tests.services.s3 import S3Server
from tests.services.sqs import sqs_server

RESTORING = {"x-amz-restore": 'ongoing-request="true"'}


@dataclass(frozen=True)
class Archive:
    """A bucket on such a server, and the way there."""

    server: S3Server
    network: Network
    bucket: str

    @property
    def client(self) -> Any:
        """A client of boto's."""
        return self.server.client

    def put(self, key: str, data: bytes, storage_class: str = "STANDARD") -> None:
        """Put an object into a storage class, as senders and lifecycle rules do."""
        self.client.put_object(Bucket=self.bucket, Key=key, Body=data, StorageClass=storage_class)

    def restore(self, key: str) -> None:
        """Have an object restored."""
        self.client.restore_object(Bucket=self.bucket, Key=key, RestoreRequest={"Days": 1})


@contextmanager
def archive_server(folder: Path) -> Iterator[tuple[S3Server, Network]]:
    """Such a server, as clients see it."""
    with sqs_server(folder / "moto.log") as moto, faulty_network(moto.endpoint) as network:
        yield S3Server(network.endpoint, "tester", "tester-secret"), network
