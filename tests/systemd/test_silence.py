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


def test_s06_of_a_user(g):
    """It is her own service manager that listens."""
    g.run("systemctl stop cached.socket cached.service")
    g.run("mkdir -p /home/eve/.config/cached && echo nonsense >/home/eve/.config/cached/cached.conf && "
          "chown -R eve /home/eve/.config")
    eve = g.start_user_manager("eve")
    g.run(f"{eve}systemctl --user start cached.socket", user="eve")
    r = g.run(f"{eve}cachectl --timeout 300ms ping", user="eve", check=False)
    assert r.status == UNREACHABLE and "see `systemctl --user status cached.service`" in r.err, r.err
