# SPDX-License-Identifier: MIT
"""cachectl doctor: each fault that it knows is made, and has to be found and named; without faults it finds none."""

import contextlib
import os
import pathlib
import resource
import shutil
import signal
import socket
import subprocess
import tempfile

import pytest

import harness
import manager
from cachectl import (CACHECTL, DONE, NOT_FOUND, REFUSED, UNREACHABLE, USAGE, Result, cli, environment, finish, js,
                      needs_cachectl, run_plain)

pytestmark = needs_cachectl

PROBLEM = NOT_FOUND  # the same exit status
STATUSES = ["ok", "note", "warning", "problem"]
CHECKS = {"socket", "others", "stale", "permissions", "daemon", "version", "realm", "round_trip", "limits", "memory",
          "cgroup", "eviction", "configuration", "kernel", "clock"}


# A user of every Debian, and not the overflow uid.
SOMEBODY = {"user": "daemon", "group": "daemon"}


def with_path(**more):
    """The daemon's program is found in $PATH."""
    return environment(PATH=f"{harness.BINARY.parent}:{os.environ['PATH']}", **more)


class Examination:
    def __init__(self, result):
        self.status, self.err, self.document = result.status, result.err, result.json
        self.checks = self.document["checks"]
        assert list(self.document) == ["socket", "reachable", "checks"]
        for c in self.checks:
            assert list(c) == ["check", "status", "text", "advice"]
            assert c["check"] in CHECKS and c["status"] in STATUSES and c["text"]
            if c["status"] in ("warning", "problem"):
                assert c["advice"], c

    def of(self, check):
        return [c for c in self.checks if c["check"] == check]

    def one(self, check):
        [c] = self.of(check)
        return c

    def worse(self):
        """What is not as it should be, the machine's own state left aside: tests run on all kinds."""
        return [c for c in self.checks if c["status"] in ("warning", "problem")
                and c["check"] not in ("memory", "cgroup", "round_trip", "kernel")]


def doctor(*args, env=None, **more):
    return Examination(run_plain("--json", *args, "doctor", env=env or with_path(), **more))


@pytest.fixture
def small(make_daemon):
    """With a budget that any machine has."""
    return make_daemon(memory={"global_budget": "64M", "realm_budget": "32M"})


@pytest.fixture
def home(monkeypatch):
    """A place for a user's sockets that is short enough, and nothing of the machine's own in sight."""
    with tempfile.TemporaryDirectory(prefix="cached-d-") as folder:
        yield pathlib.Path(folder)


# ---- all is well

def test_doc01_a_sound_installation(small):
    d = doctor("--socket", str(small.socket))
    assert d.worse() == [] and d.document["reachable"] is True and d.document["socket"] == str(small.socket)
    assert d.status == (PROBLEM if any(c["status"] == "problem" for c in d.checks) else DONE)
    assert {c["check"] for c in d.checks} == CHECKS - {"stale"}
    assert "--socket" in d.one("socket")["text"]
    assert f"pid {small.pid}," in d.one("daemon")["text"]
    assert "right" in d.one("configuration")["text"]
    assert d.err == ""


def test_doc02_lines_for_people(small):
    """A finding is a line, what to do another; the same as in JSON."""
    r = run_plain("--socket", str(small.socket), "doctor", env=with_path())
    d = doctor("--socket", str(small.socket))
    head = r.lines[:r.lines.index("")]
    lines = [line.split()[:2] for line in head if not line.startswith(" ")]
    assert [check for _, check in lines] == [c["check"] for c in d.checks]
    assert all(line.lstrip().startswith("do: ") for line in head if line.startswith(" "))
    counts = [sum(status == s for status, _ in lines) for s in STATUSES]
    assert r.lines[-1].startswith(f"{counts[0]} ok, {counts[1]} note") and len(r.lines) == len(head) + 2


def test_doc03_where_the_socket_comes_from(small):
    d = doctor(env=with_path(CACHED_SOCKET=str(small.socket)))
    assert d.document["socket"] == str(small.socket) and "$CACHED_SOCKET" in d.one("socket")["text"]


