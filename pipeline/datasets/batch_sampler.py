"""Which pictures make which batch: the same for the same seed and epoch, whoever asks and whenever."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

Pick = tuple[int, int]
"""A picture's position in its split, and a random number that its view is drawn by."""


class EpochBatches:
    """A DataLoader's batch sampler. Nothing is drawn from a generator that others use as well, so an epoch
    after `--resume` has the batches that it would have had.

    With several processes (`world`), each takes its share (`rank`) of batches that are `world` times as
    large, all of them the same number of pictures in training: a few come twice where they do not divide.
    Where `shuffle` is off, as in validation, order is the dataset's and no picture comes twice.
    """

    def __init__(
        self, count: int, batch_size: int, *, seed: int, shuffle: bool, rank: int = 0, world: int = 1
    ) -> None:
        self.count = count
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.rank = rank
        self.world = world
        self.epoch = 0
        self._passed_over: tuple[int, int] = (0, 0)

    @property
    def sampler(self) -> EpochBatches:
        """What Lightning tells the epoch: the sampler of a batch sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Draw the batches of this epoch from now on."""
        self.epoch = epoch

    def go_on(self, epoch: int, batches: int) -> None:
        """Begin in this epoch, after so many of its batches."""
        self.epoch = epoch
        self._passed_over = (epoch, batches)

    def __len__(self) -> int:
        return -(-self._mine() // self.batch_size)

    def __iter__(self) -> Iterator[list[Pick]]:
        generator = np.random.default_rng([self.seed, self.epoch])
        order = generator.permutation(self.count) if self.shuffle else np.arange(self.count)
        if self.shuffle:
            order = np.resize(order, self._mine() * self.world)
        draws = generator.integers(2**31, size=len(order))
        mine = slice(self.rank, None, self.world)
        picks = list(zip(order[mine].tolist(), draws[mine].tolist(), strict=True))
        resumed, batches = self._passed_over
        begin = batches * self.batch_size if resumed == self.epoch else 0
        for first in range(begin, len(picks), self.batch_size):
            yield picks[first : first + self.batch_size]

    def _mine(self) -> int:
        """How many pictures an epoch brings to this process."""
        if self.shuffle:
            return -(-self.count // self.world)
        return len(range(self.rank, self.count, self.world))
