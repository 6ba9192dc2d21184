# SPDX-License-Identifier: MIT
"""cachectl memo, single flight: simultaneous runs of one command are one run, whatever becomes of it.

    M90   one run, its result for all
    M91   the runner is killed, interrupted, or its terminal is closed
    M92   there is no result to share: it failed, is too large, is refused, is outdated
    M93   how long to wait, and for whom
    M94   the daemon goes away
    M95   memos inside of memos
    M96   what is seen: terminals, --verbose, the daemon's lists
    M97   --refresh: what is stored is made anew

A command waits for a file (`until [ -e go ]`), so that it ends when the test wants it to. What one run makes
different from another without another key is a variable that no --env names.
"""

import contextlib
import os
import pty
import random
import re
import signal
import subprocess
import time

import pytest

import harness
import wire
from cachectl import TIMEOUT, USAGE, cli, environment, needs_cachectl, run_plain
from harness import needs_root, wait_until
from memo import Memo, memo, quoted
from test_memo_signals import ended, in_terminal, read_until

pytestmark = needs_cachectl

OPEN = {"daemon": {"socket_mode": "0666"}}  # other users may connect
UNTIL = "until [ -e {} ]; do sleep 0.02; done; "
GO = UNTIL.format("go")


class Crowd:
    """Memos of one command, and what the daemon knows of them."""

    def __init__(self, memo):
        self.memo = memo
        self.started = []

    def start(self, *args, **more):
        self.started.append(self.memo.start(*args, **more))
        return self.started[-1]

    def computations(self, **hello):
        with self.memo.daemon.probe() as c:
            return list(c.must("list_leases").list_leases.computations)

    def until(self, runner, waiters):
        """Waits until one process runs the command (which: None: any), and so many wait; gives its pid."""
        def so():
            for x in self.computations():
                if x.waiters == waiters and runner in (None, x.pid):
                    return x.pid
            return None
        return wait_until(so, f"{waiters} wait for {runner or 'somebody'}: {self.computations()}")

    def run(self, n, *args, **more):
        """The runner, and n more that wait for it."""
        runner = self.start(*args, **{**more, "env": {"FIRST": "1", **more.get("env", {})}})
        self.until(runner.pid, 0)
        waiters = [self.start(*args, **more) for _ in range(n)]
        self.until(runner.pid, n)
        return runner, waiters

    def go(self, name="go"):
        (self.memo.dir / name).touch()

    def finish(self):
        for p in self.started:
            if p.poll() is None:
                p.kill()
            p.wait()
            p.stdout.close()
            p.stderr.close()


@pytest.fixture
def crowd(memo):
    c = Crowd(memo)
    yield c
    c.go()
    c.finish()


def outcome(p, err=b""):
    """(status, stdout) of one that has ended, which said nothing else."""
    out, said = p.communicate(timeout=TIMEOUT)
    assert not harness.SANITIZER.search(said.decode(errors="replace")), said
    assert said == err
    return p.returncode, out


# ---- one run

def test_m90_twenty_at_once(memo, crowd):
    """One of them runs it, whichever; all print the same and end the same."""
    command = memo.counted(f"echo a; echo b >&2; {GO} echo c; echo d >&2")
    everybody = [crowd.start(*command) for _ in range(20)]
    crowd.until(None, 19)
    crowd.go()
    for p in everybody:
        assert outcome(p, b"b\nd\n") == (0, b"a\nc\n")
    assert memo.runs == 1 and memo.stats().stores == 1
    assert memo(*command) == (b"a\nc\n", b"b\nd\n") and memo.runs == 1


def test_m90_order_of_the_streams(memo, crowd):
    """A waiter mixes them as the command did."""
    command = memo.counted(f"{GO} echo a; echo b >&2; echo c; echo d >&2; echo e")
    crowd.start(*command)
    crowd.until(None, 0)
    p = subprocess.Popen(memo.command(*command), cwd=memo.dir, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, env=environment())
    crowd.until(None, 1)
    crowd.go()
    assert p.communicate(timeout=TIMEOUT)[0] == b"a\nb\nc\nd\ne\n"
    assert memo.runs == 1


