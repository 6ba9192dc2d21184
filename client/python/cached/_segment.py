# SPDX-License-Identifier: MIT
"""What lies in a shared segment, and how several processes read and write it.

    0   words of 8 bytes: what it is; its form and the layout's version; two that are the form's
    64  list and dict: the number of the newest state; its lowest bit says in which of two places that is
    128 list and dict: two places, each with its state's number, length, checksum and flags, and the value's bytes
    4096 array and buffers: the data

Who changes a value writes it whole into the place that is not in use and then the number: one word, at once. So who is killed in
between has changed nothing, and who reads needs no lock: what he read was not overwritten as long as the number is still the
same. Everything here was written by others, perhaps to do harm: it is copied, checked, and then read as data, never as a pickle.
"""

from __future__ import annotations

import ast
import binascii
import math
from contextlib import contextmanager
from typing import Any, Iterator

from . import _binding
from ._errors import UnserializableReturnValueError
from ._lock import Exclusive
from ._release import releaser

MAGIC = int.from_bytes(b"cachedpy", "little")
VERSION = 1
LIST, DICT, ARRAY, BUFFERS = range(1, 5)
FORM, FIRST, SECOND, NEWEST, PLACES, DATA = 8, 16, 24, 64, 128, 4096
HEAD = 24
TRIES = 100
WORD = (1 << 64) - 1
CAPACITY_MIN = 65536


class SharedFullError(Exception):
    """A shared value does not fit into its segment any more; it is as it was."""


class SharedDataError(Exception):
    """What lies in a shared segment is no value: another process has written something else there."""


class Memory:
    """As a segment, but of this process alone: while there is no daemon to share it."""

    read_only = False

    def __init__(self, size: int):
        self.memory = bytearray(size)
        self.size = size

    def load(self, offset: int) -> int:
        return int.from_bytes(self.memory[offset:offset + 8], "little")

    def store(self, offset: int, value: int) -> None:
        self.memory[offset:offset + 8] = value.to_bytes(8, "little")

    def write(self, offset: int, data: Any) -> None:
        self.memory[offset:offset + len(data)] = data

    def bytes(self, offset: int, n: int) -> bytes:
        return bytes(self.memory[offset:offset + n])

    def changed(self) -> int:
        return 0


def bytes_of(source: Any, offset: int, n: int) -> bytes:
    """A copy, which nobody changes while it is looked at."""
    if isinstance(source, Memory):
        return source.bytes(offset, n)
    with memoryview(source) as whole, whole[offset:offset + n] as part:
        return bytes(part)


def encode(value: Any, what: str) -> Any:
    """As bytes without a pickle in them, since others may read them; TypeError."""
    from . import _values

    try:
        return _values.dumps(value, pickle=False)
    except UnserializableReturnValueError as error:
        why = error.__cause__ or error
        raise UnserializableReturnValueError(
            f"{what} cannot hold this: {why}. In shared memory there are numbers, text, bytes, arrays, frames, and lists, tuples, sets and dicts "
            "of those; any other object is one per process: cache_resource without shared= and kind=") from error


def begin(source: Any, form: int, first: int = 0, second: int = 0) -> None:
    """The head of a new one."""
    source.store(FORM, form | VERSION << 32)
    source.store(FIRST, first)
    source.store(SECOND, second)
    source.store(0, MAGIC)


def form_of(source: Any) -> int:
    """Which form it has; SharedDataError: none that is known."""
    if source.size < PLACES or source.load(0) != MAGIC:
        raise SharedDataError("what this segment holds was not put there by cache_resource")
    form = source.load(FORM)
    if form >> 32 != VERSION:
        raise SharedDataError(f"this segment's layout has version {form >> 32}, and this package knows {VERSION}: use the same "
                              "version of the package in all processes")
    return form & 0xFFFFFFFF


# ---- lists and dicts


def size_for(capacity: int) -> int:
    return PLACES + 2 * (HEAD + capacity)


def capacity_for(n: int, capacity: int | None) -> int:
    """For a value of @n bytes. Memory that is not written to takes none."""
    return (max(CAPACITY_MIN, 4 * n) if capacity is None else capacity) + 7 & ~7


