# SPDX-License-Identifier: MIT
"""Pillow: images in memory, as their mode, size, palette, what is known of them, and their pixels.

Images that were opened from a file have classes of their own, which remember the file; they are left to pickle.
"""

from __future__ import annotations

from typing import Any

from PIL import Image

from ._blob import blob, fields, memory, need, size, text

IMAGE = "python:PIL.Image"

# Bits of a pixel as tobytes() gives them; rows of single bits fill whole bytes.
_BITS = {"1": 1, "L": 8, "P": 8, "LA": 16, "PA": 16, "La": 16, "RGB": 24, "YCbCr": 24, "LAB": 24, "HSV": 24, "RGBA": 32,
         "RGBa": 32, "RGBX": 32, "CMYK": 32, "I": 32, "F": 32, "I;16": 16, "I;16L": 16, "I;16B": 16}


# Pillow keeps a pointer for each row, whatever is in it.
_LONGEST = 1 << 20


def _nbytes(mode: str, width: int, height: int) -> int:
    return (width * _BITS[mode] + 7) // 8 * height


def reduce(value: Any) -> tuple[str, Any] | None:
    """What an image is made of."""
    if type(value) is not Image.Image or value.mode not in _BITS or max(value.size) > _LONGEST:
        return None
    palette = None
    if value.mode in ("P", "PA") and value.palette is not None:
        kind = value.im.getpalettemode() if hasattr(value.im, "getpalettemode") else value.palette.mode
        palette = [kind, bytes(value.im.getpalette(kind, kind))]
    return IMAGE, [value.mode, list(value.size), dict(value.info), palette, blob(value.tobytes())]


def _make(state: Any) -> Image.Image:
    mode, extent, info, palette, pixels = fields(state, 5)
    need(text(mode) in _BITS and type(info) is dict, "no image")
    width, height = map(size, fields(extent, 2))
    need(max(width, height) <= _LONGEST, "a size that no image has")
    data = memory(pixels, _nbytes(mode, width, height))
    image = Image.frombytes(mode, (width, height), data) if data else Image.new(mode, (width, height))
    if palette is not None:
        kind, colours = fields(palette, 2)
        need(mode in ("P", "PA") and kind in ("RGB", "RGBA") and type(colours) is bytes and len(colours) <= 1024,
             "no palette")
        image.putpalette(colours, kind)
    image.info = info
    return image


MAKERS = {IMAGE: _make}
