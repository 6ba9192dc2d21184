# SPDX-License-Identifier: MIT
"""diskcache: memoize(), and a bare get. Its directory is given, on the disk or in memory as the caller likes."""

import sys

import diskcache
import work

cache = diskcache.Cache(sys.argv[1])


def gets(order):
    value = b"v" * order["size"]
    keys = [f"known-{i}" for i in range(100)]
    for k in keys:
        cache.set(k, value)
    return {"ns": work.calls(cache.get, keys * (order["calls"] // 100), order["batches"])}


work.serve({"double": cache.memoize()(work.double), "slow": cache.memoize()(work.slow)}, more={"gets": gets})