def test_m90_nothing_starts_at_the_same_moment(memo, crowd):
    """No run is seen before it begins: as many rounds as there is time for, without a barrier."""
    for i in range(40 if harness.LONG else 5):
        command = memo.counted(f"sleep 0.2; echo {i}")
        everybody = [crowd.start(*command) for _ in range(4)]
        assert [outcome(p) for p in everybody] == [(0, b"%d\n" % i)] * 4
        assert memo.runs == i + 1


def test_m90_options_keep_their_meaning(memo, crowd):
    """A stored failure is a result for those who asked for failures; what comes in is part of the key."""
    command = memo.counted(f"{GO} cat; exit 3")
    args = "--stdin", "--cache-failures", "--", *command
    runner, waiters = None, []
    for i in range(3):
        p = crowd.start(*args, stdin=subprocess.PIPE)
        p.stdin.write(b"in")
        p.stdin.close()
        p.stdin = None
        crowd.until(runner and runner.pid, i)
        runner = runner or p
        waiters.append(p)
    p = crowd.start(*args)  # another input: it waits for nobody
    wait_until(lambda: len(crowd.computations()) == 2, "two commands run")
    crowd.go()
    assert [outcome(p) for p in waiters] == [(3, b"in")] * 3
    assert outcome(p) == (3, b"") and memo.runs == 2


# ---- the runner ends before the command does

def kill_rounds(memo, crowd, rounds, pause_s):
    for i in range(rounds):
        go = f"go{i}"
        command = memo.counted(UNTIL.format(go) + f"echo done {i}")
        before = memo.runs
        runner, waiters = crowd.run(3, *command)
        time.sleep(random.uniform(0, pause_s))
        runner.kill()
        runner.wait()
        heir = crowd.until(None, 2)
        assert heir in [p.pid for p in waiters]
        crowd.go(go)
        assert [outcome(p) for p in waiters] == [(0, b"done %d\n" % i)] * 3
        # The killed one may not have come to it.
        assert memo.runs - before in (1, 2)


def test_m91_a_killed_runner(memo, crowd):
    """SIGKILL at any moment: one of the waiters runs it, and all have its result."""
    kill_rounds(memo, crowd, 200 if harness.LONG else 10, 0.03)


def test_m91_killed_before_anybody_waits(memo, crowd):
    """At any moment since its start: who comes then runs it, or has its result."""
    for i in range(200 if harness.LONG else 10):
        command = memo.counted(f"echo {i}")
        runner = crowd.start(*command)
        others = [crowd.start(*command) for _ in range(2)]
        time.sleep(random.uniform(0, 0.1))
        runner.kill()
        assert [outcome(p) for p in others] == [(0, b"%d\n" % i)] * 2


@pytest.mark.parametrize("how", ["killed", "interrupted", "terminated"])
def test_m91_a_whole_process_group(memo, crowd, how):
    """One after the other, as often as it happens; nobody else is disturbed."""
    number = {"killed": signal.SIGKILL, "interrupted": signal.SIGINT, "terminated": signal.SIGTERM}[how]
    command = memo.counted(f"{GO} echo done")
    first = crowd.start(*command, start_new_session=True)
    crowd.until(first.pid, 0)
    wait_until(lambda: memo.runs == 1, "it runs")
    second, third = (crowd.start(*command, start_new_session=True) for _ in range(2))
    crowd.until(first.pid, 2)
    os.killpg(first.pid, number)
    first.wait()
    heir = crowd.until(None, 1)
    assert heir in (second.pid, third.pid)
    wait_until(lambda: memo.runs == 2, "it runs again")
    os.killpg(heir, number)
    last = third if heir == second.pid else second
    crowd.until(last.pid, 0)
    crowd.go()
    assert outcome(last) == (0, b"done\n")
    assert memo.runs == 3 and memo.stats().stores == 1


