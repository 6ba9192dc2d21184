# SPDX-License-Identifier: MIT
"""The units under a newer systemd than the machine's, and the drop-ins that are for it: Debian 13's.

    CACHED_DEBIAN13   the root file system to boot; else the long form makes one, by mmdebstrap, in the directory
                      of the build
"""

import os
import pathlib
import shutil
import subprocess

import pytest

import guest
import harness

guest.needs_sandbox()

LIBRARIES = ("libevent-core-2.1-7t64", "libprotobuf-c1", "liblz4-1", "libxxhash0", "libb2-1", "libinih1", "libjansson4",
             "libsmartcols1", "libasan8", "libubsan1")
PACKAGES = ("systemd", "systemd-sysv", "dbus", "libpam-systemd", "passwd", "procps", *LIBRARIES)
CONFIG = "/etc/cached/cached.conf"


def make_root(target):
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    p = subprocess.run(["mmdebstrap", "--mode=root", "--variant=apt", f"--include={','.join(PACKAGES)}", "trixie",
                        str(part)], capture_output=True, text=True, timeout=500)
    if p.returncode != 0:
        shutil.rmtree(part, ignore_errors=True)
        pytest.skip(f"no Debian 13 can be made here: {p.stderr[-300:]}")
    part.rename(target)


@pytest.fixture(scope="module")
def root():
    given = os.environ.get("CACHED_DEBIAN13")
    if given:
        return pathlib.Path(given)
    made = harness.BUILD.resolve() / "debian13"
    if not made.exists():
        if not harness.LONG:
            pytest.skip("the long form makes a Debian 13; CACHED_DEBIAN13 names one")
        if not shutil.which("mmdebstrap"):
            pytest.skip("no mmdebstrap to make a Debian 13 with")
        make_root(made)
    return made


@pytest.fixture(scope="module")
def newer(root):
    with guest.boot(root=root) as g:
        g.install()
        g.add_user("alice", "cached")
        yield g


@pytest.fixture
def service(newer):
    newer.run(f"systemctl stop cached.socket; systemctl clean --what=fdstore cached.service; rm -f "
              f"{guest.RUN_UNITS}/cached.service.d/50-*; : >{CONFIG}; systemctl daemon-reload; "
              "systemctl reset-failed; systemctl start cached.socket")
    return newer


def choose(g, name):
    """What the manual page says to do."""
    g.run(f"cp {guest.prefix()}/share/cached/systemd/{name}.conf {guest.RUN_UNITS}/cached.service.d/50-{name}.conf && "
          "systemctl daemon-reload")


def verify(g):
    for where, how in (("system", ""), ("user", "--user")):
        for name in ("cached.socket", "cached.service"):
            path = f"{guest.prefix()}/lib/systemd/{where}/{name}"
            r = g.run(f"XDG_RUNTIME_DIR=/run systemd-analyze verify --man=no {how} {path}", check=False)
            assert (r.status, r.text, r.err) == (0, "", ""), str(r)


def test_v01_the_units_are_right(service):
    assert int(service.text("systemctl --version | sed -n '1s/systemd \\([0-9]*\\).*/\\1/p'")) >= 254
    verify(service)


def test_v02_without_drop_ins(service):
    """Started, asked, reloaded with a good and a bad configuration, restarted."""
    service.run("echo v | cachectl set c k && cachectl get c k", user="alice")
    service.run("systemctl reload cached.service")
    service.write(CONFIG, "nonsense = 1\n")
    assert service.run("systemctl reload cached.service", check=False).status == 1
    service.write(CONFIG, "")
    service.run("systemctl restart cached.service")
    service.run("cachectl ping", user="alice")


def test_v03_exposure(service):
    service.run("systemd-analyze security --offline=true --threshold=10 --no-pager "
                f"{guest.prefix()}/lib/systemd/system/cached.service")


def test_v04_notify_reload(service):
    """SIGHUP does it, and systemd waits for its end; a mistake is in the journal only."""
    choose(service, "notify-reload")
    verify(service)
    service.run("cachectl ping", user="alice")
    assert service.show("cached.service", "Type") == "notify-reload"
    service.write(CONFIG, "[limits]\npage_entries = 7\n")
    service.run("systemctl reload cached.service")
    assert "7" in service.text("cachectl config | grep page_entries")
    service.write(CONFIG, "[limits]\npage_entires = 7\n")
    service.run("systemctl reload cached.service")
    service.wait_journal("cached.service", r"not reloaded, the old one stays: /etc/cached/cached\.conf:2: ")
    assert "7" in service.text("cachectl config | grep page_entries")


def test_v05_keep_on_stop(service):
    """The store is kept while the service is stopped, as long as nobody cleans it."""
    choose(service, "keep-on-stop")
    verify(service)
    service.run("cachectl ping", user="alice")
    assert service.show("cached.service", "FileDescriptorStorePreserve") == "yes"
    service.run("systemctl stop cached.socket")
    service.run("systemctl clean --what=fdstore cached.service")
    service.run("systemctl start cached.socket")
    service.run("cachectl ping", user="alice")
