# SPDX-License-Identifier: MIT
"""Keys of calls: which arguments are one call, as proto/KEYS.md writes values (_key_values.py: of which types)."""

from __future__ import annotations

from typing import Any, Callable, Mapping

from . import _binding
from ._errors import UnhashableParamError
from ._key_values import Attribute, Unkeyable, Walk, register_resource, unregister_resource
from ._hash_funcs import HashFuncs
from ._names import type_name
from ._signature import OMITTED, Parameter, Signature

__all__ = ["Arguments", "key", "register_resource", "unregister_resource", "value_digest"]

_PLAIN = (type(None), bool, int, float, str, bytes, list, tuple, dict, set, frozenset)


def key(name: str, code: str | bytes, arguments: bytes) -> bytes:
    """The key of a call: what the function is called, what its code is, and the digest of its arguments."""
    return _binding.key_of_call(name, code, arguments)


class Arguments:
    """How the calls of one function become keys. Made once, at decoration.

    name        of the function, for errors
    parameters  for the fast path: cached._signature.Parameter each; None: it must leave the binding to digest()
    plain       whether the fast path may add plain values by itself: no hash function is for one of their types
    """

    name: str
    parameters: tuple[Parameter, ...] | None
    plain: bool

    def __init__(self, func: Callable[..., Any], *, hash_funcs: Mapping[Any, Callable[[Any], Any]] | None = None,
                 name: str):
        self.name = name
        self._signature = Signature(func, name)
        self.parameters = self._signature.parameters
        self._hash_funcs = HashFuncs(hash_funcs, name) if hash_funcs else None
        self._special = frozenset(t for t in _PLAIN if self._hash_funcs and self._hash_funcs.of(t))
        self.plain = not self._special
        self._defaults = {p.name: p.default for p in self.parameters or () if not p.required}

    def digest(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """The key (32 bytes) of the arguments' items: in the order of the signature, with defaults, without those whose
        names begin with an underscore. TypeError as the call itself would raise it; UnhashableParamError."""
        names, values, outer = self._signature.bind(args, kwargs)
        if self.plain and not outer:
            digest = _binding.digest_plain(values)
            if digest is not None:
                return digest
        by_default: set[str] = set()
        while True:
            try:
                return self._digest(names, values, outer, by_default)
            except _ByDefault as e:
                by_default.add(e.name)

    def _digest(self, names: tuple[str, ...], values: tuple[Any, ...], outer: bool, by_default: set[str]) -> bytes:
        walk = Walk(self._hash_funcs, self._special)
        if outer:
            walk.key.begin_named("python:wrapper")
        for name, value in zip(names, values):
            if value is OMITTED or name in by_default:
                walk.key.begin_named("python:default")
                walk.key.end()
                continue
            try:
                walk.key.add(value)
            except Unkeyable as e:
                if name in self._defaults and value is self._defaults[name]:
                    raise _ByDefault(name) from None
                raise UnhashableParamError(_words(e.where, name, value, self.name, e.value, e.reason)) from e.__cause__
            except _binding.CacheError as e:
                if e.code != _binding.ERR_USAGE:
                    raise
                raise UnhashableParamError(_words((), name, value, self.name, value, _reason(e))) from None
        if outer:
            walk.key.end()
        return walk.key.finish()


class _ByDefault(Exception):
    """An argument has no key, but is the parameter's default: of one meaning wherever the function is."""

    def __init__(self, name: str):
        super().__init__(name)
        self.name = name


def _reason(error: Exception) -> str:
    """The builder's words, without the number of the item."""
    text = str(error)
    return text.split(": ", 1)[1] if text.startswith("item ") and ": " in text else text


def _words(where: Any, name: str, value: Any, function: str, inner: Any, reason: str | None) -> str:
    lines = [f"Cannot hash argument {name!r} (of type {type_name(type(value))}) in {function!r}."]
    path = repr(name) + "".join(_step(at) for at in reversed(where))
    if where:
        lines.append(f"In {path} is a value of type {type_name(type(inner))}.")
    if reason:
        lines.append(f"{reason[0].upper()}{reason[1:]}{'' if reason.endswith('?') else '.'}")
    hidden = "_self" if name == "self" else f"_{name}"
    lines.append(
        f"Ways out: name the parameter {hidden!r}, and it is no part of the key; pass a part of it that can be hashed; "
        f"give the decorator hash_funcs={{{type_name(type(inner))!r}: function}}, where the function returns what to "
        "hash instead; or give the class a method __cached_key__() that returns it.")
    return " ".join(lines)


def _step(at: Any) -> str:
    if isinstance(at, Attribute):
        return f".{at}"
    text = f"<{type_name(type(at))}>"
    if isinstance(at, (str, bytes)):
        text = repr(at[:40])
    elif isinstance(at, (int, float, type(None))) and (not isinstance(at, int) or at.bit_length() < 64):
        text = repr(at)
    return f"[{text}]"


def value_digest(value: Any) -> bytes:
    """The key of one value as the only item: for parts of the package that make keys of their own."""
    walk = Walk(None, frozenset())
    walk.key.add(value)
    return walk.key.finish()
