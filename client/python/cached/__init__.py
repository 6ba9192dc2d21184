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
from ._session import Session, session
from ._session_errors import (
    SessionConflictError, SessionExpiredError, SessionUnavailableError, SessionUnboundError, SessionWarning,
)
from ._session_state import bind_session, current_session, session_state
from ._session_watch import set_dispatcher

__version__ = "0.1.0"

__all__ = [
    "CacheError", "CacheWarning", "CorruptValueError", "PickleRefusedError", "UnevaluatedDataFrameError",
    "UnhashableParamError", "UnserializableReturnValueError", "UnserializableSessionStateError", "configure",
    "Session", "SessionConflictError", "SessionExpiredError", "SessionUnavailableError", "SessionUnboundError",
    "SessionWarning", "bind_session", "current_session", "session", "session_state", "set_dispatcher",
]
