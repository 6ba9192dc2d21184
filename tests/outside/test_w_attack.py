# SPDX-License-Identifier: MIT
"""What a service manager, or a client of a daemon that has one, may do to break it: beside test_w_manager.py.

A0x  a manager that has no socket, or none to spare
A1x  descriptors that would hurt the manager
"""

import os
import pathlib
import re
import signal
import socket
import time

import pytest

import harness
import manager
import wire
from harness import PATIENCE, wait_until
from holders import Client as HolderClient
from test_sessions import Session
from test_w_manager import age, make_service, service, until_kept  # noqa: F401  (fixtures)
from wire import pb

KILL, TERM = signal.SIGKILL, signal.SIGTERM


# ---- managers

def test_a01_told_but_not_followed():
    """A unit with --socket: the manager keeps files, and the end is an end. What is freed last asks nobody."""
    d = harness.Daemon()
    m = manager.Manager(d.dir)
    try:
        d.process = d.spawn(environ={"NOTIFY_SOCKET": str(m.path)})
        wait_until(d.answers, "it answers")
        d.client().set("t", b"k", b"v" * 5_000_000)
        wait_until(lambda: m.names("a"), "its realm is kept")
        d.signal(TERM)
        assert d.process.wait(PATIENCE) == 0, d.log()
        assert not harness.SANITIZER.search(d.log()), d.log()
    finally:
        if d.process.poll() is None:
            d.process.kill()
            d.process.wait()
        for c in d.clients:
            c.close()
        m.close()
        if d.clock:
            d.clock.close()


def test_a02_a_manager_without_room_for_the_word_it_waits_for(make_service):  # noqa: F811
    """Anybody may fill its queue. Who never says that he is ready would be ended."""
    s = make_service(start=False)
    s.manager.pause()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                other.sendto(b"X=1", str(s.manager.path))
    s.process = s.spawn(passed=[("cached.socket", s.listening.fileno())],
                        environ={"NOTIFY_SOCKET": str(s.manager.path)})
    wait_until(s.answers, "it answers")
    time.sleep(0.4)    # twice what it waits at a time
    s.manager.go_on()
    wait_until(lambda: s.manager.heard(READY="1"), "it says that it is ready")


def wakeups(s):
    text = pathlib.Path(f"/proc/{s.pid}/status").read_text()
    return sum(int(n) for n in re.findall(r"ctxt_switches:\s+(\d+)", text))


def test_a03_nobody_tries_again_and_again(make_service):  # noqa: F811
    """A realm waits for the places of values that give way to it, and that a manager that sleeps has still."""
    s = make_service(environ={"FDSTORE": "4"})
    c = s.client()
    for i in range(2):
        c.set("t", b"%d" % i, b"%d" % i * 5_000_000)
    age(s)
    until_kept(s, 2, "L")
    s.manager.pause()
    Session(c)
    c.ping()
    before = wakeups(s)
    time.sleep(1)
    assert wakeups(s) - before < 90    # with a clock that may jump, 50 are for when the session expires
    s.manager.go_on()
    until_kept(s, 2, "a")


def test_a04_a_manager_that_goes_away_has_no_memory(make_service):  # noqa: F811
    """Values that it had copies of are nobody's when they leave, before it went and after it."""
    s = make_service(memory={"global_budget": "64M", "realm_budget": "64M", "uid_share": "100%"})
    c = s.client()
    for i in range(7):
        c.set("t", b"%d" % i, b"%d" % i * 8_000_000)
    age(s)
    until_kept(s, 7, "L")
    s.manager.pause()
    for i in range(4):
        c.delete("t", b"%d" % i)
    assert c.stats().realm.bytes_charged > 6 * 8_000_000    # an eighth of the budget is not charged
    s.manager.end()
    os.unlink(s.manager.path)
    age(s)
    wait_until(lambda: c.ping() and c.stats().realm.bytes_charged < 4 * 8_000_000, "what had left is free")
    c.clear()
    assert c.stats().realm.bytes_charged == 0


# ---- descriptors that would hurt the manager

def share(s, pairs):
    """Resources of these descriptors; their holder."""
    c = HolderClient(s.socket)
    s.clients.append(c)
    c.hello()
    c.open_holder()
    for key, fd in pairs:
        right = c.acquire(key, kind=pb.RESOURCE_DESCRIPTOR).resource.creation_id
        assert c.publish(right, fd).status == wire.OK
    return c


@pytest.mark.parametrize("environ", [{}, {"FDSTORE": "1024"}])
def test_a10_sockets(make_service, environ):  # noqa: F811
    """Who closes a socket last waits while it lingers: only a manager that does not wait itself gets one."""
    s = make_service(environ=environ)
    a, b = socket.socketpair()
    with a, b, socket.create_server(("127.0.0.1", 0)) as at, socket.create_connection(at.getsockname()) as tcp:
        datagram, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        event = os.eventfd(0)
        with datagram, other:
            c = share(s, [(b"s", a.fileno()), (b"t", tcp.fileno()), (b"d", datagram.fileno()), (b"e", event)])
        os.close(event)
        names = until_kept(s, 4 if environ else 1, "R")
        time.sleep(0.6)    # twice the age at which they would go
        c.ping()
        assert s.manager.names("R") == names
