# SPDX-License-Identifier: MIT
"""The benchmarks of the Python package (tests/bench/python/), beside what people use in Python.

Each cache has a program of its own, which takes its orders line by line, so that all take turns in one run.
"""

import contextlib
import functools
import hashlib
import json
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import threading
import time

from bench import BUILD, CLIENT_CPU, RUNS, Trouble, number, pinned
from large import GIB, LIMITS, available_bytes
from leases import time_shared

HERE = pathlib.Path(__file__).parent / "python"
# The interpreter that the extension module is built for.
PYTHON = "/usr/bin/python3"
PACKAGE = BUILD / "client" / "python" / "path"
# For downloading and installing the peers, once for each build directory and list.
PATIENCE_S = 300
MB = MILLION = 1_000_000


# ---- the peers' packages


def install(home, wanted):
    """A virtual environment with what a list names; it takes PATIENCE_S at most."""
    deadline = time.monotonic() + PATIENCE_S
    pip = [home / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries=1",
           "--timeout=20", "--only-binary=:all:", "--require-hashes", f"--requirement={wanted}"]
    for command in ([PYTHON, "-m", "venv", home], pip):
        subprocess.run([str(a) for a in command], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
                       timeout=max(1.0, deadline - time.monotonic()))


@functools.cache
def environment(b, name):
    """The interpreter of the environment with what python/@name.txt lists, made where it is not there; or None."""
    wanted = HERE / f"{name}.txt"
    home = BUILD / "bench-python" / name
    ready = home / "ready"
    stamp = hashlib.sha256(wanted.read_bytes()).hexdigest()
    if not ready.is_file() or ready.read_text() != stamp:
        shutil.rmtree(home, ignore_errors=True)
        try:
            with time_shared():
                install(home, wanted)
        except (OSError, subprocess.SubprocessError) as e:
            said = (getattr(e, "stderr", None) or str(e)).strip().splitlines()[-1:]
            b.notes.append(f"python: what {wanted.name} lists could not be installed and is left out: {''.join(said)}")
            shutil.rmtree(home, ignore_errors=True)
            return None
        ready.write_text(stamp)
    return home / "bin" / "python"


# ---- the programs


class Program:
    """One of python/, with its orders as lines of JSON."""

    def __init__(self, b, script, command, env, pin=True):
        self.script = script
        self.log = b.directory / f"{script}-{time.monotonic_ns()}.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([str(a) for a in command], text=True, stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, stderr=log, cwd=b.directory, env=env,
                                            preexec_fn=pinned(CLIENT_CPU) if pin else None)

    def tell(self, do, **order):
        try:
            self.process.stdin.write(json.dumps({"do": do, **order}) + "\n")
            self.process.stdin.flush()
        except OSError as e:
            raise self.trouble() from e

    def answer(self, patience=120):
        late = threading.Timer(patience, self.process.kill)
        late.start()
        try:
            line = self.process.stdout.readline()
        finally:
            late.cancel()
        if not line:
            raise self.trouble()
        return json.loads(line)

    def ask(self, do, patience=120, **order):
        self.tell(do, **order)
        return self.answer(patience)

    def trouble(self):
        said = self.log.read_text(errors="replace").strip()[-2000:]
        return Trouble(f"{self.script} ended, or took too long: {said}")

    def end(self):
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


class Stage:
    """Starts programs, and the servers that they need; ends the programs."""

    def __init__(self, b, budget="8G"):
        if not (PACKAGE / "cached").exists():
            raise Trouble(f"the Python package is not built: there is no {PACKAGE / 'cached'}")
        self.b = b
        self.python = environment(b, "requirements")
        self.running = []
        self.daemon = b.ours(budget=budget, more=LIMITS)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for p in self.running:
            p.end()

    def needs_pandas(self):
        if self.python is None:
            raise Trouble("it needs pandas, which could not be installed")

    def redis_socket(self):
        for s in self.b.servers:
            if s.name == "redis":
                return s.path
        redis = shutil.which("redis-server")
        if not redis:
            self.b.notes.append("redis-server is not installed: no comparison with it")
            return None
        return self.b.start("redis", {}, lambda p: [redis, "--save", "", "--appendonly", "no", "--port", "0",
                                                    "--unixsocket", p]).path

    def program(self, name, **more):
        """The program of a cache, or None where that is not there."""
        script, interpreter, args, env = f"with-{name}.py", self.python, [], {"PYTHONDONTWRITEBYTECODE": "1"}
        if name == "cached":
            interpreter = self.python or PYTHON
            for key, value in (("PYTHONPATH", PACKAGE), ("LD_LIBRARY_PATH", BUILD / "client")):
                env[key] = os.pathsep.join(filter(None, [str(value), os.environ.get(key)]))
            env["CACHED_SOCKET"] = str(self.daemon.path)
        elif name == "lru":
            interpreter = self.python or PYTHON
        elif name in ("diskcache", "joblib"):
            args = [self.b.directory / name]
        elif name == "spinner":
            interpreter, script = environment(self.b, name), "with-streamlit.py"
        if name == "redis" and interpreter is not None:
            args = [self.redis_socket()]
        if interpreter is None or args == [None]:
            return None
        made = Program(self.b, script, [interpreter, HERE / script, *args], {**os.environ, **env}, **more)
        self.running.append(made)
        return made

    def programs(self, *names):
        """{name: program} of those that are there."""
        found = {name: self.program(name) for name in names}
        return {name: p for name, p in found.items() if p is not None}