def test_m91_a_terminal_that_is_closed(memo, crowd):
    """Its memo ends by the hang-up, and somebody else's runs it."""
    command = memo.counted(f"{GO} echo done")
    pid, fd = pty.fork()
    if pid == 0:
        with contextlib.suppress(OSError):
            os.chdir(memo.dir)
            os.execvpe(memo.command()[0], memo.command(*command), environment(TERM="xterm"))
        os._exit(99)
    crowd.until(pid, 0)
    other = crowd.start(*command)
    crowd.until(pid, 1)
    os.close(fd)
    crowd.until(other.pid, 0)
    crowd.go()
    assert outcome(other) == (0, b"done\n")
    assert ended(pid) == 128 + signal.SIGHUP


# ---- no result

def test_m92_a_failure_is_not_shared(memo, crowd):
    """All who waited run it then, side by side, and not one after the other."""
    command = memo.counted(f'echo out; [ -n "$FIRST" ] || {UNTIL.format("all")} {GO} exit 3')
    runner, waiters = crowd.run(5, *command)
    crowd.go()
    assert outcome(runner) == (3, b"out\n")
    wait_until(lambda: memo.runs == 6, "all of them run it")
    crowd.go("all")
    assert [outcome(p) for p in waiters] == [(3, b"out\n")] * 5
    assert memo.stats().stores == 0


def test_m92_death_by_a_signal_is_a_failure(memo, crowd):
    """Of the command's own: nobody wanted it to end."""
    command = memo.counted(f'[ -n "$FIRST" ] || {UNTIL.format("all")} {GO} kill -SEGV $$')
    runner, waiters = crowd.run(3, *command)
    crowd.go()
    runner.wait()
    wait_until(lambda: memo.runs == 4, "all of them run it")
    crowd.go("all")
    assert [outcome(p)[0] for p in [runner, *waiters]] == [128 + signal.SIGSEGV] * 4


def test_m92_one_that_then_succeeds_is_stored(memo, crowd):
    """The failure of one run says nothing of the next."""
    command = memo.counted(f'{GO} [ -z "$FIRST" ] || exit 3; echo fine')
    runner, waiters = crowd.run(2, *command)
    crowd.go()
    assert outcome(runner) == (3, b"")
    assert [outcome(p) for p in waiters] == [(0, b"fine\n")] * 2
    runs = memo.runs
    assert memo(*command)[0] == b"fine\n" and memo.runs == runs


def test_m92_a_stored_failure_is_for_those_who_want_it(memo, crowd):
    """Others run it, at once."""
    command = memo.counted(f"{GO} echo x; exit 3")
    runner = crowd.start("--cache-failures", "--", *command)
    crowd.until(runner.pid, 0)
    alike, other = crowd.start("--cache-failures", "--", *command), crowd.start(*command)
    crowd.until(runner.pid, 2)
    crowd.go()
    assert [outcome(p) for p in (runner, alike, other)] == [(3, b"x\n")] * 3
    assert memo.runs == 2
    assert memo(*command, status=3)[0] == b"x\n" and memo.runs == 3


@pytest.mark.parametrize("by", ["memo", "daemon"])
def test_m92_too_large(make_daemon, tmp_path, by):
    """Known before it ends: those who wait need not wait for that."""
    memo = Memo(make_daemon(limits={"value_bytes": "64K"} if by == "daemon" else {}), tmp_path)
    crowd = Crowd(memo)
    args = ["--quiet", *(["--max-output", "64K"] if by == "memo" else [])]
    command = memo.counted(f"head -c 100000 /dev/zero; {GO} echo end")
    runner, waiters = None, []
    script = ["--", *command]
    runner = crowd.start(*args, *script, stdin=subprocess.DEVNULL)
    runner.stdout.read(100000)
    others = [crowd.start(*args, *script) for _ in range(2)]
    wait_until(lambda: memo.runs == 3, "all run")
    crowd.go()
    assert outcome(runner) == (0, b"end\n")
    assert [outcome(p) for p in others] == [(0, bytes(100000) + b"end\n")] * 2
    crowd.finish()


