# SPDX-License-Identifier: MIT
"""The installed service under a real systemd, in a sandbox: how long restarts, deaths and starts take.

What is done is in tests/systemd/restarts.py, which the tests use as well; they say whether it is right, here are the
times. Needs root, and what a sandbox needs (tests/systemd/guest.py).
"""

import sys

from bench import BUILD, ROOT, Trouble, number
from leases import time_shared


def guest_module():
    """tests/systemd/guest.py, if it can do something here."""
    sys.path.insert(0, str(ROOT / "tests/systemd"))
    sys.path.insert(0, str(ROOT / "tests/outside"))
    try:
        import guest
    except ImportError as e:
        raise Trouble(f"no sandbox can be had without {e.name} (packages python3-pytest, python3-protobuf)") from e
    if reason := guest.why_not():
        raise Trouble(f"no sandbox can be had here: {reason}")
    if not (BUILD / "tests/systemd/load").exists():
        raise Trouble(f"there is no {BUILD}/tests/systemd/load: build with -Dtests=enabled")
    return guest


def measure(b, name, **params):
    """One of restarts.py, in a guest of its own. Clients, daemon and service manager share the processors, since that
    is what a restart is about."""
    guest = guest_module()
    with time_shared(), guest.boot(timeout=1200, check=False) as g:
        g.install()
        r = g.python(f"import restarts; restarts.main({name!r}, **{params!r})", timeout=1100)
    if r.err:
        b.notes.append(f"service: {r.err.strip()}")
    return r.json


def whole(found, what):
    if found["lost"] or found["wrong"] or found["older"] or found["failed"]:
        raise Trouble(f"{what}: {found}")


def restart(b):
    """From the command, and from SIGKILL, to the first answer of a client that asks all the time."""
    entries = 100_000 if b.quick else 1_000_000
    for reader in (False, True):
        found = measure(b, "times", entries=entries, size=1000, rounds=5, mapped=reader)
        suffix = "-read" if reader else ""
        for how in ("restart", "kill"):
            whole(found[how + "_verify"], how)
            rounds = found[how]
            target = "no target: the reader has one of the processors" if reader else "within 300"
            b.add(f"service-{how}{suffix}", "ms", [r["answered_ms"] for r in rounds], target,
                  lambda o, _, reader=reader: reader or o <= 300, entries=entries,
                  gap_ms=[r["gap_ms"] for r in rounds], pid1_ms=[r["pid1_ms"] for r in rounds])
            if reader:
                b.add(f"service-{how}-hits", "ms", [r["mapped"]["longest_ns"] / 1e6 for r in rounds],
                      "the longest time without a mapped hit within 100", lambda o, _: o <= 100,
                      together_ms=[r["mapped"]["gaps_ns"] / 1e6 for r in rounds])


def writes(b):
    """What is back after a death under full write load."""
    found = measure(b, "writes", keys=100_000 if b.quick else 1_000_000, size=1000, writers=4, kills=3 if b.quick else 10,
                    seconds=1 if b.quick else 3)
    for kill in found["kills"]:
        whole({**kill, "lost": 0}, "kill")
    whole(found["orderly"], "restart")
    whole(found["under_load"], "restart under load")
    b.add("service-kept", "%", [100 * k["there"] / k["expected"] for k in found["kills"]], "at least 99.99",
          lambda o, _: o >= 99.99, lower_is_better=False, stores=found["kills"][-1]["stores"])


def storm(b):
    """Slow answers of 32 clients of all kinds, and of a mapped reader without pause."""
    n = 5 if b.quick else 100
    found = measure(b, "storm", clients=32, entries=50_000, restarts=n, kills=n, pause_us=1000)
    for how in ("restart", "kill"):
        rounds = found[how]
        spans, hits = ([r["span_ns"] / 1e6 for r in rounds], [r["mapped"]["longest_ns"] / 1e6 for r in rounds])
        b.add(f"service-{how}-slow", "ms", spans, "each time at most 500", lambda _o, _r, s=spans: max(s) <= 500,
              slowest_ms=[r["slowest_ns"] / 1e6 for r in rounds], pid1_ms=[r["pid1_ms"] for r in rounds],
              calls=found[how + "_calls"])
        b.add(f"service-{how}-slow-hits", "ms", hits, "the longest time without a mapped hit within 100",
              lambda o, _: o <= 100)


def first(b):
    times = measure(b, "first", rounds=20)
    b.add("service-first", "ms", times, "within 100", lambda o, _: o <= 100)


def kept(b):
    """What large values and sessions cost the service manager."""
    large, sessions = (100, 5000) if b.quick else (1000, 100_000)
    found = measure(b, "kept", large=large, sessions=sessions)
    for state in (found["filled"], found["restart"], found["kill"]):
        if (state["large"], state["sessions"], state["wrong"]) != (large, sessions, 0):
            raise Trouble(f"not everything is back: {state}")
    busy = [found["push_ms"], found["restart"]["pid1_ms"], found["kill"]["pid1_ms"]]
    b.add("service-manager", "ms", max(busy), "processor time of the service manager at most 2000", lambda o, _: o <= 2000,
          push_ms=busy[0], restart_ms=busy[1], kill_ms=busy[2], took_ms=[found[h]["took_ms"] for h in ("restart", "kill")])


def service(b):
    for part in (first, kept, restart, writes, storm):
        part(b)
    b.notes.append("service: at the best nice value that is allowed; longest without a mapped hit " + ", ".join(
        f"{number(r['max'])} ms ({r['name']})" for r in b.results if r["name"].endswith("hits")))


SERVICE = {"service": (service, "the installed service under systemd: restarts, deaths, its first answer")}
