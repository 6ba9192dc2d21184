# SPDX-License-Identifier: MIT
"""The process's handle, and what is said when the cache cannot be used.

One handle serves all threads. After a fork the child goes on with it: libcached notices by itself, leaves the parent's
connections alone and makes new ones.
"""

from __future__ import annotations

import atexit
import os
import threading

from . import _binding, _warn
from ._errors import CacheError, CacheWarning

DEFAULT_TIMEOUT = 5.0  # seconds, for calls whose answer the caller asked for


class _Process:
    """What there is once a process: the only state of the package that changes, but for what users' functions have."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.options: dict = {}
        self.client: _binding.Client | None = None
        self.warned: set = set()
        self.is_over = False


_process = _Process()


def _after_fork() -> None:
    # Another thread of the parent may have had it.
    _process.lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def current() -> _binding.Client:
    """The process's handle, made when it is first asked for. It connects to nothing yet."""
    client = _process.client
    if client is not None:
        return client
    with _process.lock:
        if _process.client is None:
            options = dict(_process.options)
            options.setdefault("realm", os.environ.get("CACHED_REALM") or None)
            _process.client = _binding.Client(**options)
        return _process.client


def configure(*, socket: str | None = None, realm: str | None = None, timeout: float = DEFAULT_TIMEOUT,
              name: str | None = None) -> None:
    """Says which daemon this process uses, instead of what $CACHED_SOCKET, $CACHED_REALM and the usual places say.

    socket: its path; None: found as by every client
    realm: a name of the daemon's configuration; None: the user's own
    timeout: seconds that a call may take whose answer is waited for; decorated functions wait less
    name: what `cachectl clients` shows of this process

    To be called before anything is cached: what was made with the handle before goes on with that.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout < 2**32 / 1000:
        raise ValueError(f"timeout is a number of seconds above 0, not {timeout!r}")
    with _process.lock:
        _process.options = {key: value for key, value in {
            "socket": socket, "realm": realm, "name": name, "timeout_ms": max(1, round(timeout * 1000)),
        }.items() if value is not None}
        _process.client = None
        _process.warned.clear()


_AWAY = frozenset((_binding.ERR_UNREACHABLE, _binding.ERR_TIMEOUT, _binding.ERR_DISCONNECTED, _binding.SHUTTING_DOWN))


def warn(error: CacheError | int, text: str | None = None) -> None:
    """Says that the cache cannot be used: once for each kind of trouble. @text: the caller's own words for it."""
    code = error if isinstance(error, int) else getattr(error, "code", 0)
    warn_once("away" if code in _AWAY else code, text if text is not None else
              f"the cache is not used: {error}. Cached functions run, and nothing is stored; this is said once")


def warn_once(kind: object, text: str) -> None:
    """A CacheWarning at the line of the program that led here, unless the process had one of this kind. A child that
    was forked does not repeat what its parent has said, nor is anything said while the interpreter ends."""
    with _process.lock:
        if kind in _process.warned or _process.is_over:
            return
        _process.warned.add(kind)
    _warn.at_caller(text, CacheWarning)


@atexit.register
def _close() -> None:
    """Ends the waits of threads that nobody waits for, before the interpreter is taken down around them."""
    _process.is_over = True
    client = _process.client
    if client is not None:
        client.close()
