# SPDX-License-Identifier: MIT
"""What this process has of resources, and how it comes by it.

A table for each function: key to Held. A hit looks at the Held alone: libcached sets a flag when the instance has left. The
daemon is asked at a miss, when its time to live should be over, and now and then: so it knows what is in use, and learns of
objects that were made while it was away.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
import warnings
import weakref
from contextvars import ContextVar
from typing import Any, Callable

from . import _binding, _keys, _warn
from ._errors import CacheWarning
from ._lock import Exclusive
from ._release import forget_in_children, releaser

SLICE_MS = 500  # how long one wait is: in between, signals and waiting in a circle are looked for
ASK_S = 5.0  # how often the daemon is told that one is in use
ASK_BOUNDED_S = 0.25  # likewise, where who is used least makes room
ALONE_S = 1.0  # how long a process goes on by itself before it asks again
# What says that something is wrong with what was asked for, and not that the cache cannot be used.
RAISED = (_binding.ERR_CREATION, _binding.INVALID, _binding.ERR_USAGE, _binding.NOT_FOUND)
_alone_numbers = itertools.count(1)


class Gone:
    """The source of what has been told."""

    left = -1
    instance = 0


class Alone:
    """The source of what this process made by itself, since the daemon could not be asked or would not have it."""

    left = 0
    instance = 0
    left_fd = -1


GONE = Gone()


class Held:
    """What this process has of one instance. @source, a Local, a Resource or Alone, says whether it has left."""

    __slots__ = ("holding", "key", "value", "source", "instance", "until", "used", "asked", "bell", "lock", "uses",
                 "is_told", "is_leaving", "__weakref__")

    def __init__(self, holding: Holding, key: bytes, value: Any):
        self.holding = holding
        self.key = key
        self.value = value
        self.source: Any = GONE
        self.instance = 0
        self.until = self.used = self.asked = 0.0
        self.bell = -1
        self.lock = Exclusive(f"an object of {holding.name!r}", self)
        self.uses = 0
        self.is_told = self.is_leaving = False

    def is_weak(self) -> bool:
        """Whether what knows of the value lets go of it by itself."""
        try:
            weakref.ref(self.value)
        except TypeError:
            return False
        return True

    def begin_use(self) -> bool:
        """False: it has left."""
        with self.holding.guard:
            if self.is_told or self.is_leaving:
                return False
            self.uses += 1
            return True

    def end_use(self) -> None:
        with self.holding.guard:
            self.uses -= 1
            is_last = self.uses == 0 and self.is_leaving
        if is_last:
            self.leave()

    def to_lock(self) -> Any:
        """What the lock is of."""
        if isinstance(self.source, Alone):
            return None
        resource = self.holding.use_of(self)
        if resource is None:
            raise RuntimeError(f"the object of {self.holding.name!r} has left its cache: call the function again")
        return resource

    def leave(self, at_once: bool = False) -> None:
        """It is given out no more, and its on_release is called, once, when nobody uses it."""
        with self.holding.guard:
            source, self.source = self.source, GONE
            if self.is_told:
                return
            self.is_leaving = True
            tells = self.is_told = at_once or self.uses == 0
            if self.holding.table.get(self.key) is self:
                del self.holding.table[self.key]
            if _by_id.get(id(self.value)) is self:
                del _by_id[id(self.value)]
        if self.bell >= 0:
            releaser.unwatch(self)
        del source
        if not self.is_weak():
            _keys.unregister_resource(self.value)  # who has it still may go on to use it as an argument, elsewise
        if tells:
            tell(self.holding.on_release, self.value, self.holding.name)


# Those that are in a table, by the identity of their values, which they keep alive.
_by_id: dict[int, Held] = {}


def find(value: Any) -> Held | None:
    """The Held of an object that was given out, or of the array that it is a view of."""
    while value is not None:
        held = _by_id.get(id(value))
        if held is not None and held.value is value:
            return held
        value = getattr(value, "base", None) if type(value).__module__ == "numpy" else None
    return None


def tell(on_release: Callable[[Any], Any] | None, value: Any, name: str) -> None:
    """Nobody is there who could catch an exception."""
    if on_release is None:
        return
    try:
        on_release(value)
    except Exception as error:
        warnings.warn(f"on_release of cache_resource function {name!r} failed: {type(error).__name__}: {error}",
                      RuntimeWarning, stacklevel=2)


# ---- who makes what, for threads that wait for each other in a circle, and for functions that ask for themselves


class Making:
    """An object that is being made."""

    __slots__ = ("what", "thread", "is_active")

    def __init__(self, what: tuple):
        self.what = what
        self.thread = threading.get_ident()
        self.is_active = True


_chain: ContextVar[tuple] = ContextVar("cached-resources-in-the-making", default=())
_makers: dict[tuple, Making] = {}
_waiting: dict[int, tuple] = {}


def _is_circle(what: tuple) -> bool:
    """Whether who makes @what waits, over others, for something that this thread makes."""
    me = threading.get_ident()
    for _ in range(len(_waiting) + 1):
        making = _makers.get(what)
        if making is None:
            return False
        if making.thread == me:
            return True
        what = _waiting.get(making.thread, ())
    return False


class _Registry:
    """What the module knows of its process."""

    def forget(self) -> None:
        _by_id.clear()
        _makers.clear()
        _waiting.clear()


_registry = _Registry()
forget_in_children(_registry)


class Holding:
    """One function's resources in this process."""

    def __init__(self, *, name: str, cache: str, kind: Any, client: Callable[[], Any], ttl_ms: int | None,
                 max_entries: int | None, validate: Callable[[Any], Any] | None, on_release: Callable[[Any], Any] | None):
        self.name = name
        self.cache = cache
        self.kind = kind
        self.client = client
        self.ttl_ms = ttl_ms
        self.max_entries = max_entries
        self.validate = validate
        self.on_release = on_release
        self.policy = {}
        if ttl_ms is not None:
            self.policy["ttl_ms"] = ttl_ms
        if max_entries is not None:
            self.policy["max_entries"] = max_entries
        self.forget()
        forget_in_children(self)
        _all.add(self)

    def forget(self) -> None:
        """In a child: what its parent has is not its own. It stays, since the parent's threads may have been using it."""
        self.guard = threading.RLock()
        self.making_alone = threading.RLock()
        self.warned: set = set()
        self.inherited = getattr(self, "table", None)
        self.table: dict[bytes, Held] = {}

    # ---- a hit

    def look(self, key: bytes) -> Held | None:
        """What is at hand and may be given out, unless it fails its check."""
        held = self.table.get(key)
        if held is None or held.source.left:
            return None
        now = time.monotonic()
        if now >= held.until:
            return None
        held.used = now
        return held if self.validate is None or self.is_good(held) else None

    def is_good(self, held: Held) -> bool:
        """Its check; if it fails it leaves, for everybody."""
        reason = None
        try:
            if self.validate(held.value):
                return True
        except Exception as error:
            reason = f"validate failed: {type(error).__name__}: {error}"
            _warn.at_caller(f"cache_resource function {self.name!r}: {reason}; the object is replaced", RuntimeWarning)
        self.invalidate(held, reason or "its check failed")
        return False

    def invalidate(self, held: Held, reason: str | None) -> None:
        """It leaves its cache, for everybody."""
        source = held.source
        try:
            if isinstance(source, _binding.Resource):
                source.invalidate(reason)
            elif isinstance(source, _binding.Local):
                use = self.use_of(held)
                if use is not None:
                    use.invalidate(reason)
                    use.release()
        except _binding.CacheError as error:
            self.warn(error, "its object is dropped in this process only")
        held.leave()

    def use_of(self, held: Held) -> Any:
        """A Resource of what is held; None: it has left."""
        if isinstance(held.source, _binding.Resource):
            return held.source
        try:
            use = self.ask(self.client(), held.key, no_create=True)
        except _binding.CacheError as error:
            if error.code == _binding.NOT_FOUND:
                return None
            raise
        local = use.local
        return use if local is not None and local.object is held else None

    # ---- a miss

    def ask(self, client: Any, key: bytes, no_create: bool = False, wait_ms: int = SLICE_MS) -> Any:
        return _binding.acquire(client, self.kind.name, self.cache, key, wait_ms=wait_ms, no_create=no_create,
                                read_only=self.kind.read_only, **self.policy)

    def report_used(self) -> None:
        """Before another one may need a place: what was used since the daemon was asked last, in that order."""
        if self.max_entries is None:
            return
        with self.guard:
            used = sorted((h for h in self.table.values() if h.used > h.asked), key=lambda h: h.used)
        for held in used:
            try:
                self.ask(self.client(), held.key, no_create=True, wait_ms=0)
            except _binding.CacheError as error:
                if error.code not in (_binding.NOT_FOUND, _binding.DEADLINE):
                    return  # whoever asks for what he needs is told
            held.asked = time.monotonic()

    def acquire(self, key: bytes, stop: threading.Event | None = None) -> Any:
        """A Resource: held, or to be made. Other threads and processes that make it are waited for."""
        what = (self.cache, key)
        if any(m.is_active and m.what == what for m in _chain.get()):
            raise RecursionError(f"cache_resource function {self.name!r} asks for the object that it is making: "
                                 "it calls itself with the same arguments")
        if key not in self.table:
            self.report_used()
        me = threading.get_ident()
        client = self.client()
        while True:
            _waiting[me] = what
            try:
                return self.ask(client, key)
            except _binding.CacheError as error:
                if error.code != _binding.DEADLINE or (stop is not None and stop.is_set()):
                    raise
                if _is_circle(what):
                    raise RuntimeError(f"cache_resource function {self.name!r} is waited for in a circle: two threads make "
                                       "objects that need each other's") from error
            finally:
                _waiting.pop(me, None)

    def settle(self, key: bytes, resource: Any) -> Held | None:
        """The Held of what was acquired and is made; None: it is no good, and has left."""
        is_local = self.kind.name == "local"
        with self.guard:
            old = self.table.get(key)
            if is_local:
                held = resource.local.object
            elif old is not None and not old.source.left and old.instance == resource.instance:
                held = old
            else:
                held = Held(self, key, None)
                held.value = self.kind.open(resource, self, held)
            if held.is_leaving:  # libcached did not hear of it
                resource.invalidate("it was given up")
                return None
            if held is not old:
                held.instance = resource.instance
                self.enter(held, held.source if is_local else resource)
            self.stamp(held, resource.ttl_ms)
        if old is not None and old is not held:
            old.leave()
        if self.validate is None or self.is_good(held):
            return held
        return None

    def enter(self, held: Held, source: Any) -> None:
        """With the guard: it is given out from now on."""
        held.source = source
        self.table[held.key] = held
        _by_id[id(held.value)] = held
        version = str(held.instance) if held.instance else f"{os.getpid()}.{next(_alone_numbers)}"
        _keys.register_resource(held.value, b"\0".join((self.cache.encode(), held.key, version.encode())))
        if isinstance(source, _binding.Resource) and held.bell < 0:
            releaser.watch(held)
        else:
            releaser.begin()

    def stamp(self, held: Held, ttl_ms: int | None) -> None:
        now = time.monotonic()
        held.used = held.asked = now
        held.until = now + (ASK_S if self.max_entries is None else ASK_BOUNDED_S)
        if ttl_ms is not None:
            held.until = min(held.until, now + ttl_ms / 1000)

    # ---- making one

    def begin_making(self, key: bytes) -> tuple[Making, Any]:
        making = Making((self.cache, key))
        _makers[making.what] = making
        return making, _chain.set((*(m for m in _chain.get() if m.is_active), making))

    def end_making(self, making: Making, token: Any) -> None:
        making.is_active = False
        if _makers.get(making.what) is making:
            del _makers[making.what]
        _chain.reset(token)

    def publish(self, key: bytes, resource: Any, value: Any) -> Held:
        """@value, that the function returned, becomes the object that all get."""
        held = Held(self, key, value)
        try:
            source = self.kind.publish(resource, held, self)
        except _binding.CacheError as error:
            resource.release()
            if self.raises(error):
                raise
            return self.keep_alone(key, value, error)
        except BaseException:
            resource.release()
            raise
        with self.guard:
            held.instance = resource.instance
            old = self.table.get(key)
            self.enter(held, source)
            self.stamp(held, self.ttl_ms)
        if old is not None:
            old.leave()
        return held

    def raises(self, error: Any) -> bool:
        """Whether it is for the caller, and not only the cache's trouble. Where new objects fail their check again and again
        the daemon has none made for a while: an object of this process's own is replaced all the same."""
        return error.code in RAISED and not (error.code == _binding.ERR_CREATION and self.kind.name == "local")

    def keep_alone(self, key: bytes, value: Any, error: Any) -> Held:
        """The daemon cannot have it: this process keeps it for itself, and asks again later."""
        self.warn(error, "its object is kept in this process only")
        held = Held(self, key, value)
        held.value = self.kind.alone(held, self)
        with self.guard:
            self.enter(held, Alone())
            held.used = held.asked = time.monotonic()
            held.until = held.used + ALONE_S
        return held

    # ---- all in one

    def obtain(self, key: bytes, make: Callable[[], Any]) -> Held:
        """What is to be given out, made by @make if need be."""
        while True:
            alone = self.alone_of(key)
            try:
                resource = self.acquire(key)
            except _binding.CacheError as error:
                if self.raises(error):
                    raise
                if alone is not None:
                    alone.until = time.monotonic() + ALONE_S
                    return alone
                return self.make_alone(key, make, error)
            held = self.take(key, resource, alone)
            if held is not None:
                return held
            if resource.making:
                return self.make(key, resource, make)

    def alone_of(self, key: bytes) -> Held | None:
        held = self.table.get(key)
        return held if held is not None and isinstance(held.source, Alone) else None

    def take(self, key: bytes, resource: Any, alone: Held | None) -> Held | None:
        """What need not be made; None: it is to be, or another one is to be asked for."""
        if not resource.making:
            return self.settle(key, resource)
        if alone is None:
            return None
        with self.guard:
            alone.is_told = True  # it goes on as another one
        try:
            return self.publish(key, resource, alone.value)
        except BaseException:
            alone.is_told = False
            raise

    def make(self, key: bytes, resource: Any, make: Callable[[], Any]) -> Held:
        making, token = self.begin_making(key)
        try:
            value = make()
        except BaseException:
            resource.release()  # without a reason: the next one who waits has its turn
            raise
        finally:
            self.end_making(making, token)
        return self.publish(key, resource, value)

    def make_alone(self, key: bytes, make: Callable[[], Any], error: Any) -> Held:
        """Once in this process, too."""
        with self.making_alone:
            alone = self.alone_of(key)
            return alone if alone is not None else self.keep_alone(key, make(), error)

    def warn(self, error: Any, what: str) -> None:
        """Once for each kind of trouble."""
        kind = (what, error.code)
        if kind not in self.warned:
            self.warned.add(kind)
            _warn.at_caller(f"cache_resource function {self.name!r}: {what}: {error}", CacheWarning)

    # ---- clearing

    def clear(self) -> None:
        """All of them leave, in all processes."""
        try:
            self.client().clear(self.cache)
        except _binding.CacheError as error:
            self.warn(error, "it is cleared in this process only")
        with self.guard:
            all_of_them = list(self.table.values())
        for held in all_of_them:
            self.drop_here(held)

    def clear_one(self, key: bytes) -> None:
        held = self.table.get(key)
        try:
            _binding.drop(self.client(), self.cache, key)
        except _binding.CacheError as error:
            self.warn(error, "it is cleared in this process only")
        if held is not None:
            self.drop_here(held)

    def drop_here(self, held: Held) -> None:
        """What the daemon says of it may be on its way, or never come."""
        if isinstance(held.source, (_binding.Local, _binding.Resource)) and not held.source.left:
            self.invalidate(held, "cleared")
        else:
            held.leave()


# The functions of this process.
_all: weakref.WeakSet = weakref.WeakSet()


def everything() -> list[Held]:
    return [held for holding in list(_all) for held in list(holding.table.values())]


releaser.everything = everything


def clear_all() -> None:
    for holding in list(_all):
        holding.clear()
