# SPDX-License-Identifier: MIT
"""Start, reload, end, and what was left behind by an end that was not orderly."""

import contextlib
import grp
import os
import pathlib
import re
import signal
import socket
import stat
import subprocess
import threading

import pytest

import harness
import wire
from harness import wait_until
from wire import pb


def run(*args, env=None, patience=harness.PATIENCE):
    """The daemon as a command that has to end by itself."""
    e = {k: v for k, v in os.environ.items() if k not in ("CACHED_SOCKET", "NOTIFY_SOCKET")}
    e.update(env or {})
    return subprocess.run([str(harness.BINARY), *map(str, args)], capture_output=True, text=True, timeout=patience,
                          stdin=subprocess.DEVNULL, env=e)


def refused(r, *words):
    """It ended with a failure and one message that has all the words."""
    assert r.returncode == 1, f"status {r.returncode}: {r.stderr}"
    assert not harness.SANITIZER.search(r.stderr), r.stderr
    for w in words:
        assert str(w) in r.stderr, r.stderr


# ---- the command line

def test_x01_version():
    """--version says the version and does nothing else."""
    r = run("--version")
    assert r.returncode == 0 and re.search(r"\d+\.\d+\.\d+", r.stdout) and not r.stderr


@pytest.mark.parametrize("args", [["--nonsense"], ["--socket"], ["--config"], ["--log-level", "loud"], ["stray"]])
def test_x02_wrong_usage(args, tmp_path):
    """What it does not understand ends with status 2 and a line on stderr."""
    r = run("--socket", tmp_path / "s", *args) if args[0] != "--socket" else run(*args)
    assert r.returncode == 2 and r.stderr
    assert not (tmp_path / "s").exists()


# ---- --check-config

GOOD = ["", "# only a comment\n", "[limits]\npage_entries = 10\n", "[memory]\nrealm_budget = 50%\nglobal_budget = 2G\n",
        "[daemon]\nlog_level = debug\nsocket_mode = 0660\n", "[realm team]\nreaders = 0, 1\nadmins = @0\nbudget = 1G\n",
        "[limits]\nframe_ms = 5s\nvalue_bytes = 64M\n"]


@pytest.mark.parametrize("text", GOOD)
def test_x03_check_config_good(make_daemon, text):
    """A good file: status 0, no socket is made."""
    d = make_daemon(start=False)
    d.config_path.write_text(text)
    r = run("--check-config", "--config", d.config_path, "--socket", d.socket)
    assert r.returncode == 0, r.stderr
    assert not d.socket.exists()


BAD = [
    ("[limits]\nno_such_key = 1\n", 2, "no_such_key"),
    ("[limits]\n\npage_entries = 10\npage_entriess = 10\n", 4, "page_entriess"),
    ("[daemon]\npage_entries = 10\n", 2, "page_entries"),
    ("[nonsense]\n", 1, "nonsense"),
    ("[limits]\nframe_ms = 5 parsecs\n", 2, "5 parsecs"),
    ("[limits]\nvalue_bytes = 64X\n", 2, "64X"),
    ("[limits]\npage_entries = -1\n", 2, "-1"),
    ("[limits]\npage_entries = \n", 2, "number"),
    ("[limits]\npage_entries = 99999999999999999999999\n", 2, "page_entries"),
    ("[memory]\nrealm_budget = 0%\n", 2, "realm_budget"),
    ("[memory]\nrealm_budget = 101%\n", 2, "realm_budget"),
    ("[memory]\nrealm_budget = many\n", 2, "many"),
    ("[daemon]\nsocket_mode = 0999\n", 2, "0999"),
    ("[daemon]\nlog_level = loud\n", 2, "loud"),
    ("[daemon]\nsocket_group = no-such-group-here\n", 2, "no-such-group-here"),
    ("[realm team]\nreaders = no-such-user-here\n", 2, "no-such-user-here"),
    ("[realm team]\nfriends = 1\n", 2, "friends"),
    ("[realm]\n", 1, "realm"),
    ("just words\n", 1, ""),
    ("\n[limits\n", 2, ""),
    ("[limits]\npage_entries = 10\npage_entries = 20\n", 3, "page_entries"),
    ("\0\1\2\n", 1, ""),
]