def turns(runs, entrants):
    """{name: [answer, …]} of {name: (program, order)}: each has its turn before any has its next."""
    out = {name: [] for name in entrants}
    for _ in range(runs):
        for name, (program, order) in entrants.items():
            out[name].append(program.ask(**order))
    return out


def microseconds(answers):
    return {name: [r["ns"] / 1000 for r in runs] for name, runs in answers.items()}


# ---- small values

# {name in the results: (program, decorated function)}
DECORATED = {
    "cached": ("cached", "double"), "cached with its spinner": ("cached", "double-spinner"),
    "lru_cache": ("lru", "double"),
    "streamlit": ("streamlit", "double"), "streamlit with its spinner": ("streamlit", "double-spinner"),
    "streamlit-1.40": ("spinner", "double"), "streamlit-1.40 with its spinner": ("spinner", "double-spinner"),
    "diskcache": ("diskcache", "double"), "joblib": ("joblib", "double"), "redis": ("redis", "double"),
}


def hit_order(b, program, way):
    """The slow ones make fewer calls in a batch."""
    slow = program == "joblib" or (program, way) == ("spinner", "double-spinner")
    return {"do": "hits", "way": way, "batches": 10 if b.quick else 30, "calls": 100 if slow else 1000}


def python_hit(b):
    """Through the decorators, and bare."""
    with Stage(b) as stage:
        programs = stage.programs(*dict.fromkeys(program for program, _ in DECORATED.values()))
        answers = turns(2 if b.quick else RUNS, {name: (programs[program], hit_order(b, program, way))
                                                 for name, (program, way) in DECORATED.items() if program in programs})
        python_get(stage, b)
    for name, runs in answers.items():
        if any(r["ran"] for r in runs):
            raise Trouble(f"{name}: the function ran while hits were timed")
    samples = microseconds(answers)
    ours, spinner, own = samples.pop("cached"), samples.pop("cached with its spinner"), samples.pop("lru_cache")
    old = samples.pop("streamlit-1.40 with its spinner", None)
    b.add("python-hit", "µs", ours, "at most 2, and a tenth of the best peer",
          lambda o, r: o <= 2 and (r is None or r <= 1 / 10), samples, lru_cache_us=statistics.median(own))
    b.add("python-hit-spinner", "µs", spinner, "a hundredth of Streamlit's with its spinner",
          lambda _, r: r is None or r <= 1 / 100, {"streamlit-1.40": old} if old else {})
    b.notes.append(f"python-hit: functools.lru_cache, a dictionary of the process itself, "
                   f"{number(statistics.median(own))} µs")


def python_get(stage, b):
    order = {"do": "gets", "size": 100, "calls": 1000, "batches": 10 if b.quick else 30}
    programs = stage.programs("cached", "diskcache", "redis")
    samples = microseconds(turns(2 if b.quick else RUNS, {name: (p, order) for name, p in programs.items()}))
    b.add("python-get", "µs", samples.pop("cached"), "under 1.5", lambda o, _: o < 1.5, samples)


# ---- large values


def medians(answers):
    """Milliseconds and microseconds of the answers to "large"."""
    if any(a["ran"] != 1 for a in answers):
        raise Trouble(f"the function ran {[a['ran'] for a in answers]} times instead of once")
    return {
        "first": [a["first_s"] * 1e3 for a in answers],
        "later": [statistics.median(a["later_s"]) * 1e6 for a in answers],
        "own_ms": statistics.median(a["own_s"] for a in answers) * 1e3,
        "read_ms": statistics.median(s for a in answers for s in a["read_s"]) * 1e3,
    }


