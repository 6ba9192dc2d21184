# SPDX-License-Identifier: MIT
"""What the tests of sessions share."""

import os
import pathlib
import subprocess
import sys

import harness
from wire import OK, pb


def of_outside(name):
    """A module of tests/outside, whose own imports are of there too, where a file here has the same name."""
    outside = str(pathlib.Path(harness.__file__).parent)
    here = {other: sys.modules.pop(other) for other in ["test_client"] if other in sys.modules}
    sys.path.insert(0, outside)
    try:
        return __import__(name)
    finally:
        sys.path.remove(outside)
        sys.path.append(outside)
        sys.modules.pop("test_client", None)
        sys.modules.update(here)


takeover = of_outside("test_t_takeover")
restart, take_over = takeover.restart, takeover.take_over


def cachectl(d, s, verb, *args, check=True):
    """`cachectl session VERB`, with the token from the environment; gives what it printed."""
    program = harness.BUILD / "client" / "cachectl" / "cachectl"
    done = subprocess.run([program, "--socket", str(d.socket), "session", verb, *args], capture_output=True, text=True,
                          env={**os.environ, "CACHED_SESSION": s.token})
    assert not check or done.returncode == 0, done.stderr
    return done.stdout


def raw_set(d, s, key, flags, data):
    """Any bytes with any flags, as any program of the user's can set them."""
    with d.client() as c:
        reply, _ = c.call("session_set", body=data, token=bytes.fromhex(s.token),
                          items=[pb.SessionItem(key=key, size=len(data), flags=flags)])
        assert reply.status == OK