@pytest.mark.parametrize("text, line, word", BAD)
def test_x04_check_config_bad(make_daemon, text, line, word):
    """A bad file: status 1, and the message begins with the file and the line."""
    d = make_daemon(start=False)
    d.config_path.write_text(text)
    refused(run("--check-config", "--config", d.config_path), f"{d.config_path}:{line}", word)
    refused(run("--config", d.config_path, "--socket", d.socket), f"{d.config_path}:{line}")
    assert not d.socket.exists()


def test_x05_a_missing_file(make_daemon):
    """A file that was named and is not there is an error; so is a directory."""
    d = make_daemon(start=False)
    refused(run("--check-config", "--config", d.dir / "absent.conf"), d.dir / "absent.conf", "No such file")
    refused(run("--socket", d.socket, "--config", d.dir / "absent.conf"), d.dir / "absent.conf")
    refused(run("--check-config", "--config", d.dir), d.dir)


def test_x06_a_bad_drop_in(make_daemon):
    """The message names the drop-in, not the main file."""
    d = make_daemon(start=False)
    drop = d.dir / "cached.conf.d"
    drop.mkdir()
    (drop / "x.conf").write_text("[limits]\n\nwrong = 1\n")
    refused(run("--check-config", "--config", d.config_path), f"{drop}/x.conf:3", "wrong")


# ---- the socket

def test_x07_socket_path_too_long(make_daemon):
    """A path of 108 bytes and more does not fit into a socket address; 107 does."""
    d = make_daemon(start=False)
    room = 107 - len(str(d.dir)) - 1
    refused(run("--socket", d.dir / ("x" * (room + 1)), "--config", d.config_path), "108 bytes", "107")
    assert make_daemon(socket_name="y" * room).client().ping()


def test_x08_socket_path_is_a_directory(make_daemon):
    """A directory at the path is left alone."""
    d = make_daemon(start=False)
    (d.dir / "there").mkdir()
    refused(run("--socket", d.dir / "there", "--config", d.config_path), d.dir / "there", "directory")
    assert (d.dir / "there").is_dir()


def test_x09_socket_path_is_a_file(make_daemon):
    """A regular file at the path is left alone."""
    d = make_daemon(start=False)
    (d.dir / "file").write_text("precious")
    refused(run("--socket", d.dir / "file", "--config", d.config_path), d.dir / "file")
    assert (d.dir / "file").read_text() == "precious"


def test_x10_socket_path_is_a_link(make_daemon):
    """A symbolic link, dangling or to a file, is not followed and not replaced."""
    d = make_daemon(start=False)
    (d.dir / "file").write_text("precious")
    (d.dir / "link").symlink_to("file")
    (d.dir / "dangling").symlink_to("nowhere")
    refused(run("--socket", d.dir / "link", "--config", d.config_path), d.dir / "link")
    refused(run("--socket", d.dir / "dangling", "--config", d.config_path), d.dir / "dangling")
    assert (d.dir / "link").is_symlink() and (d.dir / "file").read_text() == "precious"
    assert not (d.dir / "nowhere").exists()


def test_x11_socket_directory_is_missing(make_daemon):
    """No directory for the socket: an error that names it."""
    d = make_daemon(start=False)
    refused(run("--socket", d.dir / "absent" / "s", "--config", d.config_path), d.dir / "absent", "No such file")


