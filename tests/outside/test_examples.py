# SPDX-License-Identifier: MIT
"""The programs of client/examples, each run as its comment says, against a daemon and without one."""

import http.server
import os
import re
import subprocess
import threading

import pytest

import harness

EXAMPLES = harness.BUILD / "client" / "examples"


def environment(socket, **more):
    return dict(os.environ, CACHED_SOCKET=str(socket), **more)


def run(daemon, name, *args, stdin="", **more):
    done = subprocess.run([EXAMPLES / name, *args], input=stdin, text=True, capture_output=True,
                          env=environment(daemon.socket, **more), timeout=harness.PATIENCE * 3)
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout


def test_batch(daemon):
    assert run(daemon, "batch") == ("stored 1000 values with 10 requests\n"
                                    "found 1000 values with 10 requests, 0 are missing\n"
                                    "deleted 1000 values through a pipeline\n")


def test_batch_of_an_odd_number(daemon):
    assert run(daemon, "batch", "101") == ("stored 101 values with 2 requests\n"
                                           "found 101 values with 2 requests, 0 are missing\n"
                                           "deleted 101 values through a pipeline\n")


def test_batch_without_a_daemon(make_daemon):
    d = make_daemon(start=False)
    done = subprocess.run([EXAMPLES / "batch"], text=True, capture_output=True, timeout=harness.PATIENCE * 3,
                          env=environment(d.socket))
    assert done.returncode == 1
    assert "no daemon answers" in done.stderr


def test_lookup(daemon):
    assert run(daemon, "lookup") == "333833500\n"
    assert run(daemon, "lookup") == "333833500 (cached)\n"
    assert run(daemon, "lookup", "3") == "14\n"


def test_lookup_without_a_daemon(make_daemon):
    """It computes, and says why nothing was stored."""
    d = make_daemon(start=False)
    done = subprocess.run([EXAMPLES / "lookup", "3"], text=True, capture_output=True, timeout=harness.PATIENCE * 3,
                          env=environment(d.socket))
    assert (done.returncode, done.stdout) == (0, "14\n")
    assert "no daemon answers" in done.stderr


def test_libevent_loop(daemon):
    assert run(daemon, "libevent-loop", "50") == "0 found, 50 computed, 50 stored\n"
    assert run(daemon, "libevent-loop", "50") == "50 found, 0 computed, 0 stored\n"
    assert run(daemon, "libevent-loop", "60") == "50 found, 10 computed, 10 stored\n"


def test_libevent_loop_without_a_daemon(make_daemon):
    assert run(make_daemon(start=False), "libevent-loop", "5") == "0 found, 5 computed, 0 stored\n"


def test_poll_loop(daemon):
    out = run(daemon, "poll-loop", stdin="get one\nset one the first\nget one\ndel one\nget one\nnonsense\n")
    lines = dict(line.split(": ", 1) for line in out.splitlines())
    assert lines["3"] == "the first"
    assert lines["1"] == lines["5"] == "not found"
    assert len(lines) == 6 and lines["6"] != "done"


