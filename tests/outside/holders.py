# SPDX-License-Identifier: MIT
"""Processes that hold resources, from PROTOCOL.md alone: each with a connection as holder and one for requests.

    a = Holder(daemon.socket)
    reply = a.acquire(b"key")                # Reply; a descriptor that came stays in the process
    a.create_segment(b"key", b"data")        # acquires, which has to give the right, and publishes
    a.do("read", instance, at, n)            # a method of Worker, in the process
"""

import ctypes
import errno
import fcntl
import mmap
import os
import random
import socket
import struct
import time

import files
import peers
import wire
from wire import pb

FEATURES = pb.FEATURE_EVENTS | pb.FEATURE_RESOURCES
HEAD = 4096
MAGIC = b"csegment"
LOCK_AT, GENERATION_AT = 24, 32
DIED, WAITERS, NUMBER = 1 << 30, 1 << 31, (1 << 30) - 1
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


def segment(data, seals=SEALS, size=None, version=1):
    """The descriptor of a segment with these data; the head says @size."""
    fd = os.memfd_create("segment", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, HEAD + len(data))
    os.pwrite(fd, MAGIC + struct.pack("<IIQ", version, 0, len(data) if size is None else size), 0)
    os.pwrite(fd, data, HEAD)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


class Client(files.Client):
    """A connection; with open_holder() also a holder."""

    holder = number = 0

    def hello(self, features=FEATURES, **more):
        return super().hello(features=features, **more)

    def open_holder(self, before=0, before_number=0):
        info = self.must("open_holder", before=before, before_number=before_number).holder
        self.holder, self.number = info.holder, info.number
        return info

    def ask(self, key=b"k", holder=None, cache="res", **more):
        return self.post("acquire_resource", cache=cache, key=key, holder=holder or self.holder, **more)

    def acquire(self, key=b"k", **more):
        return self.wait(self.ask(key, **more))[0]

    def publish(self, creation_id, fd, kind=pb.RESOURCE_DESCRIPTOR, **more):
        """The reply; without @fd none is sent. It stays the caller's."""
        i = self.next_id()
        self.send(wire.request(i, "publish_resource", creation_id=creation_id, kind=kind, **more),
                  fds=[fd] if fd is not None else [])
        return self.wait(i)[0]

    def of(self, op, instance, **more):
        return self.call(op, instance=instance, holder=self.holder, **more)[0]