def test_x12_socket_path_not_writable(make_daemon):
    """A directory in which the daemon may not write: an error that names the path."""
    d = make_daemon(start=False)
    if os.geteuid() != 0:
        d.dir.chmod(0o555)
        refused(run("--socket", d.socket, "--config", d.config_path), d.socket, "Permission denied")
        d.dir.chmod(0o755)
        return
    # Root may write anywhere: become somebody else.
    if not os.access(harness.BINARY, os.X_OK) or not reachable(harness.BINARY):
        pytest.skip("another uid cannot reach the binary")
    r = subprocess.run([str(harness.BINARY), "--socket", str(d.socket), "--config", str(d.config_path)],
                       capture_output=True, text=True, timeout=harness.PATIENCE, user=12345, group=12345,
                       extra_groups=[], env={"PATH": os.environ["PATH"]})
    refused(r, d.socket, "Permission denied")


def reachable(path):
    return all(p.stat().st_mode & 0o001 for p in pathlib.Path(path).parents)


def test_x13_empty_socket_path():
    """An empty path is no path."""
    r = run("--socket", "")
    assert r.returncode in (1, 2) and r.stderr


def test_x14_a_live_daemon_is_detected(daemon):
    """A second daemon on the same socket ends at once and says so; the first one does not notice."""
    c = daemon.client()
    c.set("t", b"k", b"v")
    refused(run("--socket", daemon.socket, "--config", daemon.config_path), daemon.socket, "already")
    assert c.get("t", b"k") == b"v"
    assert daemon.client().get("t", b"k") == b"v"


def test_x15_a_stale_socket_is_replaced(make_daemon):
    """A socket file that nobody listens on is replaced."""
    d = make_daemon(start=False)
    s = socket.socket(socket.AF_UNIX)
    s.bind(str(d.socket))
    s.close()
    assert d.socket.is_socket()
    d.start()
    assert d.client().ping()


def test_x16_kill_9_and_start_again(make_daemon):
    """Killed, the daemon leaves its socket file; the next one takes the place, empty and with another instance."""
    d = make_daemon()
    c = d.client()
    first = c.info.instance
    c.set("t", b"k", b"v")
    for i in range(3):
        d.signal(signal.SIGKILL)
        assert d.process.wait(harness.PATIENCE) == -signal.SIGKILL
        assert d.socket.is_socket()
        with pytest.raises((wire.Closed, BrokenPipeError, ConnectionResetError)):
            c.ping()
            c.ping()
        d.start()
        c = d.client()
        assert c.info.instance != first
        assert c.get("t", b"k") is None
        first = c.info.instance
        c.set("t", b"k", b"v")


def test_x17_many_daemons_race_for_one_socket(make_daemon):
    """Of eight that start at once exactly one stays, and it serves."""
    d = make_daemon(start=False)
    crowd = [d.spawn() for _ in range(8)]
    try:
        wait_until(lambda: sum(p.poll() is not None for p in crowd) == 7, "seven have given up")
        left = [p for p in crowd if p.poll() is None]
        d.process = left[0]
        assert all(p.returncode == 1 for p in crowd if p is not left[0])
        assert d.client().info.daemon_pid == left[0].pid
        d.clients.pop().close()
        d.baseline = d.settled()
    finally:
        for p in crowd:
            if p is not d.process and p.poll() is None:
                p.kill()
            if p is not d.process:
                p.wait()


@pytest.mark.parametrize("mode", ["0600", "0660", "0666", "0640"])
def test_x18_socket_mode(make_daemon, mode):
    """The socket file has the mode of the configuration, whatever the umask."""
    old = os.umask(0o177)
    try:
        d = make_daemon(daemon={"socket_mode": mode})
    finally:
        os.umask(old)
    assert stat.S_IMODE(d.socket.stat().st_mode) == int(mode, 8)


def test_x19_the_default_mode_is_for_the_owner(daemon):
    """Never for others by default."""
    assert stat.S_IMODE(daemon.socket.stat().st_mode) == 0o600