class Talk:
    """A running poll-loop: what it prints is waited for line by line."""

    def __init__(self, socket):
        self.process = subprocess.Popen([EXAMPLES / "poll-loop"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, bufsize=1, env=environment(socket))
        self.lines = {}
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            tag, _, rest = line.rstrip("\n").partition(": ")
            self.lines[int(tag)] = rest

    def say(self, *lines):
        self.process.stdin.write("".join(line + "\n" for line in lines))
        self.process.stdin.flush()

    def answer(self, tag):
        harness.wait_until(lambda: tag in self.lines, f"the answer to line {tag}")
        return self.lines[tag]

    def end(self):
        self.process.stdin.close()
        assert self.process.wait(timeout=harness.PATIENCE) == 0
        self.reader.join()


@pytest.fixture
def talk(daemon):
    t = Talk(daemon.socket)
    yield t
    t.process.kill()
    t.process.wait()


def test_poll_loop_over_a_restart(daemon, talk):
    """Requests of a daemon that is gone fail; the same program goes on with the next one."""
    talk.say("set k value", "get k")
    assert talk.answer(2) == "value"
    daemon.stop()
    talk.say("get k")
    assert talk.answer(3) != "value"
    daemon.start()
    talk.say("get k", "set k again", "get k")
    assert talk.answer(6) == "again"
    assert talk.answer(4) == "not found"
    talk.end()


def test_poll_loop_while_the_daemon_is_stopped(daemon, talk):
    """The loop is not held up: other lines are still answered, and the rest when the daemon goes on."""
    talk.say("set k value")
    talk.answer(1)
    with daemon.stopped():
        talk.say("get k")
        talk.say("nonsense")
        talk.answer(3)
        assert 2 not in talk.lines
    assert talk.answer(2) == "value"
    talk.end()


PRIMES = re.compile(r"25 primes below 100, (computed|from the cache) in [0-9]+\.[0-9] ms\n")


def test_memoize(daemon):
    """The second run of the program has nothing to do."""
    for how in "computed", "from the cache", "from the cache":
        assert PRIMES.fullmatch(run(daemon, "memoize", "100"))[1] == how
    with daemon.probe() as c:
        stats = c.stats("count_primes")
        assert (stats.entries, stats.hits, stats.stores) == (1, 2, 1)


def test_memoize_without_a_daemon(make_daemon):
    """It says so, and computes."""
    d = make_daemon(start=False)
    done = subprocess.run([EXAMPLES / "memoize", "100"], text=True, capture_output=True, timeout=harness.PATIENCE * 3,
                          env=environment(d.socket))
    assert done.returncode == 0 and PRIMES.fullmatch(done.stdout)[1] == "computed"
    assert "no daemon answers" in done.stderr and str(d.socket) in done.stderr


def test_once(daemon):
    """Two at a time: one computes and the other one shows for whom it waits; killed, it is followed by the other."""
    env = environment(daemon.socket)

    def start(seconds):
        return subprocess.Popen([EXAMPLES / "once", seconds], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                env=env)

    both = [start("2"), start("2")]
    told = {p.communicate(timeout=harness.PATIENCE * 3) + (p.pid,) for p in both}
    computed, = (t for t in told if t[0] == "20 naps, computed here\n")
    waited, = told - {computed}
    assert waited[0] == "20 naps, from somebody else's run\n" and f"waiting for process {computed[2]}: " in waited[1]
    assert computed[1] == ""
    first = start("0.7")
    harness.wait_until(lambda: computing(daemon) == 1, "it computes")
    second = start("0.7")
    harness.wait_until(lambda: waiting(daemon) == 1, "it waits")
    first.kill()
    out, err = second.communicate(timeout=harness.PATIENCE * 3)
    assert out == "7 naps, computed here\n" and f"waiting for process {first.pid}: " in err
    first.communicate()


def computing(daemon):
    with daemon.probe() as c:
        return c.stats().total.computing


def waiting(daemon):
    with daemon.probe() as c:
        return c.stats().total.waiting


def test_vary(daemon, tmp_path):
    """Counts again when a file that it read has changed; says the same each time."""
    first, second, other = (tmp_path / name for name in ("first", "second", "other"))
    first.write_text(f"one\ninclude {second}\n")
    second.write_text("two\n")
    other.write_text("not read\n")
    said = f"reading {first}\nreading {second}\n"
    assert run(daemon, "vary", first) == said + "3 lines, counted\n"
    assert run(daemon, "vary", first) == said + "3 lines, from the cache\n"
    other.write_text("longer\n" * 3)
    assert run(daemon, "vary", first) == said + "3 lines, from the cache\n"
    second.write_text("two\nthree\n")
    assert run(daemon, "vary", first) == said + "4 lines, counted\n"
    before = second.stat()
    with second.open("r+") as f:  # as long as before, in the same second
        f.write("TWO")
    os.utime(second, ns=(before.st_atime_ns, before.st_mtime_ns // 10**9 * 10**9 + (before.st_mtime_ns + 1) % 10**9))
    assert run(daemon, "vary", first) == said + "4 lines, counted\n"
    second.unlink()
    done = subprocess.run([EXAMPLES / "vary", first], text=True, capture_output=True,
                          env=environment(daemon.socket), timeout=harness.PATIENCE * 3)
    assert done.returncode == 1
    assert str(second) in done.stderr


def test_session(daemon):
    """Opened by one, visited by several, of which none is lost."""
    token = run(daemon, "session").strip()
    assert re.fullmatch("[0-9a-f]{32}", token)
    assert re.fullmatch(r"welcome: visit 1, latest visitors \d+\n", run(daemon, "session", CACHED_SESSION=token))
    assert re.fullmatch(r"welcome back: visit 2, latest visitors \d+ \d+\n", run(daemon, "session", CACHED_SESSION=token))
    many = [subprocess.Popen(EXAMPLES / "session", stdout=subprocess.PIPE, text=True,
                             env=environment(daemon.socket, CACHED_SESSION=token)) for _ in range(8)]
    told = sorted(int(p.communicate(timeout=harness.PATIENCE * 3)[0].split()[3].rstrip(",")) for p in many)
    assert told == list(range(3, 11)) and all(p.returncode == 0 for p in many)
    with daemon.client() as c:
        c.must("close_session", token=bytes.fromhex(token))


def test_session_that_is_none(daemon):
    done = subprocess.run([EXAMPLES / "session"], text=True, capture_output=True,
                          env=environment(daemon.socket, CACHED_SESSION="0" * 32), timeout=harness.PATIENCE * 3)
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no session with this token" in done.stderr


# ---- resources

def at_once(daemon, commands):
    """What each of the programs prints that run side by side."""
    many = [subprocess.Popen([EXAMPLES / command[0], *map(str, command[1:])], stdout=subprocess.PIPE, text=True,
                             env=environment(daemon.socket)) for command in commands]
    out = [p.communicate(timeout=harness.PATIENCE * 3)[0] for p in many]
    assert all(p.returncode == 0 for p in many)
    return out


def test_counter(daemon):
    """One list for all, and a copy for each."""
    assert [run(daemon, "counter", "segment") for _ in range(3)] == ["2\n", "3\n", "4\n"]
    assert [run(daemon, "counter", "data") for _ in range(3)] == ["2\n", "2\n", "2\n"]
    assert sorted(map(int, at_once(daemon, [("counter", "segment")] * 8))) == list(range(5, 13))


class WebServer:
    """Answers /N with N bytes; knows from which ports it was asked, in their order."""

    def __init__(self):
        self.ports, self.slow, self.go_on = [], threading.Event(), threading.Event()
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                super().setup()
                server.ports.append(self.client_address[1])

            def do_GET(self):
                if self.path == "/slow":
                    server.slow.set()
                    server.go_on.wait(harness.PATIENCE)
                n = int(self.path[1:]) if self.path[1:].isdigit() else 0
                self.send_response(200)
                self.send_header("Content-Length", str(n))
                if self.path == "/close":
                    self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(b"x" * n)
                self.close_connection = self.path in ("/close", "/hang-up")

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.port = str(self.http.server_address[1])
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self):
        self.go_on.set()
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def web():
    w = WebServer()
    yield w
    w.close()


def test_connection(daemon, web):
    """Made by the first process, and used by all: every answer is that of its request."""
    out = run(daemon, "connection", web.port, "/5", "/0")
    assert out == f"/5: status 200, 5 bytes, from port {web.ports[0]}\n/0: status 200, 0 bytes, from port {web.ports[0]}\n"
    paths = [[f"/{100 * user + i}" for i in range(10)] for user in range(1, 6)]
    told = at_once(daemon, [("connection", web.port, *mine) for mine in paths])
    for mine, text in zip(paths, told):
        assert text == "".join(f"{p}: status 200, {p[1:]} bytes, from port {web.ports[0]}\n" for p in mine)
    assert len(web.ports) == 1


@pytest.mark.parametrize("path", ["/close", "/hang-up"])
def test_connection_that_the_server_closes(daemon, web, path):
    """Told so, or found out by the next one: that one makes another."""
    assert run(daemon, "connection", web.port, "/1", path) == "".join(
        f"{p}: status 200, {n} bytes, from port {web.ports[0]}\n" for p, n in (("/1", 1), (path, 0)))
    assert run(daemon, "connection", web.port, "/7") == f"/7: status 200, 7 bytes, from port {web.ports[1]}\n"
    assert run(daemon, "connection", web.port, "/8") == f"/8: status 200, 8 bytes, from port {web.ports[1]}\n"
    assert len(web.ports) == 2


def test_connection_that_the_server_closes_each_time(daemon, web):
    out = run(daemon, "connection", web.port, *["/close"] * 8)
    assert out == "".join(f"/close: status 200, 0 bytes, from port {port}\n" for port in web.ports) and len(web.ports) == 8


def test_connection_whose_user_is_killed(daemon, web):
    """In the middle of an answer: nobody else gets the rest of that."""
    killed = subprocess.Popen([EXAMPLES / "connection", web.port, "/slow"], env=environment(daemon.socket))
    assert web.slow.wait(harness.PATIENCE)
    killed.kill()
    killed.wait()
    assert run(daemon, "connection", web.port, "/7") == f"/7: status 200, 7 bytes, from port {web.ports[1]}\n"


def test_connection_without_a_server(daemon, web):
    web.close()
    done = subprocess.run([EXAMPLES / "connection", web.port], text=True, capture_output=True,
                          env=environment(daemon.socket), timeout=harness.PATIENCE * 3)
    assert (done.returncode, done.stdout) == (1, "") and "the server does not answer" in done.stderr


def test_model(daemon, clock, tmp_path):
    """Loaded once; an hour later it leaves, and who has it uses it until then and is told."""
    path = tmp_path / "weights"
    path.write_bytes(bytes(range(256)) * 64)
    line = f"{path}: 16384 weights, sum {64 * sum(range(256))}, "
    first = subprocess.Popen([EXAMPLES / "model", path, "stay"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                             env=environment(daemon.socket))
    assert first.stdout.readline() == line + "loaded\n"
    assert at_once(daemon, [("model", path)] * 4) == [line + "there already\n"] * 4
    clock.advance(3600 * 1000 + 1)
    assert run(daemon, "model", path) == line + "loaded\n"
    assert first.communicate(timeout=harness.PATIENCE)[0] == f"{path}: the weights have left\n" and first.returncode == 0
    assert run(daemon, "model", path) == line + "there already\n"
