# SPDX-License-Identifier: MIT
"""libcached through ctypes; run by test_ffi.py: calls.py LIBRARY DECLARATIONS STEP

Every type of an argument is set from the declarations, so that a wrong one is an error and not a guess. The steps are
the functions below that begin with step_; what they do in common is in Cached.
"""

import ctypes
import json
import os
import pathlib
import select
import sys
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint64, c_void_p

TYPES = {
    "void": None, "int": c_int, "unsigned": ctypes.c_uint, "double": ctypes.c_double, "size_t": c_size_t,
    "uint8_t": ctypes.c_uint8, "uint32_t": ctypes.c_uint32, "int32_t": ctypes.c_int32,
    "uint64_t": c_uint64, "int64_t": ctypes.c_int64, "char*": c_char_p,
}


def foreign(name):
    """The ctypes type: pointers to what is opaque, or is bytes, are plain pointers."""
    if name in TYPES:
        return TYPES[name]
    assert name.endswith("*"), name
    inner = name[:-1]
    if inner in TYPES and inner not in ("void", "uint8_t"):
        return POINTER(TYPES[inner])
    return POINTER(c_void_p) if inner.endswith("*") else c_void_p


class Cached:
    """A handle on the daemon of $CACHED_SOCKET, which is found by an option."""

    def __init__(self, lib, constants, timeout_ms=20000):
        self.lib = lib
        self.n = constants
        options = lib.cached_options_new()
        assert lib.cached_options_set_socket(options, os.environb[b"CACHED_SOCKET"]) == 0
        assert lib.cached_options_set_timeout_ms(options, timeout_ms) == 0
        handle = c_void_p()
        assert lib.cached_new(options, byref(handle)) == 0
        lib.cached_options_free(options)
        self.handle = handle

    def call(self, function, *arguments):
        """(code, reply); the caller frees the reply."""
        reply = c_void_p()
        code = function(self.handle, *arguments, byref(reply))
        assert reply and self.lib.cached_reply_code(reply) == code
        return code, reply

    def value(self, reply):
        return self.bytes(self.lib.cached_reply_value, reply)

    @staticmethod
    def bytes(function, *arguments):
        n = c_size_t(12345)
        at = function(*arguments, byref(n))
        return ctypes.string_at(at, n.value) if at else None

    def free(self):
        self.lib.cached_free(self.handle)


def array(strings):
    """What get_many takes: pointers and lengths."""
    return (c_void_p * len(strings))(*[ctypes.cast(c_char_p(s), c_void_p) for s in strings]), \
        (c_size_t * len(strings))(*map(len, strings))


def step_basics(lib, n):
    c = Cached(lib, n)
    key, value = b"k\0\xff", bytes(range(256)) * 300
    code, r = c.call(lib.cached_set, b"ffi", key, len(key), value, len(value), None)
    assert code == n["CACHED_OK"], lib.cached_reply_error(r)
    version = lib.cached_reply_version(r)
    lib.cached_reply_free(r)

    code, r = c.call(lib.cached_get, b"ffi", key, len(key))
    assert code == n["CACHED_OK"] and c.value(r) == value and lib.cached_reply_version(r) == version > 0
    assert lib.cached_reply_ttl_ms(r) == n["CACHED_NEVER"] == 2 ** 64 - 1
    assert lib.cached_reply_uid(r) == os.geteuid()
    lib.cached_reply_free(r)

    options = lib.cached_set_options_new()
    assert lib.cached_set_options_set_mode(options, n["CACHED_SET_ADD_ONLY"]) == 0
    assert lib.cached_set_options_set_ttl_ms(options, 3600000) == 0
    assert lib.cached_set(c.handle, b"ffi", key, len(key), b"", 0, options, None) == n["CACHED_EXISTS"]
    assert lib.cached_set(c.handle, b"ffi", b"empty", 5, b"", 0, options, None) == n["CACHED_OK"]
    lib.cached_set_options_free(options)

    wanted = [b"empty", b"none", key]
    code, r = c.call(lib.cached_get_many, b"ffi", len(wanted), *array(wanted))
    assert code == n["CACHED_OK"] and lib.cached_reply_n_items(r) == 3
    assert [lib.cached_reply_item_code(r, i) for i in range(4)] == \
        [n["CACHED_OK"], n["CACHED_NOT_FOUND"], n["CACHED_OK"], n["CACHED_ERR_USAGE"]]
    assert [c.bytes(lib.cached_reply_item_value, r, i) for i in range(3)] == [b"", None, value]
    lib.cached_reply_free(r)

    code, r = c.call(lib.cached_stats, b"ffi")
    entries = c_uint64()
    assert code == 0 and lib.cached_reply_u64(r, b"cache.entries", byref(entries)) == 0 and entries.value == 2
    name = c_char_p()
    assert lib.cached_reply_text(r, b"cache.name", byref(name)) == 0 and name.value == b"ffi"
    lib.cached_reply_free(r)

    assert lib.cached_delete(c.handle, b"ffi", key, len(key), None) == n["CACHED_OK"]
    assert lib.cached_delete(c.handle, b"ffi", key, len(key), None) == n["CACHED_NOT_FOUND"]
    c.free()


