# SPDX-License-Identifier: MIT
"""What one call of a decorated function does, when it is no hit that function.c can answer.

Look up, or get the lease: the right to compute, which one caller on the whole machine has. Compute, store, and give the
caller what was stored, as all later callers get it. Whatever is wrong with the cache is a warning, once, and the
function runs; what is wrong with the function, its arguments or its value is an exception.
"""

from __future__ import annotations

import contextlib
import contextvars
import inspect
import os
import threading
import time
from typing import Any, Callable

from . import _binding, _client, _keys, _threads, _values
from ._errors import (
    CachedGeneratorError, CorruptValueError, PickleRefusedError, UnevaluatedDataFrameError,
    UnserializableReturnValueError,
)
from ._identity import Identity, identify
from ._policy import Policy, checked_tags, may_pickle, may_unpickle
from ._progress import show, waiting_text

# How long the daemon may take for an answer; a function is not held up longer by one that is stopped.
PATIENCE_MS = 250
# How often a wait for somebody else's computation looks around: for signals, for progress, whether it can end at all.
LOOK_MS = 100
# After a miss the policy is told again so often: the daemon may be another one. The ttl goes with each value.
_OPEN_S = 1.0
_WARMED_MAX = 100_000

MISSING: Any = type("Missing", (), {"__repr__": lambda self: "MISSING"})()
_IMMUTABLE = frozenset((type(None), bool, int, float, complex, str, bytes))

# Of which process it is, its lease, and what it is computing, from the outermost on.
_outer: contextvars.ContextVar[tuple[int, Any, tuple[Any, ...]] | None] = contextvars.ContextVar("cached_outer", default=None)


def outer_lease() -> Any:
    """The lease of the computation that this is a part of; in a child process it is the parent's, and none here."""
    outer = _outer.get()
    return outer[1] if outer is not None and outer[0] == os.getpid() else None


def is_of_parent(at: Any) -> bool:
    """Whether this process was forked by the computation of that value, which may wait for it."""
    outer = _outer.get()
    return outer is not None and outer[0] != os.getpid() and at in outer[2]


@contextlib.contextmanager
def inside(lease: Any, at: Any) -> Any:
    """While the context lasts, what is looked up belongs to the computation under this lease."""
    before = _outer.get()
    around = before[2] if before is not None else ()
    token = _outer.set((os.getpid(), lease, (*around, at)) if lease is not None else before)
    try:
        yield
    finally:
        _outer.reset(token)


class _Handle:
    """The process's handle, as functions use it: with little patience."""

    base: Any = None
    patient: Any = None
    lock = threading.Lock()

    @classmethod
    def get(cls) -> Any:
        base = _client.current()
        if cls.base is not base:
            with cls.lock:
                if cls.base is not base:
                    cls.patient = base.with_timeout(PATIENCE_MS)
                    cls.base = base
                    _binding.use_client(cls.patient)
        return cls.patient


def _forked() -> None:
    _Handle.lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class Progress:
    """What people see of one call; nothing, until it takes time."""

    def __init__(self, name: str, policy: Policy):
        self._name, self._policy = name, policy
        self._stack = contextlib.ExitStack()
        self._update: Callable[[str | None], None] | None = None
        self._closed = False

    def start(self) -> None:
        """It is computed, here."""
        if self._update is None:
            self._update = self._stack.enter_context(show(self._name, self._policy.spinner, self._policy.show_time))
        else:
            self._update(None)

    def text_of(self, holder: Any) -> str:
        """That somebody else computes."""
        return waiting_text(self._name, holder.holder_pid, holder.holder_name, holder.age_ms, holder.text,
                            holder.permille)

    def say(self, text: str) -> None:
        """Something else than that it is computed here."""
        if self._closed or not self._policy.spinner:
            return
        self.start()
        assert self._update is not None
        self._update(text)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: Any) -> None:
        self._closed = True
        self._stack.__exit__(*error)


class Found:
    """What asking came to. value: MISSING, or a value, which is due where `lease` is granted. stores: whether what is
    computed is to be stored. shared: what was computed, encoded, where it was only for those who waited."""

    __slots__ = ("value", "client", "lease", "stores", "shared")

    def __init__(self, value: Any, client: Any = None, lease: Any = None, stores: bool = False):
        self.value, self.client, self.lease, self.stores = value, client, lease, stores
        self.shared: Any = None

    @property
    def granted(self) -> bool:
        """Whether others wait for what is computed here."""
        return self.lease is not None and self.lease.state == _binding.LEASE_GRANTED


