# SPDX-License-Identifier: MIT
"""What a function is called in the cache, and what its code is.

Its name. Two replicas of one application have one name for it, two scripts that happen to have a function of the same
name have two: the name has a digest of the file's path in it. `cache=` names it instead, wherever it is.

Its code: its own source, and that of the functions and classes of the same project that it reaches through globals,
closures and modules, and so on; and the constants that it reaches. Not what packages do that are installed, and not
what is in a list, a connection, a model. So a key changes with the code that makes the value, and never by what merely
lies about.

The code is looked at when a function is called first, not when it is decorated: what it uses may be defined below it.
From then on it stays what it was. What runs is what counts: where a file has changed since it was imported, see
_source.py.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import inspect
import os
import sys
import sysconfig
import types
from typing import Any

from . import _source
from ._hash_funcs import process_identity
from ._names import module_name
from ._signature import target

NAME_MAX = 128
# What a class has that stands for a function, and is none to callable() in each version of Python.
_NOT_CALLABLE = (staticmethod, classmethod, functools.partialmethod)
_REACHED_MAX = 4096  # functions and classes; a whole package may hang on one function
_HERE = os.path.dirname(os.path.realpath(__file__)) + os.sep


class Identity:
    """name: of the function, in keys and for people; cache: where its entries are; private: no other process has the
    same; code: text (its author's version) or 32 bytes, found out at first use."""

    def __init__(self, func: Any, name: str, cache: str, version: str | None, private: bool):
        self.name = name
        self.cache = cache
        self.private = private
        self._func = func
        self._code: str | bytes | None = version

    @property
    def code(self) -> str | bytes:
        if self._code is None:
            self._code = code_of(self._func)
        return self._code

    def __repr__(self) -> str:
        return f"Identity(name={self.name!r}, cache={self.cache!r}, private={self.private!r})"


def identify(func: Any, *, cache: str | None, version: str | None) -> Identity:
    """The identity of a function; see above. @version: text of its author's, instead of its code."""
    if version is not None and not isinstance(version, str):
        raise TypeError(f"version is {version!r}: it must be text")
    function = _innermost(func)
    qualname = getattr(function, "__qualname__", None) or type(function).__qualname__
    if version is not None and "<lambda>" in qualname and isinstance(function, types.FunctionType):
        # Lambdas have no names to tell them apart.
        qualname += f":{code_of(function).hex()[:8]}"
    if cache is not None:
        return Identity(func, qualname.encode("utf-8", "backslashreplace").decode(), cache, version, False)
    space = getattr(function, "__globals__", None)
    module = getattr(function, "__module__", None)
    path, private = _place(function, space if isinstance(space, dict) else None, module)
    shown = module_name(module, space)
    if shown == "__main__" and not private:
        shown = os.path.splitext(os.path.basename(path))[0]
    name = _bounded(f"{shown}.{qualname}", path)
    return Identity(func, name, name, version, private)


def _bounded(name: str, path: str) -> str:
    """A name with a digest of the path: at most 128 bytes, without control characters. What is cut off is in the
    digest."""
    plain = "".join(c if c.isprintable() else "?" for c in name.encode("utf-8", "replace").decode())
    whole = f"{plain}@{_short(path)}"
    if plain == name and len(whole.encode()) <= NAME_MAX:
        return whole
    tail = f"~{_short(name)}@{_short(path)}"
    return plain.encode()[:NAME_MAX - len(tail)].decode("utf-8", "ignore") + tail


def _short(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()


def _innermost(func: Any) -> Any:
    """The function behind partials, methods and wrappers."""
    for _ in range(64):
        func = target(func).function
        inner = getattr(func, "__wrapped__", None)
        if inner is None:
            break
        func = inner
    return func


def _place(function: Any, space: dict[str, Any] | None, module: str | None) -> tuple[str, bool]:
    """The path of the file that defines a function, and whether there is none that another process could have as
    well."""
    known = space if space is not None else getattr(sys.modules.get(module or ""), "__dict__", {})
    file = known.get("__file__")
    if isinstance(file, str) and file and not _is_no_file(file):
        return os.path.realpath(file), False
    code = getattr(function, "__code__", None)
    if code is not None and os.path.isfile(code.co_filename) and not _of_kernel(code):
        return os.path.realpath(code.co_filename), False
    if space is None:  # compiled, and part of the interpreter
        return module or "", False
    notebook = known.get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME")
    if module == "__main__" and isinstance(notebook, str) and notebook:
        return os.path.realpath(notebook), False
    return process_identity().hex(), True


def _is_no_file(path: str) -> bool:
    """Whether it only says where code came from: "<stdin>" is any script that is read from there."""
    return os.path.basename(path).startswith("<")


def _of_kernel(code: Any) -> bool:
    """Whether a file is a notebook's cell, which has another path in each kernel."""
    return f"{os.sep}ipykernel_" in code.co_filename


# ---- what belongs to the project

_STANDARD = tuple({os.path.realpath(path) + os.sep
                   for path in map(sysconfig.get_path, ("stdlib", "platstdlib")) if path})


def is_local(file: Any) -> bool:
    """Whether a file lies where nothing is installed."""
    if not isinstance(file, str) or not file or _is_no_file(file):
        return False
    path = os.path.realpath(file)
    parts = path.split(os.sep)
    return not ("site-packages" in parts or "dist-packages" in parts or path.startswith((_HERE, *_STANDARD)))


def _is_mine(value: Any) -> bool:
    """Whether it is part of this package."""
    if isinstance(value, types.FunctionType):  # __module__ may be that of what it is wrapped around
        return os.path.realpath(value.__code__.co_filename).startswith(_HERE)
    return (getattr(value, "__module__", None) or "").partition(".")[0] == __name__.partition(".")[0]


def _root_of(func: Any) -> str:
    """The package that a function is part of; "": of none."""
    root = (getattr(func, "__module__", None) or "").partition(".")[0]
    return "" if root in ("__main__", "__mp_main__", "builtins") else root


# ---- code


def code_of(func: Any) -> bytes:
    """The digest of a function's code, and of what it reaches: 32 bytes."""
    return _Reached(_root_of(_innermost(func))).digest(func)


def function_code(function: types.FunctionType) -> bytes:
    """The same of a function that is passed as an argument. Of one that is installed, what it reaches is left out."""
    return code_of(function) if is_local(function.__code__.co_filename) else _Reached("").digest(function)


def class_code(kind: type) -> bytes | None:
    """The digest of a class's methods and constants; None: it is none of the project's."""
    reached = _Reached("")
    return reached.digest(kind) if reached.belongs(kind) else None


def module_code(module: types.ModuleType) -> bytes | str | None:
    """The digest of a module's file, of a project; the version of another one."""
    file = getattr(module, "__file__", None)
    if is_local(file):
        try:
            with open(str(file), "rb") as f:
                return _source.digest(f.read())
        except OSError:
            pass
    version = getattr(sys.modules.get(module.__name__.partition(".")[0]), "__version__", None)
    return version if isinstance(version, str) else None


class _Reached:
    """What is reached from a function: functions and classes, each once, in an order that depends on names alone."""

    def __init__(self, root: str):
        self.root = root
        self.queue: list[Any] = []
        self.numbers: dict[int, int] = {}
        self.parts: list[bytes] = []

    def add(self, value: Any) -> int:
        """The number of a function or class, which is looked at later if it is new."""
        number = self.numbers.get(id(value))
        if number is None:
            number = self.numbers[id(value)] = len(self.queue)
            self.queue.append(value)
        return number

    def digest(self, value: Any) -> bytes:
        """The digest of a function or class, and of what it reaches."""
        self.add(value)
        at = 0
        while at < len(self.queue) and at < _REACHED_MAX:
            value = self.queue[at]
            at += 1
            self.parts.append(b"next")
            if isinstance(value, type):
                self._class(value)
            else:
                self._callable(value, at == 1)
        return _source.digest(*self.parts)

    def belongs(self, value: Any) -> bool:
        """Whether a function, class or module is the project's: part of the same package, or of none that is
        installed."""
        name = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None)
        if _is_mine(value) or not isinstance(name, str):
            return False
        if self.root and name.partition(".")[0] == self.root:
            return True
        module = value if isinstance(value, types.ModuleType) else sys.modules.get(name)
        file = getattr(module, "__file__", None)
        if isinstance(value, types.FunctionType) and not value.__code__.co_filename.startswith("<"):
            file = value.__code__.co_filename
        # An interactive session has no file, and neither has a script that is read from a pipe.
        has_file = isinstance(file, str) and file and not _is_no_file(file)
        return is_local(file) if has_file else name == "__main__" or module is None

    # ---- what is found behind a name

    def _value(self, label: str, value: Any) -> None:
        """Notes what a name stands for, if that is part of the code."""
        constant = _source.constant(value)
        if constant is not None:
            self.parts += (b"constant", label.encode(), constant)
        elif isinstance(value, type):
            if self.belongs(value):
                self.parts += (b"uses", label.encode(), b"%d" % self.add(value))
        elif isinstance(value, enum.Enum):
            self.parts += (b"member", label.encode(), str(value.name).encode(), repr(value.value).encode()
                           if _source.constant(value.value) is not None else b"")
            self._value(f"type of {label}", type(value))
        elif type(value) is tuple:
            for i, member in enumerate(value):
                self._value(f"{label}[{i}]", member)
        elif callable(value) or isinstance(value, _NOT_CALLABLE):
            function = _innermost(value)
            if any(isinstance(f, types.FunctionType) and self.belongs(f) for f in (function, value)):
                self.parts += (b"uses", label.encode(), b"%d" % self.add(value))
        elif self.belongs(type(value)):  # what its methods do; not what is in it, which may change
            self.parts += (b"instance", label.encode(), b"%d" % self.add(type(value)))

    def _chain(self, chain: tuple[str, ...], value: Any) -> None:
        """Follows a.b.c: through modules of the project to what is in them; to a class, and not into it."""
        at = 1
        while isinstance(value, types.ModuleType):
            if at == len(chain) or not self.belongs(value):
                return
            value = vars(value).get(chain[at], self)
            at += 1
        if value is not self:
            self._value(".".join(chain[:at]), value)

    # ---- functions

    def _callable(self, value: Any, first: bool) -> None:
        """A function; or what is wrapped around one: a partial, a method, another library's decorator."""
        for _ in range(64):
            function, args, kwargs = target(value)
            for i, given in enumerate((*args, *kwargs.values())):
                self._value(f"={i}", given)
            if isinstance(function, types.FunctionType):
                if first or self.belongs(function):
                    self._function(function)
            elif not hasattr(function, "__wrapped__"):
                self.parts += (b"compiled", str(getattr(function, "__module__", None)).encode(),
                               getattr(function, "__qualname__", type(function).__qualname__).encode())
            self._registered(function)
            value = getattr(function, "__wrapped__", None)
            if value is None:
                return

    def _registered(self, function: Any) -> None:
        """What a function of functools.singledispatch chooses from."""
        registry = getattr(function, "registry", None)
        if isinstance(registry, types.MappingProxyType):
            for name, one in sorted((f"{kind.__module__}.{kind.__qualname__}", one) for kind, one in registry.items()
                                    if isinstance(kind, type)):
                self._value(f"for {name}", one)

    def _function(self, function: types.FunctionType) -> None:
        # An installed package is not parsed: it is large, and compiled by the same Python that runs it.
        installed = os.path.isabs(function.__code__.co_filename) and not is_local(function.__code__.co_filename)
        source = None if installed else _source.source_of(function)
        outside = _Outside(function)
        if source is None:
            self.parts += (b"code", _source.code_digest(function.__code__))
            self._code_names(function.__code__, outside)
        else:
            self.parts += (b"source", source.digest)
            self.parts += [d for name, d in source.decorators if name is None or not _is_mine(outside.of_chain(name))]
            for chain in source.names:
                found = outside.get(chain[0])
                if found is not outside:
                    self._chain(chain, found)
            self._methods(function, source.attributes, ("super",) in source.names)
        for i, value in enumerate((*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())):
            self._value(f"default {i}", value)

    def _code_names(self, code: types.CodeType, outside: _Outside) -> None:
        """The names that compiled code has, of globals and attributes alike."""
        names, queue = set(code.co_freevars), [code]
        while queue:
            code = queue.pop()
            names.update(code.co_names)
            queue += [value for value in code.co_consts if isinstance(value, types.CodeType)]
        for name in sorted(names):
            found = outside.get(name)
            if isinstance(found, types.ModuleType) and self.belongs(found):
                for inner in sorted(names & vars(found).keys()):
                    self._value(f"{name}.{inner}", vars(found)[inner])
            elif found is not outside:
                self._value(name, found)

    def _methods(self, function: types.FunctionType, names: tuple[str, ...], with_bases: bool) -> None:
        """Methods that a method calls of its own object: those of the class that it is defined in; all of its bases'
        where it calls super()."""
        owner: Any = sys.modules.get(function.__module__)
        for part in function.__qualname__.split(".")[:-1]:
            owner = None if owner is None else vars(owner).get(part) if hasattr(owner, "__dict__") else None
        if not isinstance(owner, type):
            return
        for base in owner.__bases__ if with_bases else ():
            self._value("base", base)
        for name in names:
            member = inspect.getattr_static(owner, name, None)
            if isinstance(member, property):
                member = member.fget
            elif isinstance(member, functools.cached_property):
                member = member.func
            if member is not None:
                self._value(f"self.{name}", member)

    # ---- classes

    def _class(self, kind: type) -> None:
        self.parts += (b"class", kind.__qualname__.encode())
        for base in kind.__bases__:
            self._value("base", base)
        self._value("metaclass", type(kind))
        for name, member in sorted(vars(kind).items()):
            if name in ("__module__", "__qualname__", "__doc__", "__firstlineno__", "__static_attributes__"):
                continue
            if isinstance(member, functools.cached_property):
                member = member.func
            for part in (member.fget, member.fset, member.fdel) if isinstance(member, property) else (member,):
                function = _innermost(part) if part is not None else None
                if isinstance(function, types.FunctionType) and function.__code__.co_filename.startswith("<") \
                        and name.startswith("__"):
                    continue  # made by dataclass and its like, of what stands in the class
                self._value(f"{kind.__name__}.{name}", part)
        for name, member in getattr(kind, "__members__", {}).items():  # of an enum
            self._value(f"{kind.__name__}.{name}", getattr(member, "value", None))


class _Outside:
    """The names that a function sees outside of itself. What is not there is the object itself, since None is a
    value."""

    def __init__(self, function: types.FunctionType):
        self._globals = function.__globals__
        self._cells = dict(zip(function.__code__.co_freevars, function.__closure__ or ()))

    def get(self, name: str) -> Any:
        if name in self._cells:
            try:
                return self._cells[name].cell_contents
            except ValueError:
                return self
        return self._globals.get(name, self)

    def of_chain(self, chain: tuple[str, ...]) -> Any:
        """The value of a.b.c; None: it has none."""
        value = self.get(chain[0])
        for name in chain[1:]:
            value = None if value is self else inspect.getattr_static(value, name, None)
        return None if value is self else value
