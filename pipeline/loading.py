"""The model of a job, loaded when the first source needs it: a run with nothing to do does without torch."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.registry import model_name, model_version
from pipeline.settings import CaptionSettings, Resources

if TYPE_CHECKING:
    from model.captioner import Captioner


class LazyModel:
    """A checkpoint by its name and version; the captioner itself from the first ``load`` on."""

    def __init__(self, directory: Path, settings: CaptionSettings, resources: Resources) -> None:
        self.name = model_name(directory)
        self.version = model_version(directory)
        self._directory = directory
        self._settings = settings
        self._resources = resources
        self._lock = threading.Lock()
        self._captioner: Captioner | None = None

    def load(self) -> Captioner:
        """The captioner; every caller gets the same one."""
        with self._lock:
            if self._captioner is None:
                from model.captioner import load_captioner

                self._captioner = load_captioner(
                    self._directory, device=self._resources.device, precision=self._settings.precision
                )
            return self._captioner

    def batch_size(self) -> int:
        """Pictures a batch, as set or as suits the device."""
        return self._resources.batch_size or self.load().default_batch_size()
