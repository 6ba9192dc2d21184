# SPDX-License-Identifier: MIT
"""Under a service manager (manager.py stands in for systemd; tests/systemd has the real one).

W0x  what it is told: ready, reloading, stopping, the watchdog, what is shown as the status
W1x  what it keeps, and what the next daemon finds of it
W2x  what it is not to keep, or not for long
W3x  a manager that is slow, gone, or gives back nonsense
W4x  files that end every daemon that takes them over
"""

import contextlib
import fcntl
import json
import os
import re
import signal
import socket
import struct
import time

import pytest

import harness
import manager
import test_t_takeover
import wire
from harness import PATIENCE, wait_until
from holders import Client as HolderClient
from holders import Holder
from test_sessions import Session
from test_t_takeover import check_kept, fill, takeover
from wire import pb

KILL, TERM = signal.SIGKILL, signal.SIGTERM
ATTEMPTS_AT = 28  # in the epoch file (proto/page.h)


@pytest.fixture
def make_service(request):
    made = []

    def make(start=True, max_fds=1024, environ=None, **config):
        s = manager.Service(harness.config_text(**config), max_fds, environ)
        made.append(s)
        return s.start() if start else s

    yield make
    failed = getattr(request.node, "failed", False)
    for s in made:
        try:
            if s.process and s.process.poll() is None and not failed:
                s.signal(TERM)
                assert s.process.wait(PATIENCE) == 0, s.log()
            assert not harness.SANITIZER.search(s.log()), s.log()
        finally:
            if s.process and s.process.poll() is None:
                s.process.kill()
                s.process.wait()
            for c in s.clients:
                c.close()
            s.close()


@pytest.fixture
def service(make_service):
    return make_service()


def until_kept(s, n, letter=""):
    names = s.manager.names
    return wait_until(lambda: (names(letter), True) if len(names(letter)) == n else None,
                      f"{n} descriptors {letter}* are kept (before: {names()})")[0]


def age(s, milliseconds=5000):
    """What has just been stored is older than that now."""
    if not s.clock:
        pytest.skip("this build has no test clock: configure with -Dtest-clock=true")
    s.clock.advance(milliseconds)
    s.client().ping()


# ---- what it is told