class Memo:
    """One decorated function: how its calls become keys, and its values entries."""

    def __init__(self, func: Callable[..., Any], name: str, policy: Policy):
        self.func = func
        self.name = name
        self.policy = policy
        self.arguments = _keys.Arguments(func, hash_funcs=policy.hash_funcs, name=name)
        self.fast: Any = None  # what is to be prepared for hits in C
        self._identity: Identity | None = None
        self._lock = threading.RLock()
        self._opened: tuple[Any, float] = (None, 0.0)
        self._warmed: set[bytes] | None = None

    # ---- keys

    @property
    def identity(self) -> Identity:
        """Found out at the first call: only then everything that the function uses is defined."""
        return self._identity or self._identify()

    def _identify(self) -> Identity:
        with self._lock:
            if self._identity is None:
                identity = identify(self.func, cache=self.policy.cache, version=self.policy.version)
                if identity.cache in os.environ.get("CACHED_WARM", "").split(":"):
                    self._warmed = set()
                parameters = self.arguments.parameters
                if (self.fast is not None and self._warmed is None and not self.policy.session and self.arguments.plain
                        and self.policy.serializer is None and parameters is not None and len(parameters) <= 32
                        and all(p.kind in (0, 1, 3) for p in parameters)):
                    self.fast.prepare(identity.cache, identity.name, identity.code, tuple(tuple(p) for p in parameters))
                self._identity = identity
        return self._identity

    @property
    def cache(self) -> str:
        """The name of the cache that has the function's values."""
        return self.identity.cache

    def key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """The key of a call. UnhashableParamError; TypeError as the call itself would raise it."""
        digest = self.arguments.digest(args, kwargs)
        identity = self.identity
        return _keys.key(identity.name, identity.code, digest)

    def client(self) -> Any:
        """By which the cache is used: the process's, or that of the session that is bound."""
        if not self.policy.session:
            return _Handle.get()
        from ._session_state import current_session

        return current_session().client()

    def at(self, key: bytes) -> tuple[str, bytes, bytes]:
        """What tells a value from all others of this process: sessions have the same keys."""
        if not self.policy.session:
            return self.cache, key, b""
        from ._session_state import current_session

        return self.cache, key, current_session()._id

    def _is_to_warm(self, key: bytes) -> bool:
        """`cachectl warm` has values computed anew, each once."""
        if self._warmed is None or key in self._warmed or len(self._warmed) >= _WARMED_MAX:
            return False
        self._warmed.add(key)
        return True

    # ---- values

    def load(self, entry: Any) -> Any:
        """The value of an entry. CorruptValueError, PickleRefusedError."""
        allowed = may_unpickle(self.policy, entry.uid)
        serializer = self.policy.serializer
        if serializer is not None and not allowed:
            raise PickleRefusedError(f"uid {entry.uid} stored it, and the serializer {serializer.name} may run what is "
                                     "in it")
        return _values.loads(entry, unpickle=allowed, serializer=serializer)

    def load_or_miss(self, entry: Any) -> Any:
        """For function.c: what it found and does not know. NotImplemented: it is for call() to say what is wrong with
        it."""
        try:
            return self.load(entry)
        except (CorruptValueError, PickleRefusedError):
            return NotImplemented

    def dump(self, value: Any) -> Any:
        """What is stored for a value. UnserializableReturnValueError."""
        try:
            return _values.dumps(value, pickle=may_pickle(self.policy), serializer=self.policy.serializer)
        except (UnserializableReturnValueError, UnevaluatedDataFrameError) as e:
            raise type(e)(f"{self.name}() returned what cannot be stored: {e}") from e.__cause__

    # ---- asking

    def ask(self, key: bytes, waiting: Callable[[Any], bool]) -> Found:
        """A value, or what to do about its not being there. Never fails because of the cache."""
        try:
            client = self.client()
            entry, lease = client.lease(self.cache, key, outer=outer_lease(), hold_ms=self.policy.hold_ms,
                                        waiting=waiting, every_ms=LOOK_MS, refresh=self._is_to_warm(key))
        except _binding.CacheError as e:
            if e.code != _binding.NEGATIVE:
                _client.warn(e)
            return Found(MISSING)
        state = lease.state if lease is not None else _binding.LEASE_NONE
        # A wait without an end of its own was ended because this is a part of who computes, which stores.
        stores = state not in (_binding.LEASE_YOURS, _binding.LEASE_BUSY, _binding.LEASE_TIMEOUT,
                               _binding.LEASE_UNSTORABLE)
        if entry is None:
            return Found(MISSING, client, lease, stores)
        try:
            return Found(self.load(entry), client, lease, stores)
        except CorruptValueError:
            return self._ask_anew(key, client, lease)
        except PickleRefusedError as e:
            if lease is not None:
                lease.end()
            _client.warn_once("unpickle", f"a value of {self.name}() is not used, and is computed here instead: {e}. "
                              'To trust who stores values of this function, decorate it with unpickle="any"')
            return Found(MISSING)

    def _ask_anew(self, key: bytes, client: Any, lease: Any) -> Found:
        """What is stored is damaged: it is forgotten, which makes this a miss for all who count, and computed anew, by one."""
        if lease is not None and lease.state == _binding.LEASE_GRANTED:
            return Found(MISSING, client, lease, True)
        try:
            client.delete(self.cache, key)
            entry, lease = client.lease(self.cache, key, outer=outer_lease(), hold_ms=self.policy.hold_ms)
            if entry is not None:
                return Found(self.load(entry), client, lease, True)
        except _binding.CacheError as e:
            _client.warn(e)
            return Found(MISSING)
        except (CorruptValueError, PickleRefusedError):  # somebody stores what this program cannot read
            return Found(MISSING)
        return Found(MISSING, client, lease, True)

    # ---- storing

    def open(self, client: Any) -> None:
        """Tells the daemon the policy."""
        now = time.monotonic()
        known, when = self._opened
        if known is not client or now - when > _OPEN_S:
            client.open_cache(self.cache, **self.policy.opening())
            self._opened = (client, now)

    def keep(self, key: bytes, found: Found, value: Any, cost_us: int, args: tuple[Any, ...],
             kwargs: dict[str, Any]) -> Any:
        """Stores what the function gave; gives what the caller gets: a value of its own, as later callers have it."""
        if not found.stores:
            return value
        try:
            if self.policy.cache_if is not None and not self.policy.cache_if(value):
                return self._share(found, value)
            tags: Any = self.policy.tags or ()
            if callable(tags):
                tags = checked_tags(tags(value, *args, **kwargs))
            encoded = self.dump(value)
        except BaseException as e:
            give_up(found.lease, e)
            raise
        how = {"flags": encoded.flags, "ttl_ms": self.policy.ttl_ms, "tags": tags, "cost_us": cost_us}
        try:
            self.open(found.client)
            version = _store(found, self.cache, key, encoded, how)
        except _binding.CacheError as e:
            give_up(found.lease, None)
            if e.code != _binding.SUPERSEDED:
                _warn_unstored(self.name, e)
            return value
        except BaseException as e:
            give_up(found.lease, e)
            raise
        if self.policy.serializer is None and type(value) in _IMMUTABLE:
            return value
        return self._own_copy(key, found.client, version, encoded, value)

    def _share(self, found: Found, value: Any) -> Any:
        """Those who wait get it, and nobody else."""
        if found.granted:
            try:
                encoded = self.dump(value)
                found.lease.share(encoded.pieces, flags=encoded.flags)
                found.shared = encoded
            except _binding.CacheError as e:
                _client.warn(e)
            except TypeError:  # it cannot be given to others, and need not be
                found.lease.end()
        return value

    def _own_copy(self, key: bytes, client: Any, version: int, encoded: Any, value: Any) -> Any:
        """The function may have kept the value, and go on changing it."""
        try:
            entry = client.peek(self.cache, key)
            if entry is not None and entry.version == version:
                return self.load(entry)
        except (_binding.CacheError, CorruptValueError, PickleRefusedError):
            pass  # it was stored, and has gone since
        try:
            return self.copy(encoded)
        except CorruptValueError as e:
            with contextlib.suppress(_binding.CacheError):
                client.delete(self.cache, key)
            raise UnserializableReturnValueError(
                f"{self.name}() returned a {type(value).__qualname__} that can be stored, and not be made of what was stored: {e}. "
                "Mend what its class does when it is unpickled (__setstate__, __reduce__), return what it is made of, or keep the "
                "object itself with cache_resource") from e

    def copy(self, encoded: Any) -> Any:
        """A value of its own, of what was encoded here."""
        return _values.loads(bytearray(encoded.join()), unpickle=True, serializer=self.policy.serializer,
                             flags=encoded.flags)

    # ---- computing

    def compute(self, key: bytes, found: Found, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs the function, and keeps its value."""
        start = time.perf_counter_ns()
        try:
            with inside(found.lease, self.at(key)), _threads.computing(self.cache, key, found.granted):
                value = self.func(*args, **kwargs)
            check_value(value, self.name)
        except BaseException as e:
            give_up(found.lease, e)
            raise
        return self.keep(key, found, value, (time.perf_counter_ns() - start) // 1000, args, kwargs)

    def refresh(self, key: bytes, found: Found, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Computes a value anew in a thread that nobody waits for, also not at the end of the program."""
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(self.compute, key, found, args, kwargs), daemon=True,
                                  name=f"cached-refresh-{self.name}")
        try:
            thread.start()
        except RuntimeError:  # no more threads, or the program ends: the next caller may try
            give_up(found.lease, None)

    def call(self, /, *args: Any, **kwargs: Any) -> Any:
        """A call, from its beginning."""
        key = self.key(args, kwargs)
        with Progress(self.name, self.policy) as progress:
            found = self.ask(key, self.waiter(key, progress))
            if found.value is not MISSING and not found.granted:
                return found.value
            if found.value is not MISSING and self.policy.background:
                self.refresh(key, found, args, kwargs)
                return found.value
            begin(progress, found)
            return self.compute(key, found, args, kwargs)

    def waiter(self, key: bytes, progress: Progress) -> Callable[[Any], bool]:
        """Called while somebody else computes: true ends the wait."""
        deadlock, of_parent = _threads.Deadlock(self.cache, key), is_of_parent(self.at(key))

        def waiting(holder: Any) -> bool:
            progress.say(progress.text_of(holder))
            return of_parent or deadlock.is_certain()

        return waiting