def test_doc04_it_changes_nothing(small):
    c = small.client()
    c.set("t", b"k", b"v")
    before = c.stats().total
    doctor("--socket", str(small.socket))
    assert c.stats().total == before


# ---- no daemon

def test_doc10_no_daemon_at_all(home):
    d = doctor("--socket", str(home / "none"))
    assert d.status == UNREACHABLE and d.document["socket"] is None and d.document["reachable"] is False
    daemon = d.one("daemon")
    assert daemon["status"] == "problem" and "cached" in daemon["advice"]
    assert d.of("kernel") and d.of("clock") and d.of("configuration") and not d.of("memory")
    assert d.err.startswith("cachectl: doctor: ")
    r = run_plain("--socket", str(home / "none"), "doctor", env=with_path())
    assert r.status == UNREACHABLE and "problem daemon" in r.text


def test_doc11_a_stale_socket(home):
    s = socket.socket(socket.AF_UNIX)
    s.bind(str(home / "s"))
    s.close()
    d = doctor("--socket", str(home / "s"))
    assert d.status == UNREACHABLE and d.one("stale")["status"] == "warning" and "start" in d.one("stale")["advice"]


def test_doc12_not_a_socket(home):
    (home / "s").write_text("")
    d = doctor("--socket", str(home / "s"))
    assert d.status == UNREACHABLE and d.one("stale")["status"] == "problem"
    assert "not a socket" in d.one("stale")["text"]


def test_doc13_a_stopped_daemon(small):
    """It answers within seconds, also if the daemon does not, and says which process to wake."""
    with small.stopped():
        d = doctor("--socket", str(small.socket), "--timeout", "1s")
    assert d.status == UNREACHABLE
    assert d.one("daemon")["advice"].endswith(f"kill -CONT {small.pid}")


def test_doc14_something_else_listens(home):
    """A server that answers nonsense, and one that closes."""
    for answer in (b"HTTP/1.1 400 Bad Request\r\n\r\n" * 9, b""):
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(str(home / "s"))
            s.listen()
            p = subprocess.Popen([CACHECTL, "--json", "--socket", str(home / "s"), "doctor"], stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, env=with_path())
            while p.poll() is None:
                s.settimeout(0.1)
                try:
                    peer = s.accept()[0]
                except TimeoutError:
                    continue
                with peer, contextlib.suppress(OSError):  # it only looked, and is gone
                    peer.sendall(answer)
                    peer.shutdown(socket.SHUT_WR)
                    peer.recv(4096)
            out, err = p.communicate(timeout=harness.PATIENCE)
        d = Examination(Result(finish(subprocess.CompletedProcess(p.args, p.returncode, out, err))))
        assert d.status == UNREACHABLE and d.one("daemon")["status"] == "problem"
        (home / "s").unlink()


def test_doc15_names_that_lead_nowhere(small, home):
    d = doctor(env=with_path(CACHED_SOCKET="relative.sock"), cwd=home)
    assert any(c["status"] == "warning" and "relative" in c["text"] for c in d.of("socket"))
    d = doctor(env=with_path(CACHED_SOCKET="/" + "x" * 200))
    assert d.status in (UNREACHABLE, USAGE) and d.of("socket")[0]["status"] == "problem"


# ---- two daemons

def make_user_daemon(runtime):
    """A daemon on the user's own socket below @runtime."""
    folder = runtime / "cached"
    folder.mkdir(mode=0o700)
    process = subprocess.Popen([harness.BINARY, "--socket", str(folder / "cached.sock")], stderr=subprocess.DEVNULL)
    harness.wait_until((folder / "cached.sock").exists, "the daemon is there")
    harness.wait_until(lambda: run_plain("--socket", str(folder / "cached.sock"), "ping").status == DONE, "it answers")
    return process


def end(process):
    process.terminate()
    assert process.wait(harness.PATIENCE) == 0