@pytest.mark.parametrize("by", ["name", "number"])
def test_x20_socket_group(make_daemon, by):
    """The socket file belongs to the configured group."""
    harness.needs_root()
    group = grp.getgrnam("daemon")
    d = make_daemon(daemon={"socket_group": group.gr_name if by == "name" else group.gr_gid, "socket_mode": "0660"})
    st = d.socket.stat()
    assert (st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)) == (0, group.gr_gid, 0o660)


def test_x21_socket_from_the_environment(make_daemon):
    """Without --socket, $CACHED_SOCKET is the path."""
    d = make_daemon(start=False)
    p = subprocess.Popen([str(harness.BINARY), "--config", str(d.config_path)], stderr=subprocess.DEVNULL,
                         stdin=subprocess.DEVNULL, env={**os.environ, "CACHED_SOCKET": str(d.socket)})

    def connects():
        """The file is there a moment before somebody listens."""
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            return wire.Client(d.socket)

    try:
        with wait_until(connects, "it listens") as c:
            c.hello()
            assert c.info.daemon_pid == p.pid
    finally:
        p.terminate()
        assert p.wait(harness.PATIENCE) == 0


# ---- the end

@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_x22_a_signal_ends_it(make_daemon, number):
    """SIGTERM and SIGINT: status 0 and no socket file, with clients connected."""
    d = make_daemon()
    idle, busy = d.client(), d.client()
    busy.set("t", b"k", b"v")
    d.signal(number)
    assert d.process.wait(harness.PATIENCE) == 0
    assert not d.socket.exists()
    d.process = None
    idle.expect_goodbye()


def test_x23_requests_in_flight_are_answered(make_daemon):
    """What had arrived when SIGTERM came is answered, all of it: with its result or with SHUTTING_DOWN."""
    d = make_daemon()
    c = d.client()
    c.open("t")
    n = 400
    with d.stopped():
        data = bytearray()
        for i in range(n):
            data += wire.frame(wire.request(c.next_id(), "set", cache="t", key=b"%d" % i), b"value")
        c.send_raw(data)
        d.signal(signal.SIGTERM)
    statuses = [c.wait(i)[0].status for i in range(c.last_id - n + 1, c.last_id + 1)]
    assert set(statuses) <= {wire.OK, pb.SHUTTING_DOWN}
    assert statuses == sorted(statuses, key=lambda s: s == pb.SHUTTING_DOWN), "in order until it went away"
    with pytest.raises((wire.Closed, wire.Refused)):
        while True:
            reply, _ = c.recv()
            assert reply.id == 0 and reply.status == pb.SHUTTING_DOWN
    assert d.process.wait(harness.PATIENCE) == 0
    assert not d.socket.exists()
    d.process = None


def test_x23b_what_was_sent_is_carried_out(make_daemon):
    """As much as a socket holds, unread when SIGTERM comes: all of it is carried out and answered."""
    d = make_daemon()
    c = d.client()
    c.open("t")
    first = c.last_id + 1
    with d.stopped():
        frames = [wire.frame(wire.request(c.next_id(), "set", cache="t", key=b"%d" % (i % 100)), b"v" * 400)
                  for i in range(2000)]
        data = b"".join(frames)
        c.sock.setblocking(False)
        sent = 0
        with pytest.raises(BlockingIOError):
            while True:
                sent += c.sock.send(memoryview(data)[sent:])
        c.sock.settimeout(harness.PATIENCE)
        d.signal(signal.SIGTERM)
    complete = at = n = 0
    while at + len(frames[complete]) <= sent:
        at += len(frames[complete])
        complete += 1
    with pytest.raises(wire.Closed):
        while True:
            reply, _ = c.recv()
            assert (reply.id, reply.status) == (first + n, wire.OK)
            n += 1
    assert n == complete > 100
    assert d.process.wait(harness.PATIENCE) == 0
    d.process = None


