# SPDX-License-Identifier: MIT
"""Values of a session that stay in the process: connections, locks, whatever cannot be stored.

They are kept by the session's token, so that each object for one session has the same ones, until the session is closed
here, or is found to be over here.
"""

from __future__ import annotations

import os
import threading
from typing import Any, Dict, Iterator, List

from ._session_errors import missing


class _Registry:
    """All of the process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.sessions: Dict[bytes, Dict[str, Any]] = {}
        self.parents: List[Any] = []


_registry = _Registry()


def _after_fork() -> None:
    # They are the parent's. The child does not even let them go: a connection's end would say goodbye in the parent's name.
    _registry.lock = threading.Lock()
    if _registry.sessions:
        _registry.parents.append(_registry.sessions)
    _registry.sessions = {}


os.register_at_fork(after_in_child=_after_fork)


def of(session: bytes) -> Dict[str, Any]:
    """The values; not to be changed."""
    return _registry.sessions.get(session) or {}


def put(session: bytes, key: str, value: Any) -> None:
    with _registry.lock:
        _registry.sessions.setdefault(session, {})[key] = value


def remove(session: bytes, key: str) -> bool:
    """Whether there was one."""
    with _registry.lock:
        values = _registry.sessions.get(session, {})
        found = key in values
        value = values.pop(key, None)
        if not values:
            _registry.sessions.pop(session, None)
    del value  # without the lock: its end may run anything
    return found


def forget(session: bytes) -> None:
    with _registry.lock:
        values = _registry.sessions.pop(session, None)
    del values


class Local:
    """`session.local`: `session.local.k = v` is `session.set("k", v, local=True)`."""

    __slots__ = ("_session",)

    def __init__(self, session: Any) -> None:
        object.__setattr__(self, "_session", session)

    def __setattr__(self, key: str, value: Any) -> None:
        self._session.set(key, value, local=True)

    def __getattr__(self, key: str) -> Any:
        try:
            return of(self._session._id)[key]
        except KeyError:
            raise AttributeError(missing(key)) from None

    def __delattr__(self, key: str) -> None:
        if not remove(self._session._id, key):
            raise AttributeError(missing(key))

    def __contains__(self, key: object) -> bool:
        return key in of(self._session._id)

    def __iter__(self) -> Iterator[str]:
        return iter(list(of(self._session._id)))

    def __len__(self) -> int:
        return len(of(self._session._id))
