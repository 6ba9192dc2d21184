# SPDX-License-Identifier: MIT
"""cached: the daemon that $CACHED_SOCKET names."""

import functools

import cached
import work

quiet = cached.cache_data(show_spinner=False)


def frame_in_place(rows: int, seed: int):
    """The frame of work.py, in the memory that it is stored in."""
    import time

    import numpy as np

    began = time.perf_counter()
    out = cached.empty_frame(rows, dict.fromkeys("abcd", "f8"))
    for i, name in enumerate("abcd"):
        out.loc[:, name] = np.arange(seed + i, seed + i + rows, dtype="f8")
    work.RAN.append(time.perf_counter() - began)
    return out


def client():
    from cached import _client

    return _client.current()


def gets(order):
    """The extension module's own get: an entry, which is looked at as memory."""
    value = b"v" * order["size"]
    keys = [b"known-%d" % i for i in range(100)]
    c = client()
    for k in keys:
        c.set("known", k, value)
    return {"ns": work.calls(functools.partial(c.get, "known"), keys * (order["calls"] // 100), order["batches"])}


def prepare(order):
    try:
        cached.prepare(order["bytes"], 1)
    except cached.CacheError as error:
        return {"error": str(error)}
    return {}


def stats(_):
    return client().stats()


work.serve(
    {
        "double": quiet(work.double),
        "double-spinner": cached.cache_data(work.double),
        "slow": quiet(work.slow),
        "size_of": quiet(work.size_of),
        "data": quiet(work.frame),
        "resource": cached.cache_resource(show_spinner=False)(work.frame),
        "in-place": quiet(frame_in_place),
        "table": quiet(work.table),
    },
    more={"gets": gets, "prepare": prepare, "stats": stats},
)
