# SPDX-License-Identifier: MIT
"""The source of functions as digests: of what it says, not of how it is laid out.

A file is parsed once: each function in it gets a digest of its syntax tree, and a list of the names outside of it that
it uses. Comments, blank lines, indentation, quotes and line breaks are no part of a tree, and a tree is written down in
such a way that all versions of Python come to the same digest.

The file on disk need not be what the process runs: it may have been edited since. So the file is compiled as well, and
a function's digest is used only where the compiled code is the one that runs; else the code itself is digested
(bytecode, constants, names), and the version of Python with it, since bytecode means something in one version only.
"""

from __future__ import annotations

import __future__
import ast
import datetime
import decimal
import fractions
import functools
import hashlib
import importlib.util
import inspect
import linecache
import pathlib
import re
import types
import uuid
from typing import Any, NamedTuple

Chain = tuple  # names, as in a.b.c
_FILES_MAX = 64
# Never change, and say all that they are by repr().
_LIKE_CONSTANTS = (datetime.date, datetime.datetime, datetime.time, datetime.timedelta, decimal.Decimal, fractions.Fraction,
                   pathlib.PosixPath, pathlib.PurePosixPath, pathlib.WindowsPath, pathlib.PureWindowsPath, range, uuid.UUID)
_FUTURE = sum(getattr(__future__, name).compiler_flag for name in __future__.all_feature_names) & ~inspect.CO_NESTED
_LEFT_OUT = ("ctx", "kind", "type_comment", "type_ignores", "decorator_list")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


class Source(NamedTuple):
    """A function as its source has it. decorators: a name (None: it is not a plain one) and a digest each; names:
    chains of what it uses from outside; attributes: what it uses of its first argument."""

    digest: bytes
    decorators: tuple[tuple[Chain | None, bytes], ...]
    names: tuple[Chain, ...]
    attributes: tuple[str, ...]


def digest(*parts: bytes) -> bytes:
    """A digest of byte strings, each with its length."""
    h = hashlib.blake2b(digest_size=32, person=b"cached-py-code-1")
    for part in parts:
        h.update(len(part).to_bytes(8, "little"))
        h.update(part)
    return h.digest()


# ---- constants


def constant(value: Any) -> bytes | None:
    """What a constant is, in bytes; None: it is none. Numbers, text, bytes, None, ..., dates, paths, patterns; and
    tuples and frozensets of them."""
    kind = type(value)
    if value is None or value is ... or kind in (bool, int, float, complex):
        if kind is int and value.bit_length() > 4096:  # the interpreter writes no longer ones in decimal
            return b"int " + hex(value).encode()
        return f"{kind.__name__} {value!r}".encode()
    if kind is str:
        return b"str " + value.encode("utf-8", "surrogatepass")
    if kind is bytes:
        return b"bytes " + value
    if kind in _LIKE_CONSTANTS:
        return f"{kind.__name__} {value!r}".encode("utf-8", "surrogatepass")
    if kind is re.Pattern:
        return f"pattern {value.pattern!r} {value.flags}".encode("utf-8", "surrogatepass")
    if kind in (tuple, frozenset):
        members = [constant(member) for member in value]
        if any(member is None for member in members):
            return None
        known = [member for member in members if member is not None]
        return kind.__name__.encode() + b" " + digest(*(known if kind is tuple else sorted(known)))
    return None


# ---- trees


def _tree(node: Any) -> bytes:
    """A digest of a syntax tree. What is empty is left out: later versions of Python have fields that earlier ones
    lack."""
    if isinstance(node, ast.AST):
        parts = [type(node).__name__.encode()]
        for name, value in ast.iter_fields(node):
            if name in _LEFT_OUT or value is None or value == []:
                if not (isinstance(node, ast.Constant) and name == "value"):
                    continue
            if isinstance(node, ast.Constant):
                parts.append(constant(value) or repr(value).encode())
                continue
            parts += (name.encode(), _tree(_joined(value) if isinstance(node, ast.JoinedStr) else value))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            if node.decorator_list and not getattr(node, "outermost", False):
                parts += (b"decorator_list", _tree(node.decorator_list))
            doc = ast.get_docstring(node)
            if doc is not None:  # as inspect.getdoc() has it: how far it is indented depends on where the function is
                parts[parts.index(b"body") + 1] = digest(doc.encode("utf-8", "surrogatepass"), _tree(node.body[1:]))
        return digest(*parts)
    if isinstance(node, list):
        return digest(b"list", *map(_tree, node))
    return constant(node) or repr(node).encode()