class State:
    """A value in a segment, as this process sees it."""

    def __init__(self, source: Any, kind: type, held: Any):
        self.source = source
        self.kind = kind
        self.holding = held.holding
        self.key = held.key
        self.name = held.holding.name
        self.forks = releaser.forks
        self.lock = held.lock = Exclusive(f"the shared {kind.__name__} of {self.name!r}", self)
        self.capacity = ((source.size - PLACES) // 2 & ~7) - HEAD
        self.view: tuple[int, Any] = (-1, None)
        if self.capacity < 0:
            raise SharedDataError(f"the segment of {self.name!r} is too small for a value")

    def to_lock(self) -> Any:
        """What the lock is of. A child holds nothing of its parent's, and asks for the same by itself."""
        if isinstance(self.source, Memory):
            return None
        if self.forks != releaser.forks:
            own = self.holding.ask(self.holding.client(), self.key, no_create=True)
            if own.instance != self.source.instance:
                raise RuntimeError(f"the shared {self.kind.__name__} of {self.name!r} has left its cache: call the function again")
            self.source, self.forks = own, releaser.forks
        return self.source

    # ---- reading

    def read(self) -> Any:
        """The value, which is nobody's to change."""
        view = self.view
        return view[1] if view[0] == self.source.load(NEWEST) else self.parse()

    def parse(self) -> Any:
        for _ in range(TRIES):
            number = self.source.load(NEWEST)
            try:
                value = self.decode(number)
            except SharedDataError:
                if self.source.load(NEWEST) == number:
                    raise
                continue
            if self.source.load(NEWEST) == number:
                self.view = (number, value)
                return value
        with self.lock():  # others write without a pause
            return self.decode(self.source.load(NEWEST))

    def decode(self, number: int) -> Any:
        place = self.place(number)
        n, about = self.source.load(place + 8), self.source.load(place + 16)
        if self.source.load(place) != number or n > self.capacity:
            raise self.is_damaged("its place has another number, or a length that cannot be")
        data = bytes_of(self.source, place + HEAD, n)
        if binascii.crc32(data) != about & 0xFFFFFFFF:
            raise self.is_damaged("its checksum is wrong")
        from . import _values

        try:
            value = _values.loads(_binding.Window(data, about >> 32), unpickle=False)
        except Exception as error:
            raise self.is_damaged(str(error)) from error
        if type(value) is not self.kind:
            raise self.is_damaged(f"it is a {type(value).__name__}")
        return value

    def is_damaged(self, why: str) -> SharedDataError:
        return SharedDataError(f"the shared {self.kind.__name__} of {self.name!r} was damaged by another process: {why}; clear() of "
                               "the function makes a new one")

    def place(self, number: int) -> int:
        return PLACES + (number & 1) * (HEAD + self.capacity)

    # ---- writing

    @contextmanager
    def changing(self) -> Iterator[Any]:
        """Within, nobody else changes it: a copy, which becomes the value at the end unless there is an exception."""
        with self.lock():  # if its owner was killed the state before is whole
            value = self.kind(self.read())
            yield value
            self.commit(value)

    def commit(self, value: Any) -> None:
        encoded = encode(value, f"the shared {self.kind.__name__} of {self.name!r}")
        if encoded.size > self.capacity:
            raise SharedFullError(f"the shared {self.kind.__name__} of {self.name!r} would take {encoded.size} bytes, and its segment "
                                  f"has room for {self.capacity}: give cache_resource(capacity={2 * encoded.size}) and clear() it, or "
                                  "keep less in it")
        data = b"".join(encoded.pieces)
        number = self.source.load(NEWEST) + 1 & WORD
        place = self.place(number)
        self.source.write(place + HEAD, data)
        self.source.store(place, number)
        self.source.store(place + 8, len(data))
        self.source.store(place + 16, binascii.crc32(data) | encoded.flags << 32)
        self.source.store(NEWEST, number)
        self.source.changed()


# ---- arrays and buffers


def write_pieces(source: Any, pieces: Any) -> None:
    at = DATA
    for piece in pieces:
        with memoryview(piece) as view, view.cast("B") as data:
            source.write(at, data)
            at += data.nbytes


def buffers_of(resource: Any, name: str) -> Any:
    """What was put into a read-only segment: its arrays lie where they are."""
    n, flags = resource.load(FIRST), resource.load(SECOND)
    if n > resource.size - DATA or flags > 0xFFFFFFFF:
        raise SharedDataError(f"the buffers of {name!r} have a length that cannot be: clear() of the function makes new ones")
    from . import _values

    try:
        return _read_only(_values.loads(resource.private(DATA, n, flags), unpickle=False))
    except Exception as error:
        raise SharedDataError(f"the buffers of {name!r} are damaged: {error}; clear() of the function makes new ones") from error


def _read_only(value: Any) -> Any:
    """Arrays say where they are written to that nobody else sees it; what libraries make of their memory may be written to."""
    if type(value) in (list, tuple, set, frozenset):
        for item in value:
            _read_only(item)
    elif type(value) is dict:
        for item in value.values():
            _read_only(item)
    elif type(value).__module__ == "numpy" and hasattr(value, "setflags"):
        value.setflags(write=False)
    return value


def array_head(array: Any) -> bytes:
    """The shape and type of an array, as text; TypeError: its elements lie elsewhere."""
    import numpy

    if array.dtype.hasobject:
        raise TypeError(f"an array of {array.dtype} holds Python objects, which cannot be shared: give it a dtype of fixed width")
    text = repr((numpy.lib.format.dtype_to_descr(array.dtype), array.shape)).encode()
    if len(text) > DATA - PLACES:
        raise TypeError("the array's dtype has too many fields to be shared")
    return text


def array_of(resource: Any, name: str) -> Any:
    """The array that lies in a segment: what is written to it is seen by all."""
    import numpy

    n = resource.load(FIRST)
    try:
        if n > DATA - PLACES:
            raise ValueError("its description is too long")
        descr, shape = ast.literal_eval(bytes_of(resource, PLACES, n).decode())
        dtype = numpy.lib.format.descr_to_dtype(descr)
        if dtype.hasobject:
            raise ValueError("its elements are pointers")
        if type(shape) is not tuple or any(type(d) is not int or d < 0 for d in shape):
            raise ValueError("its shape is none")
        if math.prod(shape) * dtype.itemsize > max(resource.size - DATA, 0):
            raise ValueError("it is larger than its segment")
        return numpy.ndarray(shape, dtype, memoryview(resource)[DATA:])
    except (ValueError, TypeError, SyntaxError, KeyError, IndexError, OverflowError, RecursionError, MemoryError) as error:
        raise SharedDataError(f"the shared array of {name!r} was damaged by another process: {error}; clear() of the function makes a "
                              "new one") from error
