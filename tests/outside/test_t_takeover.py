# SPDX-License-Identifier: MIT
"""Another process goes on with what a daemon has: handed over by a running one, or left by a killed one.

T0x  handing over: what is kept, how connections end, what runs meanwhile
T1x  a handover that fails at any point: the running daemon goes on
T2x  a killed one's memory files, passed as a service manager passes them
T3x  passed descriptors that are nonsense
T4x  killed under load, again and again
"""

import array
import contextlib
import fcntl
import json
import os
import re
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest

import harness
import mapped
import wire
from harness import LONG, PATIENCE, needs_root, wait_until
from test_client import Calls, counts
from wire import pb

BROKEN = (wire.Closed, BrokenPipeError, ConnectionResetError, ConnectionRefusedError, FileNotFoundError)
PASSED, HANDED = pb.TAKEOVER_PASSED, pb.TAKEOVER_HANDOVER


def take_over(d):
    """A new process takes over from the running one. The Popen of the old one, which has ended."""
    old = d.process
    d.process = d.spawn("--handover")
    assert old.wait(PATIENCE) == 0, d.log()
    wait_until(d.answers, "the new one answers")
    return old


def takeover(d):
    with d.probe() as c:
        return c.stats().daemon.takeover


def memory_files(pid):
    """{kind: [descriptors of our own]} of a process's memory files, in the order in which it made them."""
    out = {"arena": [], "table": [], "large": []}
    for n in sorted(map(int, os.listdir(f"/proc/{pid}/fd"))):
        path = f"/proc/{pid}/fd/{n}"
        with contextlib.suppress(FileNotFoundError):
            found = re.match(r"/memfd:cached:(\w+)", os.readlink(path))
            if found and found[1] in out:
                st = os.stat(path)
                # An arena that is lent read-only is the same file once more.
                if st.st_ino not in [os.fstat(fd).st_ino for fd in out[found[1]]]:
                    out[found[1]].append(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    return out


ARENA_INO_AT = 48  # in a table's header (daemon/arena/table.h): the inode of the arena that it belongs to


def label_of(table):
    """The name of the realm whose table it is: in the header, behind the inode."""
    return os.pread(table, 128, ARENA_INO_AT + 8).split(b"\0")[0].decode()


def names_for(files):
    """As a service manager's store would have them."""
    tables = {int.from_bytes(os.pread(fd, 8, ARENA_INO_AT), "little"): fd for fd in files["table"]}
    pairs = [(arena, tables[os.fstat(arena).st_ino]) for arena in files["arena"]]
    assert len(pairs) == len(files["table"])
    return [(f"{letter}{i}", fd) for i, pair in enumerate(pairs) for letter, fd in zip("at", pair)] + [
        (f"L{i}", fd) for i, fd in enumerate(files["large"])]


def close_all(passed):
    for fd in {fd for _, fd in passed}:
        os.close(fd)


def kill(d):
    d.process.kill()
    d.process.wait()


def start_with(d, passed):
    d.process = d.spawn(passed=passed)
    wait_until(d.answers, "it answers")


def restart(d):
    """Killed with SIGKILL, and started with what it had."""
    passed = names_for(memory_files(d.pid))
    kill(d)
    start_with(d, passed)
    close_all(passed)


def fill(c):
    """Something of everything; gives what check_kept() wants."""
    c.open("lru", max_entries=3)
    for key in (b"a", b"b", b"c"):
        c.set("lru", key, b"value of " + key)
    c.get("lru", b"a")
    c.set("t", b"mortal", b"for an hour", ttl_ms=3_600_000, flags=7, cost_us=5)
    c.set("t", b"immortal", b"for ever", never_expires=True)
    c.set("t", b"gone", b"x")
    c.delete("t", b"gone")
    c.set_policy("t", max_bytes=10_000_000)
    c.set("large", b"l", b"L" * 5_000_000)
    return c.set("t", b"last", b"x").version


def check_kept(d, version):
    c = d.client()
    entry, value = c.lookup("t", b"mortal")
    assert value == b"for an hour" and (entry.flags, entry.cost_us) == (7, 5)
    assert 3_000_000 < entry.ttl_ms <= 3_600_000
    entry, value = c.lookup("t", b"immortal")
    assert value == b"for ever" and not entry.WhichOneof("ttl")
    assert c.get("large", b"l") == b"L" * 5_000_000
    assert c.fate("t", b"gone") == "DELETED"
    assert c.set("t", b"next", b"y").version > version
    stats = c.stats("t")
    assert stats.pinned and stats.policy.max_bytes == 10_000_000 and stats.stores == 5 and stats.deletes == 1
    # a was used after b and c: b is the first to leave, then c.
    for new, gone in ((b"d", b"b"), (b"e", b"c")):
        c.set("lru", new, b"new")
        assert c.fate("lru", gone) == "EVICTED_MAX_ENTRIES"
    assert c.get("lru", b"a") == b"value of a"
    c.set_policy("t", unpin=True)  # or the realm stays


def cachectl(daemon, *args):
    program = harness.BUILD / "client/cachectl/cachectl"
    return subprocess.run([program, "--socket", daemon.socket, *args], check=True, capture_output=True, text=True,
                          timeout=PATIENCE).stdout


# ---- handing over

def test_t01_everything_goes_on(daemon):
    """Values, versions, deadlines, policies, counters, order of use, the instance number."""
    version = fill(daemon.client())
    before = daemon.client().info
    take_over(daemon)
    after = daemon.client().info
    assert after.instance == before.instance and after.daemon_pid != before.daemon_pid
    check_kept(daemon, version)
    report = takeover(daemon)
    assert getattr(report, "from") == HANDED
    assert (report.realms_kept, report.entries_kept, report.large_kept) == (1, 7, 1)
    assert (report.realms_dropped, report.entries_dropped, report.descriptors_dropped) == (0, 0, 0)
    assert "took over 1 realms with 7 entries (1 large)" in daemon.log()
    stats = json.loads(cachectl(daemon, "--json", "stats"))["daemon"]["takeover"]
    assert stats["from"] == "handover" and stats["entries_kept"] == 7 and stats["reasons"] == []
    assert re.search(r"TAKEOVER\s+from\s+its predecessor\s+realms kept\s+1\n", cachectl(daemon, "stats"))


def test_t02_time_goes_on(daemon, clock):
    c = daemon.client()
    c.set("t", b"k", b"v", ttl_ms=5000)
    clock.advance(3000)
    take_over(daemon)
    c = daemon.client()
    assert c.get("t", b"k") == b"v"
    clock.advance(2000)
    assert c.get("t", b"k") is None


def test_t03_connections_are_told(daemon):
    """Idle ones get a farewell; what was sent before is answered; then they end."""
    idle, busy = daemon.client(), daemon.client()
    daemon.signal(signal.SIGSTOP)
    ids = [busy.post("set", b"v%d" % i, cache="t", key=b"k%d" % i) for i in range(50)]
    old, daemon.process = daemon.process, daemon.spawn("--handover")
    old.send_signal(signal.SIGCONT)
    for i in ids:
        assert busy.wait(i)[0].status == wire.OK
    for c in (idle, busy):
        reply, _ = c.recv()
        assert reply.id == 0 and reply.status == wire.SHUTTING_DOWN and "connect again" in reply.error
        with pytest.raises(wire.Closed):
            c.recv()
    assert old.wait(PATIENCE) == 0
    c = daemon.client()
    assert all(c.get("t", b"k%d" % i) == b"v%d" % i for i in range(50))


@pytest.fixture
def open_daemon(make_daemon):
    """One that other uids may connect to."""
    needs_root()
    return make_daemon(daemon={"socket_mode": "0666"})


def test_t04_realms_stay_apart(open_daemon):
    daemon = open_daemon
    for uid in (1001, 1002):
        daemon.client(uid=uid).set("t", b"k", b"of %d" % uid)
    take_over(daemon)
    for uid in (1001, 1002):
        assert daemon.client(uid=uid).get("t", b"k") == b"of %d" % uid
    assert daemon.client().get("t", b"k") is None
    assert takeover(daemon).realms_kept == 3


def test_t05_a_thousand_large_values(make_daemon):
    """Many more descriptors than one message takes."""
    n = 1000 if LONG else 150
    d = make_daemon(memory={"large_threshold": "4K"})
    c = d.client()
    for i in range(n):
        c.set("t", b"%d" % i, b"%d" % i * 5000)
    take_over(d)
    c = d.client()
    assert all(c.get("t", b"%d" % i) == b"%d" % i * 5000 for i in range(n))
    assert takeover(d).large_kept == n


def test_t06_again_and_again_and_then_a_clean_end(daemon):
    daemon.client().set("t", b"k", b"v")
    for _ in range(3):
        take_over(daemon)
        assert daemon.client().get("t", b"k") == b"v"


class Load(threading.Thread):
    """A client that stores and reads back its own keys, reconnecting whenever it has to."""

    def __init__(self, d, number):
        super().__init__()
        self.d, self.number = d, number
        self.stop, self.wrong, self.done, self.breaks = False, [], 0, 0
        self.known = {}   # key: values that a read may give, None for a miss

    def run(self):
        c, i = None, 0
        while not self.stop:
            i += 1
            key = b"%d/%d" % (self.number, i % 50)
            value = b"%d of %d " % (i, self.number) * (1 + i % 7)
            try:
                c = c or self.d_client()
                if i % 3:
                    self.known.setdefault(key, {None}).add(value)
                    c.set("t", key, value, ttl_ms=600_000)
                    self.known[key] = {value}
                else:
                    got = c.get("t", key)
                    if got not in self.known.get(key, {None}):
                        self.wrong.append((key, got, self.known.get(key)))
                self.done += 1
            except wire.Refused as e:
                if e.status != wire.SHUTTING_DOWN:
                    self.wrong.append(e)
                c = self.drop(c)
            except BROKEN:
                c = self.drop(c)
        self.drop(c)

    def d_client(self):
        c = wire.Client(self.d.socket, timeout=PATIENCE)
        try:
            c.hello()
        except BaseException:
            c.close()
            raise
        return c

    def drop(self, c):
        self.breaks += 1
        if c:
            c.close()
        time.sleep(0.001)


@contextlib.contextmanager
def load(d, n=3):
    loads = [Load(d, i) for i in range(n)]
    for one in loads:
        one.start()
    try:
        yield loads
    finally:
        for one in loads:
            one.stop = True
        for one in loads:
            one.join()
    for one in loads:
        assert not one.wrong, one.wrong[:3]


def test_t07_under_load(daemon):
    """Nothing wrong is read, nothing that was answered is lost, and all work on."""
    rounds = 100 if LONG else 4
    with load(daemon) as loads:
        for _ in range(rounds):
            before = [one.done for one in loads]
            take_over(daemon)
            wait_until(lambda: all(one.done > b + 20 for one, b in zip(loads, before)), "all go on")
    c = daemon.client()
    for one in loads:
        for key, values in one.known.items():
            assert c.get("t", key) in values


def test_t08_mapped_readers_keep_hitting(daemon):
    """Through one handover after the other, on the mapping that they got from the first daemon."""
    writer = daemon.client()
    for i in range(50):
        writer.set("t", b"%d" % i, b"value %d" % i)
    reader = mapped.Client(daemon.socket)
    daemon.clients.append(reader)
    reader.hello()
    done, stop, faults = [0], [], []

    def read():
        while not stop and not faults:
            for i in range(50):
                try:
                    got = reader.mapped_get("t", b"%d" % i, note=False)
                except mapped.Ask as e:
                    got = e
                if got != b"value %d" % i:
                    faults.append(got)
            done[0] += 1

    thread = threading.Thread(target=read)
    thread.start()
    try:
        for n in range(3):
            take_over(daemon)
            before = done[0]
            wait_until(lambda: faults or done[0] > before + 2, "it reads on")
            daemon.client().set("t", b"0", b"value 0")
        assert not faults, faults[:3]
        # What the new daemon changes is seen on the old mapping.
        daemon.client().set("t", b"new", b"of the new one")
        assert reader.mapped_get("t", b"new", note=False) == b"of the new one"
    finally:
        stop.append(1)
        thread.join()


def test_t09_programs_with_the_library_notice_nothing(daemon):
    """Threads on one handle, through handovers: each call has its answer."""
    calls = Calls(daemon.socket, 20_000)
    assert calls.code("set", "k", "v") == 0
    assert calls.code("storm", "4") == 0
    for _ in range(3):
        take_over(daemon)
        assert calls("get", "k")[::2] == (0, "v")
        assert calls.code("add", "k", "w") == wire.EXISTS
    codes = set(counts(calls("calm")[2]))
    assert codes and codes <= {wire.OK, wire.NOT_FOUND}
    calls.finish()


def test_t10_what_readers_noted_is_not_lost(daemon):
    """More than a turn takes over: the counts are whole, and the very last use still saves its entry."""
    c = daemon.client()
    c.open("lru", max_entries=3)
    for key in b"old", b"busy", b"other":
        c.set("lru", key, b"v")
    readers = [mapped.Client(daemon.socket) for _ in range(50)]
    daemon.clients += readers
    n = 0
    for r in readers:
        r.hello()
    for r in readers:
        cache, (handle, version, _) = r.arena.look_up("lru", b"busy", r.now_ms())
        now = r.now_ms() & 0xffffffff
        for ring in range(2):
            for _ in range(mapped.SLOTS - 100):
                r.touch_page(handle, version, ring, now)
                n += 1
        r.count(cache, True, 2 * (mapped.SLOTS - 100))
    readers[-1].mapped_get("lru", b"old", ring=1, now=readers[-1].now_ms() + 50)
    take_over(daemon)
    c = daemon.client()
    assert c.stats("lru").mapped_hits == n + 1
    c.set("lru", b"new", b"v")
    assert c.get("lru", b"old") == b"v" and c.fate("lru", b"other") == "EVICTED_MAX_ENTRIES"


# ---- handovers that fail

class Taker(wire.Client):
    """The other side of a handover, by the text of PROTOCOL.md."""

    def __init__(self, d):
        super().__init__(d.socket, timeout=PATIENCE)
        self.parts, self.fds = [], []

    def begin(self):
        return self.must("handover", protocol=1, version="test").handover

    def next(self):
        i = self.post("handover_next")
        data, control, _, _ = self.sock.recvmsg(65536, socket.CMSG_SPACE(64 * 4), socket.MSG_CMSG_CLOEXEC)
        for level, kind, payload in control:
            assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
            fds = array.array("i")
            fds.frombytes(payload)
            self.fds += fds
        self.buffer += data
        reply, _ = self.wait(i)
        self.parts += reply.handover_part.names
        return list(reply.handover_part.names)

    def close(self):
        super().close()
        for fd in self.fds:
            os.close(fd)
        self.fds = []


def still_serves(d):
    c = d.client()
    assert c.get("t", b"k") == b"v"
    c.set("t", b"again", b"w")
    assert c.get("t", b"again") == b"w"


@pytest.fixture
def kept(daemon):
    daemon.client().set("t", b"k", b"v")
    daemon.client().set("large", b"l", b"L" * 5_000_000)
    return daemon


def test_t11_the_other_side_goes_away(kept):
    """After each message that it may have sent or got."""
    def silent(t):
        t.post("handover", protocol=1)

    def begun(t):
        t.begin()

    def taken(t):
        t.begin()
        assert t.next() == ["sock", "lock", "a0", "t0", "L0"]
        assert len(t.fds) == 5

    def early(t):
        t.begin()
        t.post("handover_done")

    def nonsense(t):
        t.begin()
        t.post("ping")

    def babble(t):
        t.begin()
        t.send_raw(b"\xff" * 4000)

    def twice(t):
        t.begin()
        with contextlib.suppress(BrokenPipeError):  # it has noticed already
            for _ in range(3):
                t.post("handover_next")

    def idle(t):
        t.begin()

    for way in (silent, begun, taken, early, nonsense, babble, twice) + (idle,) * LONG:
        before = kept.log().count("did not happen")
        with Taker(kept) as t:
            way(t)
            if way in (early, nonsense, babble, twice, idle):
                wait_until(lambda: kept.log().count("did not happen") > before, f"{way.__name__} is noticed")
        wait_until(lambda: kept.log().count("did not happen") > before, f"{way.__name__} is noticed")
        still_serves(kept)


def test_t12_files_that_were_seen_are_whole(kept):
    """A taker that got everything and went away has not disturbed it: a later one takes it all."""
    for _ in range(2):
        with Taker(kept) as t:
            n = t.begin().descriptors
            while len(t.parts) < n:
                t.next()
        kept.wait_log("did not happen")
        still_serves(kept)
    take_over(kept)
    still_serves(kept)


def test_t13_a_new_one_that_cannot_start(kept):
    """Its configuration is wrong: it says so, and the running one notices nothing."""
    good = kept.config_path.read_text()
    kept.config_path.write_text("[nonsense]\nx = 1\n")
    assert kept.spawn("--handover").wait(PATIENCE) == 1
    kept.config_path.write_text(good)
    still_serves(kept)


def test_t14_a_new_one_that_is_killed(kept):
    """At a random moment: the old one goes on, or had given everything and ends."""
    def decided():
        if old.poll() is not None:
            return "given"
        with contextlib.suppress(*BROKEN), wire.Client(kept.socket, timeout=PATIENCE) as c:
            c.hello()
            return "kept"

    for i in range(100 if LONG else 5):
        old, new = kept.process, kept.spawn("--handover")
        time.sleep(i % 10 * 0.01)
        new.kill()
        new.wait()
        if wait_until(decided, "the old one serves or ends") == "given":
            assert old.returncode == 0
            kept.process = kept.spawn()  # a cold one
            wait_until(kept.answers, "a cold one answers")
            kept.client().set("t", b"k", b"v")
        still_serves(kept)


def test_t15_no_daemon_there(make_daemon):
    d = make_daemon(start=False)
    assert d.spawn("--handover").wait(PATIENCE) == 1
    assert "no daemon to take over from" in d.log()


def test_t16_only_root_and_the_daemons_own_uid(open_daemon):
    daemon = open_daemon
    c = daemon.connect(uid=1001)
    reply, _ = c.call("handover", protocol=1)
    assert reply.status == wire.DENIED and "daemon's own user" in reply.error
    with pytest.raises(wire.Closed):
        c.recv()
    c = daemon.client()
    with pytest.raises(wire.Refused, match="instead of Hello") as e:
        c.call("handover", protocol=1)
    assert e.value.status == wire.PROTOCOL
    with daemon.connect() as c:
        assert c.call("handover", protocol=99)[0].status == wire.VERSION


def test_t17_nobody_takes_from_another_uid(make_daemon):
    """The newcomer refuses a daemon that is neither root's nor of its own uid."""
    needs_root()
    d = make_daemon(start=False)
    d.socket.parent.chmod(0o777)
    with harness.acting_as(1001):
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(d.socket))
        listener.listen()
    assert d.spawn("--handover").wait(PATIENCE) == 1
    listener.close()
    assert "belongs to uid 1001" in d.log()
    d.socket.unlink()