def test_m92_too_large_while_others_wait(memo, crowd):
    """They begin while it still runs."""
    command = memo.counted(f'[ -z "$FIRST" ] || {UNTIL.format("fill")} head -c 100000 /dev/zero; {GO} echo end')
    runner, waiters = crowd.run(3, "--quiet", "--max-output", "64K", "--", *command)
    crowd.go("fill")
    runner.stdout.read(100000)
    wait_until(lambda: memo.runs == 4, "all run")
    assert runner.poll() is None
    crowd.go()
    assert outcome(runner) == (0, b"end\n")
    assert [outcome(p) for p in waiters] == [(0, bytes(100000) + b"end\n")] * 3


def test_m92_refused_by_the_daemon(make_daemon, tmp_path):
    """There is no room for it: whether the daemon shares it or not, all come to an end, and nothing is stored."""
    memo = Memo(make_daemon(), tmp_path)
    crowd = Crowd(memo)
    with memo.daemon.client() as c:
        c.set_policy("memo", max_bytes=4096)
    (memo.dir / "bytes").write_bytes(os.urandom(50000))
    command = memo.counted(f"{GO} cat bytes")
    runner, waiters = crowd.run(3, "--quiet", "--", *command)
    crowd.go()
    assert [outcome(p) for p in [runner, *waiters]] == [(0, (memo.dir / "bytes").read_bytes())] * 4
    assert memo.stats().entries == 0
    crowd.finish()


def test_m92_no_room_for_leases(make_daemon, tmp_path):
    """Beyond the daemon's limits a memo runs the command as if nobody else did."""
    memo = Memo(make_daemon(limits={"waiters_per_uid": 1}), tmp_path)
    crowd = Crowd(memo)
    command = memo.counted(f"{GO} echo done")
    runner, (waiter,) = crowd.run(1, *command)
    third = crowd.start(*command)
    wait_until(lambda: memo.runs == 2, "it runs at once")
    crowd.go()
    assert [outcome(p) for p in (runner, waiter, third)] == [(0, b"done\n")] * 3
    crowd.finish()


def test_m92_output_that_nobody_reads(memo, crowd):
    """A runner whose reader went away has no whole result."""
    command = memo.counted(f'{GO} echo a; [ -z "$FIRST" ] || sleep 0.2; echo b')
    runner, waiters = crowd.run(2, *command)
    runner.stdout.close()
    crowd.go()
    runner.wait()
    runner.stdout = open(os.devnull, "rb")
    assert [outcome(p) for p in waiters] == [(0, b"a\nb\n")] * 2
    assert memo.runs == 3


def test_m92_what_is_watched_changes(memo, crowd):
    """Nobody knows which content the result stands for: each sees for itself."""
    (memo.dir / "f").write_text("1")
    command = memo.counted(f"{GO} cat f")
    runner, waiters = crowd.run(2, "--quiet", "--watch", "f", "--", *command)
    (memo.dir / "f").write_text("2")
    crowd.go()
    assert [outcome(p) for p in (runner, *waiters)] == [(0, b"2\n".strip())] * 3
    assert memo.runs == 3 and memo.stats().stores == 0


def test_m92_cleared_meanwhile(memo, crowd, cli):
    """What was begun before the clear is not stored, and not for those who wait: one of them runs it anew."""
    command = memo.counted(f'[ -z "$FIRST" ] || {UNTIL.format("old")} [ -n "$FIRST" ] || {GO} echo done')
    runner, waiters = crowd.run(2, "-v", "--", *command)
    cli("clear", "memo")
    heir = crowd.until(None, 1)
    assert heir in [p.pid for p in waiters]
    crowd.go("old")
    out, err = runner.communicate(timeout=TIMEOUT)
    assert out == b"done\n" and b"cachectl: memo: not stored: " in err
    crowd.go()
    for p in waiters:
        assert p.communicate(timeout=TIMEOUT)[0] == b"done\n" and p.returncode == 0
    assert memo.runs == 2 and memo.stats().stores == 1


# ---- how long, and for whom