def _store(found: Found, cache: str, key: bytes, encoded: Any, how: dict[str, Any]) -> int:
    if encoded.buffer is not None:
        how["size"] = encoded.size
    pieces = encoded.buffer if encoded.buffer is not None else encoded.pieces
    if found.lease is not None:
        return int(found.lease.set(pieces, **how))
    return int(found.client.set(cache, key, pieces, **how))


def _warn_unstored(name: str, error: _binding.CacheError) -> None:
    if error.code in (_binding.TOO_LARGE, _binding.NO_SPACE, _binding.LIMIT, _binding.INVALID):
        _client.warn_once(error.code, f"a value of {name}() is not stored, and computed again next time: {error}; this "
                          "is said once")
    else:
        _client.warn(error)


def give_up(lease: Any, error: BaseException | None) -> None:
    """The next one may compute. @error: why this one did not; an end from outside is no failure of the function."""
    if lease is None:
        return
    reason = None
    if isinstance(error, Exception):
        reason = f"{type(error).__name__}: {error}"[:1000].replace("\0", " ").encode(errors="replace").decode()
    lease.end(reason)


def begin(progress: Progress, found: Found) -> None:
    """Shows that it is computed. A framework may end the run there, by an exception that somebody keeps with all that
    it refers to: the next one may compute."""
    try:
        progress.start()
    except BaseException as e:
        give_up(found.lease, e)
        raise


def check_value(value: Any, name: str) -> None:
    """A value that is used up by the first who has it is none."""
    kind, advice = None, ""
    if inspect.isgenerator(value):
        kind, advice = "a generator", "return a list of what it yields: list(...)"
    elif inspect.isasyncgen(value):
        kind, advice = "an asynchronous generator", "return a list of what it yields: [x async for x in ...]"
    elif inspect.iscoroutine(value) or inspect.isawaitable(value):
        kind, advice = "a coroutine", "make the function `async def`, and await it there"
        if inspect.iscoroutine(value):
            value.close()  # it is nobody's any more
    elif type(value).__module__ == "builtins" and hasattr(value, "__next__"):  # map, zip, iter(...)
        kind, advice = f"an iterator ({type(value).__name__})", "return a list of what it gives: list(...)"
    if kind:
        raise CachedGeneratorError(f"{name}() returned {kind}, which only one caller could use: {advice}")