def step_errors(lib, n):
    """Codes and words: of the library, of the daemon, of calls without a daemon and without arguments."""
    words = {name: lib.cached_strerror(value) for name, value in n.items()
             if name.startswith("CACHED_ERR_") and value < 128 or name in ("CACHED_OK", "CACHED_LIMIT")}
    assert len(set(words.values())) == len(words) and lib.cached_strerror(-5) not in words.values()
    c = Cached(lib, n)
    code, r = c.call(lib.cached_get, b"ffi", b"k" * 65, 65)
    assert code == n["CACHED_INVALID"] and b"64" in lib.cached_reply_error(r)
    lib.cached_reply_free(r)
    code, r = c.call(lib.cached_get, None, b"k", 1)
    assert code == n["CACHED_ERR_USAGE"] and lib.cached_reply_error(r)
    lib.cached_reply_free(r)
    assert lib.cached_get(None, b"ffi", b"k", 1, None) == n["CACHED_ERR_USAGE"]
    lib.cached_close(c.handle)
    assert lib.cached_ping(c.handle, None) == n["CACHED_ERR_CLOSED"]
    c.free()
    os.environ["CACHED_SOCKET"] += ".none"
    c = Cached(lib, n)
    code, r = c.call(lib.cached_ping)
    assert code == n["CACHED_ERR_UNREACHABLE"]
    assert os.environb[b"CACHED_SOCKET"] in lib.cached_reply_error(r)
    lib.cached_reply_free(r)
    c.free()


# ---- keys: the items of proto/key-vectors.json, each by the function that is for it