def told(b, name, ways):
    """The table of one size: what each way takes."""
    for way, m in ways.items():
        first, later = (number(statistics.median(m[what])) for what in ("first", "later"))
        b.notes.append(f"{name}, {way}: first run {first} ms more than the function's own {number(m['own_ms'])} ms, "
                       f"later {later} µs, {number(m['read_ms'])} ms with all of it read")


def figure(b, name, unit, ways, way, what, share, peer):
    if way not in ways:
        return
    target = "at most Streamlit's" if share == 1 else f"at most 1/{share} of Streamlit's"
    peers = {"streamlit": ways[peer][what]} if peer in ways else {}
    if not peers:
        target = "none: Streamlit is left out"
    b.add(name, unit, ways[way][what], target, lambda _, r: r is None or r <= 1 / share, peers)


# {name in the table: (program, decorated function)}
LARGE_WAYS = {
    "cached": ("cached", "data"), "cached, in place": ("cached", "in-place"), "cached, prepared": ("cached", "data"),
    "streamlit": ("streamlit", "data"), "cached resource": ("cached", "resource"),
    "streamlit resource": ("streamlit", "resource"),
}
# How many times the frame's size is in memory at the most. Streamlit: the frame, a copy of it for pickle, and what it
# is pickled into while that grows. Ours: the frame, and what is stored.
LARGE_ROOM = {"streamlit": 4.2, "cached": 2.2}


def large_programs(b, programs, rows):
    """Those that the memory is enough for."""
    out = {}
    for name, program in programs.items():
        need = LARGE_ROOM[name] * rows * 32 + 2 * GIB
        if available_bytes() >= need:
            out[name] = program
        else:
            b.notes.append(f"python-large: {name} left out for {rows // MILLION} million rows: it would need "
                           f"{need / GIB:.0f} GiB of memory, and {available_bytes() / GIB:.0f} are available")
    return out


def large_run(program, way, name, rows, run):
    """One turn; None where no buffer could be prepared."""
    if name == "cached, prepared" and "error" in program.ask("prepare", bytes=rows * 32 + 65536, patience=300):
        return None
    return program.ask("large", way=way, arguments=[rows, run], small=[1000, run], later=5, read=1, patience=300)


def large_of_size(b, programs, rows):
    """The figures of one size. Gives what a later run takes."""
    answers = {name: [] for name, (program, _) in LARGE_WAYS.items() if program in programs}
    for run in range(1 if b.quick or rows > 100 * MILLION else 3):
        for name, runs in answers.items():
            program, way = LARGE_WAYS[name]
            runs.append(large_run(programs[program], way, name, rows, run))
    if None in answers["cached, prepared"]:
        b.notes.append(f"python-large: no buffer could be prepared for {rows // MILLION} million rows")
        del answers["cached, prepared"]
    ways, size = {name: medians(a) for name, a in answers.items()}, f"{rows // MILLION}m"
    figure(b, f"python-first-{size}", "ms", ways, "cached", "first", 2, "streamlit")
    figure(b, f"python-in-place-{size}", "ms", ways, "cached, in place", "first", 5, "streamlit")
    figure(b, f"python-prepared-{size}", "ms", ways, "cached, prepared", "first", 5, "streamlit")
    figure(b, f"python-later-{size}", "µs", ways, "cached", "later", 100, "streamlit")
    b.add(f"python-resource-first-{size}", "ms", ways["cached resource"]["first"], "at most 10", lambda o, _: o <= 10,
          {"streamlit": ways["streamlit resource"]["first"]} if "streamlit resource" in ways else {})
    figure(b, f"python-resource-later-{size}", "µs", ways, "cached resource", "later", 1, "streamlit resource")
    told(b, f"{rows // MILLION} million rows", ways)
    return statistics.median(ways["cached"]["later"])


def python_large(b):
    """Data frames of four columns of doubles, of 10 million rows and more."""
    later = {}
    with Stage(b, budget="64G") as stage:
        stage.needs_pandas()
        programs = stage.programs("cached", "streamlit")
        for rows in [MILLION, 10 * MILLION] if b.quick else [10 * MILLION, 50 * MILLION, 100 * MILLION, 200 * MILLION]:
            there = large_programs(b, programs, rows)
            if "cached" in there:
                later[rows] = large_of_size(b, there, rows)
    if len(later) > 1:
        b.add("python-flat", "×", max(later.values()) / min(later.values()), "later runs of all sizes within 1.5",
              lambda o, _: o <= 1.5, us={f"{n // MILLION}m": v for n, v in later.items()})