def test_t18_sigterm_during_a_handover(kept):
    """Ends the daemon in order, as ever; the other side learns that it gets nothing."""
    with Taker(kept) as t:
        t.begin()
        kept.stop()
    assert "did not happen" in kept.log()


@pytest.mark.parametrize("how", ["handed over", "not after all", "killed"])
def test_t19_uses_are_known_afterwards(daemon, how):
    """A program that only reads hits keeps what it uses: it gets another page by itself."""
    calls = Calls(daemon.socket, 20_000)
    assert calls.code("set", "k", "v") == 0
    assert calls("get", "k")[::2] == (0, "v")
    if how == "handed over":
        take_over(daemon)
    elif how == "killed":
        restart(daemon)
    else:
        taker = Taker(daemon)
        taker.begin()
        taker.close()
        wait_until(daemon.answers, "it goes on")
    c = daemon.client()
    c.set_policy("calls", max_entries=2)
    for i in range(4):
        assert calls("get", "k")[::2] == (0, "v")
        c.set("calls", b"new%d" % i, b"v")
    assert c.fate("calls", b"k") == "LIVE"
    assert c.stats("calls").mapped_hits >= 3, "all but the one that found out"
    c.set_policy("calls", unpin=True)
    calls.finish()


# ---- what a killed one left

