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

CacheError = _binding.CacheError

from ._resource import cache_resource, invalidate, lock  # noqa: E402
from ._segment import SharedDataError, SharedFullError  # noqa: E402

__all__ = ["CacheError", "SharedDataError", "SharedFullError", "cache_resource", "invalidate", "lock"]
