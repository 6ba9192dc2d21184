# SPDX-License-Identifier: MIT
"""Who means harm: other users and realms, and programs that end in the middle of a call.

    QK0x  what is another one's
    QK1x  handles that are freed while calls are inside
    QK2x  sessions
    QK3x  daemons that mean harm to clients
"""

import contextlib
import os
import pathlib
import shutil
import socket
import tempfile
import threading

import pytest

import harness
import wire
from harness import wait_until
from holders import FEATURES, SEALS, segment
from resource_users import User
from resource_world import a, b, c, client, make_holder, no_grace, one  # noqa: F401
from test_cli_fake import hello, receive
from test_q_resource_sessions import listed as in_scope, made, no_sessions, opened  # noqa: F401
from test_q_resource_takeover import cold, come_back, reclaim_segment, renew
from wire import pb

SEGMENT, LOCAL = pb.RESOURCE_SEGMENT, pb.RESOURCE_LOCAL
HELD, CREATE, BUSY = pb.RESOURCE_HELD, pb.RESOURCE_CREATE, pb.RESOURCE_BUSY
ERR_BAD_REPLY, ERR_CLOSED = 68, 72


# ---- what is another one's

@pytest.mark.parametrize("by_word", [True, False])
def test_qk01_nobody_in_another_realm_takes_the_number_of_a_lock(make_daemon, make_holder, by_word):
    """After a cold start, in which the lock's owner comes last: it has its lock all the time."""
    harness.needs_root()
    d = make_daemon(daemon=dict(socket_mode="0666"))
    a, b = make_holder(d.socket), make_holder(d.socket)
    i = a.create_segment()
    assert b.held(kind=SEGMENT) == i
    if by_word:
        assert a.do("exchange", i, 0, a.number)
    else:
        assert a.lock(i).state == HELD
    cold(d)
    stranger = client(d, uid=4711, holder=False)
    stranger.open_holder(before_number=a.number)
    b.reconnect(d.socket)
    j = reclaim_segment(b, i).resource.instance
    assert b.lock(j, wait_ms=0).state == BUSY
    number = a.number
    assert a.reconnect(d.socket).number == number
    assert reclaim_segment(a, i, locked=True).resource.instance == j
    assert b.lock(j, wait_ms=0).state == BUSY
    assert a.unlock(j) == wire.OK
    got = b.lock(j)
    assert got.state == HELD and not got.owner_died


# ---- handles that are freed

@pytest.fixture
def user(daemon):
    made = []

    def start():
        made.append(User(daemon))
        return made[-1]

    yield start
    for u in made:
        assert u.finish() == 0


def test_qk10_while_a_thread_waits_for_who_makes_it(daemon, user, c):
    u = user()
    right = c.acquire(kind=SEGMENT).resource
    assert right.state == CREATE
    u.must("behind", "res", "k")
    wait_until(lambda: c.stats("res").resources_waiting == 1)
    assert u("free")[0] == ERR_CLOSED
    c.must("end_creation", creation_id=right.creation_id)


def test_qk11_while_a_thread_waits_for_a_lock(daemon, user, a, c):
    u = user()
    i = a.create_segment()
    r = u.must("segment", "res", "k")
    assert a.lock(i).state == HELD
    u.must("behind", r)
    wait_until(lambda: one(c).waiters == 1)
    assert u("free")[0] == ERR_CLOSED


def is_asleep(u):
    """All of its threads: its own, the holder's, and the one that waits."""
    tasks = pathlib.Path(f"/proc/{u.pid}/task")
    states = [(t / "stat").read_text().rpartition(")")[2].split()[0] for t in tasks.iterdir()]
    return set(states) == {"S"} and len(states) >= 3


def test_qk12_while_a_thread_waits_for_another_one_of_its_process(daemon, user, c):
    """Which has the lock, and never gives it."""
    u = user()
    r, same = u.must("segment", "res", "k"), u.must("segment", "res", "k")
    assert u("lock", r)[0] == wire.OK
    u.must("behind", same)
    wait_until(lambda: all(is_asleep(u) for _ in range(10)))
    assert u("free")[0] == ERR_CLOSED


def test_qk13_whose_end_acquires_it_again(daemon, user):
    assert user().must("insist", "res", "k") == 1


@pytest.mark.parametrize("how", ["", "in-use", "dropped"])
def test_qk14_whose_end_releases_another_one(daemon, user, how):
    """The part was acquired later: it must not be gone before what it is a part of."""
    assert user().must("whole", "res", "k", how) == 1


# ---- daemons that mean harm

