# SPDX-License-Identifier: MIT
"""What the benchmarks share: a client, server processes and their memory, results.

Servers run on Unix sockets in a temporary directory, on CPU 0; clients on CPU 1.
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("CACHED_BUILD", ROOT / "build")).absolute()
TOOLS = BUILD / "tests" / "bench"
DAEMON = BUILD / "daemon" / "cached"
CACHECTL = BUILD / "client" / "cachectl" / "cachectl"

SERVER_CPU, CLIENT_CPU = (0, 1) if (os.cpu_count() or 1) > 1 else (None, None)
RUNS = 5
MIB = 1 << 20


class Trouble(Exception):
    """A benchmark could not be measured; the text says why."""


# ---- a client of cached that needs nothing but Python


def varint(v):
    out = bytearray()
    while v >= 128:
        out.append(v & 127 | 128)
        v >>= 7
    out.append(v)
    return bytes(out)


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def fields(data):
    """{number: last value} of a message: integers and bytes."""
    out, at = {}, 0

    def number():
        nonlocal at
        v = shift = 0
        while True:
            byte = data[at]
            at += 1
            v |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return v

    while at < len(data):
        tag = number()
        if tag & 7 == 0:
            out[tag >> 3] = number()
        elif tag & 7 == 2:
            n = number()
            out[tag >> 3] = data[at : at + n]
            at += n
        else:
            raise Trouble("the daemon's reply has an unexpected wire type")
    return out


class Client:
    """A few requests, one at a time. Numbers are those of proto/cached.proto."""

    def __init__(self, path, features=0):
        self.id = 0
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(str(path))
        self.call(10, field(1, 1) + field(2, 1) + field(3, b"bench") + field(5, features))

    def close(self):
        self.sock.close()

    def receive(self, n):
        out = b""
        while len(out) < n:
            part = self.sock.recv(n - len(out))
            if not part:
                raise Trouble("the daemon closed the connection")
            out += part
        return out

    def call(self, op, message=b"", body=b""):
        self.id += 1
        m = field(1, self.id) + field(op, message)
        self.sock.sendall(struct.pack("<IQ", len(m), len(body)) + m + body)
        n_message, n_body = struct.unpack("<IQ", self.receive(12))
        reply = fields(self.receive(n_message))
        self.receive(n_body)
        if reply.get(2, 0) != 0:
            raise Trouble(f"the daemon answers status {reply[2]}: {reply.get(3, b'').decode()}")
        return reply

    def ping(self):
        self.call(11)

    def set(self, cache, key, value):
        self.call(16, field(2, cache) + field(3, key), value)

    def set_policy(self, cache, max_entries):
        self.call(13, field(1, cache) + field(2, field(2, max_entries)))

    def stats(self):
        """(realm, daemon): fields by number."""
        result = fields(self.call(24)[24])
        return fields(result.get(3, b"")), fields(result[4])


DAEMON_STATS_LOOP_TURN_MAX_US = 16
REALM_STATS_ENTRIES = 7


# ---- processes


def pinned(cpu):
    def apply():
        if cpu is not None:
            os.sched_setaffinity(0, {cpu})

    return apply


class Server:
    """A server process on a Unix socket."""

    def __init__(self, name, backends, command, directory):
        self.name = name
        self.backends = backends  # {name in the results: --backend}
        self.path = directory / f"{name}.sock"
        self.log = open(directory / f"{name}.log", "wb")
        self.process = subprocess.Popen(
            [str(a) for a in command(self.path)],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            cwd=directory,
            preexec_fn=pinned(SERVER_CPU),
        )
        self.wait_ready()

    def wait_ready(self):
        deadline = time.monotonic() + 20
        while True:
            with socket.socket(socket.AF_UNIX) as s:
                try:
                    s.connect(str(self.path))
                    return
                except OSError as e:
                    gone = self.process.poll() is not None
                    if gone or time.monotonic() > deadline:
                        log = pathlib.Path(self.log.name).read_text(errors="replace")[-2000:]
                        raise Trouble(f"{self.name} does not start: {e}\n{log}") from e
            time.sleep(0.002)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()

    def memory(self):
        return process_memory(self.process.pid)

    def settled_memory(self):
        """When two looks half a second apart differ by less than 0.1 %; at most 20 s."""
        before = self.memory()
        for _ in range(40):
            time.sleep(0.5)
            now = self.memory()
            if abs(now - before) <= before // 1000:
                return now
            before = now
        return before


def cpu_seconds(pid):
    """User and system time of all threads: exact on a busy machine too, where wall time is not."""
    ns = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            ns += int((task / "schedstat").read_text().split()[0])
    return ns / 1e9


def status_kib(pid):
    out = {}
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, rest = line.partition(":")
        if rest.endswith(" kB"):
            out[name] = int(rest.split()[0])
    return out


def memfd_bytes(pid):
    total = 0
    for fd in os.scandir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(fd.path).startswith("/memfd:"):
                total += os.stat(fd.path).st_blocks * 512
    return total


def process_memory(pid):
    """Resident and shared: private pages, file pages, and the larger of what is mapped from shared memory
    and of what the process's memory files hold (not all of which need be mapped)."""
    kib = status_kib(pid)
    shared = max(kib["RssShmem"] * 1024, memfd_bytes(pid))
    return (kib["RssAnon"] + kib["RssFile"]) * 1024 + shared


