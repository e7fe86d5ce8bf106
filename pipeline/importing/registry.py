"""Which layouts are known, in the order in which they are tried."""

from __future__ import annotations

from pipeline.importing import attentive, cut, plain
from pipeline.importing.layouts import Layout

LAYOUTS: tuple[Layout, ...] = (attentive.recognise, cut.recognise, plain.recognise)
