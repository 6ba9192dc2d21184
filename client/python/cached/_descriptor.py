# SPDX-License-Identifier: MIT
"""Open sockets and files that are one for all processes.

What is shared is the open file: one stream, one position, one set of flags. Each process has an object of its own on it, and
the objects keep nothing to themselves: files are read and written without a buffer, or flushed after each write. Whoever reads
or writes what belongs together does so under cached.lock(obj).
"""

from __future__ import annotations

import fcntl
import io
import os
import socket
import stat
from typing import Any, Callable

from . import _binding

# A socket with a time limit does not block, for anybody: an object that knows of no limit waits by itself, as long as this.
BLOCKS_S = 86400.0


class Descriptor:
    """An open file, by its descriptor."""

    name = "descriptor"
    read_only = False

    def __init__(self, encoding: str | None):
        self.encoding = encoding

    def publish(self, resource: Any, held: Any, holding: Any) -> Any:
        fd = descriptor_of(held.value, self.encoding, holding.name)
        resource.give_fd(os.dup(fd))
        try:
            resource.publish()
        except _binding.CacheError as error:
            if error.code == _binding.INVALID:
                raise TypeError(f"cache_resource function {holding.name!r} returned a descriptor that cannot be shared: {error}") from error
            raise
        if not isinstance(held.value, socket.socket):
            theirs, held.value = held.value, self.open(resource, holding, held)
            if isinstance(theirs, io.IOBase):
                theirs.close()  # it has a buffer of its own
        return resource

    def open(self, resource: Any, holding: Any, held: Any) -> Any:
        fd = os.dup(resource.fd)
        try:
            return object_on(fd, self.encoding)
        except BaseException:
            os.close(fd)
            raise

    def alone(self, held: Any, holding: Any) -> Any:
        descriptor_of(held.value, self.encoding, holding.name)
        return held.value


def descriptor_of(value: Any, encoding: str | None, name: str) -> int:
    """Of what the function returned: all written that it still has."""
    if type(value) is int:
        try:
            os.fstat(value)
        except OSError as error:
            raise TypeError(f"cache_resource function {name!r} returned {value}, which is no open descriptor: {error}") from error
        return value
    if type(value).__module__ == "ssl":
        raise TypeError(f"cache_resource function {name!r} returned an {type(value).__name__}: its keys are in the memory of this process, so that "
                        "no other one can use it. Without kind= and shared= each process makes its own")
    if isinstance(value, io.TextIOBase):
        theirs = getattr(value, "encoding", None)
        if encoding is None:
            raise TypeError(f"cache_resource function {name!r} returned a text file: say cache_resource(encoding={theirs!r}), so that all "
                            "processes read and write it alike, or open it in binary mode")
        value.flush()
    elif isinstance(value, io.IOBase):
        if encoding is not None:
            raise TypeError(f"cache_resource function {name!r} has encoding= and returned a binary file: open it as text")
        value.flush()
    fileno = getattr(value, "fileno", None)
    if fileno is None:
        raise TypeError(f"cache_resource function {name!r} has kind=\"descriptor\" and returned a {type(value).__name__}: a socket, a file or a "
                        "number of a descriptor is needed")
    fd = fileno()
    if isinstance(value, io.IOBase) and value.seekable():  # what it has read ahead is given back
        value.seek(value.tell())
        os.lseek(fd, getattr(value, "buffer", value).tell(), os.SEEK_SET)
    return fd


def object_on(fd: int, encoding: str | None) -> Any:
    """What a process uses an open file by; @fd is its own."""
    mode, flags = os.fstat(fd).st_mode, fcntl.fcntl(fd, fcntl.F_GETFL)
    if stat.S_ISSOCK(mode):
        made = socket.socket(fileno=fd)
        if flags & os.O_NONBLOCK:
            made.settimeout(BLOCKS_S)
        return made
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
        return Handle(fd)  # an eventfd, a pidfd: nothing that a file object could do
    how = {os.O_RDONLY: "r", os.O_WRONLY: "w", os.O_RDWR: "r+"}[flags & os.O_ACCMODE]
    if flags & os.O_APPEND:
        how = "a" if how == "w" else "a+"
    # The kernel appends; the mode "a" would also look for the end.
    raw = io.FileIO(fd, how.replace("a+", "r+").replace("a", "w"))
    if encoding is None:
        return raw
    if how == "r":
        buffered: Any = io.BufferedReader(raw, 1)
    elif raw.seekable() and "+" in how:
        buffered = io.BufferedRandom(raw)
    else:
        buffered = io.BufferedWriter(raw)
    return io.TextIOWrapper(buffered, encoding, write_through=True) if how == "r" else _Text(buffered, encoding, write_through=True)


class _Text(io.TextIOWrapper):
    """Text that is in the file once write() has returned."""

    def write(self, text: str) -> int:
        n = super().write(text)
        self.flush()
        return n


class Handle:
    """A descriptor that is neither a socket nor a file: fileno() gives it."""

    def __init__(self, fd: int):
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()


def is_annotated(func: Callable[..., Any]) -> bool:
    """Whether the function says that it returns a socket or a file."""
    returns = getattr(func, "__annotations__", {}).get("return")
    text = returns if isinstance(returns, str) else getattr(returns, "__name__", str(returns))
    return text.rsplit(".", 1)[-1].split("[")[0] in (
        "socket", "TextIO", "BinaryIO", "IO", "TextIOWrapper", "TextIOBase", "FileIO", "RawIOBase", "IOBase", "BufferedReader",
        "BufferedWriter", "BufferedRandom", "BufferedIOBase")
