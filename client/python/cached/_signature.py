# SPDX-License-Identifier: MIT
"""How a call's arguments find their parameters: f(1, 2), f(1, b=2) and f(b=2, a=1) are one call.

The interpreter itself does it: a function is made that has the same parameters and defaults and gives back what each
parameter got. So it takes no longer than a call, and a wrong call raises what calling the function would raise.
"""

from __future__ import annotations

import functools
import inspect
import types
from typing import Any, Callable, NamedTuple

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VAR_POSITIONAL = inspect.Parameter.VAR_POSITIONAL
_KEYWORD = inspect.Parameter.KEYWORD_ONLY
_VAR_KEYWORD = inspect.Parameter.VAR_KEYWORD
_EMPTY = inspect.Parameter.empty


class Omitted:
    """Stands for an argument that a call leaves to a function behind another one."""


OMITTED = Omitted()


class Parameter(NamedTuple):
    """A parameter, as the fast path needs it."""

    name: str
    kind: int  # inspect.Parameter.kind: 0 positional only, 1 either, 2 *args, 3 keyword only, 4 **kwargs
    ignored: bool  # its name begins with an underscore: no part of the key
    required: bool
    default: Any


class Target(NamedTuple):
    """What a callable comes to: a function, and arguments that it always gets."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def target(func: Any) -> Target:
    """Looks through partial, bound methods, static and class methods, and objects that can be called."""
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    for _ in range(64):
        if isinstance(func, (functools.partial, functools.partialmethod)):
            args, kwargs, func = (*func.args, *args), {**func.keywords, **kwargs}, func.func
        elif isinstance(func, types.MethodType):
            args, func = (func.__self__, *args), func.__func__
        elif isinstance(func, (staticmethod, classmethod)):
            func = func.__func__
        elif (not isinstance(func, (types.FunctionType, type)) and not hasattr(func, "__wrapped__")
                and isinstance(getattr(type(func), "__call__", None), types.FunctionType)):
            args, func = (func, *args), type(func).__call__
        else:
            break
    return Target(func, args, kwargs)


def _binder(name: str, qualname: str, parameters: list[inspect.Parameter],
            omit: bool) -> Callable[..., tuple[Any, ...]]:
    """A function with these parameters that returns a tuple of what each of them got, underscore ones left out."""
    pieces, kinds = [], [p.kind for p in parameters]
    for i, p in enumerate(parameters):
        if p.kind == _KEYWORD and _VAR_POSITIONAL not in kinds and _KEYWORD not in kinds[:i]:
            pieces.append("*")
        pieces.append({_VAR_POSITIONAL: "*", _VAR_KEYWORD: "**"}.get(p.kind, "") + p.name)
        if p.kind == inspect.Parameter.POSITIONAL_ONLY and inspect.Parameter.POSITIONAL_ONLY not in kinds[i + 1:]:
            pieces.append("/")
    got = "".join(f"{p.name}, " for p in parameters if not p.name.startswith("_"))
    space: dict[str, Any] = {}
    exec(f"def function({', '.join(pieces)}):\n    return ({got})", space)  # names of parameters, which are identifiers
    made = space["function"]
    code = made.__code__.replace(co_name=name)
    defaults = [p.default for p in parameters if p.kind in _POSITIONAL and p.default is not _EMPTY]
    keywords = {p.name: p.default for p in parameters if p.kind == _KEYWORD and p.default is not _EMPTY}
    if omit:
        defaults, keywords = [OMITTED] * len(defaults), dict.fromkeys(keywords, OMITTED)
    made = types.FunctionType(code, {}, name, tuple(defaults))
    made.__kwdefaults__ = keywords
    made.__qualname__ = qualname
    return made


def _generic() -> list[inspect.Parameter]:
    return [inspect.Parameter("args", _VAR_POSITIONAL), inspect.Parameter("kwargs", _VAR_KEYWORD)]


def _parameters(function: Any, follow: bool) -> list[inspect.Parameter] | None:
    try:
        return list(inspect.signature(function, follow_wrapped=follow).parameters.values())
    except (TypeError, ValueError):  # a builtin that does not tell
        return None


def _passes_on(parameters: list[inspect.Parameter]) -> bool:
    """Whether a function with these passes whatever it gets to another one: f(*args, **kwargs), f(self, *args,
    **kwargs)."""
    kinds = [p.kind for p in parameters]
    return (_VAR_POSITIONAL in kinds and _VAR_KEYWORD in kinds
            and all(p.kind in (_VAR_POSITIONAL, _VAR_KEYWORD) or p.kind in _POSITIONAL and p.default is _EMPTY
                    for p in parameters))


class Signature:
    """The parameters of one function.

    names       of the parameters that are part of the key, in order
    parameters  all of them (Parameter); None where a fast path should not try: a wrapper, a partial, a bound method
    """

    names: tuple[str, ...]
    parameters: tuple[Parameter, ...] | None

    def __init__(self, func: Any, name: str):
        self._args, self._kwargs = target(func)[1:]
        function = target(func).function
        own = _parameters(function, False)
        self._own = own if own is not None else _generic()
        short = getattr(function, "__name__", name)
        qualname = getattr(function, "__qualname__", name)
        inner = _parameters(function, True) if hasattr(function, "__wrapped__") and _passes_on(self._own) else None
        self._fallback = None
        if inner is not None:
            # The wrapper may have defaults of its own, by whatever means: what a call leaves out is left out in the
            # key.
            self._fallback = _binder(short, qualname, self._own, False)
            self._fallback_names = _names(self._own)
        self._all = self._own if inner is None else inner
        self.names = _names(self._all)
        self._bind = _binder(short, qualname, self._all, inner is not None)
        self._members = next((p.name for p in self._all if p.kind == _VAR_KEYWORD and not p.name.startswith("_")), None)
        self.parameters = None
        if inner is None and not self._args and not self._kwargs and own is not None:
            self.parameters = tuple(
                Parameter(p.name, int(p.kind), p.name.startswith("_"), p.default is _EMPTY,
                          None if p.default is _EMPTY else p.default) for p in own)

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[str, ...], tuple[Any, ...], bool]:
        """Names and values of a call's arguments, underscore ones left out, and whether they are those of a wrapper
        that is called unlike the function behind it. TypeError as the function itself raises it."""
        if self._args or self._kwargs:
            args, kwargs = self._args + args, {**self._kwargs, **kwargs} if self._kwargs else kwargs
        if self._fallback is None:
            return self.names, self._without(self._bind(*args, **kwargs)), False
        try:
            values = self._bind(*args, **kwargs)
        except TypeError:
            return self._fallback_names, self._without(self._fallback(*args, **kwargs)), True
        return self.names, self._without(values), False

    def _without(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """Underscore members of **kwargs are left out as well. It is the last one, if it is there."""
        if self._members is None or not any(name.startswith("_") for name in values[-1]):
            return values
        return (*values[:-1], {name: value for name, value in values[-1].items() if not name.startswith("_")})


def _names(parameters: list[inspect.Parameter]) -> tuple[str, ...]:
    return tuple(p.name for p in parameters if not p.name.startswith("_"))
