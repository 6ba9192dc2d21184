# SPDX-License-Identifier: MIT
"""A service that is restarted, killed, hung or replaced goes on with all that it had.

What the daemon and a service manager say to each other is tested in tests/outside/test_w_manager.py, message by
message; here is the real one.
"""

import re
import time

import pytest

import guest
import harness
from harness import LONG, wait_until

guest.needs_sandbox()

UNIT = "cached.service"


def main_pid(g):
    return int(g.show(UNIT, "MainPID"))


def stored(g):
    return int(g.show(UNIT, "NFileDescriptorStore"))


def report(g):
    return g.run("cachectl --json stats").json["daemon"]["takeover"]


def fill(g):
    """Something of everything; what is_there() finds again."""
    g.run("cachectl policy lru --max-entries 3; for k in a b c; do echo $k | cachectl set lru $k; done; "
          "cachectl get lru a >/dev/null; echo v | cachectl set t small --ttl 1h; "
          "head -c 5000000 /dev/urandom >/run/large; cachectl set t large /run/large", user="root")
    g.run("echo of alice | cachectl set t small", user="alice")
    token = g.text("cachectl session new")
    g.run(f"cachectl session set {token} k v")
    return token


def is_there(g, token):
    assert g.text("cachectl get t small") == "v"
    g.run("cachectl get t large | cmp - /run/large")
    assert g.text("cachectl get t small", user="alice") == "of alice"
    assert g.text(f"cachectl session get {token} k") == "v"
    # a was used after b: the order of use is as it was.
    g.run("echo d | cachectl set lru d")
    assert g.run("cachectl get lru b", check=False).status == 1
    assert g.text("cachectl get lru a") == "a"


def until_stored(g, n):
    wait_until(lambda: stored(g) >= n, f"{n} descriptors are stored, now {stored(g)}")


def changed(g, pid):
    """Waits for another main process that serves."""
    wait_until(lambda: main_pid(g) not in (0, pid) and g.show(UNIT, "ActiveState") == "active", "another one serves")


STORED = 7  # two realms, the sessions' one, a large value


def test_w01_restart(service):
    token = fill(service)
    pid = main_pid(service)
    service.run(f"systemctl restart {UNIT}")
    assert main_pid(service) != pid
    is_there(service, token)
    kept = report(service)
    assert (kept["realms_kept"], kept["entries_dropped"], kept["descriptors_dropped"]) == (2, 0, 0), kept
    assert stored(service) == STORED
    assert re.search(r"took over 2 realms with \d+ entries \(1 large\); dropped 0", service.journal(UNIT))


@pytest.mark.parametrize("how", ["KILL", "ABRT"])
def test_w02_death(service, how):
    token = fill(service)
    until_stored(service, STORED)
    pid = main_pid(service)
    service.run(f"kill -{how} {pid}")
    changed(service, pid)
    is_there(service, token)
    assert report(service)["entries_dropped"] == 0


def test_w03_the_watchdog(service):
    """A process that stands still is killed, and the next one has what it had."""
    service.drop_in(UNIT, "[Service]\nWatchdogSec=1\n")
    token = fill(service)
    until_stored(service, STORED)
    pid = main_pid(service)
    time.sleep(2.5)    # it feeds its watchdog
    assert main_pid(service) == pid
    service.run(f"kill -STOP {pid}")
    changed(service, pid)
    assert "watchdog" in service.journal(UNIT).lower()
    is_there(service, token)


def test_w04_the_manager_itself_is_replaced(service):
    """daemon-reload and daemon-reexec: the store goes on."""
    token = fill(service)
    until_stored(service, STORED)
    pid = main_pid(service)
    service.run("systemctl daemon-reload && systemctl daemon-reexec")
    assert main_pid(service) == pid
    service.run("cachectl ping")
    service.run(f"kill -KILL {pid}")
    changed(service, pid)
    is_there(service, token)


def test_w05_a_crash_loop(service):
    """Killed twenty times as fast as it comes back: neither the unit nor its socket gives up, and all is there."""
    token = fill(service)
    until_stored(service, STORED)
    for _ in range(100 if LONG else 12):
        pid = main_pid(service)
        service.run(f"kill -KILL {pid}")
        changed(service, pid)
    assert int(service.show(UNIT, "NRestarts")) >= 12
    is_there(service, token)


