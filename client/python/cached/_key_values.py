# SPDX-License-Identifier: MIT
"""What values are in a key, beside the plain ones that the C walk knows.

Each value that the walk does not know comes to Walk.other(), which adds what it is made of: named types of KEYS.md, whose
names begin with "python:" where no other language has such a thing.
"""

from __future__ import annotations

import sys
import weakref
from typing import Any, Callable

from . import _binding
from ._hash_funcs import HashFuncs, is_of_process, process_identity


class Attribute(str):
    """The name of an attribute, in Unkeyable.where."""


class Unkeyable(Exception):
    """A value has no key. where: what leads to it, from the inside out; filled by the C walk as well."""

    def __init__(self, value: Any, reason: str | None = None):
        super().__init__(reason)
        self.value = value
        self.reason = reason
        self.where: list[Any] = []


_FUNCTION_TYPES: dict[type, Callable[[Walk, Any], None]] = {}


class Walk:
    """One key in the making. key: the builder, cached._binding.Key."""

    def __init__(self, hash_funcs: HashFuncs | None, special: frozenset[type]):
        self.key = _binding.Key(self.other, special)
        self._hash_funcs = hash_funcs
        self._active: list[Callable[[Any], Any]] = []  # hash functions whose results are being added

    def other(self, key: Any, value: Any) -> None:
        """Adds a value that the C walk does not know, or that a hash function is for."""
        kind = type(value)
        if self._hash_funcs is not None:
            function = self._hash_funcs.of(kind)
            if function is not None and function not in self._active:
                self._add_hashed(value, function)
                return
        if self.key_of_plain(value):
            return
        resource = _resources.get(id(value))
        if resource is not None and resource[0]() is value:
            key.begin_named("python:resource")
            key.bytes(resource[1])
            key.end()
            return
        self._add_by_type(kind, value)

    def key_of_plain(self, value: Any) -> bool:
        """A plain value whose own type's hash function is at work, or text that is not UTF-8."""
        if type(value) is str:
            try:
                value.encode()
            except UnicodeEncodeError:
                self.named("python:str", value.encode("utf-8", "surrogatepass"))
                return True
        if type(value) in _PLAIN:
            self.key.add_builtin(value)
            return True
        return False

    def named(self, name: str, *items: Any) -> None:
        """Adds a named type of these items."""
        self.key.begin_named(name)
        for item in items:
            self.key.add(item)
        self.key.end()

    def _add_hashed(self, value: Any, function: Callable[[Any], Any]) -> None:
        result = function(value)
        self._active.append(function)
        try:
            if is_of_process(function, value):
                self.named("python:hash-of-process", process_identity(), type_name(type(value)), result)
            else:
                self.named("python:hash", type_name(type(value)), result)
        finally:
            self._active.pop()

    def _add_by_type(self, kind: type, value: Any) -> None:
        function = _FUNCTION_TYPES.get(kind)
        if function is None:
            raise Unkeyable(value)
        function(self, value)


_PLAIN = frozenset((type(None), bool, int, float, str, bytes, list, tuple, dict, set, frozenset))


def type_name(kind: type) -> str:
    """A type's module and qualified name; builtins without the module."""
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


# ---- resources

_resources: dict[int, tuple[Callable[[], Any], bytes]] = {}


def register_resource(value: Any, identity: bytes) -> None:
    """From now on this object is keyed by what it is called: cache, key and version of a cached resource, not by what is in it.

    A plain value (a list, a dict) is keyed by its members nevertheless: they may change. An object that cannot be referred
    to weakly is kept until unregister_resource()."""
    if type(value) in _PLAIN:
        return
    number = id(value)

    def forget(reference: Any) -> None:
        found = _resources.get(number)
        if found is not None and found[0] is reference:
            del _resources[number]

    try:
        _resources[number] = (weakref.ref(value, forget), identity)
    except TypeError:
        _resources[number] = (lambda: value, identity)


def unregister_resource(value: Any) -> None:
    """Forgets it, where the resource has been released."""
    found = _resources.get(id(value))
    if found is not None and found[0]() is value:
        del _resources[id(value)]
