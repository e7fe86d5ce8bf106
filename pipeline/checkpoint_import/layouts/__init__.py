"""Which layouts are known, in the order in which they are tried."""

from __future__ import annotations

from pipeline.checkpoint_import.layout import Layout
from pipeline.checkpoint_import.layouts import attend_and_tell, captionbot, show_and_tell

LAYOUTS: tuple[Layout, ...] = (attend_and_tell.recognise, captionbot.recognise, show_and_tell.recognise)
