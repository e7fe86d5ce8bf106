"""Several processes that train one network: who this one is, and what they tell each other.

`torchrun` starts them and says in the environment who each is. What they exchange here is small and lies in
the memory of the host: counts, captions, whether to stop. Gradients are torch's DistributedDataParallel's
business.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

T = TypeVar("T")

_PATIENCE = timedelta(days=1)
"""How long a process waits for the others: encoding all pictures may take one of them hours."""


@dataclass(frozen=True, slots=True)
class Here:
    """This process among those of its machine and of all."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1

    @property
    def is_first(self) -> bool:
        """Of all processes one writes and tells."""
        return self.rank == 0

    @property
    def machines(self) -> int:
        return self.world // self.local_world


def here() -> Here:
    """Who this process is by torchrun's variables; the only one where there are none."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return Here()
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    return Here(*(int(os.environ.get(name, default)) for name, default in zip(names, "0101", strict=True)))


_group: Any = None


def join(device: torch.device) -> Here:
    """Meet the other processes: gradients go by NCCL on GPUs, else by gloo. Nothing for a single one."""
    global _group
    me = here()
    if me.world > 1 and _group is None:
        if device.type == "cuda":
            torch.cuda.set_device(me.local_rank)
        if not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        _group = dist.new_group(backend="gloo", timeout=_PATIENCE)
    return me


def wait_for_all() -> None:
    """Go on when all processes are here."""
    if _group is not None:
        dist.barrier(_group)


def gather(value: T) -> list[T]:
    """What each process gives, by rank."""
    if _group is None:
        return [value]
    values: list[Any] = [None] * dist.get_world_size(_group)
    dist.all_gather_object(values, value, group=_group)
    return values


def count_of_all(number: int) -> int:
    """The sum of a number over all processes."""
    if _group is None:
        return number
    total = torch.tensor(number)
    dist.all_reduce(total, group=_group)
    return int(total)


def mean_of_all(total: Tensor, count: int) -> Tensor:
    """A sum over what this process has `count` of → its share of the mean over what all processes have.

    DistributedDataParallel takes the mean of the processes' gradients. Where one has more words than another,
    that is not the gradient of the mean over all words; that of this is.
    """
    if _group is None:
        return total / max(1, count)
    return total * (dist.get_world_size(_group) / max(1, count_of_all(count)))
