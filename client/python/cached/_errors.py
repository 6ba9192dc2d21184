# SPDX-License-Identifier: MIT
"""What can go wrong with a function's arguments and values. Failures of the cache itself are `CacheError`."""

from __future__ import annotations


class UnhashableParamError(TypeError):
    """An argument has no key."""


class UnserializableReturnValueError(TypeError):
    """A value cannot be stored."""


class UnevaluatedDataFrameError(TypeError):
    """A value is a plan of a computation, not its result."""


class PickleRefusedError(Exception):
    """A stored value has a pickled part, and this reader unpickles nothing of this writer's."""


class CorruptValueError(ValueError):
    """Stored bytes are not a value that this reader can make: for a caller, a miss."""
