# SPDX-License-Identifier: MIT
"""Every feature works in the sandbox that the unit is: tests of tests/outside, against the service as it is
installed. The short form takes some of each area, the long form all but those that are about a daemon whose files,
limits, clock or successor the test itself decides.
"""

import pytest

import guest
from harness import LONG

guest.needs_sandbox()

# file: (what of it in the short form, what never)
AREAS = {
    # values, caches, deadlines
    "test_b_basic.py": ("b01 or b05 or b12 or b16 or b21 or b25 or b28 or b30 or b32", ""),
    # values in memory files: seals, /proc/self/fd, the thread that closes; not: limits of the process, its start
    "test_f_files.py": ("f02 or f05 or f10 or f2 or f43 or f50 or f56 or f71", "f44 or f59 or f70"),
    # the mapped arena: epoch file, leases of the kernel on memory files (F_SETLEASE); not: files beside the test's
    # own socket, and what takes a minute without the clock
    "test_m_mapped.py": ("m01 or m10 or m11 or m2 or m31 or m50", "m51 or m6"),
    "test_v_views.py": ("v01 or v03 or v06 or v08 or v21", ""),
    # who computes; the end of a process (pidfd)
    "test_p_leases.py": ("p02 or p11 or p14 or p17 or p20 or p23 or p30 or p34", ""),
    # not: a successor
    "test_sessions.py": ("s01 or s05 or s22 or s24 or s37 or s41", "s25 or s51"),
    # descriptors of all kinds, network sockets among them, locks, segments, the death of who holds them; not: where
    # the daemon waits ten seconds for a process that goes on
    "test_q_resources.py": ("q10 or q13 or q20 or q21 or q22 or q24 or q30 or q31 or q32 or q33 or q40 or q50 or q53",
                            "q2a or q34 or q48"),
    "test_cli_monitor.py": ("cl60 or cl62 or cl69 or cl73 or cl77", ""),
    # not: how much time was saved, to the millisecond
    "test_memo.py": ("m03 or m04 or m10 or m20 or m22", "m01"),
}


@pytest.mark.parametrize("name", AREAS)
def test_outside(service, name):
    short, never = AREAS[name]
    chosen = " and ".join(f"({e})" for e in ("" if LONG else short, f"not ({never})" if never else "") if e)
    passed = service.outside(name, *(["-k", chosen] if chosen else []), timeout=1000 if LONG else 100)
    assert passed >= 4


@pytest.mark.skipif(not LONG, reason="the long form: it waits ten seconds for a process that goes on")
def test_a_killed_holder(service):
    """The daemon knows by the process itself that it is gone, not by its socket, which a child has still."""
    assert service.outside("test_q_resources.py", "-k", "q09") == 1


def test_nothing_was_refused_to_the_daemon(service):
    """The log of all that has no word of a call that the sandbox forbids."""
    service.run("cachectl ping")
    journal = service.journal("cached.service")
    for word in ("not permitted", "cannot look entries up by themselves", "is /proc mounted"):
        assert word not in journal