def test_w06_a_start_that_fails_keeps_the_store(service):
    """A mistake in the configuration: the unit tries again, once a second, and is warm when it is mended."""
    token = fill(service)
    until_stored(service, STORED)
    config = service.read("/etc/cached/cached.conf")
    service.write("/etc/cached/cached.conf", config + "\n[memory]\nrealm_budget = lots\n")
    service.run(f"systemctl restart {UNIT}", check=False)
    service.wait_journal(UNIT, "'lots' is not a size")
    wait_until(lambda: int(service.show(UNIT, "NRestarts")) >= 2, "it tries again")
    assert int(service.show(UNIT, "NRestarts")) < 12
    service.write("/etc/cached/cached.conf", config)
    wait_until(lambda: service.run("cachectl ping", check=False).status == 0, "it is back")
    is_there(service, token)


def test_w07_stop_and_start(service):
    """Stopped, the store is closed (on systemd before 254): the next start is a cold one, with a new epoch."""
    fill(service)
    service.run("systemctl stop cached.socket")
    assert service.show(UNIT, "ActiveState") == "inactive"
    service.run("systemctl start cached.socket")
    assert service.run("cachectl get t small", check=False).status == 1


def test_w08_status(service):
    service.run("for i in 1 2 3; do echo v | cachectl set t $i; done; cachectl get t 1")
    wait_until(lambda: service.run("cachectl ping") and "3 entries" in service.show(UNIT, "StatusText"),
               "systemctl status shows it", patience=3 * harness.PATIENCE)
    assert re.match(r"Serving: 3 entries, \d+ B, 100\.0% hits", service.show(UNIT, "StatusText"))


def test_w09_another_layout(service):
    """What a daemon of another version left is dropped, with the reason, and the service is there."""
    service.run("echo v | cachectl set t k")
    until_stored(service, 2)
    pid = main_pid(service)
    service.run(f"kill -STOP {pid}")
    # The header's second word (proto/layout.h), in the memory file itself.
    service.python(f"""
import os, struct
for n in os.listdir("/proc/{pid}/fd"):
    path = f"/proc/{pid}/fd/{{n}}"
    if os.readlink(path).startswith("/memfd:cached:arena"):
        fd = os.open(path, os.O_RDWR)
        os.pwrite(fd, struct.pack("<I", 999), 8)
""")
    service.run(f"kill -KILL {pid}")
    changed(service, pid)
    assert service.run("cachectl get t k", check=False).status == 1
    service.wait_journal(UNIT, "its layout has another version")
    service.run("echo w | cachectl set t k")
    wait_until(lambda: stored(service) == 2, f"the old ones are gone, now {stored(service)}")
    pid = main_pid(service)
    service.run(f"kill -KILL {pid}")
    changed(service, pid)
    assert service.text("cachectl get t k") == "w"


def test_w10_resources(service):
    """A lock that is held over a death of the daemon is held after it."""
    holder = service.start("cachectl resource hold r l --local --lock -- sh -c 'echo locked; sleep 30; echo done'", user="alice")
    holder.wait_out("locked")
    until_stored(service, 2)
    pid = main_pid(service)
    service.run(f"kill -KILL {pid}")
    changed(service, pid)
    r = service.run("cachectl resource hold r l --local --lock --wait 1s --conflict-exit-code 7 -- true", user="alice", check=False)
    assert r.status == 7, str(r)
    holder.kill()


def test_w11_a_handover_is_refused(service):
    service.run("echo v | cachectl set t k")
    r = service.run("cached --socket /run/cached/cached.sock --handover", check=False)
    assert r.status == 1 and "systemctl restart" in r.err, str(r)
    assert service.text("cachectl get t k") == "v"


def test_w12_a_file_in_a_home(service):
    """Homes are often a file system of their own: files there are kept, too, though the service may not change
    any."""
    service.run("mkdir -p /home/alice/fs && mount -t tmpfs fs /home/alice/fs && echo data >/home/alice/fs/f && "
                "chown -R alice: /home/alice/fs")
    try:
        service.run("systemctl restart cached.service")    # the mount is one that it sees, as at a boot
        holder = service.start("exec 3</home/alice/fs/f; cachectl resource hold r f --fd 3 -- sh -c "
                               "'echo held; sleep 30'", user="alice")
        holder.wait_out("held")
        until_stored(service, 5)
        pid = main_pid(service)
        service.run(f"kill -KILL {pid}")
        changed(service, pid)
        kept = report(service)
        assert kept["resources_kept"] >= 1 and kept["resources_dropped"] == 0, kept
        holder.kill()
    finally:
        service.run("umount -l /home/alice/fs")
