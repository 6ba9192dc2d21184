# SPDX-License-Identifier: MIT
"""What a service manager, or a client of a daemon that has one, may do to break it: beside test_w_manager.py.

A0x  a manager that has no socket, or none to spare
A1x  descriptors that would hurt the manager
"""

import os
import signal

import harness
import manager
from harness import PATIENCE, wait_until
from test_w_manager import age, make_service, service, until_kept  # noqa: F401  (fixtures)

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
