# SPDX-License-Identifier: MIT
"""Sessions: a dictionary for one user, which all processes share that have its token."""

from __future__ import annotations

import datetime
import hashlib
import math
import os
import threading
import weakref
from collections.abc import MutableMapping
from typing import Any, Callable, Dict, ItemsView, Iterator, KeysView, List, Optional, Tuple, Union, ValuesView

from . import _binding, _client, _session_local, _session_numbers, _session_values
from ._errors import CacheError
from ._session_errors import SessionConflictError, SessionExpiredError, call, missing, told
from ._session_lent import Lent, warn_unwritten
from ._session_watch import Subscription, Watcher

_KEY_MAX = 128
_NOTHING: Any = object()
_sessions: weakref.WeakSet = weakref.WeakSet()  # of this process, for its children

Duration = Union[int, float, str, datetime.timedelta]


def _after_fork() -> None:
    for session in list(_sessions):
        session._lock = threading.RLock()  # another thread of the parent may have had it
        session._watcher = None  # its thread is the parent's


os.register_at_fork(after_in_child=_after_fork)


def _check(key: Any) -> str:
    if type(key) is not str:
        if not isinstance(key, str):
            raise TypeError(f"a session's keys are text, not {type(key).__name__}")
        key = str(key)
    try:
        n = len(key.encode())
    except UnicodeEncodeError:
        n = 0
    if not 0 < n <= _KEY_MAX or any(c < " " or "\x7f" <= c < "\xa0" for c in key):
        raise ValueError(f"a session's key is 1 to {_KEY_MAX} bytes of UTF-8 without control characters, not {key[:140]!r}")
    return key


def _milliseconds(value: Optional[Duration], what: str) -> Optional[int]:
    if value is None:
        return None
    if isinstance(value, str):
        from ._durations import milliseconds

        return milliseconds(value, what, zero=True)
    seconds = value.total_seconds() if isinstance(value, datetime.timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"{what} is a number of seconds or a timedelta, not {value!r}")
    if seconds == math.inf:
        return (1 << 64) - 1  # never
    if not 0 <= seconds <= 3653 * 86400:
        raise ValueError(f"{what} is 0 seconds to 10 years, or math.inf, not {value!r}")
    return max(1, round(seconds * 1000)) if seconds else 0