def test_m93_a_bounded_wait(memo, crowd, clock):
    """After --wait it runs the command, too; what it stores is the result of those who still wait."""
    command = memo.counted(f'[ -z "$FIRST" ] || {GO} echo "${{FIRST:-second}}"')
    runner, (patient,) = crowd.run(1, *command)
    bounded = crowd.start("--wait", "10s", "--", *command)
    crowd.until(runner.pid, 2)
    clock.advance(9900)
    assert memo.runs == 1
    clock.advance(200)
    assert outcome(bounded) == (0, b"second\n")
    assert outcome(patient) == (0, b"second\n"), "it need not wait any longer"
    crowd.go()
    assert outcome(runner) == (0, b"1\n") and memo.runs == 2
    assert memo(*command)[0] == b"second\n", "a late one does not take the place of the newer one"


def test_m93_no_wait(memo, crowd):
    """0: it runs at once; if nobody runs it others wait for it as for any."""
    command = memo.counted(f"{GO} echo done")
    first = crowd.start("--wait", "0s", "--", *command)
    crowd.until(first.pid, 0)
    second = crowd.start("--wait", "0s", "--", *command)
    wait_until(lambda: memo.runs == 2, "both run")
    third = crowd.start(*command)
    crowd.until(first.pid, 1)
    crowd.go()
    assert [outcome(p) for p in (first, second, third)] == [(0, b"done\n")] * 3
    assert memo.runs == 2


@pytest.mark.parametrize("value, wrong", [("10", "its unit is missing"), ("x", ""), ("9999d", "it is at most 3650d"),
                                          ("", ""), ("-1s", "")])
def test_m93_usage(memo, value, wrong):
    r = run_plain("--socket", str(memo.daemon.socket), "memo", f"--wait={value}", "true")
    assert r.status == USAGE and r.err.startswith(f"cachectl: memo: --wait '{value}': {wrong}"), r.err


def test_m93_stale_results(memo, crowd, clock):
    """One runs the command in the foreground; all others have the old result meanwhile, at once."""
    with memo.daemon.client() as c:
        c.set_policy("memo", ttl_ms=1000, stale_for_ms=60000)
    command = memo.counted(f'[ -z "$FIRST" ] || {GO} echo "${{FIRST:-old}}"')
    assert memo(*command)[0] == b"old\n"
    clock.advance(2000)
    runner = crowd.start(*command, env={"FIRST": "new"})
    crowd.until(runner.pid, 0)
    for _ in range(3):
        assert memo(*command)[0] == b"old\n"
    assert b"memo: a hit, stale, which saves" in memo("--verbose", *command)[1]
    crowd.go()
    assert outcome(runner) == (0, b"new\n")
    assert memo(*command)[0] == b"new\n" and memo.runs == 2
    assert b"memo: a hit, which saves" in memo("--verbose", *command)[1]


def test_m93_another_users_lease(make_daemon, tmp_path):
    """In a shared realm somebody else can hold the lease only to hold us up: we do not wait for him."""
    needs_root()
    memo = Memo(make_daemon(extra="[realm shared]\nwriters = 12345\n", **OPEN), tmp_path)
    command = memo.counted("echo mine")
    run = memo.command("--realm", "shared", "-v", *command)
    r = subprocess.run(run, capture_output=True, text=True, env=environment(), cwd=memo.dir, timeout=TIMEOUT)
    key = bytes.fromhex(re.search(r"stored: memo hex:(\w{64})\n", r.stderr).group(1))
    theirs = memo.daemon.client(uid=12345, realm="shared", features=wire.pb.FEATURE_LEASES)
    theirs.must("delete", cache="memo", key=key)
    reply, _ = theirs.call("get", cache="memo", key=key, lease=wire.pb.LeaseAsk(owner=1))
    assert reply.lease.state == wire.pb.LEASE_GRANTED
    r = subprocess.run(run, capture_output=True, text=True, env=environment(), cwd=memo.dir, timeout=TIMEOUT)
    assert r.stdout == "mine\n" and memo.runs == 2
    assert "not waiting any longer for pid" in r.stderr