def test_x24_a_large_answer_in_flight_is_finished(make_daemon):
    """A value on its way to a reader that takes it arrives whole although SIGTERM came in between."""
    d = make_daemon()
    c = d.client()
    value = os.urandom(1 << 20) * 24
    c.set("t", b"k", value)
    n = c.post("get", cache="t", key=b"k")
    c.sock.recv(1, socket.MSG_PEEK)
    d.signal(signal.SIGTERM)
    assert c.wait(n)[1] == value
    assert d.process.wait(harness.PATIENCE) == 0
    d.process = None


def test_x25_an_end_that_a_silent_reader_cannot_stop(make_daemon):
    """A client that does not take its answers, and one with half a frame, do not keep the daemon alive for long."""
    d = make_daemon(limits={"stall_ms": 1000, "frame_ms": 1000})
    lazy, half = d.client(), d.client()
    lazy.set("t", b"k", b"v" * (8 << 20))
    lazy.post("get", cache="t", key=b"k")
    lazy.sock.recv(1, socket.MSG_PEEK)
    half.send_raw(b"\x10\0\0")
    d.signal(signal.SIGTERM)
    assert d.process.wait(harness.PATIENCE) == 0
    assert not d.socket.exists()
    d.process = None


def test_x26_the_socket_of_another_is_left(make_daemon):
    """A socket file that was replaced under the daemon is not its own: it stays when the daemon goes."""
    d = make_daemon()
    d.socket.unlink()
    s = socket.socket(socket.AF_UNIX)
    s.bind(str(d.socket))
    d.signal(signal.SIGTERM)
    assert d.process.wait(harness.PATIENCE) == 0
    assert d.socket.is_socket()
    d.process = None
    s.close()


def test_x27_clients_killed_in_the_middle_of_a_frame(daemon):
    """Processes that are killed while they send leave nothing behind."""
    witness = daemon.client()
    for i in range(20):
        pid = os.fork()
        if pid == 0:
            try:
                c = wire.Client(daemon.socket)
                c.hello()
                m = wire.request(c.next_id(), "set", cache="t", key=b"k").SerializeToString()
                c.send_raw(wire.frame(m, b"x" * (100 << i % 12), n_body=1 << 20))
                signal.pause()
            finally:
                os._exit(1)
        wait_until(lambda: any(x.pid == pid and x.requests >= 1 for x in witness.clients()), "it is sending")
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    wait_until(lambda: witness.stats().daemon.connections == 1, "all are gone")
    assert witness.get("t", b"k") is None


def test_x28_a_child_that_keeps_the_socket(daemon):
    """A connection that a forked child still holds goes on: the daemon does not mind who reads."""
    c = daemon.client()
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(w)
        os.read(r, 1)
        os._exit(0)
    os.close(r)
    assert c.ping()
    c.set("t", b"k", b"v")
    os.close(w)
    os.waitpid(pid, 0)
    assert c.get("t", b"k") == b"v"


# ---- reload

def test_x29_sighup_takes_a_good_file(make_daemon):
    """SIGHUP reloads; the log says so; connections and entries stay."""
    d = make_daemon(limits={"page_entries": 3})
    c = d.client()
    c.set("t", b"k", b"v")
    d.config_path.write_text("[limits]\npage_entries = 7\n")
    d.signal(signal.SIGHUP)
    wait_until(lambda: c.stats().daemon.config_reloads == 1, "it has reloaded")
    assert c.config()["limits.page_entries"].value == "7"
    assert c.get("t", b"k") == b"v"


def test_x30_sighup_refuses_a_bad_file(make_daemon):
    """A bad file is refused with file and line in the log, and the old configuration stays."""
    d = make_daemon(limits={"page_entries": 3})
    c = d.client()
    for text, line in (("[limits]\npage_entries = 8\nnonsense = 1\n", 3), ("[limits]\nframe_ms = 7 bananas\n", 2)):
        d.config_path.write_text(text)
        d.signal(signal.SIGHUP)
        d.wait_log(re.escape(f"{d.config_path}:{line}"))
        assert c.config()["limits.page_entries"].value == "3"
    d.config_path.unlink()
    d.signal(signal.SIGHUP)
    d.wait_log("No such file")
    assert c.config()["limits.page_entries"].value == "3"
    assert c.stats().daemon.config_reloads == 0
    d.config_path.write_text("[limits]\npage_entries = 9\n")
    d.signal(signal.SIGHUP)
    wait_until(lambda: c.stats().daemon.config_reloads == 1, "a good one is still taken afterwards")