def pattern(size):
    return (bytes(i % 251 for i in range(251)) * (size // 251 + 1))[:size]


def encoded(text):
    return text.encode(), len(text.encode())


def add_array(lib, k, dtype, dims, data):
    return lib.cached_key_add_array(k, *encoded(dtype), len(dims), (c_uint64 * len(dims))(*dims), data, len(data))


def add_integer(lib, k, text):
    value = int(text)
    magnitude = abs(value).to_bytes(abs(value).bit_length() // 8 + 1, "big")
    return lib.cached_key_add_integer(k, text.startswith("-"), magnitude, len(magnitude))


def add_bytes(lib, k, data):
    return lib.cached_key_add_bytes(k, data, len(data))


def holder(begin, flat=False):
    def add(lib, k, items):
        getattr(lib, f"cached_key_begin_{begin}")(k)
        for item in items:
            for part in item if flat else [item]:
                add_item(lib, k, part)
        return lib.cached_key_end(k)
    return add


def add_named(lib, k, name, items):
    lib.cached_key_begin_named(k, *encoded(name))
    for item in items:
        add_item(lib, k, item)
    return lib.cached_key_end(k)


ITEMS = {
    "null": lambda lib, k: lib.cached_key_add_null(k),
    "bool": lambda lib, k, value: lib.cached_key_add_bool(k, value),
    "int": add_integer,
    "double": lambda lib, k, bits: lib.cached_key_add_double(k, ctypes.c_double.from_buffer_copy(
        bytes.fromhex(bits)[::-1] if sys.byteorder == "little" else bytes.fromhex(bits))),
    "text": lambda lib, k, text: lib.cached_key_add_text(k, *encoded(text)),
    "text-repeat": lambda lib, k, text, times: lib.cached_key_add_text(k, *encoded(text * times)),
    "text-hex": lambda lib, k, data: lib.cached_key_add_text(k, bytes.fromhex(data), len(data) // 2),
    "bytes": lambda lib, k, data: add_bytes(lib, k, bytes.fromhex(data)),
    "bytes-rule": lambda lib, k, size: add_bytes(lib, k, pattern(size)),
    "uuid": lambda lib, k, data: lib.cached_key_add_uuid(k, bytes.fromhex(data)),
    "decimal": lambda lib, k, text: lib.cached_key_add_decimal(k, *encoded(text)),
    "date": lambda lib, k, *v: lib.cached_key_add_date(k, *v),
    "time": lambda lib, k, *v: lib.cached_key_add_time(k, *v),
    "time-zone": lambda lib, k, *v: lib.cached_key_add_time_zone(k, *v[:-1], *encoded(v[-1])),
    "datetime": lambda lib, k, *v: lib.cached_key_add_datetime(k, *v),
    "datetime-zone": lambda lib, k, *v: lib.cached_key_add_datetime_zone(k, *v[:-1], *encoded(v[-1])),
    "duration": lambda lib, k, seconds, nanos: lib.cached_key_add_duration(k, int(seconds), nanos),
    "array": lambda lib, k, dtype, dims, data: add_array(lib, k, dtype, dims, bytes.fromhex(data)),
    "array-rule": lambda lib, k, dtype, dims, size: add_array(lib, k, dtype, dims, pattern(size)),
    "list": holder("list"),
    "tuple": holder("tuple"),
    "set": holder("set"),
    "map": holder("map", flat=True),
    "named": add_named,
}


def add_item(lib, k, item):
    return ITEMS[item[0]](lib, k, *item[1:])


def step_keys(lib, n):
    """Every shared vector; what is invalid has the error that sticks, with words."""
    shared = json.loads((pathlib.Path(__file__).parents[3] / "proto" / "key-vectors.json").read_text())
    k = lib.cached_key_new()
    key = ctypes.create_string_buffer(n["CACHED_KEY_SIZE"])
    for v in shared["vectors"]:
        assert lib.cached_key_reset(k) == 0
        for item in v["items"]:
            add_item(lib, k, item)
        assert lib.cached_key_finish(k, key) == 0, (v["name"], lib.cached_key_error(k))
        assert key.raw.hex() == v["key"], v["name"]
    assert len(shared["vectors"]) > 100
    assert lib.cached_key_add_text(k, b"\xff", 1) == n["CACHED_ERR_USAGE"]
    assert b"UTF-8" in lib.cached_key_error(k)
    lib.cached_key_free(k)


def step_loop(lib, n):
    """A pipeline that never waits, in a loop of select.poll()."""
    c = Cached(lib, n)
    p = c_void_p()
    assert lib.cached_pipeline_new_nonblocking(c.handle, byref(p)) == 0
    poll = select.poll()
    poll.register(lib.cached_pipeline_fd(p), select.POLLIN)
    for i in range(300):
        key = b"%d" % i
        assert lib.cached_pipeline_set(p, b"loop", key, len(key), key * 10, len(key) * 10, None, i) == 0
        assert lib.cached_pipeline_get(p, b"loop", key, len(key), 1000 + i) == 0
    results = {}
    while lib.cached_pipeline_in_flight(p):
        assert poll.poll(20000), "nothing came"
        assert lib.cached_pipeline_dispatch(p) == 0
        tag, reply = c_uint64(), c_void_p()
        while lib.cached_pipeline_next(p, byref(tag), byref(reply)) != n["CACHED_ERR_AGAIN"]:
            results[tag.value] = lib.cached_reply_code(reply), c.value(reply)
            lib.cached_reply_free(reply)
    assert results == {i: (0, None) for i in range(300)} | {1000 + i: (0, b"%d" % i * 10) for i in range(300)}
    lib.cached_pipeline_free(p)
    c.free()


def step_memoize(lib, n):
    """A function of Python's that runs once for an argument, and whose failures are its own."""
    compute = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p)
    runs = []

    def double(data, out):
        value = ctypes.cast(data, POINTER(c_uint64)).contents.value
        runs.append(value)
        if value == 13:
            return n["CACHED_ERR_CALLER"] + 13
        text = b"%d" % (2 * value)
        return lib.cached_result_set(out, text, len(text))

    callback = compute(double)   # lives as long as it may be called
    c = Cached(lib, n)
    options = lib.cached_memo_options_new()
    assert lib.cached_memo_options_set_version(options, b"1") == 0
    assert lib.cached_memo_options_set_wait_ms(options, 0) == 0

    def memoized(value, options):
        k = lib.cached_key_new()
        lib.cached_key_add_uint(k, value)
        argument, result = c_uint64(value), c_void_p()
        code = lib.cached_memoize(c.handle, b"double", k, ctypes.cast(callback, c_void_p), byref(argument), options,
                                  byref(result))
        out = code, c.bytes(lib.cached_result_value, result), lib.cached_result_is_hit(result), \
            lib.cached_result_cache_code(result)
        words = lib.cached_result_error(result)
        lib.cached_result_free(result)
        lib.cached_key_free(k)
        return out, words

    assert memoized(21, options) == ((0, b"42", 0, 0), b"")
    assert memoized(21, options) == ((0, b"42", 1, 0), b"") and runs == [21]
    assert [memoized(13, options)[0][:2] for _ in range(2)] == [(n["CACHED_ERR_CALLER"] + 13, None)] * 2
    assert runs == [21, 13, 13]
    # Nothing tells which code a callback of an FFI is: without a version it is computed each time.
    out, words = memoized(21, None)
    assert out == (0, b"42", 0, n["CACHED_ERR_USAGE"]) and words and runs == [21, 13, 13, 21]
    lib.cached_memo_options_free(options)
    c.free()


def main():
    path, declared, step = sys.argv[1:]
    what = json.loads(pathlib.Path(declared).read_text())
    lib = ctypes.CDLL(path)
    for name, (result, *parameters) in what["functions"].items():
        function = getattr(lib, name)
        function.restype = foreign(result)
        function.argtypes = [foreign(p) for p in parameters]
    globals()[f"step_{step}"](lib, what["constants"])


main()
