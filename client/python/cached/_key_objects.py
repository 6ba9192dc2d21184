# SPDX-License-Identifier: MIT
"""Objects in keys: by what their kind says of them, since their own types are not known beforehand."""

from __future__ import annotations

import dataclasses
import enum
import functools
import inspect
import io
import os
import stat
import sys
import tempfile
import types
import typing
from typing import TYPE_CHECKING, Any, Iterator

from . import _identity
from ._key_values import PLAIN, Attribute, Unkeyable
from ._names import key_name, module_name

if TYPE_CHECKING:
    from ._key_values import Walk

_BUILTIN_FUNCTIONS = (types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType,
                      types.ClassMethodDescriptorType, types.MethodWrapperType)
_TYPING = (types.GenericAlias, type(typing.List[int]), type(typing.Optional[int]), type(typing.Callable[[], int]),
           *((types.UnionType,) if sys.version_info >= (3, 10) else ()))
_WRAPPERS = (type(functools.lru_cache(len)), staticmethod, classmethod)
_READ_ONCE = (types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType, map, filter, zip, enumerate, reversed,
              type(iter([])), type(iter(())), type(iter({})), type(iter(set())))

_UPLOADS = ("starlette.datastructures.UploadFile", "werkzeug.datastructures.file_storage.FileStorage")


def add(walk: Walk, value: Any) -> bool:
    """Adds it; false: it is of no kind that is known here."""
    kind = type(value)
    if isinstance(value, enum.Enum):
        _enum(walk, value)
    elif isinstance(value, _TYPING):  # some of them pretend to be types
        walk.named("python:typing", repr(value))
    elif isinstance(value, type):
        walk.named("python:type", key_name(value), _identity.class_code(value))
    elif isinstance(value, types.FunctionType):
        _function(walk, value)
    elif isinstance(value, types.MethodType):
        walk.named("python:method", value.__func__, value.__self__)
    elif isinstance(value, _BUILTIN_FUNCTIONS):
        _builtin(walk, value)
    elif isinstance(value, types.ModuleType):
        walk.named("python:module", module_name(value.__name__), _identity.module_code(value))
    elif isinstance(value, _WRAPPERS) or kind.__module__.startswith("cached.") and hasattr(value, "__wrapped__"):
        walk.named("python:wrapped", kind.__name__,
                   value.__wrapped__ if hasattr(value, "__wrapped__") else value.__func__)
    elif isinstance(value, _READ_ONCE):
        raise Unkeyable(value, "it can be read only once: hashing it would leave nothing for the function; pass a list")
    elif isinstance(value, io.IOBase):
        _file(walk, value)
    elif isinstance(value, (tempfile.SpooledTemporaryFile, tempfile._TemporaryFileWrapper)):
        walk.named("python:file", key_name(kind), getattr(value, "_file", None) or value.file)
    elif any(key_name(base) in _UPLOADS for base in kind.__mro__):
        walk.named("python:upload", value.filename, value.file if hasattr(value, "file") else value.stream)
    elif (fields := _fields(value)) is not None:
        _record(walk, value, fields)
    elif isinstance(value, BaseException):
        _instance(walk, value, value.args)
    elif isinstance(value, functools.partial):
        _instance(walk, value, (value.func, value.args, value.keywords))
    else:
        return _subclass(walk, value, kind)
    return True


# ---- enums and records


def _enum(walk: Walk, value: Any) -> None:
    """Type and name; and the value where it is plain, which a later version of the program may have changed."""
    walk.key.begin_named("enum")
    walk.key.add(key_name(type(value)))
    walk.key.add(value.name)
    plain = value.value
    if type(plain) in PLAIN or value.name is None:
        walk.key.add(plain)
    walk.key.end()


def _fields(value: Any) -> Iterator[tuple[str, Any]] | None:
    """The fields of an instance of a dataclass, a pydantic model, an attrs class or a msgspec struct; and what the
    instance has beside them, as from __post_init__."""
    kind = type(value)
    if dataclasses.is_dataclass(kind):
        return _got(value, [f.name for f in dataclasses.fields(value)])
    if any(base.__module__.startswith("pydantic") and base.__name__ == "BaseModel" for base in kind.__mro__):
        more = [(f"{sign}{name}", member)
                for sign, part in (("+", "__pydantic_extra__"), ("-", "__pydantic_private__"))
                for name, member in (getattr(value, part, None) or {}).items()]
        return iter([*_without_derived(value, vars(value)), *more])
    if hasattr(kind, "__attrs_attrs__"):
        return _got(value, [a.name for a in kind.__attrs_attrs__])
    if hasattr(kind, "__struct_fields__"):
        return _got(value, list(kind.__struct_fields__))
    return None


def _got(value: Any, names: list[str]) -> Iterator[tuple[str, Any]]:
    """Fields that have a value."""
    for name in names:
        try:
            member = getattr(value, name)
        except AttributeError:
            continue
        yield name, member
    yield from _without_derived(value, {name: member for name, member in getattr(value, "__dict__", {}).items()
                                        if name not in names})


