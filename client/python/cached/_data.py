# SPDX-License-Identifier: MIT
"""cache_data: memoizes a function, for all processes of the machine."""

from __future__ import annotations

import functools
import inspect
import types
import weakref
from typing import TYPE_CHECKING, Any, Callable, Mapping, NamedTuple, Sequence, TypeVar, overload

from . import _binding, _call, _client
from ._durations import Duration, Size
from ._errors import CachedGeneratorError
from ._policy import Policy, check, checked_name

R = TypeVar("R")

if TYPE_CHECKING:
    from typing import Protocol

    from typing_extensions import Concatenate, ParamSpec

    P = ParamSpec("P")
    Q = ParamSpec("Q")
    R_co = TypeVar("R_co", covariant=True)

    class CachedFunction(Protocol[P, R_co]):
        """A function whose values are kept."""

        __name__: str
        __qualname__: str
        __wrapped__: Callable[..., Any]

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

        @overload
        def __get__(self, instance: None, owner: Any = None) -> CachedFunction[P, R_co]: ...

        @overload
        def __get__(self: CachedFunction[Concatenate[Any, Q], R_co], instance: object,
                    owner: Any = None) -> CachedFunction[Q, R_co]: ...

        def clear(self, *args: Any, **kwargs: Any) -> None:
            """Forgets the value of this call; without arguments all values of the function, of all its versions.
            Functions that share a cache by its name share this, too."""

        def clear_tag(self, tag: str) -> int:
            """Forgets the values that have this tag; how many there were."""

        def key(self, *args: P.args, **kwargs: P.kwargs) -> bytes:
            """The key of a call, for `cachectl` and programs in other languages."""

        def cache_info(self) -> CacheInfo:
            """What the daemon counted, of all processes."""


class CacheInfo(NamedTuple):
    """Statistics of a function's cache, of all processes. bytes: of the daemon's memory that they take."""

    cache: str
    hits: int
    misses: int
    entries: int
    bytes: int


_memos: weakref.WeakSet[_call.Memo] = weakref.WeakSet()


class _Controls:
    """What a decorated function has beside being called."""

    def __init__(self, memo: _call.Memo):
        self._memo = memo

    def clear(self, /, *args: Any, **kwargs: Any) -> None:
        """Forgets the value of this call; without arguments all values of the function, of all its versions.
        Functions that share a cache by its name share this, too. CacheError: the daemon is away, and so the values
        stay."""
        client = self._memo.client()
        if args or kwargs:
            client.delete(self._memo.cache, self._memo.key(args, kwargs))
        else:
            client.clear(self._memo.cache)

    def clear_tag(self, tag: str) -> int:
        """Forgets the values that have this tag, of this function and those that share its cache; how many there
        were."""
        if not isinstance(tag, str):
            raise TypeError(f"a tag must be text, not {tag!r}")
        return self._memo.client().clear_tag(self._memo.cache, checked_name("a tag", tag)) or 0

    def key(self, /, *args: Any, **kwargs: Any) -> bytes:
        """The key of a call, for `cachectl` and programs in other languages."""
        return self._memo.key(args, kwargs)

    def cache_info(self) -> CacheInfo:
        """What the daemon counted, of all processes."""
        memo = self._memo
        try:
            stats = memo.client().stats(memo.cache)
        except _binding.CacheError as e:
            if e.code != _binding.NOT_FOUND:
                raise
            stats = {}
        return CacheInfo(memo.cache, *(int(stats.get(name, 0)) for name in ("hits", "misses", "entries", "bytes_held")))

    NAMES = ("clear", "clear_tag", "key", "cache_info")


def controls_of(function: Any) -> _Controls:
    """Of a decorated function."""
    controls = getattr(function, "_cached_controls", None)
    if not isinstance(controls, _Controls):
        raise TypeError(f"{function!r} is not decorated with cache_data")
    return controls


def _attach(function: Any, wrapped: Any, controls: _Controls) -> None:
    functools.update_wrapper(function, wrapped)
    function._cached_controls = controls
    for name in _Controls.NAMES:
        setattr(function, name, getattr(controls, name))


def _bound(function: Any, controls: _Controls, instance: Any, name: str) -> Any:
    """An attribute of a function as one of obj.method: with the object as the first argument."""
    if name == "key":
        return functools.partial(controls.key, instance)
    if name == "clear":
        return lambda *args, **kwargs: controls.clear(instance, *args, **kwargs) if args or kwargs else controls.clear()
    if name == "__wrapped__":
        return types.MethodType(function.__wrapped__, instance)
    return getattr(function, name)


def _decorate(func: Any, policy: Policy) -> Any:
    if isinstance(func, (classmethod, staticmethod)):
        return type(func)(_decorate(func.__func__, policy))
    name = _check_function(func)
    memo = _call.Memo(func, name, policy)
    _memos.add(memo)
    controls = _Controls(memo)
    if inspect.iscoroutinefunction(func):
        from ._async import make_async  # asyncio takes long to import, and who does without need not wait for it

        function = make_async(memo)
        _attach(function, func, controls)
        return function
    function = _binding.Function(memo.call, memo.load_or_miss,
                                 lambda instance, at: _bound(function, controls, instance, at))
    memo.fast = function
    _attach(function, func, controls)
    return function