WORDS = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau".split()


def write_csv(path, size):
    """Numbers and texts, always the same."""
    r = random.Random(1)
    n = 0
    with open(path, "w") as out:
        out.write("id,name,city,comment,amount,date\n")
        while out.tell() < size:
            for _ in range(1000):
                n += 1
                name, number_, city, *comment = r.choices(WORDS, k=7)
                out.write(f"{n},{name} {number_}-{n % 9973},{city},{' '.join(comment)},{r.random() * 1000:.2f},"
                          f"20{n % 25:02d}-{n % 12 + 1:02d}-{n % 28 + 1:02d}\n")


def python_csv(b):
    size = 5 * MB if b.quick else 50 * MB
    path, small = b.directory / "table.csv", b.directory / "small.csv"
    write_csv(path, size)
    write_csv(small, 1)
    with Stage(b) as stage:
        stage.needs_pandas()
        programs = stage.programs("cached", "streamlit")
        answers = {name: [] for name in programs}
        for run in range(2 if b.quick else RUNS):
            for name, program in programs.items():
                answers[name].append(program.ask("large", way="table", arguments=[str(path), run],
                                                 small=[str(small), run], later=5, read=1))
    ways = {name: medians(a) for name, a in answers.items()}
    figure(b, "python-csv-first", "ms", ways, "cached", "first", 2, "streamlit")
    figure(b, "python-csv-later", "µs", ways, "cached", "later", 100, "streamlit")
    told(b, f"a CSV of {size // MB} MB", ways)


# ---- arguments, and computing once


def python_hash(b):
    size = 100 * MB
    with Stage(b) as stage:
        stage.needs_pandas()
        order = {"do": "hash", "way": "size_of", "bytes": size, "calls": 2 if b.quick else 5}
        programs = stage.programs("cached", "joblib", "streamlit")
        answers = turns(2 if b.quick else RUNS, {name: (p, order) for name, p in programs.items()})
    if any(r["ran"] for r in answers["cached"]):
        raise Trouble("the function ran for an array that was known")
    rates = {name: [size / 1e9 / r["seconds"] for r in runs] for name, runs in answers.items()}
    if rates.pop("streamlit", None):
        ms = statistics.median(r["seconds"] for r in answers["streamlit"]) * 1e3
        b.notes.append(f"python-hash: Streamlit takes a sample of an array of this size, in {number(ms)} ms")
    cpu = statistics.median(size / 1e9 / r["cpu_seconds"] for r in answers["cached"])
    b.add("python-hash", "GB/s", rates.pop("cached"), "at least 0.6 on one core", lambda o, _: o >= 0.6, rates,
          lower_is_better=False, per_cpu_second=cpu)


def first_calls(group, at_once):
    """Each process calls 200 times from a moment on: one call after the other, or all at once, in threads."""
    for p in group:  # whatever it imports or opens is there
        p.ask("hits", way="double", calls=100, batches=1)
    at = time.monotonic() + 0.5
    for p in group:
        p.tell("once", way="slow", argument=int(at_once), calls=200, threads=at_once, at=at)
    return [p.answer() for p in group]


def python_once(b):
    """Four processes, 200 calls each, of a function that takes a second and is called for the first time."""
    answers = {False: {}, True: {}}
    with time_shared(), Stage(b) as stage:
        for name in ("cached", "lru", "streamlit", "diskcache", "joblib"):
            group = [stage.program(name, pin=False) for _ in range(4)]
            if None not in group:
                for at_once, of in answers.items():
                    of[name] = first_calls(group, at_once)
    for (at_once, of), name in zip(answers.items(), ("python-once", "python-once-threads")):
        computed = {cache: [sum(r["computed"] for r in group)] for cache, group in of.items()}
        seconds = max(r["seconds"] for r in of["cached"])
        b.add(name, "runs", computed.pop("cached"), "one in all", lambda o, _: o == 1, computed, seconds=seconds)
        b.notes.append(f"{name}: all 800 calls had their value after {seconds:.2f} s")


BENCHMARKS = {
    "python-hit": (python_hit, "a small value through the decorator, and bare, beside Streamlit and others"),
    "python-large": (python_large, "data frames of 0.3 to 6.4 GB, first and later runs, beside Streamlit"),
    "python-csv": (python_csv, "the same of a CSV of 50 MB with columns of text"),
    "python-hash": (python_hash, "GB a second of an array that is an argument"),
    "python-once": (python_once, "how often four processes compute what each calls 200 times"),
}
