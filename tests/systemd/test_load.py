# SPDX-License-Identifier: MIT
"""The service is restarted and killed under load: nothing is wrong afterwards, nothing is lost that was answered, and
no call fails but as its header says. Times are the benchmark's (tests/bench/run service).
"""

import pytest

import guest
from harness import LONG, SANITIZED

guest.needs_sandbox()

OK, NOT_FOUND, OUTCOME_UNKNOWN = "0", "1", "17"

# What calls may end with while the daemon is killed under them.
MAY_END = {
    "set": {OK, OUTCOME_UNKNOWN}, "set_many": {OK, OUTCOME_UNKNOWN}, "delete": {OK, NOT_FOUND, OUTCOME_UNKNOWN},
    "get": {OK, NOT_FOUND}, "memoize": {OK}, "session_add": {OK, OUTCOME_UNKNOWN}, "session_set": {OK},
    "session_get": {OK, NOT_FOUND}, "lock": {OK}, "unlock": {OK}, "acquire": {OK},
}


@pytest.fixture(scope="module")
def g():
    with guest.boot(timeout=3600 if LONG else 240) as made:
        made.install()
        yield made


@pytest.fixture
def measure(g):
    """Runs one of restarts.py in the guest, with a daemon that has nothing yet."""
    def run(name, **params):
        g.run("systemctl stop cached.socket cached.service; systemctl reset-failed")
        r = g.python(f"import restarts; restarts.main({name!r}, **{params!r})", timeout=500 if LONG else 50)
        assert r.err == "", str(r)
        return r.json
    return run


def is_whole(found, bound=0):
    """What a look at all keys found; at most @bound of the answered ones is missing."""
    assert found["wrong"] == found["older"] == found["failed"] == 0, found
    assert found["there"] + found["lost"] == found["expected"] > 0, found
    assert found["lost"] <= found["expected"] * bound, found


def ended_well(calls, may_end=None):
    for name, codes in calls.items():
        if name == "memoize_cache":
            continue    # the value is computed in any case
        assert codes.pop("wrong") == 0, (name, calls)
        assert set(codes) <= (may_end or MAY_END[name]), (name, codes)


def test_l01_restarts_and_deaths(measure):
    """All of it is back, and clients that ask meanwhile see neither a miss nor a failure."""
    found = measure("times", entries=1_000_000 if LONG and not SANITIZED else 20_000, size=1000,
                    rounds=5 if LONG else 1)
    is_whole(found["filled"])
    for how in ("restart", "kill"):
        is_whole(found[how + "_verify"])
        for round_ in found[how]:
            assert round_["takeover"]["entries_dropped"] == 0
            for client in (round_["ask"], round_["mapped"]):
                assert client["misses"] == client["wrong"] == client["failed"] == 0, round_
                assert client["hits"] > 0


def test_l02_deaths_under_full_write_load(measure):
    """At least 99.99 % of what was answered is there, and is what was stored last."""
    found = measure("writes", keys=200_000 if LONG else 20_000, size=1000, writers=4, kills=20 if LONG else 2,
                    seconds=2 if LONG else 0.3)
    is_whole(found["filled"])
    for killed in found["kills"]:
        assert killed["stores"] > 0
        is_whole(killed, 0.0001)
    is_whole(found["orderly"])
    is_whole(found["under_load"])
    ended_well(found["calls"])


def test_l03_everything_meanwhile(measure):
    """Sets, gets, memoized functions, sessions, locks and segments, while the daemon comes and goes."""
    found = measure("storm", clients=32 if LONG else 8, entries=50_000, restarts=100 if LONG else 5,
                    kills=100 if LONG else 5, pause_us=1000)
    for round_ in found["restart"] + found["kill"]:
        mapped = round_["mapped"]
        assert mapped["misses"] == mapped["wrong"] == mapped["failed"] == 0, round_
        assert mapped["hits"] > 0
    is_whole(found["entries"])
    end = found["end"]
    assert end["failed_clients"] == 0
    assert end["counter"] == end["added"] > 0, "a change under the lock was lost"
    ended_well(end["ended"])
    # A daemon that goes in good order leaves no doubt.
    assert OUTCOME_UNKNOWN not in found["restart_calls"]["set"]
    ended_well(found["restart_calls"])


def test_l04_large_values_and_sessions(measure):
    large, sessions = (1000, 100_000 if not SANITIZED else 20_000) if LONG else (50, 1000)
    found = measure("kept", large=large, sessions=sessions)
    for state in (found["filled"], found["restart"], found["kill"]):
        assert (state["large"], state["sessions"], state["wrong"]) == (large, sessions, 0), state


def test_l05_started_by_its_socket(measure):
    assert len(measure("first", rounds=20 if LONG else 2)) >= 2
