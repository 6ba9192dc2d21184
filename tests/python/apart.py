# SPDX-License-Identifier: MIT
"""Values as bytes and back, without a daemon.

    again(value)          as a reader gets it, from memory of its own; without pickle, unless told otherwise
    stored(value)         what would be stored: the flags and the bytes
    read(flags, data)     the value of these bytes
"""

from cached import _values


def stored(value, pickle=False):
    encoded = _values.dumps(value, pickle=pickle)
    return encoded.flags, encoded.join()


def read(flags, data, pickle=False):
    return _values.loads(memoryview(bytearray(data)), unpickle=pickle, flags=flags)


def again(value, pickle=False):
    return read(*stored(value, pickle), pickle)
