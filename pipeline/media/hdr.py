"""HDR to what screens and captioners know, sRGB, as a table of colours that FFmpeg's filter `lut3d` looks up.

Diffuse white, 203 cd/m² (ITU-R BT.2408), becomes white; what is brighter is rolled off towards it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CURVES = {16: "pq", 18: "hlg"}
"""Transfer characteristics by their numbers in ITU-T H.273."""

_GRID = 33  # points along each axis
_WHITE = 203.0  # cd/m²
_KNEE = 0.9
"""Up to this share of diffuse white light stays as it is."""

_BT2020_TO_BT709 = (
    (1.6605, -0.5876, -0.0728),
    (-0.1246, 1.1329, -0.0083),
    (-0.0182, -0.1006, 1.1187),
)
"""ITU-R BT.2087, section 2."""


def write_lut(path: Path, curve: str) -> Path:
    """Write the table, from 'pq' or 'hlg' in BT.2020 to sRGB, as a .cube file."""
    import numpy as np

    axis = np.linspace(0, 1, _GRID)
    # In a .cube file red changes fastest.
    blue, green, red = np.meshgrid(axis, axis, axis, indexing="ij")
    signal = np.stack([red, green, blue], axis=-1).reshape(-1, 3)
    colours = to_srgb(signal, curve)
    with path.open("w", encoding="ascii") as file:
        file.write(f"LUT_3D_SIZE {_GRID}\n")
        np.savetxt(file, colours, fmt="%.6f")
    return path


def to_srgb(signal: NDArray[np.float64], curve: str) -> NDArray[np.float64]:
    """Colours (n, 3) of BT.2020 with values from 0 to 1, as sRGB from 0 to 1."""
    import numpy as np

    light = _pq(signal) if curve == "pq" else _hlg(signal)
    light = np.clip(light @ np.array(_BT2020_TO_BT709).T, 0, None)
    above = np.clip(light - _KNEE, 0, None) / (1 - _KNEE)
    light = np.where(light <= _KNEE, light, _KNEE + (1 - _KNEE) * (1 - np.exp(-above)))
    return np.asarray(np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055))


def _pq(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Light, 1 being diffuse white (SMPTE ST 2084)."""
    import numpy as np

    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = signal ** (1 / m2)
    return np.asarray(10_000 / _WHITE * (np.clip(power - c1, 0, None) / (c2 - c3 * power)) ** (1 / m1))


def _hlg(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Light of the scene, 1 being diffuse white, a signal of 75 % (ITU-R BT.2100, table 5)."""
    import numpy as np

    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    white = (np.exp((0.75 - c) / a) + b) / 12
    return np.asarray(scene / white)
