"""The model of a job, loaded when the first source needs it: a run with nothing to do does without torch."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from pipeline.models.resolve import Model
from pipeline.records.settings import CaptionSettings, Resources

if TYPE_CHECKING:
    from model.captioner import Captioner

_BATCH_UNLOADED = 16
"""A divisor of every default, so that rows that need no model are cut where others may be cut, too."""


log = logging.getLogger("gpucapt")


class LazyModel:
    """A checkpoint by its name and version; the captioner itself from the first ``load`` on.

    With ``tell`` the log says on which device it works, and in which precision.
    """

    def __init__(
        self, model: Model, settings: CaptionSettings, resources: Resources, *, tell: bool = False
    ) -> None:
        self._tell = tell
        self.name = model.name
        self.version = model.version
        self.weights = model.weights
        self.unsure_below = model.unsure_below
        self._directory = model.directory
        self._settings = settings
        self._resources = resources
        self._lock = threading.Lock()
        self._captioner: Captioner | None = None
        self.failed = False
        """Whether loading was tried in vain: then no source is to blame."""

    def load(self) -> Captioner:
        """The captioner; every caller gets the same one."""
        with self._lock:
            if self._captioner is None:
                from model.captioner import load_captioner

                try:
                    self._captioner = load_captioner(
                        self._directory, device=self._resources.device, precision=self._settings.precision
                    )
                except BaseException:
                    self.failed = True
                    raise
                if self._tell:
                    on = self._captioner
                    log.info("model %s %s on %s in %s", self.name, self.version, on.device, on.precision)
            return self._captioner

    @property
    def batch_size(self) -> int:
        """Pictures a batch, as set or as suits the device; a small number until the model is loaded."""
        if self._resources.batch_size is not None:
            return self._resources.batch_size
        return _BATCH_UNLOADED if self._captioner is None else self._captioner.default_batch_size()
