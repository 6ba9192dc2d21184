#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A file whose close() blocks: a FUSE file system whose server never answers FLUSH.

    fusehang.py DIRECTORY SOCKET_FD

Mounts on DIRECTORY in a mount namespace of its own (so nothing is left behind), opens the one file there in a child
process and sends the descriptor through SOCKET_FD. Whoever closes a copy of it hangs in the kernel, without
being killable, until this process ends. Exit status 77: the machine does not let us mount.

Speaks the kernel's FUSE protocol itself (linux/fuse.h); seven requests are all that an open and a close need.
"""

import array
import ctypes
import errno
import os
import signal
import socket
import stat
import struct
import sys

LOOKUP, FORGET, GETATTR, OPEN, RELEASE, FLUSH, INIT, INTERRUPT, BATCH_FORGET = 1, 2, 3, 14, 18, 25, 26, 36, 42
ROOT, FILE = 1, 2
CLONE_NEWNS, MS_NOSUID, MS_NODEV, MS_REC, MS_PRIVATE = 0x20000, 2, 4, 0x4000, 1 << 18
PR_SET_PDEATHSIG = 1
SKIP = 77

libc = ctypes.CDLL(None, use_errno=True)


def system(call, *args):
    if call(*args) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def mount(directory):
    """Gives the descriptor that the server reads requests from."""
    system(libc.unshare, CLONE_NEWNS)
    system(libc.mount, None, b"/", None, MS_REC | MS_PRIVATE, None)
    fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={fd},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
    system(libc.mount, b"fusehang", os.fsencode(directory), b"fuse", MS_NOSUID | MS_NODEV, options.encode())
    return fd


def attributes(node):
    mode = stat.S_IFDIR | 0o755 if node == ROOT else stat.S_IFREG | 0o644
    return struct.pack("<6Q10I", node, 0, 0, 0, 0, 0, 0, 0, 0, mode, 1, os.getuid(), os.getgid(), 0, 4096, 0)


def answer(opcode, node):
    """(error, payload), or None for what is not answered: FLUSH, and what has no answer."""
    if opcode in (FLUSH, FORGET, BATCH_FORGET, INTERRUPT):
        return None
    if opcode == INIT:
        return 0, struct.pack("<4I2H2I2HI7I", 7, 31, 65536, 0, 12, 9, 65536, 1, 1, 0, 0, *[0] * 7)
    if opcode == LOOKUP:
        return 0, struct.pack("<4Q2I", FILE, 0, 3600, 3600, 0, 0) + attributes(FILE)
    if opcode == GETATTR:
        return 0, struct.pack("<Q2I", 3600, 0, 0) + attributes(node)
    if opcode == OPEN:
        return 0, struct.pack("<QII", 0, 0, 0)
    if opcode == RELEASE:
        return 0, b""
    return -errno.ENOSYS, b""


def serve(fd):
    while True:
        try:
            data = os.read(fd, 1 << 17)
        except OSError as e:
            if e.errno in (errno.EINTR, errno.ENOENT):
                continue
            return
        _, opcode, unique, node = struct.unpack_from("<IIQQ", data)
        reply = answer(opcode, node)
        if reply:
            error, payload = reply
            os.write(fd, struct.pack("<IiQ", 16 + len(payload), error, unique) + payload)


def send_file(directory, sock):
    fd = os.open(os.path.join(directory, "file"), os.O_RDONLY | os.O_CLOEXEC)
    sock.sendmsg([b"f"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])


def main():
    directory, sock = sys.argv[1], socket.socket(fileno=int(sys.argv[2]))
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        fd = mount(directory)
    except OSError as e:
        print(f"no FUSE mount: {e}", file=sys.stderr)
        return SKIP
    # The child's exit hangs in its own FLUSH until the server is gone, so nobody waits for it.
    if os.fork() == 0:
        os.close(fd)
        send_file(directory, sock)
        os._exit(0)
    sock.close()
    serve(fd)
    return 0


if __name__ == "__main__":
    sys.exit(main())