def test_doc20_two_daemons(small, home):
    process = make_user_daemon(home)
    try:
        d = doctor(env=with_path(CACHED_SOCKET=str(small.socket), XDG_RUNTIME_DIR=str(home)))
        [other] = [c for c in d.of("others") if str(home) in c["text"]]
        assert other["status"] == "warning" and f"pid {process.pid}" in other["text"]
        # The same daemon under its own name is not a second one.
        d = doctor(env=with_path(CACHED_SOCKET=str(home / "cached" / "cached.sock"), XDG_RUNTIME_DIR=str(home)))
        assert not [c for c in d.of("others") if str(home) in c["text"]]
        os.symlink(home, home / "again")
        d = doctor(env=with_path(CACHED_SOCKET=str(home / "again" / "cached" / "cached.sock"),
                                 XDG_RUNTIME_DIR=str(home)))
        assert not [c for c in d.of("others") if str(home) in c["text"]]
    finally:
        end(process)


def test_doc21_the_user_s_own_socket(home):
    if pathlib.Path("/run/cached/cached.sock").exists():
        pytest.skip("a daemon of the system is installed here")
    process = make_user_daemon(home)
    try:
        d = doctor(env=with_path(XDG_RUNTIME_DIR=str(home)))
        assert d.document["socket"] == str(home / "cached" / "cached.sock")
        assert "your own socket" in d.one("socket")["text"] and "/run/cached" in d.one("socket")["text"]
    finally:
        end(process)


# ---- permissions

def test_doc30_anybody_can_replace_the_socket(small):
    small.dir.chmod(0o777)
    d = doctor("--socket", str(small.socket))
    [c] = d.of("permissions")
    assert d.status == PROBLEM and c["status"] == "problem" and c["advice"] == f"chmod go-w {small.dir}"
    small.dir.chmod(0o1777)
    assert doctor("--socket", str(small.socket)).one("permissions")["status"] == "ok"
    small.dir.chmod(0o755)


def test_doc31_a_world_writable_socket(make_daemon):
    daemon = make_daemon(daemon={"socket_mode": "0666"})
    [c] = doctor("--socket", str(daemon.socket)).of("permissions")
    assert "0666" in c["text"] and "socket_mode" in c["advice"]


def test_doc32_the_missing_group(make_daemon):
    harness.needs_root()
    daemon = make_daemon(daemon={"socket_mode": "0660", "socket_group": "games"})
    d = doctor("--socket", str(daemon.socket), **SOMEBODY, extra_groups=[])
    [c] = d.of("permissions")
    assert d.status == UNREACHABLE and c["status"] == "problem"
    assert c["advice"].startswith("sudo usermod -aG games daemon")
    # With it, all is well.
    d = doctor("--socket", str(daemon.socket), **SOMEBODY, extra_groups=[os.stat(daemon.socket).st_gid])
    assert d.document["reachable"] and d.one("permissions")["status"] == "ok"


def test_doc33_a_directory_of_somebody_else(small):
    harness.needs_root()
    os.chown(small.dir, 12345, 12345)
    d = doctor("--socket", str(small.socket))
    os.chown(small.dir, 0, 0)
    assert d.one("permissions")["status"] == "problem" and "uid 12345" in d.one("permissions")["text"]


def test_doc34_a_daemon_of_a_foreign_uid(home):
    """Clients do not trust it; doctor says who it is."""
    harness.needs_root()
    home.chmod(0o777)
    (home / "conf").write_text("")
    process = subprocess.Popen([harness.BINARY, "--socket", str(home / "s"), "--config", str(home / "conf")],
                               user=12345, group=12345, extra_groups=[],
                               stderr=subprocess.DEVNULL)
    try:
        harness.wait_until((home / "s").exists, "the daemon is there")
        d = doctor("--socket", str(home / "s"))
        assert d.status == UNREACHABLE
        c = d.one("daemon")
        assert "uid 12345" in c["text"] and str(process.pid) in c["advice"]
    finally:
        end(process)


def test_doc35_a_directory_of_the_service(home):
    """A service manager, which is root, listens for a daemon of another user, and gives it socket and directory."""
    harness.needs_root()
    with listening(home / "s"):
        os.chown(home, 12345, 12345)
        [c] = doctor("--socket", str(home / "s"), "--timeout", "100ms").of("permissions")
        assert c["status"] == "problem", "the socket is not meant to be that user's"
        os.chown(home / "s", 12345, 12345)
        [c] = doctor("--socket", str(home / "s"), "--timeout", "100ms").of("permissions")
        assert c["status"] == "ok", c
    os.chown(home, 0, 0)


