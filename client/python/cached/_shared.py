# SPDX-License-Identifier: MIT
"""Lists, dicts, arrays and buffers that are one for all processes."""

from __future__ import annotations

import copy
from collections.abc import MutableMapping, MutableSequence
from contextlib import contextmanager
from typing import Any, Iterable, Iterator

from . import _segment
from ._segment import State

# What nobody can change: it is given out as it is, everything else as a copy.
_FIXED = frozenset((type(None), bool, int, float, complex, str, bytes))


def _own(value: Any) -> Any:
    return value if type(value) in _FIXED else copy.deepcopy(value)


class _Shared:
    """A value in shared memory. Each method is one step, which nobody else's comes in between of; several together are with lock()."""

    __slots__ = ("_state", "__weakref__")

    def __init__(self, state: State):
        self._state = state

    def __len__(self) -> int:
        return len(self._state.read())

    def __contains__(self, value: Any) -> bool:
        return value in self._state.read()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._state.read()!r})"

    def __eq__(self, other: Any) -> Any:
        mine = self._state.read()
        if isinstance(other, _Shared):
            return mine == other._state.read()
        return mine == other if isinstance(other, type(mine)) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> Any:
        raise TypeError(f"a {type(self).__name__} is not sent to another process: call {self._state.name!r} there, which gives the same one")

    def copy(self) -> Any:
        """A plain one, as it is now."""
        return copy.deepcopy(self._state.read())

    @contextmanager
    def lock(self, timeout: float | None = None) -> Iterator[Any]:
        """Within, no other process and no other thread changes it. TimeoutError: another one has the lock."""
        with self._state.lock(timeout):
            yield self

    def clear(self) -> None:
        with self._state.changing() as value:
            value.clear()

    def add(self, key: Any, amount: Any = 1) -> Any:
        """self[key] += amount in one step, among all processes; what it is then."""
        with self._state.changing() as value:
            value[key] += amount
            return _own(value[key])


class SharedList(_Shared, MutableSequence):
    """A list that is one for all processes.

    l[0] += 1 reads and writes: two steps. Where others do the same at that time, l.add(0, 1) or with l.lock():. Items that can be changed
    themselves (a list in the list) are given out as copies: assign them again.
    """

    __slots__ = ()

    def __getitem__(self, index: Any) -> Any:
        return _own(self._state.read()[index])

    def __setitem__(self, index: Any, item: Any) -> None:
        with self._state.changing() as value:
            value[index] = item

    def __delitem__(self, index: Any) -> None:
        with self._state.changing() as value:
            del value[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.copy())

    def insert(self, index: int, item: Any) -> None:
        with self._state.changing() as value:
            value.insert(index, item)

    def append(self, item: Any) -> None:
        with self._state.changing() as value:
            value.append(item)

    def extend(self, items: Iterable[Any]) -> None:
        items = list(items)
        with self._state.changing() as value:
            value.extend(items)

    def __iadd__(self, items: Iterable[Any]) -> SharedList:
        self.extend(items)
        return self

    def pop(self, index: int = -1) -> Any:
        with self._state.changing() as value:
            return value.pop(index)

    def remove(self, item: Any) -> None:
        with self._state.changing() as value:
            value.remove(item)

    def reverse(self) -> None:
        with self._state.changing() as value:
            value.reverse()

    def sort(self, *, key: Any = None, reverse: bool = False) -> None:
        with self._state.changing() as value:
            value.sort(key=key, reverse=reverse)

    def index(self, item: Any, *range_: int) -> int:
        return self._state.read().index(item, *range_)

    def count(self, item: Any) -> int:
        return self._state.read().count(item)


class SharedDict(_Shared, MutableMapping):
    """A dict that is one for all processes.

    d["n"] += 1 reads and writes: two steps. Where others do the same at that time, d.add("n", 1) or with d.lock():. Values that can be
    changed themselves (a list in the dict) are given out as copies: assign them again.
    """

    __slots__ = ()

    def __getitem__(self, key: Any) -> Any:
        return _own(self._state.read()[key])

    def __setitem__(self, key: Any, item: Any) -> None:
        with self._state.changing() as value:
            value[key] = item

    def __delitem__(self, key: Any) -> None:
        with self._state.changing() as value:
            del value[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.copy())

    def pop(self, key: Any, *default: Any) -> Any:
        with self._state.changing() as value:
            return value.pop(key, *default)

    def popitem(self) -> Any:
        with self._state.changing() as value:
            return value.popitem()

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """Of several at once one sets it; all get what it is then."""
        with self._state.changing() as value:
            return _own(value.setdefault(key, default))

    def update(self, *args: Any, **kwargs: Any) -> None:
        items = dict(*args, **kwargs)
        with self._state.changing() as value:
            value.update(items)

    def add(self, key: Any, amount: Any = 1) -> Any:
        """self[key] += amount in one step, among all processes, from 0 on if there is none; what it is then."""
        with self._state.changing() as value:
            value[key] = value.get(key, 0) + amount
            return _own(value[key])