class Fake:
    """Answers each request but Hello with what answer(request, reply) makes of the reply; that gives descriptors that
    go along, or None: no reply."""

    def __init__(self, answer):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="cached-t-"))
        self.socket = self.dir / "s"
        self.answer, self.connections, self.asked = answer, [], []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.socket))
        self.listener.listen()
        self.threads = [threading.Thread(target=self._accept)]
        self.threads[0].start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                self.connections.append(self.listener.accept()[0])
                self.threads.append(threading.Thread(target=self._serve, args=[self.connections[-1]]))
                self.threads[-1].start()

    def _serve(self, s):
        with contextlib.suppress(OSError, EOFError):
            while True:
                request = receive(s)
                op = request.WhichOneof("op")
                self.asked.append(op)
                reply, fds = pb.Reply(id=request.id), []
                if op == "hello":
                    reply = hello(request)
                    reply.hello.features = FEATURES
                elif op == "open_holder":
                    reply.holder.holder = reply.holder.number = 5
                else:
                    fds = self.answer(request, reply)
                if fds is not None:
                    socket.send_fds(s, [wire.frame(reply)], fds) if fds else s.sendall(wire.frame(reply))

    def cut(self):
        """All connections that are there."""
        for s in self.connections:
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.threads[0].join()
        self.cut()
        for t in self.threads:
            t.join()
        for s in self.connections:
            s.close()
        shutil.rmtree(self.dir)


@pytest.fixture
def fake():
    made = []

    def start(answer):
        made.append(Fake(answer))
        return made[-1]

    yield start
    for f in made:
        f.close()


def test_qk30_freed_while_it_is_asked_about_what_it_has(fake):
    def answer(request, reply):
        reply.resource.kind, reply.resource.state = LOCAL, HELD
        reply.resource.instance = 4
        return [] if request.WhichOneof("op") == "acquire_resource" else None
    f = fake(answer)
    u = User(f)
    r = u.must("local", "res", "k", wait=0)
    f.cut()
    wait_until(lambda: "reclaim_resource" in f.asked)
    assert u.must("release", r) == ""
    assert u.must("end") == 1
    assert u.finish() == 0


NONSENSE = {
    "nothing at all": dict(state=HELD),
    "another kind": dict(state=HELD, kind=LOCAL, instance=4),
    "no number": dict(state=HELD, kind=SEGMENT, instance=0, size=64),
    "no descriptor": dict(state=HELD, kind=SEGMENT, instance=4, size=64, descriptor=True),
    "larger than its file": dict(state=HELD, kind=SEGMENT, instance=4, size=1 << 20, descriptor=True),
    "as large as can be": dict(state=HELD, kind=SEGMENT, instance=4, size=(1 << 64) - 1, descriptor=True),
    "a file that can shrink": dict(state=HELD, kind=SEGMENT, instance=4, size=64, descriptor=True),
    "a right to nothing": dict(state=CREATE),
    "a state of the future": dict(state=99),
    "something published without a number": dict(state=CREATE, creation_id=7),
}


@pytest.mark.parametrize("what", NONSENSE)
def test_qk31_answers_that_make_no_sense(fake, what):
    def answer(request, reply):
        if request.WhichOneof("op") not in ("acquire_resource", "publish_resource"):
            return []
        info = pb.ResourceInfo(**NONSENSE[what])
        if request.WhichOneof("op") == "publish_resource":
            info = pb.ResourceInfo(state=HELD, kind=SEGMENT)
        reply.resource.CopyFrom(info)
        if not info.descriptor or what == "no descriptor":
            return []
        files.append(segment(bytes(64), seals=0 if "shrink" in what else SEALS))
        return files[-1:]
    files = []
    u = User(fake(answer))
    assert u("segment", "res", "k", size=64)[0] == ERR_BAD_REPLY
    assert u("segment", "res", "k", size=64)[0] == ERR_BAD_REPLY
    assert u.must("end") == 0
    assert u.finish() == 0
    for fd in files:
        os.close(fd)


# ---- sessions

@pytest.mark.parametrize("how", ["handed over", "killed"])
def test_qk20_what_is_a_sessions_outlives_the_daemon_with_it(daemon, a, b, c, how):
    """And is nobody else's then, and ends with the session."""
    token, other = opened(c), opened(c)
    i = made(a, token)
    assert b.held(kind=SEGMENT, session=token) == i
    assert a.lock(i).state == HELD
    renew(how, daemon, (a, i))
    c.close()
    come_back(daemon, (b, i), (a, (i, True)))
    assert b.lock(i, wait_ms=0).state == BUSY
    d = client(daemon, name="later")
    assert in_scope(d, session=token) == [("res", b"k", i)]
    assert in_scope(d) == in_scope(d, session=other) == []
    assert d.acquire(kind=SEGMENT, session=token, have_instance=i).resource.instance == i
    assert d.acquire(kind=SEGMENT, no_create=True).status == wire.NOT_FOUND
    d.must("close_session", token=token)
    d.must("close_session", token=other)
    assert a.wait_event().cause == b.wait_event().cause == pb.RESOURCE_SESSION_ENDED