# ---- the daemon

def test_m94_the_daemon_dies(memo, crowd):
    """Who waits runs the command by itself; the runner goes on."""
    command = memo.counted(f"{GO} echo done")
    runner, waiters = crowd.run(3, *command)
    memo.daemon.process.kill()
    memo.daemon.process.wait()
    memo.daemon.process = None
    wait_until(lambda: memo.runs == 4, "all run it")
    crowd.go()
    assert [outcome(p) for p in [runner, *waiters]] == [(0, b"done\n")] * 4


def test_m94_the_daemon_is_stopped_in_good_order(memo, crowd):
    """Likewise, and at once."""
    command = memo.counted(f"{GO} echo done")
    runner, waiters = crowd.run(3, *command)
    memo.daemon.stop()
    wait_until(lambda: memo.runs == 4, "all run it")
    crowd.go()
    assert [outcome(p) for p in [runner, *waiters]] == [(0, b"done\n")] * 4


def test_m94_the_daemon_hangs(memo, crowd):
    """It is given up after the time-out, as for any request."""
    memo.timeout = "5s"
    command = memo.counted(f"{GO} echo done")
    runner, waiters = crowd.run(3, "--quiet", "--", *command)
    with memo.daemon.stopped():
        wait_until(lambda: memo.runs == 4, "all run it")
        crowd.go()
        for p in [runner, *waiters]:
            assert p.communicate(timeout=TIMEOUT)[0] == b"done\n" and p.returncode == 0


# ---- memos inside of memos

def script(memo, name, text):
    """A program that may call memo as "$MEMO COMMAND"."""
    path = memo.dir / name
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return str(path)


def inside(memo, **more):
    return {"MEMO": quoted(memo.command()), **more}


def test_m95_a_command_that_memoizes_itself(memo):
    """The inner one runs plainly: to wait for itself would take for ever. The result is the outer one's."""
    a = script(memo, "a", '[ "$INSIDE" ] && { echo inner; exit; }\nINSIDE=1 $MEMO $0\necho outer\n')
    assert memo("--", a, env=inside(memo)) == (b"inner\nouter\n", b"")
    assert memo.stats().stores == 1
    assert memo("--", a, env=inside(memo, INSIDE="1"))[0] == b"inner\nouter\n", "which it has in the cache"


def test_m95_across_another_command(memo):
    """A, which calls B, which calls A."""
    a = script(memo, "a", f'[ "$INSIDE" ] && {{ echo inner; exit; }}\nINSIDE=1 $MEMO {memo.dir}/b\necho a\n')
    script(memo, "b", f"$MEMO {a}\necho b\n")
    assert memo("--", a, env=inside(memo)) == (b"inner\nb\na\n", b"")


def test_m95_others_of_the_inner_command(memo, crowd):
    """One that runs as a part of two others runs once."""
    script(memo, "part", f"echo run >> {memo.runs_file}\n{GO} echo part\n")
    wholes = [script(memo, f"whole{i}", f"$MEMO {memo.dir}/part\necho {i}\n") for i in range(2)]
    started = [crowd.start(w, env=inside(memo)) for w in wholes]
    wait_until(lambda: sum(x.waiters for x in crowd.computations()) == 1, "one waits for the other's part")
    crowd.go()
    assert [outcome(p) for p in started] == [(0, b"part\n0\n"), (0, b"part\n1\n")]
    assert memo.runs == 1


def test_m95_two_that_need_each_other(memo, crowd, clock):
    """Each waits for a run that the other one holds: one of the two gives up, and both end."""
    text = f'DEPTH=$((DEPTH + 1)); export DEPTH\n[ $DEPTH -ge 3 ] && {{{{ echo leaf; exit; }}}}\n{GO}$MEMO {{}}\necho {{}}\n'
    a = script(memo, "a", text.format(memo.dir / "b", "a"))
    b = script(memo, "b", text.format(a, "b"))
    one, two = (crowd.start(x, env=inside(memo, DEPTH="0")) for x in (a, b))
    wait_until(lambda: len(crowd.computations()) == 2, "both run")
    crowd.go()
    wait_until(lambda: [x.waiters for x in crowd.computations()] == [1, 1], "each waits for the other")
    clock.advance(61000)
    assert {outcome(p)[0] for p in (one, two)} == {0}