_PROXIES = {_segment.LIST: (SharedList, list), _segment.DICT: (SharedDict, dict)}


class Segment:
    """Memory that all write to: a list, a dict, or an array."""

    name = "segment"
    read_only = False

    def __init__(self, capacity: int | None):
        self.capacity = capacity

    def form(self, value: Any, name: str) -> int:
        if type(value) in (list, SharedList):
            return _segment.LIST
        if type(value) in (dict, SharedDict):
            return _segment.DICT
        if _is_array(value):
            return _segment.ARRAY
        raise TypeError(f"cache_resource function {name!r} has shared=True and returned a {type(value).__name__}: shared by all processes are "
                        "lists, dicts and numpy arrays; kind=\"buffers\" takes what is read-only, kind=\"descriptor\" an open socket or file, "
                        "and without shared=True each process makes its own")

    def publish(self, resource: Any, held: Any, holding: Any) -> Any:
        form = self.form(held.value, holding.name)
        if form == _segment.ARRAY:
            self.write_array(resource, held.value)
        else:
            self.write_value(resource, held, holding, form)
        resource.publish()
        if form == _segment.ARRAY:
            held.value = _segment.array_of(resource, holding.name)
        return resource

    def write_array(self, resource: Any, array: Any) -> None:
        import numpy

        array = numpy.asarray(array)
        text = _segment.array_head(array)
        resource.give_size(_segment.DATA + array.nbytes)
        _segment.begin(resource, _segment.ARRAY, len(text))
        resource.write(_segment.PLACES, text)
        if array.nbytes:
            with memoryview(resource) as memory, memory[_segment.DATA:] as data:
                target = numpy.ndarray(array.shape, array.dtype, data)
                target[...] = array
                del target

    def write_value(self, resource: Any, held: Any, holding: Any, form: int) -> None:
        """A proxy that this process made while it was alone goes on, over the segment."""
        proxy, kind = _PROXIES[form]
        state = held.value._state if isinstance(held.value, _Shared) else None
        plain = kind(state.read() if state else held.value)
        n = _segment.encode(plain, f"the shared {kind.__name__} of {holding.name!r}").size
        resource.give_size(_segment.size_for(_segment.capacity_for(n, self.capacity)))
        _segment.begin(resource, form)
        new = State(resource, kind, held)
        new.commit(plain)
        if state is None:
            held.value = proxy(new)
        else:
            held.value._state = new

    def open(self, resource: Any, holding: Any, held: Any) -> Any:
        form = _segment.form_of(resource)
        if form == _segment.ARRAY:
            return _segment.array_of(resource, holding.name)
        if form not in _PROXIES:
            raise _segment.SharedDataError(f"the segment of {holding.name!r} holds no list, dict or array: other processes use another kind=")
        proxy, kind = _PROXIES[form]
        return proxy(State(resource, kind, held))

    def alone(self, held: Any, holding: Any) -> Any:
        form = self.form(held.value, holding.name)
        if form == _segment.ARRAY or isinstance(held.value, _Shared):
            return held.value
        proxy, kind = _PROXIES[form]
        capacity = _segment.capacity_for(_segment.encode(held.value, f"the shared {kind.__name__} of {holding.name!r}").size, self.capacity)
        memory = _segment.Memory(_segment.size_for(capacity))
        _segment.begin(memory, form)
        state = State(memory, kind, held)
        state.commit(held.value)
        return proxy(state)


class Buffers:
    """Memory that is made once and then read: whatever consists of arrays, bytes and plain values."""

    name = "segment"
    read_only = True

    def publish(self, resource: Any, held: Any, holding: Any) -> Any:
        encoded = _segment.encode(held.value, f"the buffers of {holding.name!r}")
        resource.give_size(_segment.DATA + encoded.size)
        _segment.begin(resource, _segment.BUFFERS, encoded.size, encoded.flags)
        _segment.write_pieces(resource, encoded.pieces)
        resource.publish()
        held.value = self.open(resource, holding, held)
        return resource

    def open(self, resource: Any, holding: Any, held: Any) -> Any:
        if _segment.form_of(resource) != _segment.BUFFERS or not resource.read_only:
            raise _segment.SharedDataError(f"the segment of {holding.name!r} holds no read-only buffers: other processes use another kind=")
        return _segment.buffers_of(resource, holding.name)

    def alone(self, held: Any, holding: Any) -> Any:
        return held.value


def _is_array(value: Any) -> bool:
    return any(t.__module__ == "numpy" and t.__name__ == "ndarray" for t in type(value).__mro__)