# ---- behind a service manager

@contextlib.contextmanager
def listening(path):
    """Somebody listens, and starts nothing."""
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(path))
        s.listen(16)
        yield s


def test_doc36_nothing_is_started(home):
    """The listener is named; it is not what should be restarted."""
    name = pathlib.Path("/proc/self/comm").read_text().strip()
    with listening(home / "s"):
        c = doctor("--socket", str(home / "s"), "--timeout", "100ms").one("daemon")
        r = run_plain("--socket", str(home / "s"), "--timeout", "100ms", "get", "c", "k")
    assert "restart" not in c["advice"] and f"pid {os.getpid()} ({name})" in c["text"]
    assert r.status == UNREACHABLE and r.err.count("\n") == 1
    assert f"did not answer in time: pid {os.getpid()} ({name}) listens there for it, and may not start it" in r.err


def test_doc37_a_restart_loses_nothing(home, monkeypatch):
    """Where a service manager keeps the memory."""
    monkeypatch.setattr(harness, "BINARY", shutil.copy(harness.BINARY, home / "cached"))
    s = manager.Service(harness.config_text(memory={"global_budget": "64M", "realm_budget": "32M"}))
    s.start()
    try:
        (home / "cached").unlink()
        c = doctor("--socket", str(s.socket)).one("version")
        assert c["status"] == "warning" and "lost" not in c["advice"]
        assert c["advice"].startswith("systemctl restart cached.service")
        [c] = [c for c in doctor("--socket", str(s.socket)).of("permissions") if "may connect" in c["text"]]
        assert "SocketMode=" in c["advice"] and "socket_mode" not in c["advice"]
    finally:
        s.signal(signal.SIGTERM)
        assert s.process.wait(harness.PATIENCE) == 0
        s.close()


def test_doc38_a_file_that_only_root_can_read(home):
    """Root finds it right; the daemon will not."""
    harness.needs_root()
    home.chmod(0o755)
    config = home / "cached.conf"
    config.write_text("")
    folder = home / "run"
    folder.mkdir()
    os.chown(folder, 12345, 12345)
    process = subprocess.Popen([harness.BINARY, "--socket", str(folder / "s"), "--config", str(config)], user=12345,
                               group=12346, extra_groups=[12347], stderr=subprocess.DEVNULL)

    def check():
        return doctor("--socket", str(folder / "s"), "--service-uid", "12345").one("configuration")
    try:
        harness.wait_until((folder / "s").exists, "the daemon is there")
        assert check()["status"] == "ok"
        config.chmod(0o600)
        c = check()
        assert c["status"] == "problem" and str(config) in c["text"] and "uid 12345" in c["text"]
        config.chmod(0o640)
        for gid in (12346, 12347):
            os.chown(config, 0, gid)
            assert check()["status"] == "ok"
        os.chown(config, 0, 0)
        assert check()["status"] == "problem"
        os.chown(config, 12345, 12346)
        config.chmod(0o044)
        assert check()["status"] == "problem", "the owner's bits count for the owner"
        os.chown(config, 0, 0)
        config.chmod(0o644)
        home.chmod(0o700)
        assert check()["status"] == "problem", "nor get there"
    finally:
        home.chmod(0o755)
        end(process)


# ---- limits, memory, configuration

def test_doc40_too_few_descriptors(home):
    config = home / "cached.conf"
    config.write_text("[limits]\nconnections = 5000\n")

    def few():
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512))
    process = subprocess.Popen([harness.BINARY, "--socket", str(home / "s"), "--config", str(config)], preexec_fn=few,
                               stderr=subprocess.DEVNULL)
    try:
        harness.wait_until(lambda: run_plain("--socket", str(home / "s"), "ping").status == DONE, "it answers")
        [c] = doctor("--socket", str(home / "s")).of("limits")
        assert c["status"] == "warning" and "at most 512 descriptors (LimitNOFILE= in the unit, or " in c["text"]
        assert "5000" in c["text"] and "limits.connections" in c["advice"]
    finally:
        end(process)