def test_t21_killed_and_started_with_what_it_had(daemon):
    c = daemon.client()
    version = fill(c)
    instance = c.info.instance
    restart(daemon)
    assert daemon.client().info.instance == instance
    check_kept(daemon, version)
    report = takeover(daemon)
    assert getattr(report, "from") == PASSED
    assert (report.realms_kept, report.entries_kept, report.large_kept) == (1, 7, 1)


def test_t22_in_any_order_and_without_the_large_value(daemon):
    fill(daemon.client())
    files = memory_files(daemon.pid)
    passed = names_for(files)
    kill(daemon)
    start_with(daemon, [p for p in reversed(passed) if p[0] != "L0"])
    close_all(passed)
    c = daemon.client()
    assert c.get("t", b"immortal") == b"for ever" and c.get("large", b"l") is None
    report = takeover(daemon)
    assert (report.entries_kept, report.entries_dropped) == (6, 1)
    assert "large value was not given back" in report.reasons[0]
    c.set_policy("t", unpin=True)


def test_t23_another_layout_is_dropped(daemon):
    """Cleanly, and its readers are told to leave it."""
    daemon.client().set("t", b"k", b"v")
    passed = names_for(memory_files(daemon.pid))
    kill(daemon)
    for _, fd in passed:
        os.pwrite(fd, struct.pack("<I", 99), 8)
    start_with(daemon, passed)
    assert daemon.client().get("t", b"k") is None
    assert takeover(daemon).descriptors_dropped + takeover(daemon).realms_dropped > 0
    close_all(passed)


