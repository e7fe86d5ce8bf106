"""A small RTSP server for tests: Motion JPEG in RTP over the connection itself, as RFC 2326 and 2435 say.

It asks for a user and a password by Digest (RFC 2617), as most network cameras do.
"""

from __future__ import annotations

import hashlib
import re
import socketserver
import struct
import threading
import time

from tests.pipeline.streams.cameras import jpeg

_NONCE, _REALM = "6b8b4567", "camera"
_CLOCK = 90_000
_PAYLOAD = 1200
_SDP = "\r\n".join(
    ("v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=cam", "t=0 0", "m=video 0 RTP/AVP 26", "a=control:track", "")
)


class RtspCamera:
    """Serves ``rtsp://…/cam`` to who knows user and password; ``fps`` frames a second."""

    def __init__(self, user: str, password: str, fps: int = 10) -> None:
        camera = self
        self._secret = hashlib.md5(f"{user}:{_REALM}:{password}".encode()).hexdigest()
        self._fps = fps
        self._over = threading.Event()
        self.plays = 0

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                camera._handle(self)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def _handle(self, connection: socketserver.StreamRequestHandler) -> None:
        lock = threading.Lock()
        while (line := connection.rfile.readline()) and not self._over.is_set():
            if line[:1] == b"$":  # RTCP of the client; what follows is not a line
                return
            method, url = line.decode().split()[:2]
            head: dict[str, str] = {}
            while (field := connection.rfile.readline().decode().strip()) != "":
                name, _, value = field.partition(":")
                head[name.lower()] = value.strip()
            status, more, body = self._answer(method, url, head)
            more += f"CSeq: {head['cseq']}\r\nContent-Length: {len(body)}\r\n"
            with lock:
                connection.wfile.write(f"RTSP/1.0 {status}\r\n{more}\r\n{body}".encode())
            if method == "TEARDOWN":
                return
            if method == "PLAY" and status.startswith("200"):
                self.plays += 1
                threading.Thread(target=self._play, args=(connection, lock), daemon=True).start()

    def _answer(self, method: str, url: str, head: dict[str, str]) -> tuple[str, str, str]:
        if method == "OPTIONS":
            return "200 OK", "Public: DESCRIBE, SETUP, PLAY, TEARDOWN\r\n", ""
        if not self._is_allowed(method, head.get("authorization", "")):
            digest = f'WWW-Authenticate: Digest realm="{_REALM}", nonce="{_NONCE}"\r\n'
            return "401 Unauthorized", digest, ""
        if method == "DESCRIBE":
            return "200 OK", f"Content-Base: {url}/\r\nContent-Type: application/sdp\r\n", _SDP
        if method == "SETUP":
            return "200 OK", "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n", ""
        return "200 OK", "Session: 1\r\n", ""

    def _is_allowed(self, method: str, said: str) -> bool:
        fields = dict(re.findall(r'(\w+)="([^"]*)"', said))
        about = hashlib.md5(f"{method}:{fields.get('uri')}".encode()).hexdigest()
        return fields.get("response") == hashlib.md5(f"{self._secret}:{_NONCE}:{about}".encode()).hexdigest()

    def _play(self, connection: socketserver.StreamRequestHandler, lock: threading.Lock) -> None:
        number, begun, packets = 0, time.monotonic(), 0
        try:
            while not self._over.is_set():
                for packet in _packets(jpeg(number), number * _CLOCK // self._fps, packets):
                    with lock:
                        connection.wfile.write(struct.pack("!cBH", b"$", 0, len(packet)) + packet)
                    packets += 1
                number += 1
                time.sleep(max(0.0, begun + number / self._fps - time.monotonic()))
        except OSError:
            pass

    def __enter__(self) -> RtspCamera:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _packets(data: bytes, timestamp: int, sequence: int) -> list[bytes]:
    """A JPEG file (4:2:0, standard Huffman tables) as RTP packets: its headers go, but for the two tables."""
    tables, at = b"", 2
    while data[at + 1] != 0xDA:
        length = int.from_bytes(data[at + 2 : at + 4])
        if data[at + 1] == 0xDB:
            content = data[at + 4 : at + 2 + length]
            tables += b"".join(content[start + 1 : start + 65] for start in range(0, len(content), 65))
        if data[at + 1] == 0xC0:
            height, width = struct.unpack("!HH", data[at + 5 : at + 9])
        at += 2 + length
    scan = data[at + 2 + int.from_bytes(data[at + 2 : at + 4]) : -2]
    packets = []
    for start in range(0, len(scan), _PAYLOAD):
        piece = scan[start : start + _PAYLOAD]
        is_last = start + _PAYLOAD >= len(scan)
        rtp = struct.pack(
            "!BBHII", 0x80, 26 | 0x80 * is_last, (sequence + len(packets)) & 0xFFFF, timestamp, 7
        )
        head = struct.pack("!II", start, 1 << 24 | 255 << 16 | (width // 8) << 8 | height // 8)
        quantization = struct.pack("!HH", 0, len(tables)) + tables if start == 0 else b""
        packets.append(rtp + head + quantization + piece)
    return packets