def _joined(parts: list[Any]) -> list[Any]:
    """The parts of an f-string: how the constant ones are cut, and whether there are empty ones, differs by version."""
    joined: list[Any] = []
    for part in parts:
        if isinstance(part, ast.Constant) and joined and isinstance(joined[-1], ast.Constant):
            joined[-1] = ast.Constant(joined[-1].value + part.value)
        elif not (isinstance(part, ast.Constant) and part.value == ""):
            joined.append(part)
    return joined


def _chain(node: ast.AST) -> Chain | None:
    """a.b.c as ("a", "b", "c")."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return (node.id, *reversed(names)) if isinstance(node, ast.Name) else None


class _Names(ast.NodeVisitor):
    """Finds the names that a function uses and does not make itself."""

    def __init__(self) -> None:
        self.found: set[Chain] = set()
        self.scopes: list[set[str]] = []

    def _use(self, chain: Chain) -> None:
        if not any(chain[0] in scope for scope in self.scopes):
            self.found.add(chain)

    def visit_Name(self, node: ast.Name) -> None:
        self._use((node.id,))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        chain = _chain(node)
        if chain is None:
            self.generic_visit(node)
        else:
            self._use(chain)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def function(self, node: Any) -> None:
        """Its body, with what it makes itself out of sight; defaults and decorators belong outside."""
        arguments = node.args
        names = {a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
        names |= {a.arg for a in (arguments.vararg, arguments.kwarg) if a is not None}
        body = node.body if isinstance(node.body, list) else [node.body]
        self.scopes.append(names | _made(body))
        for statement in body:
            self.visit(statement)
        self.scopes.pop()

    def _inner(self, node: Any) -> None:
        for part in (*node.args.defaults, *filter(None, node.args.kw_defaults), *getattr(node, "decorator_list", ())):
            self.visit(part)
        self.function(node)

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = _inner

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for part in (*node.bases, *node.keywords, *node.decorator_list):
            self.visit(part)
        # A class's names are not seen by its methods.
        for statement in node.body:
            self.visit(statement)

    def _comprehension(self, node: Any) -> None:
        self.scopes.append({n.id for g in node.generators for n in ast.walk(g.target) if isinstance(n, ast.Name)})
        self.generic_visit(node)
        self.scopes.pop()

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension


def _made(body: list[Any]) -> set[str]:
    """Names that statements make in their own scope; and those that they assign around it, which are no constants."""
    made: set[str] = set()
    queue = list(body)
    while queue:
        node = queue.pop()
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            made.add(node.id)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            made.update(alias.asname or alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            made.add(node.name)
        elif type(node).__name__ in ("MatchAs", "MatchStar") and node.name:
            made.add(node.name)
        elif type(node).__name__ == "MatchMapping" and node.rest:
            made.add(node.rest)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            made.add(node.name)
            continue
        if isinstance(node, ast.Lambda):
            continue
        if isinstance(node, _COMPREHENSIONS):
            queue += [n for n in ast.walk(node) if isinstance(n, ast.NamedExpr)]
            continue
        queue += ast.iter_child_nodes(node)
    return made


def _source_of(node: Any) -> Source:
    node.outermost = True
    decorators = tuple((_chain(d.func if isinstance(d, ast.Call) else d), _tree(d))
                       for d in getattr(node, "decorator_list", ()))
    names = _Names()
    names.function(node)
    first = [a.arg for a in (*node.args.posonlyargs, *node.args.args)][:1]
    attributes = {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)
                  and n.value.id in first}
    return Source(_tree(node), decorators, tuple(sorted(names.found)), tuple(sorted(attributes)))


# ---- compiled code


def code_digest(code: types.CodeType, version: bool = True) -> bytes:
    """What a code object does, in this version of Python. Where its lines are is no part of it."""
    flags = code.co_flags & ~inspect.CO_NESTED
    parts = [importlib.util.MAGIC_NUMBER if version else b"", code.co_code,
             repr((code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, flags, code.co_names,
                   code.co_varnames, code.co_freevars, code.co_cellvars)).encode("utf-8", "surrogatepass")]
    for value in code.co_consts:
        if isinstance(value, types.CodeType):
            parts.append(code_digest(value, version))
        else:
            parts.append(constant(value) or repr(value).encode())
    return digest(*parts)


# ---- files


class _File:
    """The functions of a file, by name and compiled code."""

    def __init__(self, text: str, filename: str, flags: int):
        tree = ast.parse(text, filename)
        nodes: dict[tuple[int, str], list[Any]] = {}
        for node in ast.walk(tree):
            if isinstance(node, _FUNCTIONS):
                name = getattr(node, "name", "<lambda>")
                first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
                nodes.setdefault((first, name), []).append(node)
        self.sources: dict[tuple[str, bytes], list[tuple[int, Source]]] = {}
        made: dict[int, Source] = {}
        flags |= 0 if filename.endswith(".py") else ast.PyCF_ALLOW_TOP_LEVEL_AWAIT  # cells of notebooks
        queue = [compile(tree, filename, "exec", flags, dont_inherit=True)]
        while queue:
            code = queue.pop()
            queue += [value for value in code.co_consts if isinstance(value, types.CodeType)]
            for node in _nodes_of(code, nodes.get((code.co_firstlineno, code.co_name), [])):
                if id(node) not in made:
                    made[id(node)] = _source_of(node)
                self.sources.setdefault((code.co_name, code_digest(code, False)), []).append(
                    (code.co_firstlineno, made[id(node)]))


def _nodes_of(code: types.CodeType, nodes: list[Any]) -> list[Any]:
    """Which of the functions on one line a code was compiled from: the lambdas among them are compiled each by itself,
    in a function that has the names which the code takes from around it."""
    if len(nodes) < 2 or code.co_name != "<lambda>":
        return nodes
    found = []
    for node in nodes:
        around = ast.parse(f"def around({', '.join(code.co_freevars)}):\n    return 0")
        around.body[0].body[0].value = node  # type: ignore[attr-defined]
        try:
            outer = compile(around, "<around>", "exec", code.co_flags & _FUTURE, dont_inherit=True)
        except (SyntaxError, ValueError):
            continue
        for inner in (c for o in outer.co_consts if isinstance(o, types.CodeType) for c in o.co_consts):
            if isinstance(inner, types.CodeType) and code_digest(inner, False) == code_digest(code, False):
                found.append(node)
    return found or nodes


@functools.lru_cache(maxsize=_FILES_MAX)
def _file(filename: str, text: str, flags: int) -> _File | None:
    """A file as it was parsed; None: it is no Python that this version understands."""
    try:
        return _File(text, filename, flags)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def source_of(function: types.FunctionType) -> Source | None:
    """The source that a function was compiled from; None: there is none, or it has changed since."""
    code = function.__code__
    for again in (False, True):
        if again:
            linecache.checkcache(code.co_filename)
        lines = linecache.getlines(code.co_filename, function.__globals__)
        if not lines:
            continue
        parsed = _file(code.co_filename, "".join(lines), code.co_flags & _FUTURE)
        found = parsed.sources.get((code.co_name, code_digest(code, False))) if parsed is not None else None
        if found:
            here = [source for line, source in found if line == code.co_firstlineno]
            return _one(here or [source for _, source in found])
    return None


def _one(found: list[Source]) -> Source:
    """Functions that are compiled to the same code do the same, but for their defaults. Where several are on one line,
    or the line does not tell, they are taken together, so that which one it is does not depend on chance."""
    if len({source.digest for source in found}) == 1:
        return found[0]
    return Source(digest(*sorted(source.digest for source in found)), (), found[0].names, found[0].attributes)
