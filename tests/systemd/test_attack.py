# SPDX-License-Identifier: MIT
"""What users of the cache may do to the machine's service manager."""

import pytest

import guest

guest.needs_sandbox()

LINGER = 6

SOCKETS = r'''
import os, socket, struct, time
import wire
from wire import pb
from holders import Client

def lingering():
    """A socket that cannot be sent what is in it: whoever closes it last waits."""
    at = socket.create_server(("127.0.0.1", 0))
    a = socket.create_connection(at.getsockname())
    b, _ = at.accept()
    a.setblocking(False)
    try:
        while True:
            a.send(bytes(65536))
    except BlockingIOError:
        pass
    a.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, LINGER))
    return a, b

def queued():
    """The same, in the queue of another."""
    a, b = lingering()
    x, y = socket.socketpair()
    socket.send_fds(y, [b"x"], [a.fileno()])
    a.close()
    return x, (b, y)

c = Client("/run/cached/cached.sock")
c.hello()
c.open_holder()
a, others = globals()[make]()
right = c.acquire(b"k", kind=pb.RESOURCE_DESCRIPTOR).resource.creation_id
assert c.publish(right, a.fileno()).status == wire.OK
a.close()
for _ in range(4):  # to be old enough, for the manager to have it
    time.sleep(0.25)
    c.ping()
print("closed", flush=True)
time.sleep(LINGER)
'''


@pytest.mark.parametrize("make", ["lingering", "queued"])
def test_a01_the_manager_waits_for_no_close(service, make):
    """It has the last copy of all that it keeps when the service is stopped."""
    code = f"LINGER, make = {LINGER}, {make!r}" + SOCKETS
    p = service.start(f"{guest.PYTHON} -", user="alice", stdin=code.encode())
    p.wait_out("closed")
    took, _ = guest.elapsed(lambda: service.run("systemctl stop cached.socket cached.service; systemctl is-system-running",
                                                check=False))
    assert took < LINGER / 2, "the service manager hung"
    p.kill()
