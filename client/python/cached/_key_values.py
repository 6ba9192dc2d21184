# SPDX-License-Identifier: MIT
"""What values are in a key, beside the plain ones that the C walk knows.

Each value that the walk does not know comes to Walk.other(), which adds what it is made of: named types of KEYS.md,
whose names begin with "python:" where no other language has such a thing. Who knows what is in which type:

    _key_types    the standard library's values
    _key_objects  dataclasses, enums, models, subclasses of plain types; functions, classes, modules; files
    _key_arrays   NumPy, images
    _key_frames   pandas, polars
    _key_arrow    pyarrow

A value that could be taken for another one is refused: a miss too many costs time, a hit too many is a wrong result.
"""

from __future__ import annotations

import weakref
from importlib import import_module
from typing import Any, Callable, Iterable

from . import _binding
from ._hash_funcs import HashFuncs, process_identity
from ._names import key_name

PLAIN = frozenset((type(None), bool, int, float, str, bytes, list, tuple, dict, set, frozenset))

# Which file knows a library's types, by the first part of the name of the module that a type, or a base of it, is from.
_LIBRARIES = {
    "numpy": "_key_arrays", "PIL": "_key_arrays",
    "pandas": "_key_frames", "polars": "_key_frames",
    "pyarrow": "_key_arrow",
}


class Attribute(str):
    """The name of an attribute, in Unkeyable.where."""


class Unkeyable(Exception):
    """A value has no key. where: what leads to it, from the inside out; filled by the C walk as well."""

    def __init__(self, value: Any, reason: str | None = None):
        super().__init__(reason)
        self.value = value
        self.reason = reason
        self.where: list[Any] = []


class Walk:
    """One key in the making. key: the builder, cached._binding.Key."""

    def __init__(self, hash_funcs: HashFuncs | None, special: frozenset[type]):
        self.key = _binding.Key(self.other, special)
        self._hash_funcs = hash_funcs
        self._active: list[Callable[[Any], Any]] = []  # hash functions whose results are being added
        self.open: dict[int, int] = {}  # functions that are being added, by id: they may refer to themselves

    # ---- for the files that know types

    def add(self, value: Any, *where: Any) -> None:
        """Adds a value. @where: what leads to it, for errors, from the outside in."""
        try:
            self.key.add(value)
        except Unkeyable as e:
            e.where.extend(reversed(where))
            raise

    def named(self, name: str, *items: Any) -> None:
        """Adds a named type of these items."""
        self.key.begin_named(name)
        for item in items:
            self.key.add(item)
        self.key.end()

    def attributes(self, pairs: Iterable[tuple[str, Any]]) -> None:
        """Adds a map of attributes."""
        self.key.begin_map()
        for name, value in pairs:
            self.key.add(name)
            self.add(value, Attribute(name))
        self.key.end()

    # ---- what the C walk calls

    def other(self, key: Any, value: Any) -> None:
        """Adds a value that the C walk does not know, or that a hash function may be for."""
        kind = type(value)
        if self._hash_funcs is not None:
            function = self._hash_funcs.of(kind)
            if function is not None and function not in self._active:
                self._add_hashed(value, function)
                return
        if kind in PLAIN:
            self._add_plain(value)
            return
        plain = getattr(kind, "__cached_plain__", None)
        if plain is not None:  # the package's own: it stands for this value
            self.add(plain(value))
            return
        resource = _resources.get(id(value))
        if resource is not None and resource[0]() is value:
            self.named("python:resource", resource[1])
            return
        self._add_by_type(kind, value)

    def _add_plain(self, value: Any) -> None:
        """A value whose own type's hash function is at work, or text that is not UTF-8."""
        if type(value) is str:
            try:
                value.encode()
            except UnicodeEncodeError:
                self.named("python:str", value.encode("utf-8", "surrogatepass"))
                return
        self.key.add_builtin(value)

    def _add_hashed(self, value: Any, function: Callable[[Any], Any]) -> None:
        assert self._hash_funcs is not None
        result = function(value)
        code = self._hash_funcs.code_of(function)
        # A function is not asked for what it returned: {int: lambda n: n % 10}.
        self._active.append(function)
        try:
            if self._hash_funcs.is_of_process(function, value, result):
                self.named("python:hash-of-process", process_identity(), key_name(type(value)), code, result)
            else:
                self.named("python:hash", key_name(type(value)), code, result)
        except Unkeyable as e:
            e.where.append(Attribute(f"hash_funcs[{key_name(type(value))!r}]()"))
            raise
        finally:
            self._active.pop()

    def _add_by_type(self, kind: type, value: Any) -> None:
        from . import _key_objects, _key_types  # they are for this class

        function = _key_types.TYPES.get(kind)
        if function is not None:
            function(self, value)
            return
        own = getattr(kind, "__cached_key__", None)
        if own is not None:
            self.key.begin_named("python:object")
            self.key.add(key_name(kind))
            self.add(own(value), Attribute("__cached_key__()"))
            self.key.end()
            return
        for base in kind.__mro__:
            file = _LIBRARIES.get(base.__module__.partition(".")[0])
            if file is not None and import_module(f".{file}", __package__).add(self, value):
                return
        if not _key_objects.add(self, value):
            raise Unkeyable(value)


# ---- resources

_resources: dict[int, tuple[Callable[[], Any], bytes]] = {}


def register_resource(value: Any, identity: bytes) -> None:
    """From now on this object is keyed by what it is called: cache, key and version of a cached resource, not by what
    is in it.

    A plain value (a list, a dict) is keyed by its members nevertheless: they may change. An object that cannot be
    referred to weakly is kept until unregister_resource()."""
    if type(value) in PLAIN:
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
