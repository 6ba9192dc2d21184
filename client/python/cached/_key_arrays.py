# SPDX-License-Identifier: MIT
"""NumPy's arrays and scalars in keys, in full; and images of PIL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._key_values import Attribute, Unkeyable
from ._names import key_name

if TYPE_CHECKING:
    from ._key_values import Walk

_PIECE = 8 << 20  # what is not in order in memory is put in order in pieces of so many bytes


def add(walk: Walk, value: Any) -> bool:
    """Adds a value of NumPy or PIL, or of a type derived from theirs; false: it is none that has a key."""
    import sys

    np = sys.modules.get("numpy")
    if np is not None and isinstance(value, np.ndarray):
        _any_array(walk, value, np)
    elif np is not None and isinstance(value, np.generic):
        walk.key.begin_named("python:numpy.scalar")
        add_array(walk, np.asarray(value))
        walk.key.end()
    elif np is not None and isinstance(value, np.dtype):
        walk.key.begin_named("python:numpy.dtype")
        _dtype(walk, value)
        walk.key.end()
    elif np is not None and isinstance(value, (np.ufunc, type(np.sum))):
        walk.named("python:numpy.function", value.__name__, getattr(value, "__module__", None), np.__version__)
    elif "PIL.Image" in sys.modules and isinstance(value, sys.modules["PIL.Image"].Image):
        _image(walk, value)
    else:
        return False
    return True


# ---- arrays


def _any_array(walk: Walk, value: Any, np: Any) -> None:
    if type(value) is np.ndarray:
        add_array(walk, value)
        return
    walk.key.begin_named("python:numpy.subclass")
    walk.key.add(key_name(type(value)))
    add_array(walk, value.view(np.ndarray))
    if isinstance(value, np.ma.MaskedArray):
        add_array(walk, np.ma.getmaskarray(value))
        walk.key.add(value.fill_value)
        walk.key.add(value.hardmask)
    elif not isinstance(value, (np.memmap, np.matrix, np.recarray)):
        walk.attributes(getattr(value, "__dict__", {}).items())
    walk.key.end()


def add_array(walk: Walk, value: Any) -> None:
    """An array (exactly ndarray): as KEYS.md's array where NumPy's type string says everything of its elements; with
    its fields, or element by element, where it does not. How it lies in memory is no part of the key."""
    import numpy as np

    dtype = value.dtype
    if dtype.hasobject and dtype.names is None or dtype.kind == "T":
        walk.key.begin_named("python:numpy.array")
        walk.key.add("object" if dtype.kind == "O" else repr(dtype))
        walk.key.add(value.shape)
        walk.key.add(value.reshape(-1).tolist())
        walk.key.end()
    elif dtype.names is not None:
        # By field, since what lies between them is not the array's.
        walk.key.begin_named("python:numpy.array")
        _dtype(walk, dtype)
        walk.key.add(value.shape)
        for name in dtype.names:
            try:
                add_array(walk, value[name].view(np.ndarray))
            except Unkeyable as e:
                e.where.append(name)
                raise
        walk.key.end()
    elif dtype.isbuiltin == 2:
        # Of another library: its type string may be that of another one.
        walk.key.begin_named("python:numpy.array")
        walk.key.add(f"{key_name(dtype.type)} {dtype.str}")
        _plain(walk, value, f"|V{dtype.itemsize}", np)
        walk.key.end()
    else:
        _plain(walk, value, dtype.str, np)


def _dtype(walk: Walk, dtype: Any) -> None:
    if dtype.names is None:
        walk.named("python:numpy.element", dtype.str, key_name(dtype.type), dtype.name, dtype.shape)
        return
    walk.key.begin_named("python:numpy.record")
    walk.key.add(dtype.itemsize)
    walk.key.add(key_name(dtype.type))
    for name in dtype.names:
        field = dtype.fields[name]
        walk.key.add(name)
        _dtype(walk, field[0].base if field[0].names is None else field[0])
        walk.key.add((field[0].shape, field[1]))
    walk.key.end()


def _plain(walk: Walk, value: Any, dtype: str, np: Any) -> None:
    walk.key.begin_array(dtype, tuple(value.shape))
    padded = value.dtype.kind in "fc" and value.dtype.itemsize in (16, 32) and value.dtype.char in "gG"
    if value.size and value.itemsize:
        _feed(walk, value, padded, np)
    walk.key.end()


def _feed(walk: Walk, value: Any, padded: bool, np: Any) -> None:
    """The elements' bytes, in order."""
    if value.flags.c_contiguous and not padded:
        walk.key.feed(value.reshape(-1).view(np.uint8))
    elif value.nbytes <= _PIECE or value.ndim == 0:
        piece = np.ascontiguousarray(value)
        if padded:  # a long double has ten bytes of its own
            piece = np.array(piece).reshape(-1).view(np.uint8).reshape(-1, 16)
            if np.finfo(np.longdouble).nmant == 63:
                piece[:, 10:] = 0
        walk.key.feed(piece.reshape(-1).view(np.uint8))
    else:
        rows = max(1, _PIECE * len(value) // value.nbytes)
        for i in range(0, len(value), rows):
            part = value[i:i + rows]
            _feed(walk, part[0] if rows == 1 and value.ndim > 1 else part, padded, np)


# ---- images


def _image(walk: Walk, value: Any) -> None:
    """Mode, size, palette and pixels; and what came with them (orientation, transparency), which functions heed."""
    from PIL import ImageSequence

    frames = getattr(value, "n_frames", 1)
    walk.key.begin_named("python:PIL.Image")
    walk.key.add((value.mode, value.size, value.format))
    walk.add(dict(value.info), Attribute("info"))
    if frames > 1:
        at = value.tell()
        walk.key.add(at)
        for frame in ImageSequence.Iterator(value):
            _pixels(walk, frame)
        value.seek(at)
    else:
        _pixels(walk, value)
    walk.key.end()


def _pixels(walk: Walk, image: Any) -> None:
    image.load()
    walk.key.add((image.mode, image.size))
    palette = getattr(image, "palette", None)
    walk.key.add(None if palette is None else (palette.mode, bytes(palette.tobytes())))
    walk.key.bytes(image.tobytes())
