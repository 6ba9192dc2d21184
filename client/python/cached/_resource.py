# SPDX-License-Identifier: MIT
"""cache_resource: objects that are made once and shared, and what can be done with one."""

from __future__ import annotations

import functools
import inspect
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Callable, Iterator, cast

from . import _client, _holding, _identity, _keys, _warn
from ._holding import Held, Holding
from ._kinds import kind_of

if TYPE_CHECKING:
    from typing import ContextManager, Protocol, TypeVar, overload

    from typing_extensions import Concatenate, ParamSpec

    from ._durations import Duration

    P = ParamSpec("P")
    Q = ParamSpec("Q")
    R = TypeVar("R")
    R_co = TypeVar("R_co", covariant=True)

    class CachedResource(Protocol[P, R_co]):
        """A function whose objects are kept."""

        __name__: str
        __qualname__: str
        __wrapped__: Callable[..., Any]

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

        @overload
        def __get__(self, instance: None, owner: Any = None) -> CachedResource[P, R_co]: ...

        @overload
        def __get__(self: CachedResource[Concatenate[Any, Q], R_co], instance: object,
                    owner: Any = None) -> CachedResource[Q, R_co]: ...

        def clear(self, *args: Any, **kwargs: Any) -> None:
            """Lets go of the object of this call; without arguments of all objects of the function."""

        def use(self, *args: P.args, **kwargs: P.kwargs) -> ContextManager[Any]:
            """The object, for a while: its on_release does not come in between."""

    class CacheResource(Protocol):
        @overload
        def __call__(self, func: Callable[P, R]) -> CachedResource[P, R]: ...

        @overload
        def __call__(self, func: None = None, *, ttl: Duration | None = None, max_entries: int | None = None,
                     validate: Callable[[Any], Any] | None = None, on_release: Callable[[Any], Any] | None = None,
                     show_spinner: bool | str = True, show_time: bool = False,
                     hash_funcs: dict[Any, Any] | None = None, scope: str = "global", shared: bool = False,
                     readonly: bool = False, kind: str | None = None, capacity: int | None = None,
                     encoding: str | None = None, cache: str | None = None, version: str | None = None,
                     ) -> Callable[[Callable[P, R]], CachedResource[P, R]]: ...

        def clear(self) -> None:
            """Lets go of all objects of all functions, in all processes."""

# Of these types equal arguments have equal keys. Not float: -0.0 equals 0.0.
_PLAIN = frozenset((int, str, bytes, bool, type(None)))
_KEYS_MAX = 1024


