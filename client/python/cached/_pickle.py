# SPDX-License-Identifier: MIT
"""Pickled parts of values: protocol 5, with its buffers and the arrays and frames in it beside the stream."""

from __future__ import annotations

import io
import pickle
from typing import Any, Callable, List, Optional, Tuple

#: Bytes of a stream that lies beside the CBOR, so that it is read where it is.
STREAM_BESIDE = 65536

#: Bytes of a buffer that stays in the stream: it is not worth its alignment.
BUFFER_BESIDE = 1024

Reduce = Callable[[Any], Optional[Tuple[str, Any]]]


class _Pickler(pickle.Pickler):
    def __init__(self, file: Any, reduce: Reduce) -> None:
        super().__init__(file, 5, buffer_callback=self._buffer)
        self.reduce = reduce
        self.buffers: List[memoryview] = []
        self.parts: List[Tuple[str, Any]] = []

    def _buffer(self, buffer: pickle.PickleBuffer) -> bool:
        """False: it goes beside the stream."""
        try:
            memory = buffer.raw()
        except BufferError:
            return True
        if memory.nbytes < BUFFER_BESIDE:
            return True
        self.buffers.append(memory)
        return False

    def reducer_override(self, value: Any) -> Any:
        """Called for what pickle does not write by itself."""
        if isinstance(value, type):
            return NotImplemented
        part = self.reduce(value)
        if part is None:
            return NotImplemented
        self.parts.append(part)
        return _part, (len(self.parts) - 1,)


def _part(number: int) -> Any:
    """Stands in a stream for a part; never called: _Unpickler has its own."""
    raise pickle.UnpicklingError("a part outside of its value")


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: Any, buffers: List[Any], parts: List[Any]) -> None:
        super().__init__(file, buffers=buffers)
        self.parts = parts

    def find_class(self, module: str, name: str) -> Any:
        if module == __name__ and name == "_part":
            return self.parts.__getitem__
        return super().find_class(module, name)


def dump(value: Any, reduce: Reduce) -> Tuple[bytes, List[memoryview], List[Tuple[str, Any]]]:
    """The stream, its buffers, and for each part what @reduce made of it."""
    file = io.BytesIO()
    pickler = _Pickler(file, reduce)
    pickler.dump(value)
    return file.getvalue(), pickler.buffers, pickler.parts


def load(stream: Any, buffers: List[Any], parts: List[Any]) -> Any:
    """The value. Only for those who may unpickle: the stream decides what is run."""
    if type(stream) not in (bytes, memoryview) or not all(type(b) is memoryview for b in buffers):
        raise pickle.UnpicklingError("a stream and its buffers are bytes")
    return _Unpickler(_File(stream), buffers, parts).load() if parts else pickle.loads(stream, buffers=buffers)


class _File:
    """A stream where it lies: BytesIO would copy it."""

    def __init__(self, stream: Any) -> None:
        self.view = memoryview(stream)
        self.at = 0

    def read(self, n: int = -1) -> bytes:
        """As of a file; pickle reads ahead in large steps."""
        end = self.view.nbytes if n < 0 else min(self.at + n, self.view.nbytes)
        chunk = bytes(self.view[self.at:end])
        self.at = end
        return chunk

    def readinto(self, room: Any) -> int:
        """As of a file: strings go straight to their place."""
        n = min(len(room), self.view.nbytes - self.at)
        room[:n] = self.view[self.at:self.at + n]
        self.at += n
        return n

    def readline(self) -> bytes:
        """As of a file; for opcodes of old protocols only."""
        end = self.at
        while end < self.view.nbytes and self.view[end] != 10:
            end += 1
        return self.read(end + 1 - self.at)