def test_x31_reload_under_load(make_daemon):
    """Reloading again and again while clients work: no request is lost or refused."""
    d = make_daemon()
    stop, errors = threading.Event(), []

    def work(n):
        try:
            with wire.Client(d.socket) as c:
                c.hello()
                i = 0
                while not stop.is_set():
                    c.set("t", b"%d" % n, b"%d" % i)
                    assert c.get("t", b"%d" % n) == b"%d" % i
                    i += 1
        except BaseException as e:
            errors.append(e)
    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for t in threads:
        t.start()
    c = d.client()
    for i in range(20):
        before = c.stats().daemon.config_reloads
        d.config_path.write_text(f"[limits]\npage_entries = {i + 1}\n")
        d.signal(signal.SIGHUP)
        wait_until(lambda: c.stats().daemon.config_reloads > before, "it has reloaded")
    stop.set()
    for t in threads:
        t.join()
    assert not errors, errors[0]


def test_x32_socket_mode_by_reload(make_daemon):
    """A changed socket_mode holds after a reload, or the log says that it needs a restart."""
    d = make_daemon(daemon={"socket_mode": "0600"})
    c = d.client()
    d.config_path.write_text("[daemon]\nsocket_mode = 0660\n")
    c.must("reload_config")
    wait_until(lambda: stat.S_IMODE(d.socket.stat().st_mode) == 0o660 or "socket_mode" in d.log(),
               "applied, or said that it was not")


def test_x32b_the_mode_of_what_stands_in_its_place_stays(make_daemon):
    """Who owns the directory can put a link, or a socket, in place of ours: a reload touches neither."""
    harness.needs_root()
    d = make_daemon(daemon={"socket_mode": "0666"}, start=False)
    os.chown(d.dir, 12345, 12345)
    d.start()
    assert "belongs to uid 12345" in d.log()
    c = d.client()
    precious = d.dir / "precious"
    precious.write_text("root only")
    precious.chmod(0o600)
    d.socket.unlink()
    d.socket.symlink_to(precious)
    c.must("reload_config")
    assert stat.S_IMODE(precious.stat().st_mode) == 0o600
    assert "another file" in d.log() or "cannot set mode" in d.log()
    d.socket.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(d.socket))
        d.socket.chmod(0o600)
        c.must("reload_config")
        assert stat.S_IMODE(d.socket.stat().st_mode) == 0o600
    assert d.log().count("cannot set mode") == 2
    d.signal(signal.SIGTERM)
    assert d.process.wait(harness.PATIENCE) == 0
    d.process = None


def test_x32c_a_directory_that_everybody_can_write_is_told(make_daemon):
    d = make_daemon(start=False)
    d.dir.chmod(0o777)
    d.start()
    assert "not sticky" in d.log()


# ---- resources

def test_x33_no_descriptor_is_inherited(daemon):
    """Everything that the daemon opens is close-on-exec."""
    c = daemon.client()
    c.set("t", b"k", b"v" * (2 << 20))
    for name in os.listdir(f"/proc/{daemon.pid}/fd"):
        if int(name) <= 2 or (daemon.clock and int(name) == daemon.clock.fd):
            continue
        try:
            info = pathlib.Path(f"/proc/{daemon.pid}/fdinfo/{name}").read_text()
        except FileNotFoundError:
            continue
        flags = int(re.search(r"flags:\s*(\d+)", info)[1], 8)
        assert flags & os.O_CLOEXEC, f"descriptor {name}: {os.readlink(f'/proc/{daemon.pid}/fd/{name}')}"


