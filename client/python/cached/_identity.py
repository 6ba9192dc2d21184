# SPDX-License-Identifier: MIT
"""What a function is called in the cache, and what its code is."""

from __future__ import annotations

import hashlib
import inspect
import os
from typing import Any, NamedTuple


class Identity(NamedTuple):
    """name: of the function, in keys and for people; cache: where its entries are; code: what identifies its code;
    private: whether no other process can have the same."""

    name: str
    cache: str
    code: str | bytes
    private: bool


def identify(func: Any, *, cache: str | None, version: str | None) -> Identity:
    """The identity of a function."""
    path = os.path.realpath(inspect.getsourcefile(func) or "")
    tail = hashlib.blake2b(path.encode(), digest_size=4).hexdigest()
    name = f"{func.__module__}.{func.__qualname__}@{tail}"
    code = version if version is not None else hashlib.blake2b(inspect.getsource(func).encode(), digest_size=32).digest()
    if cache is not None:
        return Identity(func.__qualname__, cache, code, False)
    return Identity(name, name, code, False)
