# SPDX-License-Identifier: MIT
"""Restarts and deaths of the service under load, in the guest: what was lost, and how long it took.

    python3 -c 'import restarts; restarts.main("times", entries=1000, size=1000, rounds=5)'

prints what was found as a line of JSON. Nothing is judged here: test_load.py judges what is wrong, and the
benchmark `service` how long it took. The clients are the program `load`.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

from harness import wait_until

UNIT, SOCKET_UNIT, SOCKET = "cached.service", "cached.socket", "/run/cached/cached.sock"
LOAD = pathlib.Path(os.environ["CACHED_BUILD"]) / "tests/systemd/load"
PATIENCE = 60


class Load:
    """A load; a command gets an answer."""

    def __init__(self, *args):
        self.process = subprocess.Popen([LOAD, args[0], SOCKET, *map(str, args[1:])], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)

    def __call__(self, *command):
        self.process.stdin.write(" ".join(map(str, command)) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"load ended: {command}")
        return json.loads(line) if line.strip() else None

    def close(self):
        self.process.stdin.close()
        status = self.process.wait(PATIENCE)
        if status != 0:
            raise RuntimeError(f"load: status {status}")


def systemctl(*args):
    return subprocess.run(["systemctl", *args], check=True, capture_output=True, text=True).stdout.strip()


def show(name):
    return systemctl("show", "--value", "-p", name, UNIT)


def main_pid():
    return int(show("MainPID"))


def until_stored(n):
    """So many descriptors are with the service manager."""
    wait_until(lambda: int(show("NFileDescriptorStore")) >= n, f"{n} descriptors are stored", PATIENCE)


def pid1_ms():
    """CPU time of the service manager."""
    return int(pathlib.Path("/proc/1/schedstat").read_text().split()[0]) / 1e6


def takeover():
    p = subprocess.run(["cachectl", "--json", "stats"], check=True, capture_output=True, text=True)
    return json.loads(p.stdout)["daemon"]["takeover"]


def changed(pid):
    """Another process serves; gives its id."""
    wait_until(lambda: main_pid() not in (0, pid), "another process serves", PATIENCE)
    subprocess.run(["cachectl", "--timeout", f"{PATIENCE}s", "ping"], check=True, stdout=subprocess.DEVNULL)
    return main_pid()


def restart(how):
    """Ends the service, and waits until another process serves. When it began."""
    pid = main_pid()
    began = time.monotonic_ns()
    if how == "restart":
        systemctl("restart", UNIT)
    else:
        os.kill(pid, signal.SIGKILL)
    changed(pid)
    return began


# ---- what is measured


def times(entries, size, rounds, mapped=True):
    """How long a client without pause gets no answer; beside it a mapped one, which takes a processor for its
    own. Nothing is lost."""
    write = Load("write", 1, entries, size)
    write("fill")
    until_stored(2)
    ask, hits = Load("ask", entries, 0), Load("ask", entries, 1) if mapped else None
    out = {"filled": write("verify"), "restart": [], "kill": []}
    for how in ("restart", "kill"):
        for _ in range(rounds):
            time.sleep(0.5)
            for load in filter(None, (ask, hits)):
                load("mark")
            busy = pid1_ms()
            began = restart(how)
            time.sleep(0.5)
            gap = ask("tell")
            out[how].append({"answered_ms": (gap["ended_ns"] - began) / 1e6, "gap_ms": gap["longest_ns"] / 1e6,
                             "pid1_ms": pid1_ms() - busy, "ask": gap, "mapped": hits("tell") if hits else None,
                             "takeover": takeover()})
        out[how + "_verify"] = write("verify")
    for load in filter(None, (ask, hits, write)):
        load.close()
    return out


def writes(keys, size, writers, kills, seconds):
    """Killed under full write load: what is lost of what was answered."""
    write = Load("write", writers, keys, size)
    write("fill")
    until_stored(2)
    out = {"filled": write("verify"), "kills": []}
    for _ in range(kills):
        pid, before = main_pid(), time.monotonic()
        write("run")
        time.sleep(seconds)
        killed = write("kill", pid)
        changed(pid)
        found = write("verify")
        out["kills"].append({**found, "stores": killed["stores"], "seconds": time.monotonic() - before,
                             "takeover": takeover()})
    write("run")
    time.sleep(seconds)
    write("quiet")
    restart("restart")
    out["orderly"] = write("verify")
    write("run")
    time.sleep(seconds)
    restart("restart")    # under load
    write("quiet")
    out["under_load"] = write("verify")
    out["calls"] = write("tell")
    write.close()
    return out


def storm(clients, entries, restarts, kills, pause_us, keys=200):
    """Restarts and kills in a row under clients of all kinds."""
    write = Load("write", 1, entries, 500)
    write("fill")
    mix, hits = Load("mix", clients, keys, pause_us), Load("ask", entries, 1)
    wait_until(lambda: mix("ready") == clients, "all clients are there", PATIENCE)
    time.sleep(0.5)
    out = {"restart": [], "kill": [], "calm": None}
    mix("mark")
    hits("mark")
    time.sleep(1)
    out["calm"] = {**mix("tell"), "mapped": hits("tell")}
    for how, n in (("restart", restarts), ("kill", kills)):
        for _ in range(n):
            mix("mark")
            hits("mark")
            busy = pid1_ms()
            restart(how)
            time.sleep(0.2)
            out[how].append({**mix("tell"), "mapped": hits("tell"), "pid1_ms": pid1_ms() - busy})
        until_stored(2)
        out[how + "_calls"] = mix("calls")
    out["end"] = mix("end")
    out["entries"] = write("verify")
    for load in (mix, hits, write):
        load.close()
    return out


def first(rounds):
    """The first answer of a service that is started by its socket."""
    out = []
    for _ in range(rounds):
        systemctl("stop", UNIT)
        p = subprocess.run([LOAD, "first", SOCKET], check=True, capture_output=True, text=True)
        out.append(float(p.stdout))
    return out


def kept(large, sessions):
    """Large values that are older than the push delay, and sessions, over a restart and a death; what it costs the
    service manager."""
    keep = Load("keep", large, sessions)
    before = pid1_ms()
    keep("fill")
    until_stored(large)
    out = {"push_ms": pid1_ms() - before, "filled": keep("check"), "restart": {}, "kill": {}}
    for how in ("restart", "kill"):
        before, began = pid1_ms(), time.monotonic()
        restart(how)
        took = time.monotonic() - began
        time.sleep(0.5)
        out[how] = {"pid1_ms": pid1_ms() - before, "took_ms": took * 1000, **keep("check"), "takeover": takeover()}
        until_stored(large)
    keep.close()
    return out


def main(name, **params):
    systemctl("start", SOCKET_UNIT)
    json.dump(globals()[name](**params), sys.stdout)
    print()
