# SPDX-License-Identifier: MIT
"""Simple ones in place of those parts of the package that are not there yet, for the tests of resources."""

import hashlib
import inspect
import marshal
import os
import sys
import types
import warnings
from importlib.util import find_spec


def module(name):
    """A new module cached.name; None: there is a real one."""
    path = os.path.join(os.environ["CACHED_BUILD"], "client/python/path/cached")
    if any(os.path.exists(os.path.join(path, name + end)) for end in (".py", "/__init__.py")):
        return None
    made = types.ModuleType(f"cached.{name}")
    sys.modules[made.__name__] = made
    return made


def client():
    m = module("_client")
    if not m:
        return
    made = {}

    def current():
        from cached import _binding

        if "client" not in made:
            made["client"] = _binding.Client()
        return made["client"]

    def warn(code, text):
        warnings.warn(text, UserWarning, stacklevel=3)

    m.current, m.warn = current, warn


def keys():
    m = module("_keys")
    if not m:
        return

    class Arguments:
        def __init__(self, func, *, hash_funcs=None, name):
            self.signature = inspect.signature(func)

        def digest(self, args, kwargs):
            bound = self.signature.bind(*args, **kwargs)
            bound.apply_defaults()
            seen = {k: v for k, v in bound.arguments.items() if not k.startswith("_")}
            return hashlib.blake2b(repr(seen).encode(), digest_size=32).digest()

    def key(name, code, arguments):
        return hashlib.blake2b(repr((name, code, arguments)).encode(), digest_size=32).digest()

    m.registered = {}
    m.Arguments, m.key = Arguments, key
    m.register_resource = lambda obj, identity: m.registered.__setitem__(id(obj), (obj, identity))


def identity():
    m = module("_identity")
    if m:
        m.identify = lambda func, *, cache, version: types.SimpleNamespace(
            name=func.__qualname__, cache=cache or func.__qualname__, code=version or "1", private=False)


def durations():
    m = module("_durations")
    if m:
        m.milliseconds = lambda ttl, what: int(ttl * 1000)


def values():
    m = module("_values")
    if not m:
        return

    class CorruptValueError(Exception):
        pass

    def dumps(value, *, pickle=True, project=None):
        data = marshal.dumps(value)
        return types.SimpleNamespace(flags=7, pieces=[data], size=len(data), buffer=None)

    def loads(entry, *, unpickle):
        try:
            return marshal.loads(bytes(entry))
        except (EOFError, ValueError, TypeError) as e:
            raise CorruptValueError(str(e)) from e

    m.dumps, m.loads, m.CorruptValueError = dumps, loads, CorruptValueError


for part in (client, keys, identity, durations, values):
    part()
