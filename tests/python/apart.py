# SPDX-License-Identifier: MIT
"""Values taken apart and put together without a daemon: what the codec does with states, in its shortest form.

    store(value)      what would be stored: plain values, names, and buffers
    read(stored)      the value over copies of the buffers, as each reader has its own
    pickled(stored)   how many parts were pickled
"""

import datetime
import pickle
import zoneinfo

from cached import _frames

PLAIN = (type(None), bool, int, float, str, bytes, complex, datetime.timezone, zoneinfo.ZoneInfo)


def store(value):
    kind = type(value)
    if kind in PLAIN:
        return value
    if kind in (list, tuple):
        return (kind.__name__, [store(item) for item in value])
    if kind is dict:
        return ("dict", [(store(key), store(item)) for key, item in value.items()])
    if kind is _frames.Blob:
        return ("blob", value.view)
    reduced = _frames.reduce(value)
    if reduced is None:
        return ("pickle", pickle.dumps(value, 5))
    name, state = reduced
    return ("named", name, store(state))


def read(stored):
    if type(stored) is not tuple:
        return stored
    kind = stored[0]
    if kind == "blob":
        return memoryview(bytearray(stored[1]))
    if kind == "pickle":
        return pickle.loads(stored[1])
    if kind == "named":
        return _frames.rebuild(stored[1], read(stored[2]))
    if kind == "dict":
        return {read(key): read(item) for key, item in stored[1]}
    return {"list": list, "tuple": tuple}[kind](map(read, stored[1]))


def blobs(stored):
    """The buffers, in their order."""
    if type(stored) is not tuple:
        return []
    if stored[0] == "blob":
        return [stored[1]]
    parts = stored[2:] if stored[0] == "named" else stored[1] if stored[0] in ("list", "tuple", "dict") else []
    flat = [part for pair in parts for part in pair] if stored[0] == "dict" else parts
    return [blob for part in flat for blob in blobs(part)]


def pickled(stored):
    if type(stored) is not tuple or stored[0] == "blob":
        return 0
    if stored[0] == "pickle":
        return 1
    parts = stored[2:] if stored[0] == "named" else stored[1]
    flat = [part for pair in parts for part in pair] if stored[0] == "dict" else parts
    return sum(map(pickled, flat))


def again(value, pickles=0):
    """The value as a reader gets it, with @pickles parts pickled on its way."""
    stored = store(value)
    assert pickled(stored) == pickles, stored
    return read(stored)
