# SPDX-License-Identifier: MIT
"""What a decorator was asked for, checked: wrong arguments are errors where the function is decorated, not where it
is called."""

from __future__ import annotations

import os
from typing import Any, Callable, Mapping, NamedTuple, Sequence

from ._durations import Duration, Size, count, milliseconds, size


class Policy(NamedTuple):
    """How the values of one function are kept, and how it is shown."""

    ttl_ms: int | None
    stale_for_ms: int | None
    max_entries: int | None
    max_bytes: int | None
    hold_ms: int
    spinner: bool | str
    show_time: bool
    session: bool
    background: bool
    cache_if: Callable[[Any], Any] | None
    tags: tuple[str, ...] | Callable[..., Any] | None
    serializer: Serializer | None
    cache: str | None
    version: str | None
    unpickle: str
    hash_funcs: Mapping[Any, Any] | None

    def opening(self) -> dict[str, int | None]:
        """For Client.open_cache()."""
        return {"ttl_ms": self.ttl_ms, "max_entries": self.max_entries, "max_bytes": self.max_bytes,
                "stale_for_ms": self.stale_for_ms}


def check(*, ttl: Duration | None, max_entries: int | None, max_bytes: Size | None, show_spinner: bool | str,
          show_time: bool, persist: Any, hash_funcs: Mapping[Any, Any] | None, scope: str, refresh_mode: str | None,
          stale_for: Duration | None, cache_if: Any, tags: Any, serializer: Any, cache: str | None,
          version: str | None, unpickle: str | None, hold: Duration | None) -> Policy:
    """The policy of these arguments of cache_data; TypeError, ValueError, NotImplementedError."""
    if persist is not None:
        raise NotImplementedError(f"persist={persist!r}: the daemon keeps values in memory, across restarts of "
                                  "programs but not of the machine; leave persist out")
    _one_of("scope", scope, ("global", "session"))
    _one_of("refresh_mode", refresh_mode, (None, "background"))
    _one_of("unpickle", unpickle, (None, "own", "any", "never"))
    _flag("show_time", show_time)
    if not isinstance(show_spinner, str):
        _flag("show_spinner", show_spinner)
    ttl_ms, stale_for_ms = milliseconds(ttl, "ttl"), milliseconds(stale_for, "stale_for", zero=True)
    for name, given in (("refresh_mode", refresh_mode), ("stale_for", stale_for)):
        if given is not None and ttl_ms is None:
            raise ValueError(f"{name} needs a ttl: without one a value never becomes stale")
    if refresh_mode is not None and stale_for_ms is None:
        stale_for_ms = ttl_ms
    for name, function in (("cache_if", cache_if),):
        if function is not None and not callable(function):
            raise TypeError(f"{name} must be a function of the value, not {type(function).__name__}")
    if hash_funcs is not None and not isinstance(hash_funcs, Mapping):
        raise TypeError(f"hash_funcs must be a dictionary of types and functions, not {type(hash_funcs).__name__}")
    return Policy(ttl_ms, stale_for_ms, count(max_entries, "max_entries"), size(max_bytes, "max_bytes"),
                  min(milliseconds(hold, "hold") or 0, 0xFFFFFFFF), show_spinner, show_time, scope == "session",
                  refresh_mode == "background", cache_if, _tags(tags), _serializer(serializer), _name(cache),
                  _text("version", version), unpickle or "own", hash_funcs)


def _one_of(name: str, value: Any, allowed: Sequence[Any]) -> None:
    if not any(value is a or (isinstance(value, str) and value == a) for a in allowed):
        raise ValueError(f"{name} must be {' or '.join(repr(a) for a in allowed)}, not {value!r}")


def _flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False{' or a text' if name == 'show_spinner' else ''}, not {value!r}")


def _text(name: str, value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} must be text, not {type(value).__name__}")
    try:
        (value or "").encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} must be characters that UTF-8 has, and {value!r} is not") from None
    return value


def _name(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"cache must be text, not {type(value).__name__}")
    return None if value is None else checked_name("the name of a cache", value)


def checked_name(what: str, name: str) -> str:
    """As the daemon wants names of caches and tags: 1 to 128 bytes of UTF-8 without control characters."""
    try:
        n = len(name.encode())
    except UnicodeEncodeError:
        raise ValueError(f"{what} must be characters that UTF-8 has, and {name!r} is not") from None
    if not 1 <= n <= 128:
        raise ValueError(f"{what} must have 1 to 128 bytes as UTF-8, and {name[:40]!r} has {n}")
    if any(ord(c) < 32 or 127 <= ord(c) < 160 for c in name):
        raise ValueError(f"{what} must be without control characters, and {name!r} has one")
    return name


def _tags(tags: Any) -> tuple[str, ...] | Callable[..., Any] | None:
    if tags is None or callable(tags):
        return tags
    return checked_tags(tags)


def checked_tags(tags: Any) -> tuple[str, ...]:
    """Tags as they are stored."""
    if isinstance(tags, (str, bytes)) or not isinstance(tags, (list, tuple, set, frozenset)):
        raise TypeError(f"tags must be a list of texts, or a function that gives one, not {tags!r}")
    for tag in tags:
        if not isinstance(tag, str):
            raise TypeError(f"a tag must be text, not {tag!r}")
        checked_name("a tag", tag)
    if len(tags) > 8:
        raise ValueError(f"a value has up to 8 tags, not {len(tags)}")
    return tuple(tags)


class Serializer:
    """A user's own serializer, as values are stored with it: by its name, so that it reads nothing else."""

    def __init__(self, given: Any):
        name = getattr(given, "name", None)
        if not isinstance(name, str):
            name = getattr(given, "__name__", None) or f"{type(given).__module__}.{type(given).__qualname__}"
        self.name = str(name)
        self._given = given

    def dumps(self, value: Any) -> Any:
        """Bytes, or a list of bytes."""
        data = self._given.dumps(value)
        return data.encode() if isinstance(data, str) else data

    def loads(self, data: memoryview) -> Any:
        """The value; such as json's takes no memory that is not bytes."""
        return self._given.loads(bytes(data))


def _serializer(serializer: Any) -> Serializer | None:
    if serializer is None:
        return None
    if not all(callable(getattr(serializer, name, None)) for name in ("dumps", "loads")):
        raise TypeError("serializer must have dumps(value), which gives bytes, and loads(bytes); a module such as "
                        "pickle or json has them")
    return Serializer(serializer)


def may_pickle(policy: Policy) -> bool:
    """Whether values that have no form of their own are pickled at all: nobody could read them."""
    return policy.unpickle != "never" and os.environ.get("CACHED_PICKLE") != "never"


def may_unpickle(policy: Policy, uid: int) -> bool:
    """Whether what a process of this uid stored may be unpickled here: what one's own processes stored, unless the
    environment forbids it, or what the decorator asks for. Nothing that a writer chooses matters."""
    if not may_pickle(policy):
        return False
    return policy.unpickle == "any" or uid == os.geteuid()
