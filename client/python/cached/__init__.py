# SPDX-License-Identifier: MIT
"""Memoize once, share with every process and every language on the machine."""

from __future__ import annotations

try:
    from . import _binding
except ImportError as error:
    raise ImportError(
        "the Python package \"cached\" needs the C library libcached, which could not be loaded: install the Debian package "
        f"libcached0 (or run `make install` and `ldconfig` in its source tree) and try again ({error})"
    ) from error

from ._client import configure
from ._errors import (
    CacheError, CacheWarning, CorruptValueError, PickleRefusedError, UnevaluatedDataFrameError, UnhashableParamError,
    UnserializableReturnValueError, UnserializableSessionStateError,
)

__version__ = "0.1.0"

__all__ = [
    "CacheError", "CacheWarning", "CorruptValueError", "PickleRefusedError", "UnevaluatedDataFrameError",
    "UnhashableParamError", "UnserializableReturnValueError", "UnserializableSessionStateError", "configure",
]
