# SPDX-License-Identifier: MIT
"""A service that cannot start: what clients are told, and what `cachectl doctor` says to do.

systemd listens all the while, so connect() succeeds; the daemon ends because of a mistake in its configuration,
and is started again every second.
"""

import pytest

import guest
from conftest import CONFIG

guest.needs_sandbox()

UNREACHABLE, PROBLEM = 3, 1


def doctor(g, user=None, prefix=""):
    r = g.run(f"{prefix}cachectl --json doctor", user=user, check=False)
    return {c["check"]: c for c in r.json["checks"]}


@pytest.fixture
def broken(service):
    service.write(CONFIG, "[memory]\nrealm_budgt = 1G\n")
    return service


@pytest.mark.parametrize("user", [None, "alice"])
def test_s01_who_listens_is_named(broken, user):
    r = broken.run("cachectl --timeout 300ms get c k", user=user, check=False)
    assert r.status == UNREACHABLE
    assert r.err == ("cachectl: get: the daemon did not answer in time: systemd listens there, but the service does not "
                     "start, or hangs: see `systemctl status cached.service`\n")


@pytest.mark.parametrize("user", [None, "alice"])
def test_s02_doctor(broken, user):
    """Before the first start, when the directory is root's, and after it, when it is the service's."""
    for _ in range(2):
        checks = doctor(broken, user)
        assert checks["permissions"]["status"] == "ok", checks
        c = checks["daemon"]
        assert c["status"] == "problem" and "restart" not in c["advice"] and "pid 1" not in c["advice"]
        assert "systemctl status cached.service" in c["advice"] and "journalctl -u cached.service" in c["advice"]
        c = checks["configuration"]
        assert c["status"] == "problem" and f"{CONFIG}:2" in c["text"], c
    assert broken.text("stat -c %U /run/cached /run/cached/cached.sock") == "cached\ncached"


def test_s03_a_file_that_the_service_cannot_read(service):
    service.run(f"chmod 600 {CONFIG}; cachectl --timeout 100ms ping", check=False)
    c = doctor(service)["configuration"]
    assert c["status"] == "problem" and "cannot be read by the daemon, which runs as cached" in c["text"]
    c = doctor(service, "alice")["configuration"]
    assert c["status"] == "problem" and "cannot be read by the daemon" in c["text"]
    service.run(f"chmod 644 {CONFIG}")
    assert doctor(service)["configuration"]["status"] == "ok"


def test_s04_so_it_is_while_one_runs(service):
    service.run(f"cachectl ping && chmod 600 {CONFIG}")
    c = doctor(service)["configuration"]
    assert c["status"] == "problem" and "cannot be read by the daemon, which runs as cached" in c["text"]
    service.run(f"chmod 644 {CONFIG}")
    assert doctor(service)["configuration"]["status"] == "ok"
    assert doctor(service, "alice")["configuration"]["status"] == "ok"


def test_s05_no_file_at_all(service):
    """And what is in hers is not of interest."""
    service.run("mkdir -p /home/alice/.config/cached && echo nonsense >/home/alice/.config/cached/cached.conf && "
                f"chown -R alice /home/alice/.config; rm {CONFIG}; systemctl stop cached.service; systemctl mask --runtime cached.service")
    try:
        c = doctor(service, "alice")["configuration"]
        assert c["status"] == "ok" and "no configuration file" in c["text"], c
    finally:
        service.run("rm -r /home/alice/.config; systemctl unmask --runtime cached.service")


def test_s06_of_a_user(g):
    """It is her own service manager that listens."""
    g.run("systemctl stop cached.socket cached.service")
    g.run("mkdir -p /home/eve/.config/cached && echo nonsense >/home/eve/.config/cached/cached.conf && "
          "chown -R eve /home/eve/.config")
    eve = g.start_user_manager("eve")
    g.run(f"{eve}systemctl --user start cached.socket", user="eve")
    r = g.run(f"{eve}cachectl --timeout 300ms ping", user="eve", check=False)
    assert r.status == UNREACHABLE and "see `systemctl --user status cached.service`" in r.err, r.err
    c = doctor(g, "eve", eve)["daemon"]
    assert "systemctl --user status cached.service; journalctl --user -u cached.service" in c["advice"]
    # Also behind a socket of the system's that nobody listens on.
    g.run("mkdir -p /run/cached")
    g.python("import socket; socket.socket(socket.AF_UNIX).bind('/run/cached/cached.sock')")
    g.run("chmod 666 /run/cached/cached.sock")
    c = doctor(g, "eve", eve)["daemon"]
    g.run("rm /run/cached/cached.sock")
    assert "systemctl --user status cached.service" in c["advice"], c
