# SPDX-License-Identifier: MIT
"""What tests of resources share: processes that hold, and this one."""

import time

import pytest

import holders
from holders import FEATURES, Holder


SEEN = []


@pytest.fixture(autouse=True)
def no_grace(make_daemon):
    """Holders of this process, which goes on, are over with their connections."""
    yield
    for d in SEEN:
        for each in d.clients:
            each.close()
    time.sleep(0.05 if SEEN else 0)
    for d in SEEN:
        if d.clock and d.process and d.process.poll() is None:
            d.clock.advance(11000)
    SEEN.clear()


@pytest.fixture
def make_holder(daemon):
    made = []

    def make(path=None, **hello):
        made.append(Holder(path or daemon.socket, **hello))
        return made[-1]

    yield make
    for p in made:
        p.finish()


@pytest.fixture
def a(make_holder):
    return make_holder(name="first")


@pytest.fixture
def b(make_holder):
    return make_holder(name="second")


@pytest.fixture
def x(make_holder):
    return make_holder(name="third")


def client(daemon, uid=None, features=FEATURES, holder=True, **hello):
    """One of the daemon's clients, of this process: a holder, too."""
    if daemon not in SEEN:
        SEEN.append(daemon)
    c = daemon.connect(uid)
    daemon.clients.remove(c)
    made = holders.Client(sock=c.sock)
    daemon.clients.append(made)
    made.hello(features=features, **hello)
    if holder:
        made.open_holder()
    return made


@pytest.fixture
def c(daemon):
    return client(daemon, name="test")


def listed(c, cache=""):
    out, cursor = [], 0
    while True:
        page = c.must("list_resources", cache=cache, cursor=cursor).list_resources
        out += page.resources
        cursor = page.next
        if not cursor:
            return out


def one(c):
    r, = listed(c)
    return r