CONFIG = "[memory]\nrealm_budget = {0}\nglobal_budget = {0}\n"


class Bench:
    """What the benchmarks share: a directory, the servers that they start, the results."""

    def __init__(self, directory, quick):
        self.directory = directory
        self.quick = quick
        self.servers = []
        self.results = []
        self.notes = []

    def start(self, *args):
        s = Server(*args, self.directory)
        self.servers.append(s)
        return s

    def ours(self, budget="8G", name="cached", more="", daemon=DAEMON):
        """@more: sections of the configuration."""
        config = self.directory / f"{name}.conf"
        config.write_text(CONFIG.format(budget) + more)

        def command(path):
            return [daemon, "--socket", path, "--config", config, "--log-level", "warning"]

        return self.start(name, {"cached": "cached"}, command)

    def peers(self):
        """Both servers; memcached once with one thread and once with its default of four."""
        user = ["-u", "root"] if os.geteuid() == 0 else []
        out = []
        if redis := shutil.which("redis-server"):
            out.append(
                self.start(
                    "redis",
                    {"redis": "redis"},
                    lambda p: [redis, "--save", "", "--appendonly", "no", "--port", "0", "--unixsocket", p],
                )
            )
        if memcached := shutil.which("memcached"):
            base = [memcached, *user, "-m", "8192"]
            out.append(
                self.start(
                    "memcached",
                    {"memcached": "memcached", "memcached-text": "memcached-text"},
                    lambda p: [*base, "-t", "1", "-s", p],
                )
            )
            out.append(
                self.start(
                    "memcached-t4",
                    {"memcached-t4": "memcached", "memcached-t4-text": "memcached-text"},
                    lambda p: [*base, "-s", p],
                )
            )
        if not any(s.name == "redis" for s in out):
            self.notes.append("redis-server is not installed: no comparison with it")
        if not any(s.name == "memcached" for s in out):
            self.notes.append("memcached is not installed: no comparison with it")
        return out

    def stop_all(self):
        for s in reversed(self.servers):
            s.stop()
        self.servers.clear()

    def load(self, server, backend, **options):
        command = [TOOLS / "bench-load", "--backend", backend, "--socket", server.path]
        if CLIENT_CPU is not None:
            command += ["--cpu", CLIENT_CPU]
        for name, value in options.items():
            command += ["--" + name.replace("_", "-"), value]
        timeout = float(options.get("seconds", 30)) + 60
        before = cpu_seconds(server.process.pid)
        r = subprocess.run([str(a) for a in command], capture_output=True, text=True, timeout=timeout)
        if r.returncode != 0:
            raise Trouble(f"bench-load --backend {backend}: {r.stderr.strip()}")
        out = json.loads(r.stdout)
        out["server_cpu_us"] = (cpu_seconds(server.process.pid) - before) * 1e6 / max(1, out["requests"])
        return out

    def calls(self, server, *backends, seconds=2, **options):
        """bench-calls: gets that wait for their answer."""
        command = [TOOLS / "bench-calls", "--socket", server.path, "--seconds", 0.5 if self.quick else seconds]
        if CLIENT_CPU is not None:
            command += ["--cpu", CLIENT_CPU]
        for backend in backends:
            command += ["--backend", backend]
        for name, value in options.items():
            command += ["--" + name.replace("_", "-"), value]
        r = subprocess.run([str(a) for a in command], capture_output=True, text=True, timeout=60)
        if r.returncode != 0:
            raise Trouble(f"bench-calls --backend {backends[0]}: {r.stderr.strip()}")
        return json.loads(r.stdout)

    def add(self, name, unit, samples, target, ok, /, peers=None, lower_is_better=True, **detail):
        """@samples: ours, or one number. @peers: {name: samples}. @ok: of (ours, ratio)."""
        samples = samples if isinstance(samples, list) else [samples]
        medians = {k: statistics.median(v) for k, v in (peers or {}).items()}
        ours = statistics.median(samples)
        ratio = None
        best = None
        if medians:
            best = (min if lower_is_better else max)(medians, key=medians.get)
            ratio = ours / medians[best]
        self.results.append(
            {
                "name": name,
                "unit": unit,
                "ours": ours,
                "peers": medians,
                "ratio_to_best_peer": ratio,
                "best_peer": best,
                "target": target,
                "ok": bool(ok(ours, ratio)),
                "runs": len(samples),
                "min": min(samples),
                "max": max(samples),
                "quick": self.quick,
                "detail": detail,
            }
        )


def number(v):
    if v is None:
        return "-"
    if abs(v) >= 1000:
        return f"{v:,.0f}"
    return f"{v:.3g}" if v != int(v) else f"{v:.0f}"
