# SPDX-License-Identifier: MIT
"""hash_funcs: what users say that values of a type are hashed as.

A function that tells objects apart by where they lie in memory, or by a seed that each process has of its own, gives
the same number for different things in two processes. What such a function returns is hashed together with an identity
of the process, so that it can make a miss too many and never a hit too many.
"""

from __future__ import annotations

import functools
import os
import re
import sys
import types
from typing import Any, Callable, Mapping

from . import _warn
from ._names import key_name
from ._signature import target


class _Process:
    """An identity of this process: drawn anew in each child of a fork."""

    def __init__(self) -> None:
        self.renew()
        os.register_at_fork(after_in_child=self.renew)

    def renew(self) -> None:
        self.pid = os.getpid()
        self.identity = os.urandom(16)


_process = _Process()
_BY_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]{5,}>")
_CALLED_MAX = 256
_EMPTY = types.CellType()
_NUMBERS = (int.__hash__, float.__hash__, complex.__hash__)


def process_identity() -> bytes:
    """16 bytes that no other process has, a child of this one neither."""
    if _process.pid != os.getpid():  # forked by other means than os.fork()
        _process.renew()
    return _process.identity


class HashFuncs:
    """The functions of one decorator, by type or by qualified name ("pkg.Class")."""

    def __init__(self, functions: Mapping[Any, Callable[[Any], Any]], name: str):
        self._by_type: dict[type, Callable[[Any], Any]] = {}
        self._by_name: dict[str, Callable[[Any], Any]] = {}
        self._found: dict[type, Callable[[Any], Any] | None] = {}
        self._used: dict[int, set[Any]] = {}  # by id of these functions
        self._codes: dict[int, bytes] = {}
        for which, function in functions.items():
            if not callable(function):
                raise TypeError(f"hash_funcs of {name!r}: {function!r} for {which!r} is no function")
            if isinstance(which, type):
                self._by_type[which] = function
            elif isinstance(which, str):
                self._by_name[which] = function
            else:
                raise TypeError(f"hash_funcs of {name!r}: {which!r} is neither a type nor the qualified name of one")

    def of(self, kind: type) -> Callable[[Any], Any] | None:
        """The function for values of a type: that of the first of the type's bases, in the order of Python's own
        look-up."""
        try:
            return self._found[kind]
        except KeyError:
            found = self._found[kind] = self._find(kind)
            return found

    def code_of(self, function: Callable[[Any], Any]) -> bytes:
        """The digest of one's code: another function may give the same for something else."""
        from ._identity import code_of  # which needs this file

        code = self._codes.get(id(function))
        if code is None:
            code = self._codes[id(function)] = code_of(function)
        return code

    def is_of_process(self, function: Callable[[Any], Any], value: Any, result: Any) -> bool:
        """Whether what this function returned for the value means something in this process only."""
        used = self._used.get(id(function))
        if used is None:
            used = self._used[id(function)] = _builtins_of(function)
        return _is_of_process(function, used, value, result)

    def _find(self, kind: type) -> Callable[[Any], Any] | None:
        for base in kind.__mro__:
            if base in self._by_type:
                return self._by_type[base]
            for name, function in self._by_name.items():
                if _is_called(base, name):
                    return function
        return None


def _is_called(kind: type, name: str) -> bool:
    """Whether a qualified name is this type's: where it is defined, or where a package offers it
    ("pandas.DataFrame")."""
    if name in (f"{kind.__module__}.{kind.__qualname__}", key_name(kind)):
        return True
    module, _, last = name.rpartition(".")
    return bool(module) and last == kind.__name__ and getattr(sys.modules.get(module), last, None) is kind


def _is_of_process(function: Callable[[Any], Any], used: set[Any], value: Any, result: Any) -> bool:
    """Whether what a function returned means something in this process only: where the value lies in memory, or what
    hash() makes of anything but numbers. Whether PYTHONHASHSEED is set makes no difference: the next process may not
    have it."""
    if _has_address(result):
        return True
    if hash in used and type(value).__hash__ not in _NUMBERS and type(value).__hash__ is not object.__hash__:
        _warn.once("hash-funcs-hash",
                   f"hash_funcs has the built-in hash() for {type(value).__name__!r}: it gives other numbers in other "
                   "processes (PYTHONHASHSEED), so that no results are shared; use a function of the value's own parts")
    return id in used or hash in used and not (function is hash and type(value).__hash__ in _NUMBERS)


def _has_address(result: Any, deep: int = 0) -> bool:
    """Whether it is, or has in it, a text that says where an object lies in memory."""
    if isinstance(result, str):
        return _BY_ADDRESS.search(result) is not None
    if deep > 8 or type(result) not in (list, tuple, dict, set, frozenset):
        return False
    members = (*result.keys(), *result.values()) if isinstance(result, dict) else result
    return any(_has_address(member, deep + 1) for member in members)


def _builtins_of(function: Any) -> set[Any]:
    """Which of id() and hash() a function is, or calls, or has called by functions that it calls by their names."""
    used: set[Any] = set()
    functions, seen = [function], set()
    while functions and len(seen) < _CALLED_MAX:
        one = functions.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if one is id or one is hash or getattr(one, "__name__", None) == "__hash__":
            used.add(id if one is id else hash)
            continue
        function, args, kwargs = target(one)
        functions += [given for given in (*args, *kwargs.values()) if callable(given)]
        functions.append(getattr(function, "__wrapped__", None) if hasattr(function, "__wrapped__") else function)
        code = getattr(function, "__code__", None)
        if isinstance(code, types.CodeType):
            _note_names(function, code, used, functions)
    return used


def _note_names(function: Any, code: types.CodeType, used: set[Any], functions: list[Any]) -> None:
    """What is called by its name in a function's code: the two, and the project's functions. Those that are installed
    are trusted: they have such a name in some corner."""
    from ._identity import is_local  # which needs this file

    names: set[str] = set()
    queue = [code]
    while queue:
        inner = queue.pop()
        names.update(inner.co_names)
        queue += [member for member in inner.co_consts if isinstance(member, types.CodeType)]
    space = getattr(function, "__globals__", {})
    used.update(builtin for builtin in (id, hash) if builtin.__name__ in names and builtin.__name__ not in space)
    if "__hash__" in names:
        used.add(hash)
    cells = [cell.cell_contents for cell in getattr(function, "__closure__", None) or () if cell != _EMPTY]
    named = [space[name] for name in names if name in space]
    functions += [found for found in (*named, *cells)
                  if found is id or found is hash or isinstance(found, functools.partial)
                  or isinstance(found, types.FunctionType) and is_local(found.__code__.co_filename)]