@pytest.mark.parametrize("value", ["", ":", "x", "z" * 64, "0" * 63, ":" * 5000, ("f" * 64 + ":") * 100],
                         ids=["empty", "colon", "word", "no-key", "short", "colons", "many"])
def test_m95_any_value_of_the_variable(memo, value):
    """It comes from outside."""
    command = memo.counted('echo "${#CACHED_MEMO_RUNNING}"')
    out = memo(*command, env={"CACHED_MEMO_RUNNING": value})[0]
    assert 0 < len(out) < 7
    assert memo(*command, env={"CACHED_MEMO_RUNNING": value})[0] == out and memo.runs == 1


# ---- what is seen

def test_m96_a_waiter_on_a_terminal(memo, crowd):
    """Whose run, since when, and of what; gone before the first byte of the result."""
    command = memo.counted(f"{GO} echo res''ult")
    runner = crowd.start(*command)
    crowd.until(runner.pid, 0)
    with in_terminal(memo, *command) as (pid, fd):
        frame = rb"\r[|/\\-] \d+\.\ds  waiting for pid %d \(running \S+\): sh -c " % runner.pid
        seen = read_until(fd, frame)
        crowd.go()
        seen = read_until(fd, b"result\r\n")
        assert seen.endswith(b"\r\x1b[Kresult\r\n")
        assert ended(pid) == 0
    assert memo.runs == 1
    assert all(len(line) < 80 + 4 for line in seen.split(b"\r"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_m96_a_waiter_that_is_ended(memo, crowd, number):
    """At once, by the signal, and its line is gone. Nobody else minds."""
    command = memo.counted(f"{GO} echo done")
    runner = crowd.start(*command)
    crowd.until(runner.pid, 0)
    with in_terminal(memo, *command) as (pid, fd):
        read_until(fd, b"waiting for pid")
        if number == signal.SIGINT:
            os.write(fd, b"\x03")
        else:
            os.kill(pid, number)
        seen = b""
        with contextlib.suppress(OSError):
            while part := os.read(fd, 4096):
                seen += part
        assert seen.endswith(b"\r\x1b[K"), "nothing is left on the line"
        assert ended(pid) == -number
    crowd.until(runner.pid, 0)
    other = crowd.start(*command)
    crowd.until(runner.pid, 1)
    other.send_signal(number)
    assert other.wait(TIMEOUT) == -number
    crowd.go()
    assert outcome(runner) == (0, b"done\n") and memo.runs == 1


def test_m96_ignored_signals_stay_ignored(memo, crowd):
    """nohup: a waiter on a terminal goes on waiting."""
    command = memo.counted(f"{GO} echo res''ult")
    runner = crowd.start(*command)
    crowd.until(runner.pid, 0)
    old = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with in_terminal(memo, *command) as (pid, fd):
            read_until(fd, b"waiting for pid")
            os.kill(pid, signal.SIGHUP)
            read_until(fd, b"waiting for pid")
            crowd.go()
            read_until(fd, b"result\r\n")
            assert ended(pid) == 0
    finally:
        signal.signal(signal.SIGHUP, old)


def test_m96_quiet_and_dumb_terminals(memo, crowd):
    """Nothing is drawn."""
    command = memo.counted(f"{GO} echo res''ult")
    runner = crowd.start(*command)
    crowd.until(runner.pid, 0)
    with in_terminal(memo, "--quiet", "--", *command) as one, in_terminal(memo, *command, TERM="dumb") as two:
        crowd.until(runner.pid, 2)
        time.sleep(0.6)  # longer than before anything is drawn
        crowd.go()
        for pid, fd in one, two:
            assert read_until(fd, b"result\r\n") == b"result\r\n"
            assert ended(pid) == 0


def test_m96_verbose(memo, crowd):
    """A line for the wait, and one for what came of it."""
    command = memo.counted(f'[ -z "$FIRST" ] || {GO} [ "${{FIRST:-0}}" = 0 ] || exit "$FIRST"; echo done')
    for status, ends in ("0", rb"a hit, after \S+( \S+)? of waiting for pid %d: memo hex:\w{64}\n"), \
                        ("3", rb"there is nothing to share of the run of pid %d: the command failed with status 3\n"
                              rb"cachectl: memo: stored: memo hex:\w{64}\n"):
        args = "-v", "--cache", "memo", "--", *command, status
        runner = crowd.start(*args, env={"FIRST": status})
        crowd.until(runner.pid, 0)
        waiter = crowd.start(*args)
        crowd.until(runner.pid, 1)
        crowd.go()
        out, err = waiter.communicate(timeout=TIMEOUT)
        assert out == b"done\n" and waiter.returncode == 0
        assert re.fullmatch(rb"cachectl: memo: waiting for pid %d, which has run it for \S+( \S+)?\ncachectl: memo: "
                            % runner.pid + ends % runner.pid, err), err
        runner.wait()
        (memo.dir / "go").unlink()


def test_m96_what_the_daemon_is_told(make_daemon, tmp_path):
    """The words of the command in the user's own realm; in a shared one the program only."""
    memo = Memo(make_daemon(extra="[realm shared]\nwriters = 0\n", **OPEN), tmp_path)
    crowd = Crowd(memo)
    first = crowd.start("sh", "-c", f"{GO} # \x1b[31m secret", "\x7f")
    text = wait_until(lambda: [x.progress for x in crowd.computations() if x.progress], "it is told")
    assert text == [f"sh -c {GO} #  [31m secret  "]
    words = memo.command("--realm", "shared", "--", "/bin/sh", "-c", f"{GO} # secret")
    second = subprocess.Popen(words, cwd=memo.dir, env=environment())
    with memo.daemon.client(realm="shared") as c:
        text = wait_until(lambda: [x.progress for x in c.must("list_leases").list_leases.computations if x.progress],
                          "it is told")
    assert text == ["sh"]
    crowd.go()
    assert first.wait(TIMEOUT) == second.wait(TIMEOUT) == 0
    crowd.finish()


# ---- what is stored is made anew

def test_m97_refresh(memo, crowd):
    """It runs, though its output is stored; until it ends others have that, and so has another one that asks for this."""
    command = memo.counted("test -e new || { echo old; exit 0; }; " + GO + " echo new")
    assert memo(*command)[0] == b"old\n"
    (memo.dir / "new").touch()
    assert memo(*command)[0] == b"old\n" and memo.runs == 1
    runner = crowd.start("--refresh", *command)
    crowd.until(runner.pid, 0)
    harness.wait_until(lambda: memo.runs == 2, "its command runs")
    assert memo(*command)[0] == memo("--refresh", *command)[0] == b"old\n" and memo.runs == 2
    crowd.go()
    assert outcome(runner) == (0, b"new\n")
    assert memo(*command)[0] == b"new\n" and memo.runs == 2


def test_m97_a_refresh_that_fails_or_is_killed(memo, crowd):
    """What is stored stays."""
    command = memo.counted("test -e new || { echo old; exit 0; }; " + GO + " exit 3")
    memo(*command)
    (memo.dir / "new").touch()
    runner = crowd.start("--refresh", *command)
    crowd.until(runner.pid, 0)
    harness.wait_until(lambda: memo.runs == 2, "its command runs")
    runner.kill()
    runner.wait()
    assert memo(*command)[0] == b"old\n" and memo.runs == 2
    crowd.go()
    memo("--refresh", *command, status=3)
    assert memo(*command)[0] == b"old\n" and memo.runs == 3


def test_m97_refresh_where_nothing_is_stored(memo):
    assert memo("--refresh", *memo.counted("echo a"))[0] == b"a\n"
    assert memo(*memo.counted("echo a"))[0] == b"a\n" and memo.runs == 1