def test_doc40a_enough_for_connections_alone(home):
    config = home / "cached.conf"
    config.write_text("[limits]\nconnections = 100\nlarge_values = 500\n")

    def few():
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512))
    with open(home / "log", "wb") as log:
        process = subprocess.Popen([harness.BINARY, "--socket", str(home / "s"), "--config", str(config)],
                                   preexec_fn=few, stderr=log)
    try:
        harness.wait_until(lambda: run_plain("--socket", str(home / "s"), "ping").status == DONE, "it answers")
        [c] = doctor("--socket", str(home / "s")).of("limits")
        assert c["status"] == "note" and "348 large values" in c["text"] and "LimitNOFILE" in c["text"]
        said = (home / "log").read_text()
        assert "limits.large_values = 500 cannot be reached with 512 descriptors" in said and ": 348 are left" in said
    finally:
        end(process)


def test_doc41_a_budget_that_is_not_there(make_daemon):
    daemon = make_daemon(memory={"global_budget": "16T"})
    d = doctor("--socket", str(daemon.socket))
    assert d.status == PROBLEM and d.one("memory")["status"] == "problem"
    assert "16T" in d.one("memory")["text"] and "global_budget" in d.one("memory")["advice"]


def test_doc42_evictions_by_a_budget(make_daemon):
    daemon = make_daemon(memory={"realm_budget": "128K"})
    c = daemon.client()
    for i in range(40):
        c.set("t", b"%d" % i, b"x" * 10000)
    e = doctor("--socket", str(daemon.socket)).one("eviction")
    assert e["status"] == "note" and "realm's budget" in e["text"] and "realm_budget" in e["advice"]


def test_doc43_a_configuration_that_went_wrong(small):
    """The daemon runs on with its old settings; a restart would fail."""
    small.config_path.write_text("[memory]\nrealm_budgt = 1G\n")
    d = doctor("--socket", str(small.socket))
    c = d.one("configuration")
    assert d.status == PROBLEM and c["status"] == "problem" and f"{small.config_path}:2" in c["text"]


def test_doc43_a_configuration_that_was_named_from_elsewhere(home):
    """By a relative path: the daemon tells the whole one, which doctor can read and people can use."""
    (home / "here").mkdir()
    (home / "here" / "conf").write_text("")
    process = subprocess.Popen([harness.BINARY, "--socket", str(home / "s"), "--config", "here/conf"], cwd=home,
                               stderr=subprocess.DEVNULL)
    try:
        harness.wait_until(lambda: run_plain("--socket", str(home / "s"), "ping").status == DONE, "it answers")
        c = doctor("--socket", str(home / "s")).one("configuration")
        assert c["status"] == "ok" and c["text"] == f"{home}/here/conf: right"
    finally:
        end(process)


def test_doc44_without_the_program(home):
    d = doctor("--socket", str(home / "none"), env=environment(PATH="/nonexistent"))
    if any(shutil.which("cached", path=p) for p in ("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",)):
        pytest.skip("cached is installed here")
    assert d.one("configuration")["status"] == "problem" and "install" in d.one("configuration")["advice"]


def test_doc45_a_refusal_is_a_problem(make_daemon):
    """The daemon is there and reachable, but takes no more connections."""
    daemon = make_daemon(limits={"connections": 2})
    held = [daemon.client(), daemon.client()]
    d = doctor("--socket", str(daemon.socket))
    assert d.status == PROBLEM and d.one("daemon")["status"] == "problem" and "connections" in d.one("daemon")["text"]
    for c in held:
        c.close()


def test_doc46_unknown_realm(small):
    d = doctor("--socket", str(small.socket), "--realm", "nonesuch")
    assert d.status == PROBLEM and "nonesuch" in d.one("daemon")["text"]


def test_doc47_a_reader(make_daemon):
    harness.needs_root()
    daemon = make_daemon(daemon={"socket_mode": "0666"}, extra="[realm r]\nreaders = daemon\n")
    d = doctor("--socket", str(daemon.socket), "--realm", "r", **SOMEBODY, extra_groups=[])
    assert d.one("realm")["status"] == "note" and "reader" in d.one("realm")["text"]


def test_doc48_usage(cli):
    assert "too many" in cli("doctor", "x", status=USAGE).err
