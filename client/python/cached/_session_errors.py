# SPDX-License-Identifier: MIT
"""What can go wrong with a session, in words that say what to do."""

from __future__ import annotations

from typing import Any, Callable

from . import _binding
from ._errors import CacheError

_AWAY = frozenset({
    _binding.ERR_UNREACHABLE, _binding.ERR_TIMEOUT, _binding.ERR_DISCONNECTED, _binding.ERR_CLOSED, _binding.ERR_UNTRUSTED,
    _binding.ERR_FORBIDDEN, _binding.ERR_BAD_REPLY, _binding.SHUTTING_DOWN, _binding.DEADLINE, _binding.DENIED,
    _binding.UNSUPPORTED, _binding.VERSION, _binding.PROTOCOL, _binding.OUTCOME_UNKNOWN, _binding.INTERNAL,
})


class SessionWarning(UserWarning):
    """Something about a session would else go unnoticed."""


class SessionUnavailableError(CacheError):
    """The daemon could not be asked: nothing is known of the session, which may be as it was."""


class SessionExpiredError(CacheError):
    """The session is over. What was in it is gone."""


class SessionConflictError(CacheError):
    """Somebody else changed a value that was changed in place here.

    key: its key. value: what it is here, and what was not written.
    """

    def __init__(self, text: str, key: str = "", value: Any = None) -> None:
        super().__init__(text)
        self.key = key
        self.value = value
        self.code = _binding.VERSION_MISMATCH


class SessionUnboundError(RuntimeError):
    """session_state was used where no session is bound."""


def call(function: Callable[..., Any], *args: Any) -> Any:
    """A call of the extension module about a session, with its failures told apart."""
    try:
        return function(*args)
    except CacheError as error:
        raise told(error) from error


def told(error: CacheError) -> CacheError:
    code = getattr(error, "code", 0)
    made: CacheError
    if code == _binding.NOT_FOUND:
        made = SessionExpiredError("the session is over: it was closed, was not used for too long, or made room for others. "
                                   "cached.session() opens a new one, which is empty")
    elif code in _AWAY:
        made = SessionUnavailableError(f"the session cannot be used now: {error}")
    else:
        return error
    made.code = code
    return made


def missing(key: str) -> str:
    return f'session has no key "{key}". Did you forget to initialize it?'
