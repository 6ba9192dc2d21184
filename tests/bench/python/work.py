# SPDX-License-Identifier: MIT
"""What the programs of this directory do: one decorator each, and the orders of tests/bench/python.py.

A program hands what it has to serve(). Orders come as lines of JSON, and each is answered with one JSON object, so that
programs of several caches take turns without being started anew.
"""

from __future__ import annotations

import gc
import itertools
import json
import statistics
import sys
import threading
import time

# What the functions under test took themselves, one number for each time that one really ran.
RAN: list[float] = []


def double(n: int) -> int:
    RAN.append(0.0)
    return 2 * n


def slow(n: int) -> int:
    time.sleep(1)
    RAN.append(1.0)
    return n


def frame(rows: int, seed: int):
    """Four columns of doubles, as cheaply as numpy makes them."""
    import numpy as np
    import pandas as pd

    began = time.perf_counter()
    out = pd.DataFrame({name: np.arange(seed + i, seed + i + rows, dtype="f8") for i, name in enumerate("abcd")})
    RAN.append(time.perf_counter() - began)
    return out


def table(path: str, seed: int):
    import pandas as pd

    began = time.perf_counter()
    out = pd.read_csv(path)
    RAN.append(time.perf_counter() - began)
    return out


def size_of(array) -> int:
    RAN.append(0.0)
    return array.size


def calls(function, arguments, batches):
    """Nanoseconds of a call, the loop's own included: the median batch."""
    for a in arguments:
        function(a)
    taken = []
    for _ in range(batches):
        began = time.perf_counter_ns()
        for a in arguments:
            function(a)
        taken.append((time.perf_counter_ns() - began) / len(arguments))
    return statistics.median(taken)


def hits(way, order):
    """A hundred arguments in turn, all of them known: one and the same would be what no program asks for."""
    arguments = list(itertools.islice(itertools.cycle(range(100)), order["calls"]))
    for a in range(100):
        way(a)
    RAN.clear()
    return {"ns": calls(way, arguments, order["batches"]), "ran": len(RAN)}


def timed(function, *arguments):
    """What it gives, and the seconds that this took."""
    began = time.perf_counter()
    value = function(*arguments)
    return value, time.perf_counter() - began


def large(way, order, *arguments):
    """The first call less the function's own time; later calls; later calls and a look at all that they gave.

    Before all that, what either side imports only when it is needed is there.
    """
    way(*order["small"])
    forget(way)
    gc.disable()
    RAN.clear()
    value, first = timed(way, *arguments)
    own, about = RAN[0], facts(value)
    del value
    later, read = [], []
    for _ in range(order["later"]):
        value, seconds = timed(way, *arguments)
        later.append(seconds)
        if facts(value) != about:
            raise SystemExit(f"a hit is {facts(value)}, and not {about}")
        del value
    for _ in range(order["read"]):
        value, seconds = timed(way, *arguments)
        read.append(seconds + timed(lambda: value.sum(numeric_only=True))[1])
        del value
    gc.enable()
    ran = len(RAN)
    forget(way)
    return {"first_s": first - own, "own_s": own, "later_s": later, "read_s": read, "ran": ran}


def facts(value):
    """Something of a frame, and hardly any of its pages."""
    return value.shape, [str(t) for t in value.dtypes], value.iloc[-1].tolist()


def forget(way):
    """What is stored of it; the last order may have left the same."""
    if hasattr(way, "clear"):
        way.clear()
    gc.collect()


def hashed(way, order):
    """Hits with an array for an argument, which is looked at anew each time."""
    import numpy as np

    array = np.arange(order["bytes"] // 8, dtype="f8")
    way(array)
    RAN.clear()
    wall, cpu = [], []
    for _ in range(order["calls"]):
        before = time.process_time()
        _, seconds = timed(way, array)
        wall.append(seconds)
        cpu.append(time.process_time() - before)
    return {"seconds": statistics.median(wall), "cpu_seconds": statistics.median(cpu), "ran": len(RAN)}


def once(way, order, thread):
    """Calls of a function that takes a second, that begin at one moment in all processes."""
    RAN.clear()
    n, done = order["calls"], []
    at = order["at"]

    def call():
        time.sleep(max(0.0, at - time.monotonic()))
        done.append(way(order["argument"]))

    if order["threads"]:
        threads = [thread(threading.Thread(target=call, daemon=True)) for _ in range(n)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    else:
        for _ in range(n):
            call()
    if done != [order["argument"]] * n:
        raise SystemExit("a call gave something else than the function returns")
    return {"computed": len(RAN), "seconds": time.monotonic() - at}


def serve(ways, *, thread=lambda t: t, more=None):
    """Answers orders until there are no more.

    @ways: {name: decorated function}; @thread: what is done to a thread before it starts; @more: {order: its function}
    """
    doing = {
        "hits": hits,
        "large": lambda way, order: large(way, order, *order["arguments"]),
        "hash": hashed,
        "once": lambda way, order: once(way, order, thread),
    }
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] in (more or {}):
            answer = more[order["do"]](order)
        else:
            answer = doing[order["do"]](ways[order["way"]], order)
        print(json.dumps(answer), flush=True)