def test_t24_older_files_than_the_last_daemons_are_refused(daemon):
    """In between a cold one served: what it answered must not be followed by something older."""
    daemon.client().set("t", b"k", b"old")
    passed = names_for(memory_files(daemon.pid))
    kill(daemon)
    start_with(daemon, [])
    daemon.client().set("t", b"k", b"new")
    kill(daemon)
    start_with(daemon, passed)
    close_all(passed)
    assert daemon.client().get("t", b"k") is None
    assert takeover(daemon).descriptors_dropped == 2 and "daemon before the last one" in daemon.log()


def test_t25_a_realm_that_is_missing(open_daemon):
    """Its readers could go on reading an arena that is nobody's: another instance number ends that."""
    daemon = open_daemon
    for uid in (1001, 1002):
        daemon.client(uid=uid).set("t", b"k", b"of %d" % uid)
    with harness.acting_as(1002):
        lost = mapped.Client(daemon.socket)
    daemon.clients.append(lost)
    lost.hello()
    assert lost.mapped_get("t", b"k", note=False) == b"of 1002"
    instance = lost.info.instance
    passed = names_for(memory_files(daemon.pid))
    kill(daemon)
    assert lost.mapped_get("t", b"k", note=False) == b"of 1002", "hits go on while no daemon is there"
    start_with(daemon, [p for p in passed if p[0] not in ("a2", "t2")])
    with pytest.raises(mapped.Ask):
        lost.mapped_get("t", b"k", note=False)
    c = daemon.client(uid=1001)
    assert c.get("t", b"k") == b"of 1001" and c.info.instance != instance
    assert daemon.client(uid=1002).get("t", b"k") is None
    # With all that is there it goes on under the same number.
    close_all(passed)
    instance = c.info.instance
    restart(daemon)
    assert daemon.client(uid=1001).info.instance == instance


