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
from ._data import cache_data, CacheInfo, clear_tag
from ._errors import (
    CachedGeneratorError,
    CacheError,
    CacheWarning,
    CorruptValueError,
    PickleRefusedError,
    UnevaluatedDataFrameError,
    UnhashableParamError,
    UnserializableReturnValueError,
    UnserializableSessionStateError,
)
from ._inplace import empty, empty_frame, prepare
from ._progress import set_progress
from ._resource import cache_resource, invalidate, lock
from ._segment import SharedDataError, SharedFullError
from ._session import Session, session
from ._session_errors import (
    SessionConflictError,
    SessionExpiredError,
    SessionUnavailableError,
    SessionUnboundError,
    SessionWarning,
)
from ._session_state import bind_session, current_session, session_state
from ._session_watch import set_dispatcher
from ._shared import SharedDict, SharedList

__version__ = "0.1.0"

__all__ = [
    "CacheError",
    "CacheInfo",
    "CacheWarning",
    "CachedGeneratorError",
    "CorruptValueError",
    "PickleRefusedError",
    "Session",
    "SessionConflictError",
    "SessionExpiredError",
    "SessionUnavailableError",
    "SessionUnboundError",
    "SessionWarning",
    "SharedDataError",
    "SharedDict",
    "SharedFullError",
    "SharedList",
    "UnevaluatedDataFrameError",
    "UnhashableParamError",
    "UnserializableReturnValueError",
    "UnserializableSessionStateError",
    "bind_session",
    "cache_data",
    "cache_resource",
    "clear_tag",
    "configure",
    "current_session",
    "empty",
    "empty_frame",
    "invalidate",
    "lock",
    "prepare",
    "session",
    "session_state",
    "set_dispatcher",
    "set_progress",
]
