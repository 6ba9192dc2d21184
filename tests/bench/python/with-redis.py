# SPDX-License-Identifier: MIT
"""redis-py (with hiredis) and pickle over the Unix socket that is given: the decorator that people write themselves."""

import functools
import pickle
import sys

import redis
import work

server = redis.Redis(unix_socket_path=sys.argv[1])


def memoize(function):
    @functools.wraps(function)
    def wrapper(*args):
        key = pickle.dumps((function.__module__, function.__qualname__, args))
        found = server.get(key)
        if found is not None:
            return pickle.loads(found)
        value = function(*args)
        server.set(key, pickle.dumps(value))
        return value

    return wrapper


def gets(order):
    value = b"v" * order["size"]
    keys = [b"known-%d" % i for i in range(100)]
    for k in keys:
        server.set(k, value)
    return {"ns": work.calls(server.get, keys * (order["calls"] // 100), order["batches"])}


work.serve({"double": memoize(work.double), "slow": memoize(work.slow)}, more={"gets": gets})