class Session(MutableMapping):
    """A session. Keys are read and set as items (`s["k"]`) and as attributes (`s.k`).

    Numbers that are read remember where they come from, so that `s.n += 1` counts: none is lost, whoever counts at the same
    time. Other values are what they were when they were stored. Values that can be changed in place (`s.cart.append(x)`) are
    written back at the end of a `with session:` block, by `commit()`, and when the key is read again; where somebody
    else has set the key meanwhile that is a SessionConflictError. One object is for one run at a time; threads that change
    values in place attach one each, by the token.
    """

    __slots__ = ("_session", "_client", "_id", "_label", "_lock", "_lent", "_blocks", "_watcher", "_own", "_finalizer",
                 "__weakref__")

    def __init__(self, session: _binding.Session, client: _binding.Client, label: str) -> None:
        self._session = session
        self._client = client
        self._label = label
        self._id = hashlib.blake2b(session.token.encode(), digest_size=16).digest()
        self._lock = threading.RLock()
        self._lent: Dict[str, Lent] = {}
        self._blocks = 0
        self._watcher: Optional[Watcher] = None
        self._own: Optional[_binding.Client] = None
        self._finalizer = weakref.finalize(self, warn_unwritten, self._lent, os.getpid(), _dump)
        _sessions.add(self)

    __hash__ = object.__hash__
    __eq__ = object.__eq__
    __ne__ = object.__ne__

    # ---- what it is

    @property
    def token(self) -> str:
        """What other processes attach with. As secret as what is in the session."""
        return self._session.token

    @property
    def local(self) -> _session_local.Local:
        """Values of this session that stay in this process: `session.local.connection = c`."""
        return _session_local.Local(self)

    def __repr__(self) -> str:
        try:
            keys = call(self._session.info)["keys"]
            state = f"{keys} key" + "s" * (keys != 1)
        except SessionExpiredError:
            state = "over"
        except CacheError:
            state = "the daemon does not answer"
        return f"<cached.Session {self._label!r}: {state}>"

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("a session is not copied or pickled: give its token to who may see it, and use cached.session(token)")

    def client(self) -> _binding.Client:
        """A handle for data that belongs to this session alone, and ends with it."""
        with self._lock:
            if self._own is None:
                self._own = self._call(self._session.handle)
            return self._own

    def close(self) -> None:
        """Ends the session, for everybody."""
        self._call(self._session.close)
        self._end()

    def _end(self) -> None:
        """It is over: what this process has of it is let go."""
        with self._lock:
            self._lent.clear()
            watcher, self._watcher = self._watcher, None
            own, self._own = self._own, None
        if watcher is not None:
            watcher.close()
        if own is not None:
            own.close()
        _session_local.forget(self._id)

    def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        try:
            return call(function, *args)
        except SessionExpiredError:
            _session_local.forget(self._id)
            raise

    # ---- reading

    def __getitem__(self, key: str) -> Any:
        key = _check(key)
        local = _session_local.of(self._id)
        if key in local:
            return local[key]
        item = self._call(self._session.get, key)
        if item is None:
            self._gone(key)
            raise KeyError(missing(key))
        return self._take(key, item)

    def _take(self, key: str, item: Any) -> Any:
        """The value of an item that was read."""
        with self._lock:
            lent = self._lent.get(key)
            if lent is not None and lent.version >= item.version:
                if not self._blocks:
                    self._write_back(key, lent)
                return lent.value
            if lent is not None:
                self._replaced(key, lent)
        value = _session_values.loads(key, item, self._may_unpickle(item.flags))
        return self._hand_out(key, value, item.version)

    def _hand_out(self, key: str, value: Any, version: int, digest: Optional[bytes] = None) -> Any:
        if type(value) is int or type(value) is float:
            return _session_numbers.read(value, (self._id, key))
        if not _session_values.is_immutable(value):
            if digest is None:
                digest = _session_values.digest(*_dump(key, value))
            with self._lock:
                lent = self._lent.get(key)
                if lent is not None and lent.version == version:
                    return lent.value  # another thread was first
                self._lent[key] = Lent(value, digest, version)
        return value

    def _may_unpickle(self, flags: int) -> bool:
        """In the user's own realm only the user writes. Who wrote a value of a session is not known in others."""
        if flags in (_session_values.PLAIN, _session_values.TEXT, _session_values.REAL, _session_values.BYTES):
            return False
        if os.environ.get("CACHED_PICKLE") == "never":
            return False
        return self._call(self._client.connect)["realm"] == f"uid:{os.geteuid()}"

    def __contains__(self, key: object) -> bool:
        try:
            key = _check(key)
        except (TypeError, ValueError):
            return False
        return key in _session_local.of(self._id) or self._call(self._session.contains, key)

    def __iter__(self) -> Iterator[str]:
        stored = [item.key for item in self._call(self._session.keys)]
        return iter(stored + [key for key in list(_session_local.of(self._id)) if key not in stored])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def keys(self) -> KeysView:
        """The keys, in the order in which they were first set, as they are now."""
        return dict.fromkeys(self).keys()

    def _all(self) -> Dict[str, Any]:
        local = dict(_session_local.of(self._id))
        found = {}
        for item in self._call(self._session.get_all):
            found[item.key] = local[item.key] if item.key in local else self._take(item.key, item)
        return {**found, **local}

    def items(self) -> ItemsView:
        """The keys and values, read at one moment."""
        return self._all().items()

    def values(self) -> ValuesView:
        """The values, read at one moment."""
        return self._all().values()

    # ---- changing

    def __setitem__(self, key: str, value: Any) -> None:
        key = _check(key)
        delta = _session_numbers.take_delta(value, (self._id, key))
        if delta is None:
            self._store(key, value)
            return
        try:
            self._add(key, delta, None)
        except BaseException:
            _session_numbers.give_back(value, delta)
            raise

    def set(self, key: str, value: Any, *, local: bool = False) -> None:
        """Sets a key. local: its value stays in this process, and is never stored; for connections, locks and the like."""
        key = _check(key)
        if local:
            self._session_is_there()
            _session_local.put(self._id, key, value)
        else:
            self._store(key, value)

    def _session_is_there(self) -> None:
        self._call(self._session.info)

    def _store(self, key: str, value: Any) -> None:
        flags, data = _dump(key, value)
        version = self._call(self._session.set, key, flags, data)
        _session_local.remove(self._id, key)
        self._was_set(key, value, version, _session_values.digest(flags, data))

    def _was_set(self, key: str, value: Any, version: int, digest: bytes) -> None:
        with self._lock:
            self._lent.pop(key, None)
            if not _session_values.is_immutable(value):
                self._lent[key] = Lent(value, digest, version)

    def __delitem__(self, key: str) -> None:
        key = _check(key)
        was_local = _session_local.remove(self._id, key)
        there = self._call(self._session.delete, key)
        with self._lock:
            self._lent.pop(key, None)
        if not there and not was_local:
            raise KeyError(missing(key))

    def setdefault(self, key: str, default: Any = None) -> Any:
        """The value of a key, which is @default from now on if there is none: of several one wins, and all get its value."""
        key = _check(key)
        local = _session_local.of(self._id)
        if key in local:
            return local[key]
        flags, data = _dump(key, default)
        found = self._call(self._session.set_if_absent, key, flags, data)
        if not isinstance(found, int):
            return self._take(key, found)
        with self._lock:
            self._lent.pop(key, None)
        return self._hand_out(key, default, found, _session_values.digest(flags, data))

    def pop(self, key: str, default: Any = _NOTHING) -> Any:
        """Deletes a key and gives its value. Of several who do this at a time one gets it."""
        try:
            value = self[key]
            del self[key]
            return value
        except KeyError:
            if default is _NOTHING:
                raise
            return default

    def popitem(self) -> Tuple[str, Any]:
        """Deletes the key that was set last, and gives it with its value."""
        while True:
            keys = list(self)
            if not keys:
                raise KeyError("the session has no keys")
            value = self.pop(keys[-1], _NOTHING)
            if value is not _NOTHING:
                return keys[-1], value

    def update(self, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Sets several keys, all at once. What was counted in place is counted, each by itself."""
        given = {_check(key): value for key, value in dict(*args, **kwargs).items()}
        encoded = []
        for key in list(given):
            if getattr(given[key], "_delta", None) is not None and getattr(given[key], "_origin", None) == (self._id, key):
                self[key] = given.pop(key)
            else:
                encoded.append((key, *_dump(key, given[key])))
        if not encoded:
            return
        version = self._call(self._session.set_many, encoded)
        for key, flags, data in encoded:
            _session_local.remove(self._id, key)
            self._was_set(key, given[key], version, _session_values.digest(flags, data))

    def clear(self) -> None:
        """Deletes all keys. The session goes on."""
        self._call(self._session.clear)
        with self._lock:
            self._lent.clear()
        _session_local.forget(self._id)

    # ---- counting

    def incr(self, key: str, by: Union[int, float] = 1, start: Union[int, float, None] = 0) -> Union[int, float]:
        """Adds to a number, and gives the sum: none is lost, whoever counts at the same time.

        start: what the key counts as if it has no value; None: then that is a KeyError
        """
        key = _check(key)
        step = _session_numbers.counted("by", by)
        first = None if start is None else _session_numbers.counted("start", start)
        return self._add(key, step, first)

    def _add(self, key: str, by: Union[int, float], start: Union[int, float, None]) -> Union[int, float]:
        if key in _session_local.of(self._id):
            raise TypeError(f'session key "{key}" is local to this process: only stored numbers are counted')
        if _session_values.is_whole(by) and (start is None or _session_values.is_whole(start)):
            sum_ = self._in_daemon(self._session.increment, key, by, start)
            if sum_ is not _NOTHING:
                return self._sum(key, sum_)
        return self._by_comparing(key, by, start)

    def _sum(self, key: str, sum_: Any) -> Any:
        if sum_ is None:
            raise KeyError(missing(key))
        return sum_

    def _in_daemon(self, function: Callable[..., Any], *args: Any) -> Any:
        """The sum; _NOTHING: it is one that the daemon cannot make."""
        try:
            return function(*args)
        except CacheError as error:
            if error.code == _binding.INVALID:
                return _NOTHING
            made = told(error)
            if isinstance(made, SessionExpiredError):
                _session_local.forget(self._id)
            raise made from error

    def _by_comparing(self, key: str, by: Union[int, float], start: Union[int, float, None]) -> Union[int, float]:
        """Counts what the daemon does not: reads, adds, and sets it if nobody did so meanwhile, until that works."""
        while True:
            item = self._call(self._session.get, key)
            if item is None:
                if start is None:
                    raise KeyError(missing(key))
                total = start + by
                done = isinstance(self._call(self._session.set_if_absent, key, *_dump(key, total)), int)
            else:
                value = _session_values.loads(key, item, False)
                if isinstance(value, bool) or not isinstance(value, (int, float)):
                    raise TypeError(f'session key "{key}" has no number that could be counted, but a {type(value).__name__}')
                if item.flags == _session_values.REAL and type(by) is float and math.isfinite(by) and math.isfinite(value):
                    total = self._in_daemon(self._session.increment_real, key, by)
                    if total is not _NOTHING:
                        return self._sum(key, total)
                total = value + by
                done = self._call(self._session.compare_and_set, key, item.version, *_dump(key, total)) is not None
            if done:
                return total

    # ---- what was changed in place

    def __enter__(self) -> Session:
        with self._lock:
            self._blocks += 1
        return self

    def __exit__(self, *error: Any) -> None:
        with self._lock:
            self._blocks -= 1
        self.commit()

    def commit(self) -> None:
        """Writes back what was changed in place.

        SessionConflictError: somebody else has set a key meanwhile; all others are written.
        UnserializableSessionStateError: a value was changed into one that cannot be stored; it stays as it is here.
        """
        first: Optional[Exception] = None
        with self._lock:
            for key, lent in list(self._lent.items()):
                try:
                    self._write_back(key, lent)
                except (SessionConflictError, TypeError) as error:
                    first = first or error
        if first is not None:
            raise first

    def _write_back(self, key: str, lent: Lent) -> None:
        now = lent.changed(key, _dump)
        if now is None:
            return
        flags, data, digest = now
        version = self._call(self._session.compare_and_set, key, lent.version, flags, data)
        if version is None:
            self._conflict(key, lent)
        lent.version, lent.digest = version, digest

    def _replaced(self, key: str, lent: Lent) -> None:
        """Somebody else has set a key that was handed out."""
        if lent.changed(key, _dump) is not None:
            self._conflict(key, lent)
        self._lent.pop(key, None)

    def _gone(self, key: str) -> None:
        with self._lock:
            lent = self._lent.get(key)
            if lent is not None:
                self._replaced(key, lent)

    def _conflict(self, key: str, lent: Lent) -> None:
        self._lent.pop(key, None)
        raise SessionConflictError(
            f'session key "{key}" was changed in place here, and set or deleted by somebody else meanwhile: what was changed '
            "here is not written (the error's `value` has it). Read it again and change that", key, lent.value)

    # ---- being told

    def on_change(self, key: str, fn: Callable[..., Any], args: tuple = (), kwargs: Optional[dict] = None) -> Subscription:
        """Calls fn(*args, **kwargs) each time that the key is set or deleted, by whatever process, this one too.

        The calls come from a thread of this package's, one after the other, or as cached.set_dispatcher() says. Gives what
        ends them: `.cancel()`. After the daemon was away it is called if the key has another value than before.
        """
        key = _check(key)
        if not callable(fn):
            raise TypeError(f"fn is a function, not {fn!r}")
        while True:
            with self._lock:
                watcher = self._watcher
                if watcher is None or watcher.over:
                    watcher = self._watcher = self._call(Watcher, self._session)
            subscription = Subscription(watcher, key, fn, tuple(args), dict(kwargs or {}))
            try:
                if watcher.add(subscription):
                    return subscription
            except BaseException:
                watcher.remove(subscription)
                raise

    # ---- attributes

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f'a session has no attribute "{name}": a key that begins so is read as session["{name}"]')
        try:
            return self[name]
        except KeyError:
            raise AttributeError(missing(name)) from None

    def __setattr__(self, name: str, value: Any) -> None:
        if name in Session.__slots__:
            object.__setattr__(self, name, value)
            return
        _is_key(name)
        self[name] = value

    def __delattr__(self, name: str) -> None:
        _is_key(name)
        try:
            del self[name]
        except KeyError:
            raise AttributeError(missing(name)) from None

    def __dir__(self) -> List[str]:
        try:
            return [*super().__dir__(), *self]
        except CacheError:
            return list(super().__dir__())


def _is_key(name: str) -> None:
    if name.startswith("_") or hasattr(Session, name):
        raise AttributeError(f'"{name}" is a name of a session\'s own: a key of that name is set as session["{name}"]')


def _dump(key: str, value: Any) -> Tuple[int, bytes]:
    return _session_values.dumps(key, value, os.environ.get("CACHED_PICKLE") != "never")


def session(token: Optional[str] = None, *, label: Optional[str] = None, idle: Optional[Duration] = None,
            grace: Optional[Duration] = None, client: Optional[_binding.Client] = None) -> Session:
    """Opens a session, which is empty; or, with a token, gives the one that this is the token of.

    label: what people see of it in listings
    idle: after how long without use it ends, in seconds, as a timedelta or as text; math.inf: never; None: the daemon's default
    grace: how long it lives without anybody who is told of its changes (on_change); None: it needs nobody
    client: the handle to use; None: the process's
    """
    if token is not None:
        if not isinstance(token, str):
            raise TypeError(f"a token is text, not {type(token).__name__}")
        if label is not None or idle is not None or grace is not None:
            raise TypeError("label, idle and grace are of a session that is opened, and with a token it has been")
    client = client or _client.current()
    try:
        made = call(lambda: _binding.Session(client, token=token, label=label, idle_ms=_milliseconds(idle, "idle"),
                                             grace_ms=_milliseconds(grace, "grace")))
    except CacheError as error:
        if token is not None and error.code == _binding.ERR_USAGE:
            raise ValueError(str(error)) from None
        raise
    return Session(made, client, label or (call(made.info)["label"] if token is not None else ""))
