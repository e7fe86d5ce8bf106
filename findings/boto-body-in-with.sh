#!/usr/bin/env bash
# botocore 1.43.117: with get_object(...)["Body"] as body: body.read() compares no checksum.
#
# Expected: an object is read with the checksum that the store sends with it (ChecksumMode, and the default
#   response_checksum_validation="when_supported"): bytes that do not fit it raise FlexibleChecksumError, also in a with
#   statement, which only closes the body at the end.
# Seen:     Body.read() raises FlexibleChecksumError. In a with statement the same bytes come without a word: __enter__ hands
#   out the HTTP response below the body, which knows nothing of checksums.
# For:      whoever reads objects; keep the body and close it by contextlib.closing, or compare what came.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet botocore==1.43.117

cat > "$work/read.py" <<'PYTHON'
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import botocore.session
from botocore.exceptions import FlexibleChecksumError


class Store(BaseHTTPRequestHandler):
    """Has one object, and says of it the checksum of nothing."""

    def do_GET(self):
        assert self.headers["x-amz-checksum-mode"] == "ENABLED"
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.send_header("x-amz-checksum-crc32", "AAAAAA==")
        self.end_headers()
        self.wfile.write(b"bytes")

    def log_message(self, *arguments):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Store)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = botocore.session.Session().create_client(
    "s3",
    endpoint_url=f"http://127.0.0.1:{server.server_address[1]}",
    aws_access_key_id="key",
    aws_secret_access_key="secret",
    region_name="us-east-1",
)


def said(read):
    try:
        return f"read {len(read())} bytes"
    except FlexibleChecksumError:
        return "FlexibleChecksumError"


def in_with():
    with client.get_object(Bucket="bucket", Key="key")["Body"] as body:
        return body.read()


def in_closing():
    with closing(client.get_object(Bucket="bucket", Key="key")["Body"]) as body:
        return body.read()


print("alone:", said(lambda: client.get_object(Bucket="bucket", Key="key")["Body"].read()))
print("closing:", said(in_closing))
print("with:", said(in_with))
PYTHON

"$work/venv/bin/python" -c 'import botocore; print("botocore", botocore.__version__)'
"$work/venv/bin/python" "$work/read.py" | tee "$work/said"
printf '%s\n' "alone: FlexibleChecksumError" "closing: FlexibleChecksumError" "with: read 5 bytes" | cmp - "$work/said"