def _without_derived(value: Any, attributes: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Attributes, without what follows from the others and is there only once it was asked for."""
    for name, member in attributes.items():
        if not isinstance(inspect.getattr_static(type(value), name, None), functools.cached_property):
            yield name, member


def _record(walk: Walk, value: Any, fields: Iterator[tuple[str, Any]]) -> None:
    walk.key.begin_named("python:record")
    walk.key.add(key_name(type(value)))
    walk.attributes(fields)
    base = _plain_base(type(value))
    if base is not None:
        _base(walk, value, base)
    walk.key.end()


# ---- subclasses of types that are known


def _plain_base(kind: type) -> type | None:
    from ._key_types import TYPES

    for base in kind.__mro__[1:]:
        if base in PLAIN or base in TYPES:
            return base
    return None


def _base(walk: Walk, value: Any, base: type) -> None:
    """A value as what the type would be that it is derived from."""
    from ._key_types import TYPES

    if base in TYPES:
        TYPES[base](walk, value)
    elif base in (list, tuple, set, frozenset):
        walk.key.add(list(base.__iter__(value)) if base in (list, tuple) else set(base.__iter__(value)))
    elif base is dict:
        walk.key.add(dict(dict.items(value)))
    elif base is str:
        walk.key.add(str.__str__(value))
    elif base is bytes:
        walk.key.bytes(value)
    else:
        walk.key.add(int.__int__(value) if base is int else float.__float__(value))


def _subclass(walk: Walk, value: Any, kind: type) -> bool:
    """An instance of a class that is derived from a known type: that type's value, the class's name, and attributes
    that it has beside them."""
    base = _plain_base(kind)
    if base is None:
        return False
    walk.key.begin_named("python:subclass")
    walk.key.add(key_name(kind))
    _base(walk, value, base)
    state = dict(_state(value, kind, base))
    if state:
        walk.attributes(state.items())
    walk.key.end()
    return True


def _state(value: Any, kind: type, base: type) -> Iterator[tuple[str, Any]]:
    yield from getattr(value, "__dict__", {}).items()
    for part in kind.__mro__[:kind.__mro__.index(base)]:
        for member in part.__dict__.values():
            if isinstance(member, types.MemberDescriptorType) and hasattr(value, member.__name__):  # one of __slots__
                yield member.__name__, member.__get__(value)


def _instance(walk: Walk, value: Any, parts: Any) -> None:
    walk.key.begin_named("python:instance")
    walk.key.add(key_name(type(value)))
    walk.key.add(parts)
    walk.attributes(getattr(value, "__dict__", {}).items())
    walk.key.end()


# ---- functions


def _function(walk: Walk, value: Any) -> None:
    """Its code, as of a cached function; and what it brings along, as values: closure and defaults. What it has of its
    own in its closure decides what it does, so that it is not left out where it has no key."""
    if id(value) in walk.open:
        walk.named("python:function-again", walk.open[id(value)])
        return
    walk.open[id(value)] = len(walk.open)
    try:
        walk.key.begin_named("python:function")
        walk.key.add(_identity.function_code(value))
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or ()):
            try:
                member = cell.cell_contents
            except ValueError:
                walk.named("python:empty-cell")
                continue
            walk.add(member, Attribute(name))
        walk.key.add(value.__defaults__)
        walk.key.add(value.__kwdefaults__)
        walk.key.end()
    finally:
        del walk.open[id(value)]


def _builtin(walk: Walk, value: Any) -> None:
    owner = getattr(value, "__self__", None)
    if isinstance(owner, types.ModuleType) or owner is None:
        owner = getattr(value, "__objclass__", None)
    module = getattr(value, "__module__", None) or getattr(owner, "__module__", None)
    walk.named("python:builtin", module, value.__qualname__, owner)


# ---- files


def _file(walk: Walk, value: Any) -> None:
    """A file in memory: what is in it, where it stands, and what else it has. A file on disk that is open for reading:
    what is in it, in full (its time and size do not tell that it is the same), its name, and where it stands."""
    if value.closed:
        raise Unkeyable(value, "it is closed")
    if isinstance(value, (io.BytesIO, io.StringIO)):
        walk.key.begin_named("python:file")
        walk.key.add(key_name(type(value)))
        walk.key.add(value.getvalue())
        walk.key.add(value.tell())
        walk.key.add([getattr(value, name, None) for name in ("name", "type")])
        walk.key.end()
        return
    try:
        number = value.fileno()
        regular = stat.S_ISREG(os.fstat(number).st_mode) and value.readable()
        if value.writable():
            value.flush()
        position = value.tell()
    except (OSError, ValueError, AttributeError):
        raise Unkeyable(value, "only what is in a regular file can be hashed") from None
    if not regular:
        raise Unkeyable(value, "only a regular file that is open for reading can be hashed")
    walk.key.begin_named("python:file")
    walk.key.add(key_name(type(value)))
    walk.key.add([getattr(value, name, None) for name in ("name", "mode", "encoding", "errors")])
    walk.key.add(position)
    walk.key.begin_bytes()
    at = 0
    while piece := os.pread(number, 4 << 20, at):
        walk.key.feed(piece)
        at += len(piece)
    walk.key.end()
    walk.key.end()
