# SPDX-License-Identifier: MIT
from collections.abc import Callable, Sequence
from typing import Any, Optional, Union

Piece = Any  # whatever has the buffer protocol
Pieces = Union[Piece, Sequence[Piece], "Buffer"]

library_version: str

OK: int
NOT_FOUND: int
EXISTS: int
VERSION_MISMATCH: int
INVALID: int
TOO_LARGE: int
NO_SPACE: int
LIMIT: int
DENIED: int
UNSUPPORTED: int
DEADLINE: int
NO_MEMORY: int
SHUTTING_DOWN: int
PROTOCOL: int
VERSION: int
CONFIG: int
INTERNAL: int
OUTCOME_UNKNOWN: int
SUPERSEDED: int
NEGATIVE: int
ERR_UNREACHABLE: int
ERR_TIMEOUT: int
ERR_DISCONNECTED: int
ERR_NOMEM: int
ERR_BAD_REPLY: int
ERR_UNTRUSTED: int
ERR_USAGE: int
ERR_FORBIDDEN: int
ERR_CLOSED: int
ERR_AGAIN: int
ERR_CREATION: int
OWNER_DIED: int
LEASE_NONE: int
LEASE_GRANTED: int
LEASE_YOURS: int
LEASE_BUSY: int
LEASE_TIMEOUT: int
LEASE_CYCLE: int
LEASE_FAILED: int
LEASE_UNSTORABLE: int
SET_ANY: int
SET_ADD_ONLY: int
SET_REPLACE_ONLY: int
NEVER: int  # a ttl_ms

class CacheError(Exception):
    code: int

class Entry:
    size: int
    flags: int
    uid: int
    version: int
    ttl_ms: Optional[int]
    stale: bool
    cost_us: int
    def __len__(self) -> int: ...
    def __buffer__(self, flags: int) -> memoryview: ...

class Buffer:
    size: int
    address: int
    def __init__(self, client: Client, size: int) -> None: ...
    def __len__(self) -> int: ...
    def __buffer__(self, flags: int) -> memoryview: ...

class LeaseHolder(tuple[Any, ...]):
    holder_pid: int
    holder_uid: int
    holder_name: str
    age_ms: int
    permille: int
    text: str
    waited_ms: int

class Lease:
    state: int
    holder_pid: int
    holder_uid: int
    holder_name: str
    age_ms: int
    permille: int
    text: str
    reason: str
    waited_ms: int
    def set(self, pieces: Pieces, *, size: Optional[int] = None, flags: int = 0, ttl_ms: Optional[int] = None,
            tags: Sequence[str] = (), cost_us: int = 0) -> int: ...
    def share(self, pieces: Pieces, *, size: Optional[int] = None, flags: int = 0) -> int: ...
    def progress(self, text: Optional[str] = None, permille: int = 0) -> None: ...
    def end(self, reason: Optional[str] = None) -> None: ...

class Client:
    socket: str
    def __init__(self, *, socket: Optional[str] = None, realm: Optional[str] = None, name: Optional[str] = None,
                 timeout_ms: int = 5000, mapped: bool = True) -> None: ...
    def connect(self) -> dict[str, Any]: ...
    def close(self) -> None: ...
    def with_timeout(self, ms: int) -> Client: ...
    def get(self, cache: str, key: bytes) -> Optional[Entry]: ...
    def peek(self, cache: str, key: bytes) -> Optional[Entry]: ...
    def set(self, cache: str, key: bytes, pieces: Pieces, *, size: Optional[int] = None, flags: int = 0,
            ttl_ms: Optional[int] = None, tags: Sequence[str] = (), cost_us: int = 0, mode: int = 0) -> int: ...
    def delete(self, cache: str, key: bytes) -> bool: ...
    def clear(self, cache: str) -> Optional[int]: ...
    def clear_tag(self, cache: str, tag: str) -> Optional[int]: ...
    def open_cache(self, cache: str, *, ttl_ms: Optional[int] = None, max_entries: Optional[int] = None,
                   max_bytes: Optional[int] = None, stale_for_ms: Optional[int] = None,
                   stale_if_error_ms: Optional[int] = None, refresh_ahead: Optional[int] = None,
                   expire_jitter: Optional[int] = None) -> dict[str, int]: ...
    def stats(self, cache: Optional[str] = None) -> dict[str, int]: ...
    def prepare(self, size: int, n: int) -> None: ...
    def buffer(self, size: int) -> Buffer: ...
    def lease(self, cache: str, key: bytes, *, outer: Optional[Lease] = None, wait_ms: Optional[int] = None,
              hold_ms: int = 0, refresh: bool = False, want_failure: bool = False,
              waiting: Optional[Callable[[LeaseHolder], bool]] = None,
              every_ms: int = 0) -> tuple[Optional[Entry], Optional[Lease]]: ...

class Local:
    object: Any
    left: int

class Window:
    size: int
    flags: int
    def __init__(self, bytes: Any, flags: int = ...) -> None: ...

class Resource:
    making: bool
    left: int
    left_fd: int
    fd: int
    file: int
    size: int
    read_only: bool
    instance: int
    generation: int
    ttl_ms: Optional[int]
    local: Optional[Local]
    def release(self, reason: Optional[str] = ...) -> None: ...
    def invalidate(self, reason: Optional[str] = ...) -> None: ...
    def publish(self) -> None: ...
    def give_object(self, object: Any) -> Local: ...
    def give_fd(self, fd: int) -> None: ...
    def give_size(self, bytes: int) -> None: ...
    def load(self, offset: int) -> int: ...
    def store(self, offset: int, value: int) -> None: ...
    def write(self, offset: int, bytes: Any) -> None: ...
    def private(self, offset: int, size: int, flags: int = ...) -> Window: ...
    def changed(self) -> int: ...
    def lock(self, wait_ms: int = ...) -> bool: ...
    def unlock(self) -> None: ...

def acquire(client: "Client", kind: str, cache: str, key: bytes, *, wait_ms: int = ..., pool: int = ..., ttl_ms: int = ...,
            max_entries: int = ..., no_create: bool = ..., read_only: bool = ...) -> Resource: ...
def drop(client: "Client", cache: str, key: bytes) -> bool: ...
def departed_bell() -> int: ...
def departed() -> list[Local]: ...
def departed_forked() -> None: ...
