# SPDX-License-Identifier: MIT
"""What the tests of leases have in common: processes that ask, and what their answers are."""

import pytest

import peers
import wire
from peers import FEATURES, Peer
from wire import pb

GRANTED, YOURS, BUSY, TIMEOUT, CYCLE = (pb.LEASE_GRANTED, pb.LEASE_YOURS, pb.LEASE_BUSY, pb.LEASE_TIMEOUT,
                                        pb.LEASE_CYCLE)
NONE, FAILED, UNSTORABLE = pb.LEASE_NONE, pb.LEASE_FAILED, pb.LEASE_UNSTORABLE


@pytest.fixture
def make_peer(daemon):
    made = []

    def make(path=None, **hello):
        made.append(Peer(path or daemon.socket, **hello))
        return made[-1]

    yield make
    for p in made:
        p.finish()


@pytest.fixture
def a(make_peer):
    return make_peer(name="holder")


@pytest.fixture
def b(make_peer):
    return make_peer(name="waiter")


@pytest.fixture
def x(make_peer):
    return make_peer(name="other")


def client(daemon, uid=None, features=FEATURES, **hello):
    """One of the daemon's clients, of this process."""
    c = daemon.connect(uid)
    daemon.clients.remove(c)
    made = peers.Client(sock=c.sock)
    daemon.clients.append(made)
    made.hello(features=features, **hello)
    return made


@pytest.fixture
def c(daemon):
    """Looks on, and does what others do to the key."""
    return client(daemon, name="test")


def waits(c, n=1):
    assert c.stats("t").waiting == n


def has(answer, value):
    """The answer is this value, without a lease."""
    reply, body = answer
    assert reply.status == wire.OK and body == value, reply
    assert reply.lease.state == NONE
    return reply


def misses(answer, state):
    reply, body = answer
    assert reply.status == wire.NOT_FOUND and not body and reply.lease.state == state, reply
    return reply.lease