def test_x34_out_of_descriptors(make_daemon):
    """With few descriptors left, new peers wait or are refused, those inside are served, and it recovers."""
    import resource
    d = make_daemon()
    c = d.client()
    used = sum(d.fds().values())
    _, hard = resource.prlimit(d.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(d.pid, resource.RLIMIT_NOFILE, (used + 10, hard))
    held = []
    for _ in range(60):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        s.settimeout(harness.PATIENCE)
        s.connect(str(d.socket))
        held.append(s)
    for i in range(100):
        c.set("t", b"%d" % i, b"v")
    assert c.get("t", b"99") == b"v"
    reply, _ = c.call("set", b"x" * (4 << 20), cache="t", key=b"large")
    assert reply.status in (wire.OK, pb.NO_SPACE, pb.NO_MEMORY, pb.LIMIT)
    for s in held:
        s.close()
    wait_until(lambda: c.stats().daemon.connections == 1, "all are gone")
    assert d.client().ping()
    c.set("t", b"large", b"x" * (4 << 20))
    resource.prlimit(d.pid, resource.RLIMIT_NOFILE, (hard, hard))


def test_x35_idle_means_asleep(daemon):
    """Nothing to do, nothing done: no turn of the loop while nobody asks."""
    c = daemon.client()
    c.set("t", b"k", b"v")
    import time

    def ticks():
        text = pathlib.Path(f"/proc/{daemon.pid}/status").read_text()
        return sum(int(x) for x in re.findall(r"ctxt_switches:\s*(\d+)", text))
    # Settle first: what the store tidies up after a change is work, and spare buffers are given back after a second.
    def quiet():
        before = ticks()
        time.sleep(1.3)
        return ticks() == before
    wait_until(quiet, "it comes to rest")
    before = ticks()
    time.sleep(10 if harness.LONG else 2)
    assert ticks() == before


# ---- help and warnings

def test_x36_help_fits_and_names_the_configuration():
    """At most 79 columns; the path is the one that was compiled in."""
    r = run("--help")
    assert r.returncode == 0 and not r.stderr and r.stdout.startswith("Usage: cached [OPTION]…\n")
    assert max(map(len, r.stdout.splitlines())) <= 79
    prefix = harness.OPTIONS.get("prefix", "")
    if prefix in ("/usr", "/usr/local") and harness.OPTIONS.get("sysconfdir") in ("etc", "/etc"):
        assert " /etc/cached/cached.conf" in r.stdout
    assert "--handover" in r.stdout
    assert run("-V").stdout == run("--version").stdout


def test_x37_complaints_begin_with_the_name():
    """And not with the path that it was started by."""
    for args in (["--nonsense"], ["--socket"], ["--version=1"], ["stray"]):
        for line in run(*args).stderr.splitlines():
            assert line.startswith("cached: "), line


def test_x38_check_config_warns_of_nobody(make_daemon):
    """The overflow uid in a list of a realm is no mistake of form, but nobody gets in by it."""
    uid = int(pathlib.Path("/proc/sys/kernel/overflowuid").read_text())
    d = make_daemon(start=False)
    d.config_path.write_text(f"[realm a]\nreaders = 1\n[realm b]\nwriters = 1, {uid}\n")
    r = run("--config", d.config_path, "--check-config")
    assert r.returncode == 0 and f"{d.config_path}: right" in r.stdout
    assert f"warning: {d.config_path}:4: writers: uid {uid}" in r.stderr and r.stderr.count("warning") == 1


def test_x39_what_a_realm_has_is_listed(make_daemon):
    d = make_daemon(start=False)
    d.config_path.write_text("[realm b]\nowner = root\n")
    refused(run("--config", d.config_path, "--check-config"), "readers, writers, admins, budget and mapped_reads")
