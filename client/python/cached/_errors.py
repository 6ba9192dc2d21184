# SPDX-License-Identifier: MIT
"""What can go wrong, in words that say what to do."""

from __future__ import annotations

from ._binding import CacheError


class CacheWarning(UserWarning):
    """The cache cannot be used; functions run as if there were none."""


class UnhashableParamError(TypeError):
    """An argument of a cached function cannot be part of a key."""


class UnserializableReturnValueError(TypeError):
    """What a function of cache_data returned cannot be stored."""


class UnevaluatedDataFrameError(TypeError):
    """A function of cache_data returned a recipe for a frame, such as a polars.LazyFrame, and no data."""


class UnserializableSessionStateError(TypeError):
    """A session was given a value that cannot leave its process."""


class CachedGeneratorError(TypeError):
    """A cached function returned what can be gone through only once: a generator, or a coroutine."""


class CorruptValueError(ValueError):
    """Stored bytes are no value, or one that this process cannot make: callers count it as a miss."""


class PickleRefusedError(PermissionError):
    """A stored value has a pickled part that this reader does not take from its writer."""


__all__ = ["CacheError", "CacheWarning", "CachedGeneratorError", "CorruptValueError", "PickleRefusedError",
           "UnevaluatedDataFrameError", "UnhashableParamError", "UnserializableReturnValueError",
           "UnserializableSessionStateError"]
