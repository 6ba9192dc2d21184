# SPDX-License-Identifier: MIT
"""Taking over where the machine's time is another one. See test_t_takeover.py for all else."""

import shutil
import subprocess

import pytest

from harness import needs_root
from test_t_takeover import take_over, takeover


def test_a_daemon_in_another_time_namespace(make_daemon):
    """There the deadlines mean other times: everything would expire at once, or years too late."""
    needs_root()
    elsewhere = ["unshare", "--time", "--boottime", "100000"]
    if not shutil.which("unshare") or subprocess.run([*elsewhere, "true"], stderr=subprocess.DEVNULL).returncode != 0:
        pytest.skip("cannot make a time namespace here")
    d = make_daemon()
    d.client().set("t", b"k", b"v", ttl_ms=60_000)
    d.client().set("t", b"immortal", b"v", never_expires=True)
    command = d.command
    d.command = lambda *more: [*elsewhere, *command(*more)]
    take_over(d)
    assert d.client().get("t", b"k") is None and d.client().get("t", b"immortal") is None
    report = takeover(d)
    assert (report.realms_kept, report.realms_dropped) == (0, 1)
    assert "another time namespace" in report.reasons[0]
    d.command = command
    d.client().set("t", b"k", b"w", ttl_ms=60_000)
    take_over(d)
    assert d.client().get("t", b"k") is None
    take_over(d)
    d.client().set("t", b"k", b"x", ttl_ms=60_000)
    take_over(d)
    assert d.client().get("t", b"k") == b"x" and takeover(d).realms_kept == 1
