# SPDX-License-Identifier: MIT
"""A user's own cache, by the user's service manager: shipped disabled, started by its first client, reloaded,
restarted, stopped, and nobody else's.
"""

import pytest

import guest

guest.needs_sandbox()

UNREACHABLE = 3


@pytest.fixture(scope="module")
def eve(g):
    """Runs a command as eve, who is not in the group of the system's cache, with her service manager."""
    g.run("systemctl stop cached.socket cached.service")
    environment = g.start_user_manager("eve")

    def run(command, **more):
        return g.run(environment + command, user="eve", **more)
    return run


def test_u01_disabled(eve):
    """Nothing is there before she asks for it."""
    assert eve("systemctl --user is-enabled cached.socket", check=False).text == "disabled\n"
    assert eve("cachectl ping", check=False).status == UNREACHABLE


def test_u02_started_by_the_first_client(eve):
    eve("systemctl --user enable --now cached.socket")
    assert eve("systemctl --user is-active cached.service", check=False).text == "inactive\n"
    eve("echo v | cachectl set c k && cachectl get c k")
    assert eve("systemctl --user is-active cached.service").text == "active\n"
    runtime = eve("cd $XDG_RUNTIME_DIR && stat -c '%U %a %n' cached cached/cached.sock").text
    assert runtime == "eve 700 cached\neve 600 cached/cached.sock\n"


def test_u03_hers_alone(eve, g):
    """Another user cannot get there; the daemon is hers."""
    uid = g.text("id -u eve")
    r = g.run(f"cachectl --socket /run/user/{uid}/cached/cached.sock ping", user="alice", check=False)
    assert r.status == UNREACHABLE and "permission denied" in r.err
    assert eve("ps -o user= -p $(systemctl --user show --value -p MainPID cached.service)").text == "eve\n"


def test_u04_reload(eve):
    """Waits, and fails where the configuration is wrong. Hers is that of the daemon's default."""
    eve("systemctl --user reload cached.service")
    eve("mkdir -p /run/user/$(id -u)/config/cached && echo 'nonsense = 1' >/run/user/$(id -u)/config/cached/cached.conf"
        " && systemctl --user set-environment XDG_CONFIG_HOME=/run/user/$(id -u)/config")
    r = eve("systemctl --user restart cached.service", check=False)
    assert r.status != 0
    eve("rm /run/user/$(id -u)/config/cached/cached.conf && systemctl --user restart cached.service && cachectl ping")
    eve("echo 'nonsense = 1' >/run/user/$(id -u)/config/cached/cached.conf")
    r = eve("systemctl --user reload cached.service", check=False)
    assert r.status == 1
    eve("cachectl ping; rm /run/user/$(id -u)/config/cached/cached.conf")


def test_u05_killed_and_stopped(eve):
    eve("systemctl --user kill --signal=KILL cached.service && cachectl ping")
    eve("systemctl --user stop cached.socket")
    assert eve("systemctl --user is-active cached.service", check=False).text == "inactive\n"
    assert eve("cachectl ping", check=False).status == UNREACHABLE


def test_u06_what_it_may_not(g, eve):
    """What the user's manager can forbid is forbidden: the filter of system calls is on, and no privilege can be
    had."""
    eve("systemctl --user start cached.service")
    status = eve("cat /proc/$(systemctl --user show --value -p MainPID cached.service)/status").text
    assert "Seccomp:\t2\n" in status and "NoNewPrivs:\t1\n" in status
    eve("systemctl --user disable --now cached.socket")
