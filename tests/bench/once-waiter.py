# SPDX-License-Identifier: MIT
"""Waits for a value with nothing but sockets and what protoc made of cached.proto; prints when it had it.

Usage: once-waiter.py FOLDER-OF-cached_pb2 SOCKET CACHE KEY; CLOCK_MONOTONIC, in nanoseconds.
"""

import socket
import struct
import sys
import time

sys.path.insert(0, sys.argv[1])
import cached_pb2 as pb  # noqa: E402

s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[2])
f = s.makefile("rwb")


def call(**request):
    message = pb.Request(**request).SerializeToString()
    f.write(struct.pack("<IQ", len(message), 0) + message)
    f.flush()
    n_message, n_body = struct.unpack("<IQ", f.read(12))
    return pb.Reply.FromString(f.read(n_message)), f.read(n_body)


call(id=1, hello=pb.Hello(protocol_min=1, protocol_max=1, client="once-waiter.py", features=pb.FEATURE_LEASES))
reply, value = call(id=2, get=pb.Get(cache=sys.argv[3], key=sys.argv[4].encode(), lease=pb.LeaseAsk(owner=1)))
at = time.monotonic_ns()
if reply.status != pb.OK or value != b"value":
    sys.exit(f"{pb.Status.Name(reply.status)} {reply.error}")
print(at, flush=True)
sys.stdin.read()  # who ends keeps the processors from those who still wait
