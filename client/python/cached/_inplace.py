# SPDX-License-Identifier: MIT
"""Arrays and frames that are filled where they will be stored.

What `empty()` and `empty_frame()` give is memory of a file that becomes the entry when a cached function returns it:
nothing is copied then. The first page is kept for what the codec writes before the data. Without numpy or pandas
there is nothing to fill, so both are imported here.
"""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any, Mapping

from . import _client
from ._errors import CacheError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

HEAD = 4096  # the codec's HEAD_IN_PLACE
_ALIGNMENT = 64  # of each block: a line of the processor's cache, and what vector instructions like


def _memory(nbytes: int) -> memoryview:
    """Zeroed memory: in a file that can be stored, or without the cache just memory."""
    try:
        return memoryview(_client.current().buffer(HEAD + nbytes))[HEAD:]
    except CacheError as error:
        _client.warn(error.code, f"{error}; filled in ordinary memory")
        return memoryview(bytearray(nbytes))


def _dtype(told: Any) -> np.dtype:
    import numpy as np

    dtype = np.dtype(told)
    if dtype.hasobject or dtype.itemsize == 0:
        raise TypeError(f"dtype={told!r}: only types of a fixed number of bytes can be filled in place (numbers, bool, "
                        "datetime64, \"U8\" …), since objects lie elsewhere")
    return dtype


def empty(shape: int | tuple[int, ...], dtype: Any = "f8") -> np.ndarray:
    """An array of zeros to fill, which is stored without a copy when a cached function returns it.

    >>> table = cached.empty((1000, 4))
    >>> table[:, 0] = 1.5
    """
    import numpy as np

    extents = tuple(operator.index(n) for n in (shape if isinstance(shape, (tuple, list)) else (shape,)))
    if any(n < 0 for n in extents):
        raise ValueError(f"shape={shape!r}: no extent is below 0")
    kind = _dtype(dtype)
    return np.ndarray(extents, kind, buffer=_memory(math.prod(extents) * kind.itemsize))


def empty_frame(n: int, columns: Mapping[Any, Any]) -> pd.DataFrame:
    """A data frame of @n rows of zeros to fill, its columns by name and type; it is stored without a copy when a
    cached function returns it. Columns of one type lie side by side, as pandas holds them.

    >>> frame = cached.empty_frame(1000, {"a": "f8", "n": "i4"})
    >>> frame.loc[:, "a"] = 1.5

    `frame["a"] = x` would put another column in its place, which lies elsewhere: then all is copied when it is stored.
    """
    import numpy as np
    import pandas as pd

    from . import _pandas

    rows = operator.index(n)
    if rows < 0:
        raise ValueError(f"n={n!r}: a frame has 0 rows or more")
    places: dict[np.dtype, list[int]] = {}
    for place, told in enumerate(columns.values()):
        kind = _dtype(told)
        if kind.kind not in "biufc" and not (kind.kind in "mM" and pd.Series(np.zeros(0, kind)).dtype == kind):
            raise TypeError(f"dtype={told!r}: pandas has no columns of this type that can be filled in place")
        places.setdefault(kind, []).append(place)
    total = 0
    starts = []
    for kind, where in places.items():
        starts.append(total)
        total += -(-len(where) * rows * kind.itemsize // _ALIGNMENT) * _ALIGNMENT
    memory = _memory(total)
    blocks = [{"values": np.ndarray((len(where), rows), kind, buffer=memory, offset=start if rows else 0),
               "mgr_locs": np.array(where, dtype=np.intp)} for (kind, where), start in zip(places.items(), starts)]
    return _pandas.frame_of(pd.Index(list(columns), tupleize_cols=False), pd.RangeIndex(rows), blocks)


def prepare(nbytes: int, n: int = 1) -> None:
    """Has the kernel's memory for @n arrays or frames of up to @nbytes made ready beforehand, so that storing or
    filling one does not wait for it."""
    _client.current().prepare(HEAD + operator.index(nbytes), operator.index(n))
