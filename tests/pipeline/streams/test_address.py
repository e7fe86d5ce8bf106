"""How streams are named and spoken of, and what is refused before any is opened."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli.main import app
from pipeline.errors import WrongUsage
from pipeline.streams.address import is_stream, parse


@pytest.mark.parametrize(
    ("source", "name", "shown"),
    [
        (
            "rtsp://u:p@cam.local:554/h264/ch1?key=s",
            "cam.local-554-h264-ch1",
            "rtsp://cam.local:554/h264/ch1",
        ),
        ("RTSP://CAM/x", "cam-x", "rtsp://cam/x"),
        (
            "http://[fe80::1]:8080/../../etc/passwd",
            "fe80-1-8080-..-..-etc-passwd",
            "http://[fe80::1]:8080/../../etc/passwd",
        ),
        ("udp://@239.0.0.1:1234", "239.0.0.1-1234", "udp://239.0.0.1:1234"),
        ("udp://:1234", "udp-1234", "udp://:1234"),
        ("http://runs/", "stream-runs", "http://runs/"),
        ("http://cam/#secret", "cam", "http://cam/"),
        ("/dev/video0", "video0", "/dev/video0"),
    ],
)
def test_a_name_is_one_folder_and_nothing_secret_is_shown(source: str, name: str, shown: str) -> None:
    address = parse(source)
    assert (address.name, address.shown) == (name, shown)
    assert "/" not in address.name and not address.name.startswith(".")
    assert ":p@" not in repr(address) and "key=s" not in repr(address)


def test_whoever_gives_a_name_keeps_the_path_secret_too() -> None:
    address = parse("rtmp://live.example/app/stream-key", "lobby")
    assert (address.name, address.shown) == ("lobby", "rtmp://live.example/…")
    assert "stream-key" not in repr(address)


@pytest.mark.parametrize(
    "source",
    [
        "rtsp://eve:hush/hush@camera/x",  # its user would be the host, and half of the password the path
        "rtsp://eve:12?hush@camera/x",
        "rtsp://eve:12#hush@camera/x",
        "http://eve:hush hush@camera/x",
        "http://eve:hush@camera:port/",
        "http://[eve:hush@camera/",
        "http://",
        "rtsp:/eve:hush@camera/x",  # a slash was forgotten
        "rtsp:eve:hush@camera/x",
        "RTSP:/eve:hush@camera/x://",
        " rtsp:/eve:hush@camera/x",
        " rtsp://eve:hush@camera/x",
    ],
)
def test_an_address_that_is_none_is_not_repeated(source: str) -> None:
    with pytest.raises(WrongUsage, match="address cannot be read") as refused:
        parse(source)
    assert "eve" not in str(refused.value) and "hush" not in str(refused.value)


def test_what_is_a_stream() -> None:
    addresses = ("rtsp://a/b", "HTTPS://a/b", "udp://@:1", "rtsp:/a/b", "tcp:a")
    assert all(map(is_stream, (*addresses, "/dev/video97", "/dev/null")))
    others = ("s3://a/b", "file:///a", "ftp://a/b", "folder", "/tmp", "/dev/shm", "a\0b", "")
    assert not any(map(is_stream, others))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("rtsp://a/b", "--scenes"), "scenes are told from the whole film"),
        (("rtsp://a/b", "--segment", "0"), "at least 1"),
        (("rtsp://a/b", "--segment", "inf"), "at least 1"),
        (("rtsp://a/b", "--duration", "-1"), "above 0"),
        (("rtsp://a/b", "--reconnect", "-1"), "or 0"),
        (("rtsp://a/b", "--stream-name", "../x"), "the name of a stream"),
        (("rtsp://u:hush@a:b/c",), "address cannot be read"),
        (("rtsp:/u:hush@a/b",), "address cannot be read"),
        (("rtsp:u:hush@a/b",), "address cannot be read"),
        (("film.mp4", "--duration", "5"), "--duration is for streams"),
        (("film.mp4", "--stream-name", "x"), "--stream-name is for streams"),
        (("srt://u:hush@a/b",), "srt:// is not a storage this knows"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_opened(
    tmp_path: Path, arguments: tuple[str, ...], reason: str
) -> None:
    source, *more = arguments
    ended = CliRunner().invoke(app, ["caption", source, str(tmp_path / "out"), *more])
    said = " ".join(ended.output.replace("│", " ").split()) + str(ended.exception)
    assert ended.exit_code == 2 or ended.exception
    assert reason in said and "hush" not in said
    assert not (tmp_path / "out").exists()
