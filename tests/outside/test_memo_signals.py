# SPDX-License-Identifier: MIT
"""cachectl memo, signals and terminals: who gets Ctrl-C, what is handed on, what a spinner leaves behind."""

import contextlib
import os
import pty
import re
import select
import signal
import time

import pytest

import harness
from cachectl import TIMEOUT, environment, needs_cachectl
from harness import wait_until
from memo import memo, quoted

pytestmark = needs_cachectl


def read_until(fd, pattern, patience=harness.PATIENCE):
    """What came out of a terminal, up to and including the pattern."""
    seen, deadline = b"", time.monotonic() + patience
    while not re.search(pattern, seen):
        left = deadline - time.monotonic()
        assert left > 0, f"{pattern} did not come: {seen}"
        if select.select([fd], [], [], left)[0]:
            try:
                part = os.read(fd, 4096)
            except OSError:
                part = b""
            assert part, f"the terminal was closed before {pattern} came: {seen}"
            seen += part
    return seen


@contextlib.contextmanager
def terminal(memo, command, **env):
    """A command as the foreground job of a terminal of its own: (pid, descriptor)."""
    variables = environment(**{"TERM": "xterm", **env})
    pid, fd = pty.fork()
    if pid == 0:
        try:
            os.chdir(memo.dir)
            os.execvpe(command[0], command, variables)
        finally:
            os._exit(99)
    try:
        yield pid, fd
    finally:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(fd)


def in_terminal(memo, *args, **env):
    return terminal(memo, memo.command(*args), **env)


def ended(pid, options=0):
    return os.waitstatus_to_exitcode(os.waitpid(pid, options)[1])


@pytest.mark.parametrize("handled", [False, True])
def test_m60_ctrl_c_reaches_the_command(memo, handled):
    """The command gets the signal, once; nothing is stored even if it ends well; memo ends as it does."""
    trap = f"trap 'echo got it >> {memo.dir}/got; exit 0' INT; " if handled else ""
    with in_terminal(memo, "--", "sh", "-c", f"{trap}echo ready; while :; do sleep 0.05; done") as (pid, fd):
        read_until(fd, b"ready")
        os.write(fd, b"\x03")
        # Killed by the signal itself, so that a shell script that runs it ends, too.
        assert ended(pid) == (0 if handled else -signal.SIGINT)
    if handled:
        assert (memo.dir / "got").read_text() == "got it\n"
    assert memo.stats().stores == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_m61_signals_are_handed_on(memo, number):
    """What is sent to memo alone is meant for the command."""
    p = memo.start("sh", "-c", f"trap 'echo got {int(number)}; exit 0' {int(number)}; echo ready; "
                               "while :; do sleep 0.05; done")
    assert p.stdout.readline() == b"ready\n"
    p.send_signal(number)
    assert p.communicate(timeout=TIMEOUT)[0] == f"got {int(number)}\n".encode() and p.returncode == 0
    p = memo.start("sh", "-c", "echo ready; exec sleep 1000")
    assert p.stdout.readline() == b"ready\n"
    p.send_signal(number)
    p.communicate(timeout=TIMEOUT)
    assert p.returncode == 128 + number
    assert memo.stats().stores == 0


def test_m62_ignored_signals_stay_ignored(memo):
    """nohup: a hang-up ends neither memo nor the command."""
    os.mkfifo(memo.dir / "go")
    p = memo.start("sh", "-c", "echo ready; read x < go; echo done",
                   preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    assert p.stdout.readline() == b"ready\n"
    p.send_signal(signal.SIGHUP)
    (memo.dir / "go").write_text("\n")
    assert p.communicate(timeout=TIMEOUT)[0] == b"done\n" and p.returncode == 0
    assert memo.stats().stores == 1


def test_m63_killed_memo_leaves_nothing(memo):
    """-9 at any moment: nothing is stored, and the command ends at its next word."""
    p = memo.start("sh", "-c", "echo $$; while sleep 0.01; do echo more; done")
    pid = int(p.stdout.readline())
    p.kill()
    p.wait()
    p.stdout.close()
    p.stderr.close()
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "the command has ended")
    assert memo.stats().stores == 0


def test_m64_ctrl_c_ends_a_script(memo):
    """A loop in a shell script stops, too: memo has died of the signal, and not just said so."""
    line = quoted(memo.command("--", "sh", "-c", "echo $((40 + 2)); exec sleep 1000"))
    with terminal(memo, ["bash", "-c", f"for i in 1 2 3; do {line}; done; echo after"]) as (pid, fd):
        read_until(fd, b"42")
        os.write(fd, b"\x03")
        assert ended(pid) == -signal.SIGINT


def test_m65_ctrl_z_and_fg(memo):
    """In an interactive shell: both stop, both go on, the output is whole."""
    os.mkfifo(memo.dir / "go")
    (memo.dir / "job").write_text("exec " + quoted(memo.command("--", "sh", "-c", "echo $((40 + 2)); read x < go; "
                                                                                  "echo $((60 + 6))")))
    with terminal(memo, ["bash", "--norc", "-i"], PS1="$ ") as (pid, fd):
        os.write(fd, b"sh job\n")
        read_until(fd, b"42")
        os.write(fd, b"\x1a")
        read_until(fd, b"Stopped")
        os.write(fd, b"fg\n")
        read_until(fd, b"sh job\r\n")
        (memo.dir / "go").write_text("x\n")
        read_until(fd, b"66")
        os.write(fd, b"exit\n")
        assert ended(pid) == 0
    assert memo.stats().stores == 1


def test_m66_spinner(memo):
    """On a terminal, with the time, while a slow command says nothing; gone before its first word."""
    script = "sleep 1; printf fir''st; while [ ! -e go ]; do sleep 0.02; done; echo ' last'"
    with in_terminal(memo, "--", "sh", "-c", script) as (pid, fd):
        seen = read_until(fd, b"first")
        assert re.search(rb"\r[|/\\-] 0\.\ds  sh -c sleep 1", seen)
        assert seen.endswith(b"\r\x1b[Kfirst"), "the line is empty again"
        (memo.dir / "go").touch()
        assert read_until(fd, b"last\r\n") == b" last\r\n", "and it does not come back"
        assert ended(pid) == 0
    with in_terminal(memo, "--", "sh", "-c", script) as (pid, fd):
        assert read_until(fd, b"last\r\n") == b"first last\r\n", "none on a hit"
    for args, env in (["--quiet"], {}), ([], {"TERM": "dumb"}):
        with in_terminal(memo, *args, "--cache", "other", "--", "sh", "-c", "sleep 0.7; echo x", **env) as (pid, fd):
            assert read_until(fd, b"x\r\n") == b"x\r\n"
            assert ended(pid) == 0
        with memo.daemon.probe() as c:
            c.clear("other")
    assert memo("sh", "-c", "sleep 0.5; echo x") == (b"x\n", b"")


def test_m67_stdin_of_a_terminal_is_not_read(memo):
    """A command that reads gets the end of the file at once, as on its later runs."""
    with in_terminal(memo, "--", "sh", "-c", "cat; echo end") as (pid, fd):
        read_until(fd, b"end\r\n")
        assert ended(pid) == 0
