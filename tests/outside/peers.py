# SPDX-License-Identifier: MIT
"""Processes of their own that ask for leases, each with one connection, told by the test what to do.

    a = Peer(path)
    i = a.ask(b"key", wait_ms=0)       # only sends
    reply, body = a.wait(i)            # blocks until it is answered
    a.lease(b"key")                    # the id of a lease, which has to be granted
    a.begin("race", …); a.result()     # a method of Worker that goes on meanwhile
"""

import contextlib
import multiprocessing
import os
import signal
import time

import harness
import wire
from wire import pb

FEATURES = pb.FEATURE_EVENTS | pb.FEATURE_LEASES


class Client(wire.Client):
    """wire.Client with FEATURE_LEASES."""

    def ask(self, key=b"k", owner=1, cache="t", more=None, **lease):
        """Sends a Get that asks for a lease; gives its id."""
        return self.post("get", cache=cache, key=key, lease=pb.LeaseAsk(owner=owner, **lease), **(more or {}))

    def asked(self, key=b"k", **how):
        return self.wait(self.ask(key, **how))

    def lease(self, key=b"k", **how):
        reply, _ = self.asked(key, **how)
        assert reply.lease.state == pb.LEASE_GRANTED, reply
        return reply.lease.lease_id

    def store(self, lease_id, value, key=b"k", cache="t", **more):
        """The reply to a Set under the lease."""
        return self.call("set", value, cache=cache, key=key, lease_id=lease_id, **more)[0]

    def end(self, lease_id, reason=""):
        return self.call("end_lease", lease_id=lease_id, reason=reason)[0].status


class Worker:
    """What runs in the other process. Messages go through the pipe as bytes."""

    def __init__(self, path, hello):
        self.c = Client(path, timeout=120)
        self.c.hello(**hello)

    def ask(self, key, how):
        return self.c.ask(key, **how)

    def wait(self, request_id):
        reply, body = self.c.wait(request_id)
        return reply.SerializeToString(), body

    def call(self, op, body, fields):
        reply, body = self.c.call(op, body, **fields)
        return reply.SerializeToString(), body

    def ping(self):
        self.c.ping()

    def events(self):
        self.c.ping()
        out = [e.SerializeToString() for e in self.c.events]
        self.c.events.clear()
        return out

    def fork(self):
        """A child that keeps the socket, and does nothing."""
        pid = os.fork()
        if pid == 0:
            while True:
                signal.pause()
        return pid

    def close(self):
        self.c.close()

    def race(self, key, n, waiting):
        """As many computations ask for the key at once. Who gets the lease stores as soon as @waiting requests
        wait. [states, values, computed]"""
        ids = [self.c.ask(key, owner=i + 1) for i in range(n)]
        states, values, computed = [], set(), 0
        for _ in ids:
            reply, body = self.c.recv()
            assert reply.id in ids
            states.append(reply.lease.state)
            if reply.lease.state == pb.LEASE_GRANTED:
                computed += 1
                while self.c.stats("t").waiting < waiting:
                    time.sleep(0.001)
                assert self.c.store(reply.lease.lease_id, b"computed", key=key).status == pb.OK
            else:
                values.add(body)
        return states, values, computed

    def when(self, request_id):
        """When the reply came (CLOCK_MONOTONIC), and the lease."""
        reply, _ = self.c.wait(request_id)
        return time.monotonic(), reply.lease.state, reply.lease.lease_id


def work(kind, path, hello, pipe):
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(0)
    worker = kind(path, hello)
    pipe.send(None)
    while True:
        try:
            name, args = pipe.recv()
        except EOFError:
            os._exit(0)
        try:
            pipe.send((True, getattr(worker, name)(*args)))
        except BaseException as e:
            pipe.send((False, f"{type(e).__name__}: {e}"))


class Peer:
    """The test's end of one process."""

    worker = Worker

    def __init__(self, path, **hello):
        hello.setdefault("features", FEATURES)
        hello.setdefault("name", "peer")
        context = multiprocessing.get_context("fork")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=self._work, args=(path, hello, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.children = []
        assert self.pipe.poll(harness.PATIENCE), "the process did not come up"
        self.pipe.recv()

    def _work(self, path, hello, theirs):
        # What this process had open, other connections among it, is not the new one's to keep.
        keep = theirs.fileno()
        os.closerange(3, keep)
        os.closerange(keep + 1, 65536)
        work(self.worker, path, hello, theirs)

    @property
    def pid(self):
        return self.process.pid

    def begin(self, name, *args):
        self.pipe.send((name, args))

    def result(self):
        assert self.pipe.poll(harness.PATIENCE * 3), "no answer"
        done, what = self.pipe.recv()
        assert done, what
        return what

    def do(self, name, *args):
        self.begin(name, *args)
        return self.result()

    # ---- what it can be told

    def ask(self, key=b"k", **how):
        i = self.do("ask", key, how)
        self.do("ping")  # it was looked at, answered or not
        return i

    def wait(self, request_id):
        message, body = self.do("wait", request_id)
        return pb.Reply.FromString(message), body

    def state(self, request_id):
        return self.wait(request_id)[0].lease.state

    def asked(self, key=b"k", **how):
        return self.wait(self.ask(key, **how))

    def lease(self, key=b"k", **how):
        reply, _ = self.asked(key, **how)
        assert reply.lease.state == pb.LEASE_GRANTED, reply
        return reply.lease.lease_id

    def call(self, op, body=b"", **fields):
        message, body = self.do("call", op, body, fields)
        return pb.Reply.FromString(message), body

    def store(self, lease_id, value, key=b"k", cache="t", **more):
        return self.call("set", value, cache=cache, key=key, lease_id=lease_id, **more)[0]

    def end(self, lease_id, reason=""):
        return self.call("end_lease", lease_id=lease_id, reason=reason)[0].status

    def events(self):
        return [pb.Event.FromString(e) for e in self.do("events")]

    # ---- what happens to it

    def fork(self):
        self.children.append(self.do("fork"))
        return self.children[-1]

    def kill(self, number=signal.SIGKILL):
        os.kill(self.pid, number)

    def stop(self):
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self):
        os.kill(self.pid, signal.SIGCONT)

    def finish(self):
        """Ends it and its children."""
        for pid in self.children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
        self.pipe.close()
