# SPDX-License-Identifier: MIT
"""Fixtures of the tests under a real systemd (guest.py).

    g         a guest with this build installed and the users alice and bob of the group `cached`, and eve, who
              is not; one boot for each file
    service   the same, put back: as after the installation, and the socket is listened on
"""

import shlex
import signal

import pytest

import guest

CONFIG = "/etc/cached/cached.conf"
TIME_LIMIT = 60
seen = {"passed": 0, "skipped": 0, "failed": 0}


def pytest_runtest_logreport(report):
    seen[report.outcome] += report.when == "call" or report.outcome != "passed"


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    """What meson takes for a test that was skipped: nothing could be run here. (-rs says why each was.)"""
    reason = guest.why_not()
    if seen["passed"] == seen["failed"] == 0 and (reason or seen["skipped"]):
        print(f"\nskipped: {reason or 'all of it'}")
        session.exitstatus = 77


@pytest.fixture(autouse=True)
def time_limit():
    def give_up(*_):
        pytest.fail("the test took too long")
    old = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(TIME_LIMIT * (10 if guest.harness.LONG else 1))
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, old)


@pytest.fixture(scope="module")
def g():
    with guest.boot() as made:
        made.install()
        made.run(f"cp {CONFIG} /run/cached.conf.orig")
        for name in ("alice", "bob"):
            made.add_user(name, "cached")
        made.add_user("eve")
        yield made


@pytest.fixture
def service(g):
    """Puts back what tests change: units, configuration, what is cached."""
    g.run("systemctl stop cached.socket cached.service; systemctl reset-failed; "
          f"rm -f {guest.RUN_UNITS}/cached.*.d/50-*.conf; rm -rf {shlex.quote(CONFIG)}.d; "
          f"cp /run/cached.conf.orig {CONFIG}; systemctl daemon-reload && systemctl start cached.socket")
    return g