class Worker(peers.Worker):
    def __init__(self, path, hello):
        self.bell = Client(path, timeout=120)
        self.bell.hello(**hello)
        self.bell.open_holder()
        self.c = Client(path, timeout=120)
        self.c.hello(**hello)
        self.c.holder, self.c.number = self.bell.holder, self.bell.number
        self.fds, self.maps, self.ends, self.sent = {}, {}, {}, {}

    def who(self):
        return self.bell.holder, self.bell.number

    def _got(self, reply):
        if reply.HasField("resource") and reply.resource.descriptor:
            self.fds[reply.resource.instance] = self.c.received.pop()
        assert not self.c.received
        return reply.SerializeToString()

    def acquire(self, key, more):
        return self._got(self.c.acquire(key, **more))

    def ask(self, key, more):
        i = self.c.ask(key, **more)
        return i

    def ping(self):
        self.c.ping()

    def wait(self, request_id):
        return self._got(self.c.wait(request_id)[0])

    def post(self, op, instance, more):
        return self.c.post(op, instance=instance, holder=self.c.holder, **more)

    def of(self, op, instance, more):
        return self.c.of(op, instance, **more).SerializeToString()

    def call(self, op, fields):
        return self.c.call(op, **fields)[0].SerializeToString()

    def publish_segment(self, creation_id, data, more):
        fd = segment(data, SEALS | (fcntl.F_SEAL_WRITE if more.get("read_only") else 0))
        reply = self.c.publish(creation_id, fd, pb.RESOURCE_SEGMENT, size=len(data), **more)
        self.fds[reply.resource.instance] = fd
        return reply.SerializeToString()

    def publish_connection(self, creation_id, address):
        s = socket.socket(socket.AF_UNIX if isinstance(address, (str, bytes)) else socket.AF_INET)
        s.connect(address)
        reply = self.c.publish(creation_id, s.fileno())
        self.fds[reply.resource.instance] = s.detach()
        return reply.SerializeToString()

    def publish_local(self, creation_id, more=None):
        return self.c.publish(creation_id, None, pb.RESOURCE_LOCAL, **(more or {})).SerializeToString()

    # ---- using it

    def memory(self, instance):
        if instance not in self.maps:
            self.maps[instance] = mmap.mmap(self.fds[instance], 0)
        return self.maps[instance]

    def read(self, instance, at, n):
        return self.memory(instance)[HEAD + at:HEAD + at + n]

    def write(self, instance, at, data):
        self.memory(instance)[HEAD + at:HEAD + at + len(data)] = data

    def word(self, instance):
        return struct.unpack_from("<I", self.memory(instance), LOCK_AT)[0]

    def set_word(self, instance, word):
        struct.pack_into("<I", self.memory(instance), LOCK_AT, word)

    def count(self, instance, times=1):
        """Adds one to the number at the beginning, under the lock; what it is then."""
        for _ in range(times):
            reply = self.c.of("lock_resource", instance)
            assert reply.status == wire.OK and reply.resource.state == pb.RESOURCE_HELD, reply
            m = self.memory(instance)
            n, = struct.unpack_from("<Q", m, HEAD)
            struct.pack_into("<Q", m, HEAD, n + 1)
            reply = self.c.of("unlock_resource", instance)
            assert reply.status == wire.OK, reply
        return n + 1

    def truncate(self, instance):
        try:
            os.ftruncate(self.fds[instance], 0)
        except PermissionError:
            return False
        return True

    def resize(self, instance, size):
        """The errno's name, or "" """
        try:
            os.ftruncate(self.fds[instance], size)
        except OSError as e:
            return errno.errorcode[e.errno]
        return ""

    def punch(self, instance, at, n):
        """A hole (keeping the size); likewise."""
        libc = ctypes.CDLL(None, use_errno=True)
        libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
        failed = libc.fallocate(self.fds[instance], 3, at, n) < 0
        return errno.errorcode[ctypes.get_errno()] if failed else ""

    def receive(self, instance):
        with socket.socket(fileno=os.dup(self.fds[instance])) as s:
            return s.recv(100)

    def http(self, instance, path):
        """One request over the shared connection, under its lock: (status line, body)."""
        reply = self.c.of("lock_resource", instance)
        assert reply.status == wire.OK and reply.resource.state == pb.RESOURCE_HELD, reply
        with socket.socket(fileno=os.dup(self.fds[instance])) as s:
            s.sendall(f"GET {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
            data = b""
            while b"\r\n\r\n" not in data:
                data += s.recv(1)
            head, _, _ = data.partition(b"\r\n\r\n")
            length = int(next(h.split(b":")[1] for h in head.split(b"\r\n") if h.lower().startswith(b"content-length")))
            body = b""
            while len(body) < length:
                body += s.recv(length - len(body))
        assert self.c.of("unlock_resource", instance).status == wire.OK
        return head.split(b"\r\n")[0], body

    def events(self):
        """What came so far, after all that was done before."""
        self.c.ping()
        self.bell.ping()
        self.bell.ping()
        out = [e.resource.SerializeToString() for e in self.bell.events]
        self.bell.events.clear()
        return out

    def wait_event(self):
        e = self.bell.wait_event()
        return e and e.resource.SerializeToString()

    def lose_bell(self):
        self.bell.close()

    def come_again(self, path):
        before = self.bell.holder
        self.bell = Client(path, timeout=120)
        self.bell.hello()
        return self.bell.open_holder(before).SerializeToString()

    def reconnect(self, path):
        """Both connections anew, after a takeover or a cold start; the HolderInfo."""
        self.bell.close()
        self.c.close()
        bell, c = Client(path, timeout=120), Client(path, timeout=120)
        bell.holder, bell.number = self.bell.holder, self.bell.number  # also if this does not get further
        self.bell, self.c = bell, c
        bell.hello()
        c.hello()
        info = bell.open_holder(bell.holder, bell.number)
        c.holder, c.number = bell.holder, bell.number
        return info.SerializeToString()

    def reclaim(self, instance, fields, with_descriptor):
        i = self.c.next_id()
        fds = [self.fds[instance]] if with_descriptor else []
        self.c.send(wire.request(i, "reclaim_resource", instance=instance, holder=self.c.holder,
                                 descriptor=with_descriptor, **fields), fds=fds)
        reply = self.c.wait(i)[0]
        new = reply.resource.instance
        if reply.status == wire.OK and new != instance:
            for table in (self.fds, self.maps):
                if instance in table:
                    table[new] = table.pop(instance)
        return reply.SerializeToString()

    def exchange(self, instance, old, new):
        """As a holder takes and leaves the lock word; the test's processes do not race for it. Done?"""
        if self.word(instance) != old:
            return False
        self.set_word(instance, new)
        return True

    def publish_fd(self, creation_id, kind, more=None):
        """A pipe, a socket pair or an eventfd; the other end stays here."""
        if kind == "pipe":
            mine, theirs = os.pipe()
        elif kind == "socketpair":
            mine, theirs = (s.detach() for s in socket.socketpair())
        else:
            mine, theirs = None, os.eventfd(0, os.EFD_CLOEXEC)
        reply = self.c.publish(creation_id, theirs, **(more or {}))
        self.fds[reply.resource.instance] = theirs
        self.ends[reply.resource.instance] = mine
        return reply.SerializeToString()

    def number_of(self, instance):
        return self.fds[instance]

    def use(self, instance, data):
        os.write(self.fds[instance], data)

    def take(self, instance):
        return os.read(self.ends[instance] if self.ends.get(instance) is not None else self.fds[instance], 100)

    def close_end(self, instance):
        os.close(self.ends.pop(instance))

    def load(self, path, directory, seed, seconds, session=None):
        """Acquires, locks and releases, through whatever becomes of the daemon. That it has a lock it says by a file
        of the instance's name, which nobody else may have made. (locks, of them after a death, what was wrong)"""
        rng, until = random.Random(seed), time.monotonic() + seconds
        done, again, wrong = 0, 0, []
        of = {"session": session} if session else {}
        held, locked = [], None  # instances, one for each hold; the one whose lock it has

        def witness(i):
            return os.path.join(directory, str(i))

        def come_back():
            nonlocal held, locked
            while True:
                try:
                    self.reconnect(path)
                    break
                except (OSError, wire.Closed, wire.Refused):
                    time.sleep(0.01)
            for i in set(held):
                if self.c.of("reclaim_resource", i, locked=i == locked, **of).status != wire.OK:
                    held = [h for h in held if h != i]
                    if i == locked:
                        os.unlink(witness(i))
                        locked = None
            if locked:
                leave(locked)
            while held and rng.random() < 0.8:
                i = held.pop()
                self.c.of("release_resource", i, all=i not in held)

        def leave(i):
            nonlocal locked
            os.unlink(witness(i))
            locked = None
            self.c.of("unlock_resource", i)

        def step():
            nonlocal done, locked
            key = rng.choice([b"pipe", b"local"])
            kind = pb.RESOURCE_DESCRIPTOR if key == b"pipe" else pb.RESOURCE_LOCAL
            info = self.c.acquire(key, kind=kind, wait_ms=500, **of).resource
            for fd in self.c.received:
                os.close(fd)
            self.c.received.clear()
            if info.state == pb.RESOURCE_CREATE:
                fds = os.pipe() if key == b"pipe" else (None, None)
                info = self.c.publish(info.creation_id, fds[0], kind, **of).resource
                for fd in fds:
                    if fd is not None:
                        os.close(fd)
            if info.state != pb.RESOURCE_HELD:
                return
            i = info.instance
            held.append(i)
            if self.c.of("lock_resource", i, wait_ms=500).resource.state == pb.RESOURCE_HELD:
                locked = i
                done += 1
                try:
                    os.close(os.open(witness(i), os.O_CREAT | os.O_EXCL))
                except FileExistsError:
                    wrong.append(i)
                time.sleep(rng.random() * 0.01)
                if rng.random() < 0.2:
                    self.c.ping()
                leave(i)
            held.remove(i)
            self.c.of("release_resource", i, all=i not in held)

        while time.monotonic() < until and not wrong:
            try:
                step()
            except (OSError, wire.Closed, wire.Refused):
                again += 1
                while True:
                    try:
                        come_back()
                        break
                    except (OSError, wire.Closed, wire.Refused):
                        pass
        return done, again, wrong

    def drop_fds(self):
        for m in self.maps.values():
            m.close()
        for fd in self.fds.values():
            os.close(fd)
        self.fds, self.maps = {}, {}


class Holder(peers.Peer):
    """The test's end of one process."""

    worker = Worker

    def __init__(self, path, **hello):
        hello.setdefault("features", FEATURES)
        super().__init__(path, **hello)
        self.holder, self.number = self.do("who")

    def _reply(self, data):
        reply = pb.Reply()
        reply.ParseFromString(data)
        return reply

    def acquire(self, key=b"k", **more):
        return self._reply(self.do("acquire", key, more))

    def ask(self, key=b"k", **more):
        i = self.do("ask", key, more)
        self.do("ping")
        return i

    def wait(self, request_id):
        return self._reply(self.do("wait", request_id))

    def of(self, op, instance, **more):
        return self._reply(self.do("of", op, instance, more))

    def post(self, op, instance, **more):
        i = self.do("post", op, instance, more)
        self.do("ping")
        return i

    def call(self, op, **fields):
        return self._reply(self.do("call", op, fields))

    def right(self, key=b"k", **more):
        """The right to create."""
        reply = self.acquire(key, **more)
        assert reply.status == wire.OK and reply.resource.state == pb.RESOURCE_CREATE, reply
        return reply.resource.creation_id

    def held(self, key=b"k", **more):
        """The instance, which has to be there."""
        reply = self.acquire(key, **more)
        assert reply.status == wire.OK and reply.resource.state == pb.RESOURCE_HELD, reply
        return reply.resource.instance

    def create_segment(self, key=b"k", data=bytes(64), **more):
        right = self.right(key, kind=pb.RESOURCE_SEGMENT, **more)
        reply = self._reply(self.do("publish_segment", right, data, {}))
        assert reply.status == wire.OK and reply.resource.state == pb.RESOURCE_HELD, reply
        return reply.resource.instance

    def create_local(self, key=b"k", **more):
        reply = self._reply(self.do("publish_local", self.right(key, kind=pb.RESOURCE_LOCAL, **(more or {}))))
        assert reply.status == wire.OK and reply.resource.state == pb.RESOURCE_HELD, reply
        return reply.resource.instance

    def create_connection(self, address, key=b"k", **more):
        reply = self._reply(self.do("publish_connection", self.right(key, kind=pb.RESOURCE_DESCRIPTOR, **more), address))
        assert reply.status == wire.OK and reply.resource.state == pb.RESOURCE_HELD, reply
        return reply.resource.instance

    def create_fd(self, what, key=b"k", **more):
        reply = self._reply(self.do("publish_fd", self.right(key, kind=pb.RESOURCE_DESCRIPTOR, **more), what))
        assert reply.status == wire.OK and reply.resource.state == pb.RESOURCE_HELD, reply
        return reply.resource.instance

    def reconnect(self, path):
        info = pb.HolderInfo.FromString(self.do("reconnect", path))
        self.holder, self.number = info.holder, info.number
        return info

    def reclaim(self, instance, with_descriptor=False, **fields):
        return self._reply(self.do("reclaim", instance, fields, with_descriptor))

    def lock(self, instance, **more):
        reply = self.of("lock_resource", instance, **more)
        assert reply.status == wire.OK, reply
        return reply.resource

    def unlock(self, instance):
        return self.of("unlock_resource", instance).status

    def release(self, instance, **more):
        return self.of("release_resource", instance, **more).status

    def events(self):
        """[(instance, cause)]"""
        out = []
        for data in self.do("events"):
            e = pb.ResourceEvent()
            e.ParseFromString(data)
            out.append((e.instance, e.cause))
        return out

    def wait_event(self):
        data = self.do("wait_event")
        assert data, "no event"
        e = pb.ResourceEvent()
        e.ParseFromString(data)
        return e
