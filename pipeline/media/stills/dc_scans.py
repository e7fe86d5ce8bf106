"""An eighth of a progressive JPEG, from its DC coefficients alone.

An eighth of a JPEG is the mean of each of its blocks of 8 x 8 pixels: their DC coefficients. A progressive
JPEG has these in scans of their own, before all others. libjpeg nevertheless holds every coefficient of the
whole picture, 2 bytes each, before it gives the first row: a gigabyte for 180 megapixels. Here the other
scans are skipped, and what is held is a sixty-fourth.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from pipeline.media.stills.jpeg_markers import BadJpeg, Component, JpegFrame, JpegMarkers, Scan

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

_CHUNK = 1 << 17
"""Bits that are looked at at once: some megabytes of tables."""
_LONGEST = 31
"""Bits of a code and the difference after it, at most."""
_PART = 1 << 15
"""Units whose bits are looked at at once: a multiple of 8, so that each part begins with a byte."""
_RESTART = re.compile(rb"\xff+[\xd0-\xd7]")

MEMORY_OF_A_BLOCK = 8
"""Bytes that are held for each DC coefficient, the picture made of them included."""


def an_eighth(data: bytes) -> Image.Image:
    """A Huffman-coded progressive JPEG at an eighth of its size: mode L, RGB or CMYK, as Pillow has them.

    Raises BadJpeg where it is cut off anywhere, or its DC scans make no sense.
    """
    import numpy as np

    markers = JpegMarkers(data)
    frame = markers.frame
    across, down = frame.units
    blocks = {
        component.name: np.zeros((down * component.down, across * component.across), np.int16)
        for component in frame.components
    }
    told: set[int] = set()
    for scan in markers.scans():
        if scan.first == scan.last == 0:
            _take(scan, markers, data, blocks, told)
    planes = []
    for component in frame.components:
        if component.name not in told:
            raise BadJpeg("it has no DC coefficients")
        means = _means(blocks.pop(component.name), markers.tables.dc_quantisation.get(component.quantisation))
        planes.append(_in_full(means, component, frame))
    return _picture(planes, markers)


def _take(
    scan: Scan, markers: JpegMarkers, data: bytes, blocks: dict[int, NDArray[np.int16]], told: set[int]
) -> None:
    """Add what a DC scan says to the coefficients of its components, and to those that are told."""
    frame = markers.frame
    named = {component.name: component for component in frame.components}
    names = [name for name, _ in scan.components]
    if not set(names) <= set(named) or (scan.high and not set(names) <= told):
        raise BadJpeg("a scan is of what it does not have")
    if len(names) > 1:
        across, down = frame.units
        # In a unit a component's blocks come row by row.
        grids = [
            blocks[name].reshape(down, named[name].down, across, named[name].across).swapaxes(1, 2)
            for name in names
        ]
    else:
        across, down = _own_blocks(named[names[0]], frame)
        grids = [blocks[names[0]][:down, :across, None, None]]
    units = across * down
    sizes = [grid.shape[2] * grid.shape[3] for grid in grids]
    interval = markers.tables.restart_interval or units
    at = 0
    for segment in _segments(data, scan):
        count = min(interval, units - at)
        if count <= 0:
            break
        if scan.high:
            parts = _bits(segment, count, sizes)
        else:
            codes = [markers.tables.dc_codes.get(table) for _, table in scan.components]
            parts = _sums(_differences(segment, codes, sizes, count))
        for part in parts:
            number = len(part[0])
            rows, columns = _places(at, number, across)
            for grid, values in zip(grids, part, strict=True):
                there = (values << scan.low).reshape(number, *grid.shape[2:])
                grid[rows, columns] = grid[rows, columns] | there if scan.high else there
            at += number
    if at < units:
        raise BadJpeg("a scan is cut off")
    told.update(names)


def _places(first: int, number: int, across: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The rows and columns of so many units."""
    import numpy as np

    return np.divmod(np.arange(first, first + number), across)


