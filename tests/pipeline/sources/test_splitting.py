"""Cutting long videos and large folders into pieces."""

from __future__ import annotations

from pipeline.sources.discovery import Source
from pipeline.sources.splitting import cut_film, cut_folder
from pipeline.storage.base import Entry


def test_cuts_depend_on_nothing_but_what_is_cut() -> None:
    film = Source("a.mp4", "video", "a.mp4", Entry("a.mp4", 1000, "x", 0.0))
    assert [piece.piece for _, piece in cut_film(film, 1000, 10)] == [None]
    pieces = list(cut_film(film, 300, 10))
    assert [source.piece and (source.piece.index, source.piece.of) for _, source in pieces] == [
        (index, 4) for index in range(4)
    ]
    assert sum(cost for cost, _ in pieces) >= 1000
    assert len(list(cut_film(film, 1, 10))) == 10
    folder = Source("cam", "stills", "cam")
    names = [f"{number:03}.png" for number in range(100)]
    entries = [Entry(f"cam/{name}", number * 1000, "x", 0.0) for number, name in enumerate(names)]
    cuts = [source.piece for _, source in cut_folder(folder, entries, 500_000)]
    held = [[name for name in names if piece and piece.holds(name)] for piece in cuts]
    assert [name for some in held for name in some] == names and all(held)
    assert cuts[-1] is not None and cuts[-1].holds("zzz.png") and not cuts[-1].holds("000.png")
