"""The HDF5 file of a split's pictures, written by many processes at once and safe from SIGKILL.

HDF5 itself has one writer, and a file that is open when its writer dies may be lost. So a file is laid out
whole and closed before its first picture is there; the pictures are then written where HDF5 says that their
chunks lie, by whoever has one. Nothing that HDF5 keeps of the file changes meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from model.errors import GpucaptError

if TYPE_CHECKING:
    import h5py

DATASET = "images"
CAPTIONS_PER_IMAGE = "captions_per_image"


def picture_bytes(size: int) -> int:
    """Bytes of one picture, which is one chunk."""
    return 3 * size * size


def lay_out(path: Path, count: int, size: int, captions_per_image: int) -> None:
    """Make a file with room for `count` pictures (3, size, size) uint8; it is whole, or not there."""
    import h5py

    fresh = path.with_suffix(".new")
    how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    how.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    how.set_fill_time(h5py.h5d.FILL_TIME_NEVER)  # the system gives zeros; they need not be written
    with h5py.File(fresh, "w", locking=False) as file:
        images = file.create_dataset(
            DATASET, (count, 3, size, size), "uint8", chunks=(1, 3, size, size), dcpl=how
        )
        # Some readers ask the file for it, as the earlier captioners do, others the dataset.
        images.attrs[CAPTIONS_PER_IMAGE] = file.attrs[CAPTIONS_PER_IMAGE] = captions_per_image
    fresh.replace(path)


def offsets_of(path: Path) -> list[int]:
    """Where in the file each picture lies, in bytes."""
    import h5py

    with h5py.File(path, "r", locking=False) as file:
        images = file[DATASET]
        offsets = [-1] * len(images)

        def note(chunk: h5py.h5d.StoreInfo) -> None:
            offsets[chunk.chunk_offset[0]] = chunk.byte_offset

        images.id.chunk_iter(note)
    if -1 in offsets:
        raise GpucaptError(f"{path} has no room for its picture {offsets.index(-1)}; remove it.")
    return offsets


def keep_only(path: Path, good: Sequence[bool]) -> list[int]:
    """Close the gaps of pictures that could not be had: the last ones move there.

    Returns:
        The numbers that the pictures kept had before, in their new order.
    """
    import h5py

    kept = sum(good)
    order = list(range(kept))
    if kept == len(good):
        return order
    movers = [number for number in range(kept, len(good)) if good[number]]
    gaps = [number for number in range(kept) if not good[number]]
    with h5py.File(path, "r+", locking=False) as file:
        images = file[DATASET]
        for gap, mover in zip(gaps, movers, strict=True):
            images[gap] = images[mover]
            order[gap] = mover
        _shorten(file, kept)
    return order


def _shorten(file: h5py.File, count: int) -> None:
    file[DATASET].resize(count, axis=0)


def read_at(path: Path, offset: int, length: int) -> bytes:
    """Bytes of a file."""
    with path.open("rb") as file:
        return os.pread(file.fileno(), length, offset)
