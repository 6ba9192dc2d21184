# SPDX-License-Identifier: MIT
"""Every history of sets, deletes, clears and reads has an order in which each answer is right.

order.c runs random histories from four processes through libcached and judges each; the checker has tests of its own
(tests/unit/test-order-check.c), where it must say no. Most reads are mapped: they ask nobody, so nothing but the rules
of ARENA.md keeps them from being late. In some histories the daemon is killed and replaced by one that knows nothing:
then the epoch file alone tells readers that what they have mapped counts no more.
"""

import re
import subprocess

import harness

ORDER = harness.BUILD / "tests" / "outside" / "order"
PATIENCE = 5400 if harness.LONG else 120

# The full counts are for a build without sanitizers, see .ci/check-long.
HISTORIES = (100_000 if harness.SANITIZED else 1_000_000) if harness.LONG else 2_000
LOSSES = (1_000 if harness.SANITIZED else 10_000) if harness.LONG else 20


def run(daemon, seed, histories, losses=0, handovers=0):
    """{name: number} of what order.c prints; it starts and kills the daemon itself."""
    done = subprocess.run([str(ORDER), str(daemon.socket), str(seed), str(histories), str(losses), str(handovers),
                           *daemon.command()],
                          capture_output=True, text=True, timeout=PATIENCE)
    print(done.stdout)
    assert done.returncode == 0, done.stderr[-8000:]
    assert not harness.SANITIZER.search(done.stderr), done.stderr[-8000:]
    return {name: float(n) for name, n in re.findall(r"(\w+)=([\d.]+)", done.stdout)}


def check(n, histories, losses=0, handovers=0):
    assert n["histories"] == histories + losses + handovers
    assert n["losses"] == losses and n["handovers"] == handovers
    assert n["undecided"] == 0
    assert n["operations"] > 10 * n["histories"], "not much happened"
    # Not all: a cache that begins anew is asked for on the socket until a reader has seen it.
    assert n["mapped"] > 0.3 * n["reads"], "these were not mapped reads"


def test_a_one_daemon(make_daemon):
    d = make_daemon(start=False, with_clock=False)
    check(run(d, 1, HISTORIES), HISTORIES)


def test_b_daemons_that_are_lost(make_daemon):
    d = make_daemon(start=False, with_clock=False)
    check(run(d, 2, LOSSES, LOSSES), LOSSES, LOSSES)


def test_c_daemons_that_hand_over(make_daemon):
    d = make_daemon(start=False, with_clock=False)
    check(run(d, 3, LOSSES, handovers=LOSSES), LOSSES, handovers=LOSSES)
