# SPDX-License-Identifier: MIT
"""What programs find in the journal: entries by the id of what happened, with fields that say where and to whom;
and that the daemon does not wait for a journal that has stopped.
"""

import json
import re

import guest
from harness import wait_until

guest.needs_sandbox()

CONFIG = "/etc/cached/cached.conf"
ROWS = re.findall(r'^(?:EVENT|KIND)\((\w+),[^"]*"([0-9a-f]{32})"',
                  (guest.ROOT / "daemon" / "journal.def").read_text(encoding="utf-8"), re.M)
IDS = dict(ROWS)
MORE_THAN_WAIT = 700  # lines in the journal's socket: systemd makes it 512


def entries(g, name, more=""):
    """The service's entries of this event."""
    g.run("journalctl --sync")
    text = g.text(f"journalctl --no-pager -o json -u cached.service MESSAGE_ID={IDS[name]} {more}")
    return [json.loads(line) for line in text.splitlines()]


def last(g, name):
    """The newest one, which may take a moment."""
    found = wait_until(lambda: entries(g, name, f"_PID={g.show('cached.service', 'MainPID')}"), f"{name} is there")[-1]
    assert found["SYSLOG_IDENTIFIER"] == "cached" and found["SYSLOG_FACILITY"] == "3"
    assert found["CACHED_KIND"] == name
    assert found["_TRANSPORT"] == "journal" and found["_SYSTEMD_UNIT"] == "cached.service"
    return found


def test_a01_ready_and_stopped(service):
    service.run("systemctl start cached.service")
    ready = last(service, "READY")
    assert "ready on /run/cached/cached.sock" in ready["MESSAGE"] and ready["PRIORITY"] == "6"
    pid = f"_PID={ready['_PID']}"
    service.run("systemctl stop cached.service")
    wait_until(lambda: entries(service, "STOPPED", pid), "it says that it has stopped")
    assert len(entries(service, "STOPPING", pid)) == 1


def test_a02_reload(service):
    service.run("systemctl start cached.service")
    service.run("systemctl reload cached.service")
    assert last(service, "RELOADED")["PRIORITY"] == "6"
    service.write(CONFIG, "[limits]\n\nnonsense = 1\n")
    assert service.run("systemctl reload cached.service", check=False).status != 0
    refused = last(service, "CONFIG_REFUSED")
    assert (refused["CONFIG_FILE"], refused["CONFIG_LINE"]) == (CONFIG, "3")
    assert refused["PRIORITY"] == "3" and "nonsense" in refused["MESSAGE"]


def test_a03_a_start_that_fails(service):
    """Each one is the unit's, also where the process was gone before the journal looked."""
    service.run("systemctl stop cached.socket")
    service.drop_in("cached.service", "[Service]\nRestart=no\nExecStopPost=\n")
    service.write(CONFIG, "[nothing]\n")
    before = len(entries(service, "CONFIG_REFUSED"))
    for n in range(5):
        assert service.run("systemctl start cached.service", check=False).status != 0
    wait_until(lambda: len(entries(service, "CONFIG_REFUSED")) == before + 5, "all of them are there")
    assert {e["CONFIG_LINE"] for e in entries(service, "CONFIG_REFUSED", "-n 5")} == {"1"}


def test_b01_a_peer_that_is_refused(service):
    """Who it was is in fields of their own; and somebody who goes on asking causes few lines."""
    uid = service.text("id -u alice")
    script = "for i in $(seq 12); do cachectl --realm uid:0 get c k; done"
    assert "may not enter" in service.run(script, user="alice", check=False).err
    refused = last(service, "REFUSED")
    assert refused["CACHED_UID"] == uid and int(refused["CACHED_PID"]) > 1
    assert refused["PRIORITY"] == "6" and "uid:0" in refused["MESSAGE"]
    assert len(entries(service, "REFUSED", f"_PID={refused['_PID']}")) <= 10  # five in ten seconds


def test_b02_a_journal_that_has_stopped(service):
    """What it does not take is left out and counted, each line; everybody is served meanwhile."""
    service.run("systemctl start cached.service")
    pid = f"_PID={service.show('cached.service', 'MainPID')}"
    journald = service.show("systemd-journald.service", "MainPID")

    def lines():
        service.run("journalctl --sync")
        return int(service.text(f"journalctl --no-pager -o cat {pid} _TRANSPORT=journal | wc -l"))
    before = lines()
    service.run("cachectl config reload")
    of_a_reload = wait_until(lambda: lines() - before, "its lines are there")
    service.run(f"kill -STOP {journald}")
    try:
        service.python(f"""
import wire
with wire.Client("/run/cached/cached.sock", timeout=5) as c:
    c.hello()
    for _ in range({MORE_THAN_WAIT}):
        c.must("reload_config")
""")
    finally:
        service.run(f"kill -CONT {journald}")
    n = MORE_THAN_WAIT + 1

    def goes_on():  # the journal takes a moment to make room, and the next line says what is missing
        nonlocal n
        service.run("cachectl config reload")
        n += 1
        return entries(service, "LOST", pid)
    [lost] = wait_until(goes_on, "what is missing is told")
    assert lost["PRIORITY"] == "4" and int(lost["CACHED_LOST"]) > 0
    assert lines() - before + int(lost["CACHED_LOST"]) == n * of_a_reload + 1