def test_t26_what_was_given_up_stays_so(daemon):
    """An arena that is marked as ended: what was answered after its end is not in it."""
    daemon.client().set("t", b"k", b"old")
    passed = names_for(memory_files(daemon.pid))
    kill(daemon)
    os.pwrite(passed[0][1], struct.pack("<I", 1), 104)
    start_with(daemon, passed)
    close_all(passed)
    assert daemon.client().get("t", b"k") is None
    report = takeover(daemon)
    assert (report.realms_kept, report.realms_dropped) == (0, 1) and "it was given up before" in daemon.log()


# ---- nonsense

def memfd(data=b"", sealed=True, mode=0o600, size=0):
    fd = os.memfd_create("cached:arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.fchmod(fd, mode)
    os.write(fd, data)
    if size:
        os.ftruncate(fd, size)
    if sealed:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    return fd


def test_t31_nonsense_is_closed_and_told(make_daemon):
    d = make_daemon(start=False)
    r, w = os.pipe()
    null, folder = os.open("/dev/null", os.O_RDWR), os.open("/", os.O_RDONLY)
    header = struct.pack("<QII", 0x616e657261636163, 1, 0)
    passed = [("a0", memfd()), ("t0", memfd(b"x" * 100_000)), ("a1", memfd(os.urandom(200_000))),
              ("a2", memfd(header + os.urandom(50_000))), ("t2", memfd(os.urandom(50_000))),
              ("L0", memfd(b"x" * 10, sealed=False)), ("L1", memfd(b"y", mode=0o644)), ("L0", r), ("a3", w),
              ("L2", null), ("t3", folder), ("", memfd()), ("unknown", memfd()), ("a00", memfd()),
              ("azzzz", memfd(header + b"\xff" * 8 + struct.pack("<Q", 77), size=1 << 40)), ("tzzzz", memfd()),
              ("Lzzzzz", memfd()), ("L%s", memfd())]
    d.process = d.spawn(passed=passed)
    close_all(passed)
    wait_until(d.answers, "it answers")
    d.baseline = d.settled()
    for words in ("its size is not sealed", "its mode is not 0600", "not a memory file", "its name is unknown",
                  "its name came before", "it is not an arena"):
        assert words in d.log(), words
    report = takeover(d)
    assert report.realms_kept == 0 and report.descriptors_dropped >= 12
    assert d.fds()["memfd"] <= 4, "what was no use is closed"
    d.client().set("t", b"k", b"v")


def test_t32_arenas_and_tables_of_different_realms(open_daemon):
    daemon = open_daemon
    for uid in (1001, 1002):
        daemon.client(uid=uid).set("t", b"k", b"of %d" % uid)
    other = {"t0": "t1", "t1": "t0"}
    passed = [(other.get(name, name), fd) for name, fd in names_for(memory_files(daemon.pid))]
    kill(daemon)
    start_with(daemon, passed)
    close_all(passed)
    for uid in (1001, 1002):
        assert daemon.client(uid=uid).get("t", b"k") in (None, b"of %d" % uid)
    assert takeover(daemon).realms_dropped >= 2


@pytest.mark.parametrize("again", [["a0"], ["a0", "t0"], ["t0"]])
def test_t34_the_same_file_twice(daemon, again):
    """The realm that is whole goes on, for mapped readers, too."""
    daemon.client().set("t", b"k", b"v")
    files = names_for(memory_files(daemon.pid))
    passed = files + [(name[0] + "1", fd) for name, fd in files if name in again]
    kill(daemon)
    start_with(daemon, passed)
    close_all(passed)
    m = mapped.Client(daemon.socket)
    daemon.clients.append(m)
    m.hello()
    assert m.mapped_get("t", b"k") == b"v" and not m.arena.retired
    report = takeover(daemon)
    assert (report.realms_kept, report.descriptors_dropped) == (1, len(again))


def test_t33_a_passed_socket_with_memory(daemon):
    """As a socket unit and a descriptor store pass them together."""
    daemon.client().set("t", b"k", b"v")
    passed = names_for(memory_files(daemon.pid))
    kill(daemon)
    daemon.socket.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(daemon.socket))
    listener.listen()
    command = daemon.command
    daemon.command = lambda *more: [a for i, a in enumerate(command(*more)) if i not in (1, 2)]
    start_with(daemon, [passed[0], ("cached.socket", listener.fileno()), *passed[1:]])
    listener.close()
    close_all(passed)
    assert daemon.client().get("t", b"k") == b"v"
    daemon.command = command
    take_over(daemon)   # a socket that was passed has no lock
    assert daemon.client().get("t", b"k") == b"v"
    daemon.process.terminate()  # and nobody removes it
    assert daemon.process.wait(PATIENCE) == 0 and daemon.socket.exists()
    daemon.process = None


# ---- killed under load

def test_t41_killed_under_load(daemon):
    """What was answered is there afterwards; what was in flight is old, new or gone; nothing is wrong."""
    with load(daemon) as loads:
        for _ in range(1000 if LONG else 6):
            before = [one.done for one in loads]
            wait_until(lambda: all(one.done > b + 30 for one, b in zip(loads, before)), "all work")
            restart(daemon)
    c = daemon.client()
    for one in loads:
        for key, values in one.known.items():
            assert c.get("t", key) in values, key
    assert daemon.log().count("took over 1 realms") >= 6