def _own_blocks(component: Component, frame: JpegFrame) -> tuple[int, int]:
    """Blocks across and down of a component that has a scan for itself: none hang over by a whole block."""
    width = -(-frame.width * component.across // frame.across)
    height = -(-frame.height * component.down // frame.down)
    return -(-width // 8), -(-height // 8)


def _segments(data: bytes, scan: Scan) -> Iterator[bytes]:
    """The data between restart markers, without the zeros that stand after each FF."""
    begin = scan.begin
    while begin <= scan.end:
        found = _RESTART.search(data, begin, scan.end)
        end = scan.end if found is None else found.start()
        yield data[begin:end].replace(b"\xff\x00", b"\xff")
        if found is None:
            return
        begin = found.end()


def _bits(segment: bytes, count: int, sizes: Sequence[int]) -> Iterator[list[NDArray[np.int32]]]:
    """One bit for each block of ``count`` units: for each component (units, blocks), part by part."""
    import numpy as np

    unit = sum(sizes)
    if 8 * len(segment) < count * unit:
        raise BadJpeg("a scan is cut off")
    packed = np.frombuffer(segment, np.uint8)
    for first in range(0, count, _PART):
        number = min(_PART, count - first)
        bits = np.unpackbits(packed[first * unit // 8 :], count=number * unit).astype(np.int32)
        yield np.split(bits.reshape(number, unit), np.cumsum(sizes)[:-1], axis=1)


def _sums(parts: Iterable[list[NDArray[np.int32]]]) -> Iterator[list[NDArray[np.int32]]]:
    """From the differences of each component to its values: each follows on the one before it."""
    import numpy as np

    last = None
    for part in parts:
        sums = [np.cumsum(differences, dtype=np.int32).reshape(differences.shape) for differences in part]
        if last is not None:
            for values, before in zip(sums, last, strict=True):
                values += before
        last = [values.flat[-1] for values in sums]
        yield sums


def _differences(
    segment: bytes, codes: Sequence[bytes | None], sizes: Sequence[int], count: int
) -> Iterator[list[NDArray[np.int32]]]:
    """The Huffman-coded differences of ``count`` units: for each component (units, blocks), part by part.

    Where a code begins depends on all codes before it. So NumPy first finds, for each bit, how long a code
    that began there would be; Python then only hops from code to code; NumPy reads the codes at these places.
    """
    import numpy as np

    tables = [_table(one) for one in codes]
    bits = np.frombuffer(segment + bytes(8), np.uint8)
    end, at, unit = 8 * len(segment), 0, sum(sizes)
    while count:
        if at >= end:
            raise BadJpeg("a scan is cut off")
        base = at & ~7
        windows = _windows(bits, base, min(_CHUNK + _LONGEST * unit, end - base))
        steps = [(lengths + values)[windows].tobytes() for lengths, values in tables]
        order = [step for step, size in zip(steps, sizes, strict=True) for _ in range(size)]
        hops = _hops(order, at - base, min(_CHUNK, len(windows)), count)
        places = np.array(hops[:-1], np.int64).reshape(-1, unit)
        part = []
        for table, mine in zip(tables, np.split(places, np.cumsum(sizes)[:-1], axis=1), strict=True):
            lengths, values = (one[windows[mine]] for one in table)
            if not lengths.all():
                raise BadJpeg("a code is unknown")
            size = values.astype(np.int32)
            part.append(_signed(_at(bits, mine + lengths + base) >> (16 - size), size))
        yield part
        count -= len(places)
        at = base + hops[-1]
    if at > end:
        raise BadJpeg("a scan is cut off")


def _hops(order: Sequence[bytes], at: int, upto: int, units: int) -> list[int]:
    """The places of the codes of whole units, the first at ``at``, until ``upto``; then that of the next.

    ``order`` has, for each code of a unit, how long a code would be at each place.
    """
    hops: list[int] = []
    try:
        while units and at < upto:
            for step in order:
                hops.append(at)
                at += step[at]
            units -= 1
    except IndexError as error:
        raise BadJpeg("a scan is cut off") from error
    hops.append(at)
    return hops


def _windows(bits: NDArray[np.uint8], base: int, count: int) -> NDArray[np.uint16]:
    """The 16 bits that begin at each of ``count`` bits from ``base``, a multiple of 8."""
    import numpy as np

    first, number = base // 8, -(-count // 8)
    three = np.zeros(number, np.uint32)
    for i in range(3):
        three <<= 8
        three |= bits[first + i : first + i + number]
    windows = three[:, None] >> np.arange(8, 0, -1, dtype=np.uint32)
    return windows.astype(np.uint16).reshape(-1)[:count]


def _at(bits: NDArray[np.uint8], places: NDArray[np.int64]) -> NDArray[np.int32]:
    """The 16 bits that begin at these places."""
    import numpy as np

    first = np.minimum(places >> 3, len(bits) - 3)
    three = bits[first].astype(np.int32) << 16 | bits[first + 1].astype(np.int32) << 8 | bits[first + 2]
    window: NDArray[np.int32] = (three >> (8 - (places & 7)).astype(np.int32)) & 0xFFFF
    return window


def _signed(value: NDArray[np.int32], size: NDArray[np.int32]) -> NDArray[np.int32]:
    """The difference that ``size`` bits stand for: those that begin with 0 are negative."""
    import numpy as np

    return np.where((size > 0) & (value < 1 << np.maximum(size - 1, 0)), value - (1 << size) + 1, value)


def _table(codes: bytes | None) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """For each 16 bits: how long the code is that they begin with (0: none), and what size it says."""
    import numpy as np

    if codes is None:
        raise BadJpeg("a scan has no codes")
    lengths, sizes = np.zeros(1 << 16, np.uint8), np.zeros(1 << 16, np.uint8)
    symbols = iter(codes[16:])
    at = 0
    for length in range(1, 17):
        for _, symbol in zip(range(codes[length - 1]), symbols, strict=False):
            upto = at + (1 << 16 - length)
            if upto > 1 << 16 or symbol > 15:
                raise BadJpeg("its codes make no sense")
            lengths[at:upto], sizes[at:upto] = length, symbol
            at = upto
    return lengths, sizes


def _means(blocks: NDArray[np.int16], quantisation: int | None) -> NDArray[np.uint8]:
    """What libjpeg's inverse transform of a block to one pixel gives."""
    import numpy as np

    if quantisation is None:
        raise BadJpeg("it has no quantisation table")
    means = blocks.astype(np.int32)
    means *= quantisation
    means += 4
    means >>= 3
    means += 128
    return np.clip(means, 0, 255, out=means).astype(np.uint8)


def _in_full(means: NDArray[np.uint8], component: Component, frame: JpegFrame) -> NDArray[np.uint8]:
    """A component at the size that the picture has at an eighth: chroma has fewer blocks."""
    import numpy as np

    width, height = -(-frame.width // 8), -(-frame.height // 8)
    rows = np.minimum(np.arange(height) * component.down // frame.down, means.shape[0] - 1)
    columns = np.minimum(np.arange(width) * component.across // frame.across, means.shape[1] - 1)
    full: NDArray[np.uint8] = means[rows[:, None], columns]
    return full


def _picture(planes: Sequence[NDArray[np.uint8]], markers: JpegMarkers) -> Image.Image:
    from PIL import Image, ImageChops

    bands = [Image.fromarray(plane) for plane in planes]
    names = bytes(component.name for component in markers.frame.components)
    transform = markers.tables.adobe_transform
    if len(bands) == 1:
        return bands[0]
    if len(bands) == 3:
        is_rgb = not markers.tables.is_jfif and (transform == 0 or (transform is None and names == b"RGB"))
        colours = Image.merge("RGB" if is_rgb else "YCbCr", bands)
        return colours if is_rgb else colours.convert("RGB")
    if len(bands) != 4:
        raise BadJpeg(f"it has {len(bands)} components")
    black = ImageChops.invert(bands[3])  # Adobe's files, which all are taken for, hold inks inverted
    if transform == 2:
        inks = Image.merge("YCbCr", bands[:3]).convert("RGB").split()
    else:
        inks = tuple(map(ImageChops.invert, bands[:3]))
    return Image.merge("CMYK", (*inks, black))
