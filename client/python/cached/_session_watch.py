# SPDX-License-Identifier: MIT
"""Callbacks for changes of a session's keys, from whatever process.

One thread a session waits for what the daemon tells. It lives as long as somebody wants to be told, and the session does;
so long the session counts as attached. After a fork the child has none: who wants to be told there says so there.
"""

from __future__ import annotations

import select
import socket
import sys
import threading
import warnings
from typing import Any, Callable, Dict, List, Optional

from . import _binding
from ._errors import CacheError
from ._session_errors import SessionWarning, call

_PAUSE_MS = 1000  # before something is tried again that the daemon refuses


class _Dispatch:
    """How callbacks are called: the framework's way, where it has said one."""

    function: Optional[Callable[[Callable[[], None]], Any]] = None


def set_dispatcher(function: Optional[Callable[[Callable[[], None]], Any]]) -> Optional[Callable[[Callable[[], None]], Any]]:
    """Says how the callbacks of `session.on_change()` are called; for frameworks.

    function: is given a function without arguments, in a thread of this package's, and sees to it that it is called, in
        whatever thread or loop (`loop.call_soon_threadsafe`, a queue); None: it is called at once, in that thread

    Gives what was there before.
    """
    if function is not None and not callable(function):
        raise TypeError(f"a dispatcher is a function, not {function!r}")
    before, _Dispatch.function = _Dispatch.function, function
    return before


class Subscription:
    """A callback of a session's key. Called, or with `cancel()`: it is not called any more."""

    def __init__(self, watcher: Watcher, key: str, function: Callable[..., Any], args: tuple, kwargs: dict) -> None:
        self.key = key
        self.since = 0  # the session's version then
        self._watcher = watcher
        self._function = function
        self._args = args
        self._kwargs = kwargs
        self._wanted = True

    def cancel(self) -> None:
        """No calls any more, but for one that has begun."""
        self._wanted = False
        self._watcher.remove(self)

    __call__ = cancel

    def _run(self) -> None:
        if self._wanted:
            self._function(*self._args, **self._kwargs)

    def fire(self) -> None:
        try:
            dispatcher = _Dispatch.function
            if dispatcher is None:
                self._run()
            else:
                dispatcher(self._run)
        except Exception:
            # As an error of any thread; the others are told all the same.
            threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))


class Watcher:
    """The thread, and what it knows."""

    def __init__(self, session: _binding.Session) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._wanted: Dict[str, List[Subscription]] = {}
        self._versions: Dict[str, int] = {}  # of the wanted keys; 0: no value
        self._events = call(session.watch)
        self._wake, self._woken = socket.socketpair()
        self.over = False
        self._thread = threading.Thread(target=self._loop, name="cached-session", daemon=True)
        self._thread.start()

    def add(self, subscription: Subscription) -> bool:
        """False: the watcher has ended."""
        subscription.since = call(self._session.info)["version"]
        found = {item.key: item.version for item in call(self._session.keys)}
        with self._lock:
            if self.over:
                return False
            self._wanted.setdefault(subscription.key, []).append(subscription)
            self._versions.setdefault(subscription.key, found.get(subscription.key, 0))
        return True

    def remove(self, subscription: Subscription) -> None:
        with self._lock:
            those = self._wanted.get(subscription.key, [])
            if subscription in those:
                those.remove(subscription)
            if not those:
                self._wanted.pop(subscription.key, None)
                self._versions.pop(subscription.key, None)
            if not self._wanted:
                self._stop()

    def close(self) -> None:
        """Nobody is told any more."""
        with self._lock:
            self._wanted.clear()
            self._stop()

    def _stop(self) -> None:
        if not self.over:
            self.over = True
            self._wake.send(b"x")

    def _loop(self) -> None:
        poll = select.poll()
        poll.register(self._events.fd, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        pause = None
        lost = False
        try:
            while not self.over:
                poll.poll(pause)
                if self.over:
                    break
                lost, pause = self._read(lost)
        finally:
            with self._lock:
                self.over = True
            self._events = None  # it is not attached any more
            self._wake.close()
            self._woken.close()

    def _read(self, lost: bool) -> tuple:
        """All that has come. (whether something is not known, how long to wait before that is tried again)"""
        try:
            while True:
                if lost:
                    self._compare()
                    lost = False
                event = self._events.next()
                if event is None:
                    return lost, None
                lost = self._tell(*event)
        except CacheError as error:
            if error.code in (_binding.NOT_FOUND, _binding.ERR_CLOSED, _binding.ERR_USAGE):
                self.over = True  # the session, its handle, or this process is another one
            elif error.code not in (_binding.ERR_UNREACHABLE, _binding.ERR_TIMEOUT, _binding.ERR_DISCONNECTED,
                                    _binding.SHUTTING_DOWN):
                warnings.warn(f"changes of a session are not told: {error}", SessionWarning, stacklevel=1)
            return lost, _PAUSE_MS

    def _tell(self, change: int, keys: List[str], version: int) -> bool:
        """True: what happened is not known."""
        if change == _binding.SESSION_LOST:
            return True
        with self._lock:
            if change == _binding.SESSION_CLEARED:
                keys = [key for key, at in self._versions.items() if at]
            elif change not in (_binding.SESSION_SET, _binding.SESSION_DELETED):
                return False
            told = []
            for key in keys:
                if key in self._wanted:
                    self._versions[key] = version if change == _binding.SESSION_SET else 0
                    told += [s for s in self._wanted[key] if version > s.since]
        for subscription in told:
            subscription.fire()
        return False

    def _compare(self) -> None:
        """Something was not told, perhaps since the daemon was away: who has another value now is told."""
        found = {item.key: item.version for item in self._session.keys()}
        with self._lock:
            told = []
            for key, before in self._versions.items():
                now = found.get(key, 0)
                if now != before:
                    self._versions[key] = now
                    told += self._wanted[key]
        for subscription in told:
            subscription.fire()
