# SPDX-License-Identifier: MIT
"""Resources while the daemon is away, comes back, or refuses."""

import harness

from fellows import Peer


def start_again(daemon):
    """While there are clients that wait for it."""
    daemon.process = daemon.spawn()
    harness.wait_until(daemon.answers, "the daemon answers")


PROGRAM = """
made, gone = [], []

@cached.cache_resource(on_release=gone.append, ttl=%s)
def thing(n=0):
    made.append(n)
    return [n]

def known():
    \"\"\"Of how many things the daemon knows that this process has one.\"\"\"
    from cached import _binding, _client
    try:
        return sum(1 for key in list(thing.__cached__.holding.table)
                   if _binding.acquire(_client.current(), "local", thing.__cached__.identity.cache, key, no_create=True).instance)
    except cached.CacheError as error:
        return str(error)
"""


def test_what_a_process_has_stays(daemon, python):
    a = Peer(python, PROGRAM % "100")
    a("globals().update(it=thing())")
    daemon.stop()
    assert a("[thing() is it, thing() is thing(0), made]") == [True, True, [0]]


def test_it_is_made_once_and_told_later(daemon, python):
    daemon.stop()
    a = Peer(python, PROGRAM % "100")
    assert a("[thing() is thing(), thing(1) is thing(1), made]") == [True, True, [0, 1]]
    start_again(daemon)
    a.until("[thing() is thing(), thing(1) is thing(1), known()]", [True, True, 2])
    b = Peer(python, PROGRAM % "100")
    b("thing()")
    b("thing.clear()")
    a.until("sorted(gone)", [[0], [1]])
    assert a("[made, thing(), made]")[0] == [0, 1, 0]


def test_a_daemon_that_is_killed_and_replaced(daemon, python):
    a = Peer(python, PROGRAM % "100")
    a("globals().update(it=thing())")
    daemon.stop()
    assert a("thing() is it")
    start_again(daemon)
    a.until("[thing() is it, known(), made]", [True, 1, [0]])


def test_clear_while_it_is_away_is_for_this_process(daemon, python):
    a = Peer(python, PROGRAM % "100")
    a("thing()")
    daemon.stop()
    a("thing.clear()")
    assert a("[gone, thing(), len(made)]") == [[[0]], [0], 2]
    assert "is cleared in this process only" in a.end()


def test_a_daemon_that_refuses(make_daemon, python, monkeypatch):
    """Too many for it: the process keeps what it made, and tells it once there is room."""
    daemon = make_daemon(limits={"resources_per_uid": 2})
    monkeypatch.setenv("CACHED_SOCKET", str(daemon.socket))
    a = Peer(python, PROGRAM % "100")
    assert a("[thing(n) is thing(n) for n in range(4)]") == [True] * 4
    assert a("made") == [0, 1, 2, 3]
    a("thing.clear(0)")
    a.until("[thing(2) is thing(2), thing.__cached__.holding.table[thing.__cached__.key((2,), {})].instance > 0]", [True, True])
    assert a("made") == [0, 1, 2, 3]
    assert a("[gone, thing.clear(3), gone]") == [[[0], [3]], None, [[0], [3]]]
    assert "is kept in this process only" in a.end()


def test_the_warning_is_at_the_callers_line(python):
    process = python.start("""
        import cached

        @cached.cache_resource(shared=True)
        def numbers():
            return [1]

        numbers()
    """, env={"CACHED_SOCKET": "/nonexistent/socket"})
    python.result(process)
    assert "program.py:8: CacheWarning: cache_resource function 'numbers': its object is kept" in process.errors