def test_w01_ready_reloading_stopping(service):
    assert service.client().info
    service.signal(signal.SIGHUP)
    wait_until(lambda: service.manager.heard(RELOADING="1"), "it reloads")
    assert int(service.manager.heard(RELOADING="1")[0]["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    wait_until(lambda: len(service.manager.heard(READY="1")) == 2, "it has reloaded")
    service.signal(TERM)
    assert service.process.wait(PATIENCE) == 0
    assert service.manager.heard(STOPPING="1")
    # The socket is the manager's: it stays.
    assert service.socket.exists()


def test_w02_a_bad_configuration_is_told_to_who_reloads(service):
    service.config_path.write_text("[memory]\nglobal_budget = lots\n")
    reply, _ = service.client().call("reload_config")
    assert reply.status != wire.OK and "cached.conf:2" in reply.error, reply.error
    wait_until(lambda: len(service.manager.heard(READY="1")) == 2, "it says that it goes on")


def test_w03_the_watchdog_is_fed_by_the_loop(make_service):
    s = make_service(environ={"WATCHDOG_USEC": "200000"})
    wait_until(lambda: len(s.manager.heard(WATCHDOG="1")) >= 3, "it is fed")
    with s.stopped():
        before = len(s.manager.heard(WATCHDOG="1"))
        time.sleep(0.5)  # more than two of its periods: there is nothing to wait for
        assert len(s.manager.heard(WATCHDOG="1")) <= before + 1
    wait_until(lambda: len(s.manager.heard(WATCHDOG="1")) > before + 1, "it is fed again")


def test_w04_somebody_elses_watchdog(make_service):
    """WATCHDOG_PID names another process: it is not ours to feed."""
    s = make_service(environ={"WATCHDOG_USEC": "200000", "WATCHDOG_PID": "1"})
    time.sleep(0.5)
    assert not s.manager.heard(WATCHDOG="1")


def test_w05_the_status_says_how_full_and_how_useful_it_is(service):
    c = service.client()
    for i in range(10):
        c.set("t", b"%d" % i, b"v" * 1000)
    c.get("t", b"1")
    c.get("t", b"1")
    c.get("t", b"1")
    c.get("t", b"none")
    age(service, 10_000)
    wait_until(lambda: service.manager.status() == "Serving: 10 entries, 12 KiB, 75.0% hits",
               f"the status, now {service.manager.status()!r}")
    # Nothing new: nothing is said.
    n = len(service.manager.heard())
    age(service, 10_000)
    assert len(service.manager.heard()) == n


def test_w06_an_idle_daemon_sleeps(service):
    """With everything kept, and nothing to be told, nothing wakes it."""
    c = service.client()
    c.set("large", b"l", b"L" * 5_000_000)
    age(service)
    until_kept(service, 3)
    turns = c.stats().daemon.loop_turns
    time.sleep(5)
    # Itself, and spare buffers that go back after a second; anything that comes again and again is more.
    assert c.stats().daemon.loop_turns <= turns + 4


def test_w07_a_budget_that_there_is_no_memory_for(make_service):
    """It is said at the start and with a reload, and not where the budget fits."""
    s = make_service(memory={"global_budget": "16T", "realm_budget": "1G"})
    assert "this process may have" in s.log() and "MemoryMax=" in s.log()
    s.config_path.write_text("[memory]\nglobal_budget = 64M\nrealm_budget = 64M\n")
    s.client().must("reload_config")
    assert s.log().count("this process may have") == 1
    s.config_path.write_text("[memory]\nglobal_budget = 16T\n")
    s.client().must("reload_config")
    assert s.log().count("this process may have") == 2


def test_w08_mode_and_group_of_a_passed_socket(make_service):
    """They are its unit's: who sets them here is told so, and sees it."""
    s = make_service(daemon={"socket_mode": "0666"})
    assert "cached.conf:2: daemon.socket_mode does not hold" in s.log()
    note = {name: setting.note for name, setting in s.client().config().items()}
    assert "SocketMode=" in note["daemon.socket_mode"] and "SocketGroup=" in note["daemon.socket_group"]
    assert not note["daemon.log_level"]


# ---- what it keeps

@pytest.mark.parametrize("number", [KILL, TERM], ids=["killed", "ended"])
def test_w10_everything_goes_on(service, number):
    before = service.client().info
    version = fill(service.client())
    if number == KILL:
        age(service)
        until_kept(service, 3)
    service.again(number)
    after = service.client().info
    assert after.instance == before.instance and after.daemon_pid != before.daemon_pid
    assert service.manager.heard(READY="1") and service.manager.heard(EXTEND_TIMEOUT_USEC="60000000")
    check_kept(service, version)
    report = takeover(service)
    assert (report.realms_kept, report.entries_kept, report.large_kept) == (1, 7, 1)
    assert (report.realms_dropped, report.entries_dropped, report.descriptors_dropped) == (0, 0, 0)
    text = test_t_takeover.cachectl(service, "stats")
    assert re.search(r"^TAKEOVER\nfrom +the service manager$", text, re.M), text
    assert json.loads(test_t_takeover.cachectl(service, "--json", "stats"))["daemon"]["takeover"]["from"] == "passed"


def test_w11_names_stay_what_they_are(service):
    """What came back is kept under its name; nothing is stored twice, or removed."""
    fill(service.client())
    age(service)
    names = until_kept(service, 3)
    assert names == ["L0", "a0", "t0"]
    with service.probe() as probe:
        files = probe.stats().daemon.kept_files
        assert (files.max, files.kept, files.waiting, files.leaving, files.leaving_bytes) == (1024, 3, 0, 0, 0)
    text = test_t_takeover.cachectl(service, "stats")
    assert re.search(r"KEPT BY THE SERVICE MANAGER\s+at most\s+1,?024\s+kept\s+3\n", text), text
    assert json.loads(test_t_takeover.cachectl(service, "--json", "stats"))["daemon"]["kept_files"]["kept"] == 3
    for number in (KILL, TERM, KILL):
        service.again(number)
        age(service)
        service.client().set("t", b"k", b"v")
        assert service.manager.names() == names
    assert service.manager.refused == 0 and not service.manager.polled


def test_w12_young_values_survive_an_orderly_end_and_not_a_kill(service):
    c = service.client()
    c.set("t", b"small", b"s")
    c.set("t", b"large", b"L" * 5_000_000)
    until_kept(service, 2)
    service.again(TERM)
    c = service.client()
    assert c.get("t", b"small") == b"s" and c.get("t", b"large") == b"L" * 5_000_000
    c.set("t", b"young", b"Y" * 5_000_000)
    service.again(KILL)
    c = service.client()
    assert c.get("t", b"large") == b"L" * 5_000_000 and c.get("t", b"young") is None
    report = takeover(service)
    assert report.entries_dropped == 1 and "its large value was not given back" in report.reasons[0]


def test_w13_realms_and_sessions_of_several_users(make_service):
    harness.needs_root()
    s = make_service(daemon={"socket_mode": "0666"})
    tokens = {}
    for uid in (1001, 1002):
        c = s.client(uid=uid)
        c.set("t", b"k", b"of %d" % uid)
        session = Session(c)
        session.set({b"n": b"%d" % uid})
        tokens[uid] = session.token
    until_kept(s, 8)
    for number in (KILL, TERM):
        s.again(number)
        for uid in (1001, 1002):
            c = s.client(uid=uid)
            assert c.get("t", b"k") == b"of %d" % uid
            assert Session(c, tokens[uid]).all() == {"n": b"%d" % uid}
    s.client(uid=1003).set("t", b"k", b"new")
    until_kept(s, 10)


def test_w14_mapped_readers_go_on(service):
    """The instance number stays as long as nothing is missing; so what readers have mapped stays valid."""
    c = service.client()
    c.set("t", b"k", b"v")
    instance = c.info.instance
    for _ in range(3):
        service.again(KILL)
        assert service.client().info.instance == instance
    # A realm that the manager does not have: readers of it have to be told.
    with service.manager.lock:
        service.manager.remove("a0")
    service.again(KILL)
    c = service.client()
    assert c.info.instance != instance and c.get("t", b"k") is None
    until_kept(service, 2)


def test_w15_killed_again_and_again_under_load(service):
    rounds = 40 if harness.LONG else 6
    loads = [test_t_takeover.Load(service, n) for n in range(3)]
    for load in loads:
        load.start()
    try:
        for i in range(rounds):
            done = sum(load.done for load in loads)
            wait_until(lambda: sum(load.done for load in loads) > done + 300, "they get on")
            service.again(TERM if i % 2 else KILL)
            assert takeover(service).realms_dropped == 0, service.log()
    finally:
        for load in loads:
            load.stop = True
        for load in loads:
            load.join()
    for load in loads:
        assert not load.wrong
    # Whatever was stored and answered is there.
    c = service.client()
    for load in loads:
        for key, values in load.known.items():
            assert c.get("t", key) in values, key


def test_w16_resources(service):
    a = Holder(service.socket)
    segment = a.create_segment(b"s", b"x" * 4096)
    event = a.create_fd("eventfd", b"e")
    until_kept(service, 6)    # two realms and two descriptors
    a.lock(event)
    service.again(KILL)
    a.reconnect(service.socket)
    for number in (segment, event):
        a.reclaim(number)
    b = Holder(service.socket)
    assert b.held(b"s", kind=pb.RESOURCE_SEGMENT) == segment
    assert b.held(b"e", kind=pb.RESOURCE_DESCRIPTOR) == event
    a.unlock(event)
    for h in (a, b):
        h.finish()
    report = takeover(service)
    assert (report.resources_kept, report.resources_dropped) == (2, 0)


def test_w17_who_does_not_read_does_not_hold_it_up(service):
    """Clients get a second to take their replies; then they are cut off, and everything is left in order."""
    c = service.client()
    c.set("t", b"k", os.urandom(1000) * 200)
    lazy = service.client()
    for _ in range(50):  # as many as a socket takes that nobody reads
        lazy.post("get", cache="t", key=b"k")
    began = time.monotonic()
    service.again(TERM)
    assert 0.9 < time.monotonic() - began < 5
    assert "did not take their replies" in service.log()
    assert len(service.client().get("t", b"k")) == 200_000
    assert takeover(service).entries_dropped == 0


def test_w18_ended_twice(service):
    """A second SIGTERM waits for nobody, and nothing is lost by it."""
    c = service.client()
    c.set("t", b"k", os.urandom(1000) * 200)
    lazy = service.client()
    for _ in range(50):  # as many as a socket takes that nobody reads
        lazy.post("get", cache="t", key=b"k")
    service.signal(TERM)
    wait_until(lambda: service.manager.heard(STOPPING="1"), "it stops")
    service.again(TERM)
    assert service.ended == [0]
    assert len(service.client().get("t", b"k")) == 200_000


# ---- what it is not to keep

def test_w20_what_left_is_removed(service):
    c = service.client()
    for i in range(5):
        c.set("t", b"%d" % i, b"%d" % i * 5_000_000)
    age(service)
    until_kept(service, 5, "L")
    c.delete("t", b"3")
    until_kept(service, 4, "L")
    c.set("t", b"4", b"small now")
    until_kept(service, 3, "L")
    c.clear()
    until_kept(service, 0, "L")
    c.set("t", b"new", b"N" * 5_000_000)
    age(service)
    until_kept(service, 1, "L")


def test_w21_more_than_it_may_keep(make_service):
    """A thousand large values at most: the others are not lost but in a crash, and take free places later."""
    s = make_service(memory={"large_threshold": "4K"}, max_fds=1024)
    c = s.client()
    for i in range(1010):
        c.set("t", b"%d" % i, b"%d" % i * 5000)
    age(s)
    until_kept(s, 1000, "L")
    for i in range(20):
        c.delete("t", b"%d" % i)
    wait_until(lambda: len(s.manager.names("L")) == 990, "what is there is kept")
    s.again(TERM)
    report = takeover(s)
    assert (report.large_kept, report.entries_dropped) == (990, 0)
    assert s.manager.refused == 0


def test_w22_a_manager_that_says_how_many(make_service):
    """$FDSTORE is the bound then; realms come first."""
    s = make_service(environ={"FDSTORE": "4"}, max_fds=4)
    c = s.client()
    for i in range(4):
        c.set("t", b"%d" % i, b"%d" % i * 5_000_000)
    age(s)
    until_kept(s, 2, "L")
    Session(c)    # its realm's two files
    wait_until(lambda: s.manager.names() == ["a0", "a1", "t0", "t1"], f"realms only, now {s.manager.names()}")
    assert s.manager.refused == 0
    s.again(KILL)
    assert takeover(s).realms_dropped == 0


def test_w23_memory_counts_until_the_manager_has_dropped_it(make_service):
    """An eighth of the budget may wait for it uncharged, and no more."""
    s = make_service(memory={"global_budget": "128M", "realm_budget": "128M", "uid_share": "100%"})
    c = s.client()
    for i in range(12):
        c.set("t", b"%d" % i, os.urandom(8) * 1_000_000)
    age(s)
    until_kept(s, 12, "L")
    s.manager.pause()
    c.clear()
    wait_until(lambda: 0 < c.stats().realm.bytes_charged <= 12 * 8_010_000 - 2 * 8_000_000,
               "what the manager has, less an eighth of the budget")
    s.manager.go_on()
    wait_until(lambda: c.stats().realm.bytes_charged == 0, "it has dropped all")
    until_kept(s, 0, "L")


def test_w24_stores_go_on_while_the_manager_sleeps(make_service):
    """Values that replace each other: the manager's copies of the old ones bound what is stored, and no store
    fails."""
    s = make_service(memory={"global_budget": "64M", "realm_budget": "64M", "uid_share": "100%"})
    c = s.client()
    for i in range(6):
        c.set("t", b"%d" % i, b"%d" % i * 8_000_000)
    age(s)
    until_kept(s, 6, "L")
    s.manager.pause()
    for i in range(10):
        c.set("t", b"new", b"%d" % i * 8_000_000)
    assert c.get("t", b"new") == b"9" * 8_000_000
    s.manager.go_on()
    wait_until(lambda: c.set("t", b"more", b"m" * 8_000_000), "room")


def test_w25_a_file_that_others_could_hang_on(service, hanging_file):
    """A file of a file system in user space is never given to the manager."""
    c = HolderClient(service.socket)
    service.clients.append(c)
    c.hello()
    c.open_holder()
    with open(service.dir / "file", "w+b") as f:
        for fd in (hanging_file, f.fileno()):
            right = c.acquire(b"%d" % fd, kind=pb.RESOURCE_DESCRIPTOR).resource.creation_id
            assert c.publish(right, fd).status == wire.OK
    names = until_kept(service, 1, "R")
    time.sleep(0.6)    # twice the age at which it would go
    c.ping()
    assert service.manager.names("R") == names


# ---- managers

def test_w30_a_manager_that_is_not_there(make_service):
    for path in ("/nowhere/at/all", "relative", "@cached-nobody-listens", "vsock:1:1", "/" + "x" * 200):
        s = make_service(start=False)
        s.process = s.spawn(passed=[("cached.socket", s.listening.fileno())], environ={"NOTIFY_SOCKET": path})
        wait_until(s.answers, "it answers")
        assert "$NOTIFY_SOCKET" in s.log()
        s.client().set("t", b"k", b"v")


def test_w31_a_manager_that_goes_away(service):
    service.client().set("t", b"k", b"v" * 5_000_000)
    service.manager.end()
    os.unlink(service.manager.path)
    age(service)
    c = service.client()
    c.set("t", b"l", b"v" * 5_000_000)
    service.wait_log("keeps nothing for the next daemon")
    assert c.get("t", b"k") == b"v" * 5_000_000
    c.clear()
    assert c.stats().realm.bytes_charged == 0


def test_w32_a_manager_that_sleeps_at_the_end(service):
    service.client().set("t", b"k", b"v")
    until_kept(service, 2)
    service.manager.pause()
    service.signal(TERM)
    assert service.process.wait(PATIENCE) == 0
    assert "did not take everything" in service.log()
    service.manager.go_on()
    service.start()
    assert service.client().get("t", b"k") == b"v"


def junk(name, size=4096, seals=0, mode=0o600):
    fd = os.memfd_create("junk", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    os.fchmod(fd, mode)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return name, fd


def test_w33_nonsense_is_given_back_and_removed(service):
    c = service.client()
    c.set("t", b"k", b"v")
    until_kept(service, 2)
    r, w = os.pipe()
    sealed = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
    extra = [junk("a1", seals=sealed), junk("t7", seals=sealed), junk("L5"), junk("L6", seals=sealed | fcntl.F_SEAL_WRITE),
             junk("x"), junk("a" * 200), junk("stored"), ("pipe", r), ("R9", w), junk("t0000"), junk("L" + "z" * 3)]
    service.manager.store += extra
    service.again(KILL)
    assert service.client().get("t", b"k") == b"v"
    wait_until(lambda: service.manager.names() == ["a0", "t0"], f"the rest is removed, now {service.manager.names()}")
    assert takeover(service).descriptors_dropped >= 10


def test_w34_twice_under_one_name(service):
    """Which of them is right is not for a name to say: both are removed, and ours is stored anew."""
    c = service.client()
    c.set("t", b"k", b"v" * 5_000_000)
    age(service)
    until_kept(service, 3)
    service.manager.store.append(junk("t0"))
    service.manager.store.insert(0, junk("L0"))
    service.again(KILL)
    # The first of two is taken: if that was the wrong one the value, or the realm, is gone; nothing else.
    c = service.client()
    c.set("t", b"new", b"n")
    age(service)
    until_kept(service, 1, "a")
    until_kept(service, 1, "t")
    service.again(KILL)
    assert service.client().get("t", b"new") == b"n"


def test_w35_thousands_of_them(service):
    c = service.client()
    c.set("t", b"k", b"v")
    until_kept(service, 2)
    fd = os.memfd_create("one", os.MFD_CLOEXEC)
    count = 5000 if harness.LONG else 700
    try:
        with service.manager.lock:
            service.manager.store += [(f"j{i}", os.dup(fd)) for i in range(count)]
    except OSError:
        pytest.skip("RLIMIT_NOFILE is too low for so many descriptors")
    finally:
        os.close(fd)
    service.again(KILL)
    assert service.client().get("t", b"k") == b"v"
    wait_until(lambda: len(service.manager.names()) == 2, "all are removed", patience=3 * PATIENCE)
    assert service.log().count("was closed") < 50


def test_w36_two_sockets(make_service):
    s = make_service(start=False)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(s.dir / "other"))
        other.listen()
        s.process = s.spawn(passed=[("a", s.listening.fileno()), ("b", other.fileno())],
                            environ={"NOTIFY_SOCKET": str(s.manager.path)})
        assert s.process.wait(PATIENCE) == 1
    assert "passed 2 sockets" in s.log()
    s.process = None


def test_w38_a_connection_that_another_version_kept(service):
    """A socket that has another end is none to listen on: it is closed like all that is unknown."""
    service.client().set("t", b"k", b"v")
    until_kept(service, 2)
    ours, theirs = socket.socketpair()
    with service.manager.lock:
        service.manager.store.append(("conn", theirs.detach()))
    service.again(KILL)
    assert service.client().get("t", b"k") == b"v"
    until_kept(service, 2)
    ours.settimeout(PATIENCE)
    assert ours.recv(1) == b""
    ours.close()


def test_w39_the_manager_is_not_the_last_to_close(service):
    """Whoever closes a file last frees its memory: that is never the manager."""
    c = service.client()
    c.set("t", b"small", b"v")
    before = service.fds()["memfd"]
    c.set("t", b"k", b"v" * 5_000_000)
    age(service)
    until_kept(service, 1, "L")
    service.manager.pause()
    c.delete("t", b"k")
    wait_until(lambda: c.stats().daemon.kept_files.leaving == 1, "it is being dropped")
    time.sleep(0.5)    # far longer than it takes to be freed by a thread
    assert service.fds()["memfd"] == before + 1
    service.manager.go_on()
    until_kept(service, 0, "L")
    wait_until(lambda: service.fds()["memfd"] == before, "the daemon has closed its own after that")


def test_w37_a_handover_is_refused(service):
    """The manager would start another daemon on the same files."""
    service.client().set("t", b"k", b"v")
    other = service.spawn("--handover", "--socket", str(service.socket))
    assert other.wait(PATIENCE) == 1
    assert "use systemctl restart" in service.log()
    assert service.client().get("t", b"k") == b"v"


# ---- what ends a daemon

def test_w40_what_ends_every_daemon_is_dropped(service):
    """Whoever takes over counts itself, and one that serves sets that back."""
    c = service.client()
    c.set("t", b"k", b"v")
    until_kept(service, 2)
    epoch = os.open(f"{service.socket}.epoch", os.O_RDWR)
    with contextlib.closing(os.fdopen(epoch, "r+b", buffering=0)):
        os.pwrite(epoch, struct.pack("<I", 4), ATTEMPTS_AT)
        service.again(KILL)
        assert service.client().get("t", b"k") == b"v"
        assert struct.unpack("<I", os.pread(epoch, 4, ATTEMPTS_AT)) == (0,)
        os.pwrite(epoch, struct.pack("<I", 5), ATTEMPTS_AT)
        service.again(KILL)
    assert "5 daemons in a row" in service.log()
    c = service.client()
    assert c.get("t", b"k") is None
    c.set("t", b"k", b"new")
    until_kept(service, 2)
    service.again(KILL)
    assert service.client().get("t", b"k") == b"new"