def _check_function(func: Any) -> str:
    """Its name, for people. TypeError: it is no function whose values can be kept."""
    if isinstance(func, type):
        raise TypeError(f"cache_data is for functions, and {func.__name__} is a class: decorate a function that makes "
                        "one, or use cache_resource where all callers are to share the object")
    if isinstance(func, property):
        raise TypeError("cache_data is for functions: put @property above @cache_data")
    if not callable(func):
        raise TypeError(f"cache_data is for functions, not {type(func).__name__}: options are given by name, as in "
                        "@cache_data(ttl=60)")
    name = getattr(func, "__qualname__", None) or getattr(getattr(func, "func", None), "__qualname__", None)
    name = str(name or type(func).__qualname__).rsplit("<locals>.", 1)[-1]
    if inspect.isasyncgenfunction(func):
        raise CachedGeneratorError(f"{name}() is an asynchronous generator, whose values are used up by the first caller: have it "
                        "return a list, [x async for x in ...]")
    if inspect.isgeneratorfunction(func):
        raise CachedGeneratorError(f"{name}() is a generator, whose values are used up by the first caller: have it return a "
                        "list, list(...)")
    return name


class _CacheData:
    """Memoizes a function: it runs once for the same arguments, and every process of the machine has the result.

        @cached.cache_data                      @cached.cache_data(ttl="1h", max_entries=100)
        def load(url): ...                      def load(url): ...

    The key is made of the function, its code with that of the helpers that it uses, and its arguments; those whose
    names begin with an underscore are left out. Each caller gets a value of its own, and may change it. Exceptions
    are not kept. While one caller computes, on the whole machine, the others wait for its value. If there is no
    daemon, the function runs.

    ttl           how long a value is kept from when it was stored: seconds, "1h30m", a timedelta; None: as long as
                  there is room
    max_entries   how many values are kept; those used least recently leave first
    max_bytes     how much memory they may take: bytes, "64M"
    show_spinner  whether people see that it computes, on a terminal or in a notebook; or the text that they see
    show_time     whether they see for how long
    persist       not yet: an error
    hash_funcs    what to hash instead of an argument: {type, or "package.Class": function}
    scope         "global", or "session": the values are the bound session's, and end with it
    refresh_mode  "background": a value whose ttl has passed is given at once, while a thread of one caller computes
                  it anew
    stale_for     for how long after its ttl; with refresh_mode alone as long again as the ttl. Without refresh_mode
                  one caller computes, and the others get the old value meanwhile
    cache_if      a function of the value: whether to keep it. Those who wait for it get it in any case
    tags          names by which values can be forgotten, func.clear_tag(); or a function of the value and the arguments
    serializer    dumps(value), which gives bytes, and loads(bytes), instead of what is done for the value's type
    cache         the cache's name, for functions of several programs that share their values
    version       instead of the code in the key: another version is another key
    unpickle      values that are stored as pickles are read if the same user stored them ("own", the default), from
                  everyone who may write to the realm ("any"), or never ("never")
    hold          after how long somebody else may compute as well, where the first one seems stuck
    """

    if TYPE_CHECKING:
        @overload
        def __call__(self, func: Callable[P, R], /) -> CachedFunction[P, R]: ...

        @overload
        def __call__(self, func: None = None, /, *, ttl: Duration | None = None, max_entries: int | None = None,
                     max_bytes: Size | None = None, show_spinner: bool | str = True, show_time: bool = False,
                     persist: None = None, hash_funcs: Mapping[type | str, Callable[[Any], Any]] | None = None,
                     scope: str = "global", refresh_mode: str | None = None, stale_for: Duration | None = None,
                     cache_if: Callable[[Any], bool] | None = None,
                     tags: Sequence[str] | Callable[..., Sequence[str]] | None = None, serializer: Any = None,
                     cache: str | None = None, version: str | None = None, unpickle: str | None = None,
                     hold: Duration | None = None) -> Callable[[Callable[P, R]], CachedFunction[P, R]]: ...

    def __call__(self, func: Any = None, /, *, ttl: Any = None, max_entries: Any = None, max_bytes: Any = None,
                 show_spinner: Any = True, show_time: Any = False, persist: Any = None, hash_funcs: Any = None,
                 scope: Any = "global", refresh_mode: Any = None, stale_for: Any = None, cache_if: Any = None,
                 tags: Any = None, serializer: Any = None, cache: Any = None, version: Any = None, unpickle: Any = None,
                 hold: Any = None) -> Any:
        policy = check(ttl=ttl, max_entries=max_entries, max_bytes=max_bytes, show_spinner=show_spinner,
                       show_time=show_time, persist=persist, hash_funcs=hash_funcs, scope=scope,
                       refresh_mode=refresh_mode, stale_for=stale_for, cache_if=cache_if, tags=tags,
                       serializer=serializer, cache=cache, version=version, unpickle=unpickle, hold=hold)
        if func is not None:
            return _decorate(func, policy)
        return lambda function: _decorate(function, policy)

    def clear(self) -> None:
        """Forgets all values of all functions that this process has decorated. CacheError: the daemon is away."""
        for memo in list(_memos):
            if not memo.policy.session:
                _client.current().clear(memo.cache)

    def __repr__(self) -> str:
        return "<cached.cache_data>"


cache_data = _CacheData()


def clear_tag(function: Any, tag: str) -> int:
    """Forgets those values of a decorated function that have this tag; how many there were."""
    return controls_of(function).clear_tag(tag)
