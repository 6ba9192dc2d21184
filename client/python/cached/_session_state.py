# SPDX-License-Identifier: MIT
"""The current session, where a framework has bound one: cached.session_state."""

from __future__ import annotations

from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any, Iterator, Optional

from ._session import Session
from ._session_errors import SessionUnboundError

_current: ContextVar[Optional[Session]] = ContextVar("cached_session", default=None)


def current_session() -> Session:
    """The session that is bound here. SessionUnboundError: none is."""
    session = _current.get()
    if session is None:
        raise SessionUnboundError(
            "no session is bound here: `with cached.bind_session(session):` does that, for what runs in it, its coroutines and "
            "tasks; another thread binds its own")
    return session


class bind_session:
    """Makes a session the one that `cached.session_state` is, from here on until `release()` or the end of a `with` block.

    Then what was changed in place is written back, as at the end of `with session:`. What is bound belongs to the context
    (contextvars): to this thread, or to this task and those that it starts.
    """

    def __init__(self, session: Session) -> None:
        if not isinstance(session, Session):
            raise TypeError(f"bind_session() takes a session, not {type(session).__name__}")
        self.session = session
        self._token: Any = _current.set(session)
        session.__enter__()

    def __enter__(self) -> Session:
        return self.session

    def __exit__(self, *error: Any) -> None:
        self.release()

    def release(self) -> None:
        """The session is not bound any more, but the one that was before. A second call does nothing."""
        token, self._token = self._token, None
        if token is None:
            return
        try:
            _current.reset(token)
        except ValueError:
            raise RuntimeError("a session is released in the thread or task that bound it, and this is another one") from None
        finally:
            self.session.__exit__(None, None, None)


class SessionState:
    """The session that is bound where this is used, with all that it has: keys as attributes and as items, and its methods."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(current_session(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(current_session(), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(current_session(), name)

    def __getitem__(self, key: str) -> Any:
        return current_session()[key]

    def __setitem__(self, key: str, value: Any) -> None:
        current_session()[key] = value

    def __delitem__(self, key: str) -> None:
        del current_session()[key]

    def __contains__(self, key: object) -> bool:
        return key in current_session()

    def __iter__(self) -> Iterator[str]:
        return iter(current_session())

    def __len__(self) -> int:
        return len(current_session())

    def __repr__(self) -> str:
        session = _current.get()
        return f"<cached.session_state: {'no session is bound' if session is None else repr(session)}>"


MutableMapping.register(SessionState)
session_state = SessionState()
