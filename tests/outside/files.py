# SPDX-License-Identifier: MIT
"""wire.Client with FEATURE_FILES: values as memory files, in both directions, from PROTOCOL.md alone."""

import array
import contextlib
import fcntl
import mmap
import os
import socket

import wire
from wire import pb

SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


@contextlib.contextmanager
def memfd(data=b"", size=None, seals=SEALS, flags=0, offset=0):
    """A memory file with @data at @offset, of @size bytes in all, sealed."""
    fd = os.memfd_create("value", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | flags)
    try:
        if size is not None:
            os.ftruncate(fd, size)
        os.pwrite(fd, data, offset)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
        yield fd
    finally:
        os.close(fd)


class Client(wire.Client):
    """`received`: descriptors that came, oldest first; `views`: numbers that were not given back."""

    def __init__(self, *args, **kw):
        super().__init__(*args, **kw)
        self.received, self.views = [], []

    def hello(self, features=pb.FEATURE_EVENTS | pb.FEATURE_FILES | pb.FEATURE_LZ4, **more):
        return super().hello(features=features, **more)

    def close(self):
        """Gives everything back first, if the connection still is one."""
        for fd in self.received:
            os.close(fd)
        self.received = []
        with contextlib.suppress(OSError, wire.Closed, wire.Refused):
            if self.views:
                self.release(*self.views)
        super().close()

    def _read(self, n):
        while len(self.buffer) < n:
            try:
                data, control, flags, _ = self.sock.recvmsg(1 << 20, socket.CMSG_SPACE(4 * 64), socket.MSG_CMSG_CLOEXEC)
            except (ConnectionResetError, BrokenPipeError) as e:
                raise wire.Closed("reset") from e
            for level, kind, content in control:
                assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
                self.received += array.array("i", content)
            assert not flags & socket.MSG_CTRUNC
            if not data:
                raise wire.Closed(f"end of stream, {len(self.buffer)} bytes of an unfinished frame")
            self.buffer += data
        out = bytes(memoryview(self.buffer)[:n])
        del self.buffer[:n]
        return out

    def post_file(self, cache, key, fds, size, **more):
        i = self.next_id()
        self.send(wire.request(i, "set", cache=cache, key=key, file_size=size, **more), fds=fds)
        return i

    def call_file(self, cache, key, fds, size, **more):
        """The reply to a Set that names a descriptor, and @fds with it."""
        return self.wait(self.post_file(cache, key, fds, size, **more))[0]

    def set_file(self, cache, key, data, **more):
        """EntryInfo: the value in a sealed memory file."""
        with memfd(data) as fd:
            reply = self.call_file(cache, key, [fd], len(data), **more)
        if reply.status != wire.OK:
            raise wire.Refused(reply)
        return reply.entry

    def get_file(self, cache, key, **more):
        """(EntryInfo, descriptor or None, body); the descriptor is the caller's. All None for a miss."""
        reply, body = self.call("get", cache=cache, key=key, as_file=True, **more)
        if reply.status == wire.NOT_FOUND:
            return None, None, None
        if reply.status != wire.OK:
            raise wire.Refused(reply)
        if not reply.entry.view_id:
            assert not self.received
            return reply.entry, None, body
        assert not body and len(self.received) == 1
        self.views.append(reply.entry.view_id)
        return reply.entry, self.received.pop(), body

    def read_file(self, cache, key):
        """The bytes of a view that is given back at once."""
        info, fd, _ = self.get_file(cache, key)
        try:
            with mmap.mmap(fd, info.size, mmap.MAP_PRIVATE, mmap.PROT_READ) as m:
                return m[:]
        finally:
            os.close(fd)
            self.release(info.view_id)

    def release(self, *views):
        self.must("release", view_ids=views)
        self.views = [v for v in self.views if v not in views]


def client(daemon, uid=None, groups=(), **hello):
    """One of @daemon's clients."""
    made = daemon.connect(uid, groups)
    daemon.clients.remove(made)
    c = Client(sock=made.sock)
    daemon.clients.append(c)
    c.hello(**hello)
    return c