class ResourceFunction:
    """One decorated function: how its calls become objects."""

    def __init__(self, func: Callable[..., Any], options: dict[str, Any]):
        self.func = func
        self.options = options
        self.name = getattr(func, "__qualname__", repr(func))
        self.is_async = inspect.iscoroutinefunction(func)
        _check(func, options, self.name)
        self.kind = kind_of(func, options, self.name)
        self.keys: dict[tuple, bytes] = {}
        self.may_remember = not options["hash_funcs"]
        self._identity: Any = None
        self._arguments: Any = None
        self._holding: Holding | None = None
        self._per_session: dict[Any, Holding] = {}

    # ---- what it is: found out at the first call, when all that it uses has been defined

    @property
    def identity(self) -> Any:
        if self._identity is None:
            self._arguments = _keys.Arguments(self.func, hash_funcs=self.options["hash_funcs"], name=self.name)
            self._identity = _identity.identify(self.func, cache=self.options["cache"], version=self.options["version"])
        return self._identity

    def key(self, args: tuple, kwargs: dict) -> bytes:
        identity = self.identity
        return _keys.key(identity.name, identity.code, self._arguments.digest(args, kwargs))

    def key_of(self, args: tuple, kwargs: dict) -> bytes:
        """Remembered for arguments of plain types."""
        if kwargs or not self.may_remember:
            return self.key(args, kwargs)
        types = tuple(map(type, args))
        if not _PLAIN.issuperset(types):
            return self.key(args, kwargs)
        key = self.keys.get((types, args))
        if key is None:
            key = self.key(args, kwargs)
            if len(self.keys) >= _KEYS_MAX:
                self.keys.clear()
            self.keys[types, args] = key
        return key

    @property
    def holding(self) -> Holding:
        if self.options["scope"] == "session":
            return self.holding_of_session()
        if self._holding is None:
            self._holding = self.new_holding(_client.current)
        return self._holding

    def new_holding(self, client: Callable[[], Any]) -> Holding:
        o = self.options
        return Holding(name=self.name, cache=self.identity.cache, kind=self.kind, client=client, ttl_ms=o["ttl_ms"],
                       max_entries=o["max_entries"], validate=o["validate"], on_release=o["on_release"])

    def holding_of_session(self) -> Holding:
        """What belongs to the session that is current, and ends with it."""
        from . import _session_state

        session = _session_state.current_session()
        token = session.token
        holding = self._per_session.get(token)
        if holding is None:
            for old, known in list(self._per_session.items()):  # those that have ended
                if not known.table:
                    self._per_session.pop(old, None)
            client = session.client()
            holding = self._per_session.setdefault(token, self.new_holding(lambda: client))
        return holding

    # ---- calls

    def obtain(self, args: tuple, kwargs: dict) -> Held:
        key = self.key_of(args, kwargs)
        holding = self.holding
        held = holding.look(key)
        if held is None:
            held = holding.obtain(key, lambda: self.make(args, kwargs))
        return held

    def make(self, args: tuple, kwargs: dict) -> Any:
        with self.progress():
            value = self.func(*args, **kwargs)
        if inspect.isawaitable(value) or inspect.isgenerator(value) or inspect.isasyncgen(value):
            raise TypeError(f"cache_resource function {self.name!r} returned a {type(value).__name__}, which can be used only "
                            "once: return the object itself, or declare the function with async def")
        return value

    async def obtain_async(self, args: tuple, kwargs: dict) -> Held:
        key = self.key_of(args, kwargs)
        holding = self.holding
        held = holding.look(key)
        if held is None:
            from ._waiting import obtain_async  # asyncio takes long to import

            held = await obtain_async(holding, key, lambda: self.make_async(args, kwargs))
        return held

    async def make_async(self, args: tuple, kwargs: dict) -> Any:
        with self.progress():
            return await self.func(*args, **kwargs)

    def progress(self) -> Any:
        """People see that it is being made, where there is somebody to see it."""
        from . import _progress

        return _progress.show(self.name, self.options["show_spinner"], self.options["show_time"])

    # ---- what is offered beside calls

    def clear(self, *args: Any, **kwargs: Any) -> None:
        """All of them leave, in all processes; with arguments that one."""
        if not args and not kwargs:
            self.holding.clear()
            return
        first = next(iter(inspect.signature(self.func).parameters), "")
        if first in ("_self", "_cls"):
            args = (None, *args)
        self.holding.clear_one(self.key(args, kwargs))

    @contextmanager
    def use(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """The object, for a while: its on_release does not come in between."""
        held = self.obtain(args, kwargs)
        while not held.begin_use():
            held = self.obtain(args, kwargs)
        try:
            yield held.value
        finally:
            held.end_use()


def _check(func: Callable[..., Any], options: dict[str, Any], name: str) -> None:
    """Mistakes are told where the function is decorated."""
    if inspect.isgeneratorfunction(func) or inspect.isasyncgenfunction(func):
        raise TypeError(f"cache_resource cannot be used for {name!r}: it is a generator, which can be used only once")
    for option in ("validate", "on_release"):
        value = options[option]
        if value is not None and not callable(value):
            raise TypeError(f"{option}= of {name!r} is a function of the object, not {value!r}")
        if inspect.iscoroutinefunction(value):
            raise TypeError(f"{option}= of {name!r} cannot be an async def: it is called where no event loop runs")
    bound = options["max_entries"]
    if bound is not None and (isinstance(bound, bool) or not isinstance(bound, int) or bound < 1):
        raise ValueError(f"max_entries= of {name!r} is a number from 1 on, not {bound!r}")
    if options["scope"] not in ("global", "session"):
        raise ValueError(f'scope= of {name!r} is "global" or "session", not {options["scope"]!r}')


def _decorate(func: Callable[..., Any], options: dict[str, Any]) -> Callable[..., Any]:
    function = ResourceFunction(func, options)
    wrapper = _async_wrapper(function) if function.is_async else _wrapper(function)
    functools.update_wrapper(wrapper, func)
    wrapper.clear = function.clear  # type: ignore[attr-defined]
    wrapper.use = function.use  # type: ignore[attr-defined]
    wrapper.__cached__ = function  # type: ignore[attr-defined]
    return wrapper


def _wrapper(function: ResourceFunction) -> Callable[..., Any]:
    # A hit is on the way of whoever uses the object, so what it needs is at hand here.
    keys = function.keys
    is_plain = _PLAIN.issuperset
    now = time.monotonic
    is_quick = function.options["scope"] == "global" and function.options["validate"] is None

    def call(*args: Any, **kwargs: Any) -> Any:
        if not kwargs and is_quick:
            types = tuple(map(type, args))
            if is_plain(types):
                key = keys.get((types, args))
                if key is not None:
                    held = function._holding.table.get(key)  # type: ignore[union-attr]
                    if held is not None and not held.source.left:
                        t = now()
                        if t < held.until:
                            held.used = t
                            return held.value
        return function.obtain(args, kwargs).value

    return call


def _async_wrapper(function: ResourceFunction) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        return (await function.obtain_async(args, kwargs)).value

    return call


def _typed(decorator: Callable[..., Any]) -> CacheResource:
    """As type checkers see it: what it decorates keeps its types."""
    return cast("CacheResource", decorator)


@_typed
def cache_resource(func: Callable[..., Any] | None = None, *, ttl: Any = None, max_entries: int | None = None,
                   validate: Callable[[Any], Any] | None = None, on_release: Callable[[Any], Any] | None = None,
                   show_spinner: bool | str = True, show_time: bool = False, hash_funcs: dict | None = None,
                   scope: str = "global", shared: bool = False, readonly: bool = False, kind: str | None = None,
                   capacity: int | None = None, encoding: str | None = None, cache: str | None = None,
                   version: str | None = None) -> Any:
    """Makes what the function returns once, and gives the same object to each call with these arguments.

    By default the object is one per process: a connection, a model, a thread, anything. ttl, max_entries and clear() hold for
    all processes together. With shared=True it is one for all of them: a list, a dict or a numpy array in shared memory, or,
    with kind="descriptor", an open socket or file; with kind="buffers" whatever is made of arrays and bytes, read-only.

    validate(obj)     is asked at each access: an object that is not good is replaced, for everybody
    on_release(obj)   is called once when the object leaves: its time has passed, others needed its place, it was cleared or
                      replaced, or the process ends in an orderly way. In the thread "cached-release", or in the one that
                      cleared, replaced or ended; never in a process that is killed, nor in a child for its parent's
    capacity          of a shared list or dict: how many bytes its values may take
    encoding          of a shared descriptor: that of a text file

    func.clear(), func.clear(*args), cache_resource.clear(); with func.use(*args) as obj: on_release waits until the end.
    """
    options = dict(ttl_ms=_milliseconds(ttl), max_entries=max_entries, validate=validate, on_release=on_release,
                   show_spinner=show_spinner, show_time=show_time, hash_funcs=hash_funcs, scope=scope, shared=shared,
                   readonly=readonly, kind=kind, capacity=capacity, encoding=encoding, cache=cache, version=version)
    if func is None:
        return lambda f: _decorate(f, options)
    if not callable(func):
        raise TypeError(f"cache_resource decorates a function, not {func!r}: options are given by name")
    return _decorate(func, options)


def _milliseconds(ttl: Any) -> int | None:
    if ttl is None:
        return None
    from . import _durations

    return _durations.milliseconds(ttl, "ttl")


cache_resource.clear = _holding.clear_all  # type: ignore[method-assign]


# ---- objects that were given out


def _held_of(obj: Any) -> Held:
    held = _holding.find(obj)
    if held is None:
        raise ValueError(f"this {type(obj).__name__} was not given out by a function of cache_resource, or has left its cache: "
                         "call the function again")
    return held


@contextmanager
def lock(obj: Any, timeout: float | None = None) -> Iterator[Any]:
    """Exclusive use of an object of cache_resource, among all processes and threads; it ends with its holder.

    Of a local object, whose copies are one per process, it is one lock for all of them. TimeoutError: another one has it.
    RuntimeError: it has left since its owner was killed, perhaps in the middle of something.
    """
    held = _held_of(obj)
    with held.lock(timeout) as died:
        if died and not hasattr(obj, "lock"):
            _warn.at_caller(f"the process that had the lock of this object of {held.holding.name!r} was killed: what it changes may "
                            "be half changed", RuntimeWarning)
        yield obj


def invalidate(obj: Any, reason: str | None = None) -> None:
    """The object is not good any more: it leaves its cache, for everybody, and the next call makes another one."""
    held = _held_of(obj)
    held.holding.invalidate(held, reason)
