# SPDX-License-Identifier: MIT
"""cache_data: computed once on the whole machine, whoever asks, and whatever happens to who computes."""

import concurrent.futures
import json
import multiprocessing
import multiprocessing.pool
import os
import pathlib
import signal
import threading
import time

import pytest

import cached
import harness

HERE = """
import json, os, sys, threading, time, cached
log, go = sys.argv[1], sys.argv[2]

@cached.cache_data
def f(x):
    with open(log, "a") as file:
        file.write(f"{os.getpid()}\\n")
    while not os.path.exists(go):
        time.sleep(0.01)
    {then}
    return [x]
"""


class Scene:
    """Processes that call one function, which runs until `go` is there."""

    def __init__(self, daemon, python, folder):
        self.daemon, self.python, self.log, self.go = daemon, python, folder / "log", folder / "go"
        self.log.touch()

    def start(self, program="print(json.dumps(f(1)))", then="pass"):
        return self.python.start(HERE.replace("{then}", then) + program, self.log, self.go, name="once")

    @property
    def runs(self):
        return [int(line) for line in self.log.read_text().split()]

    def computing(self, n=1):
        harness.wait_until(lambda: len(self.runs) >= n, f"{n} have begun")

    def waiting(self, n):
        """So many wait, as the daemon sees it."""
        def waiters():
            with self.daemon.probe() as c:
                return [x.waiters for x in c.must("list_leases").list_leases.computations]
        harness.wait_until(lambda: waiters() == [n], f"{n} wait")


@pytest.fixture
def scene(daemon, python, tmp_path):
    return Scene(daemon, python, tmp_path)


def test_four_processes_with_many_calls_each(scene):
    many = """
values = []
threads = [threading.Thread(target=lambda: values.append(f(1))) for _ in range(50)]
[t.start() for t in threads]
[t.join() for t in threads]
print(json.dumps([len(values), all(v == [1] for v in values), len({id(v) for v in values})]))
"""
    processes = [scene.start(many) for _ in range(4)]
    scene.computing()
    scene.go.touch()
    assert [scene.python.result(p) for p in processes] == [[50, True, 50]] * 4
    assert len(scene.runs) == 1


def test_who_computes_is_killed(scene):
    first = scene.start()
    scene.computing()
    second = scene.start()
    scene.waiting(1)
    first.kill()
    scene.computing(2)
    scene.go.touch()
    assert scene.python.result(second) == [1]
    assert len(set(scene.runs)) == 2


def test_who_computes_fails(scene):
    failing = "\n    if len(open(log).readlines()) < 2: raise LookupError('first')\n    pass"
    first, second = (scene.start(then=failing) for _ in range(2))
    scene.computing()
    scene.go.touch()
    ends = [p.communicate(timeout=60) for p in (first, second)]
    assert sorted(p.returncode for p in (first, second)) == [0, 1]
    assert len(set(scene.runs)) == 2 and any("LookupError: first" in err for _, err in ends)


@pytest.mark.parametrize("how", ["raise KeyboardInterrupt", "raise SystemExit(3)"])
def test_who_computes_is_left(scene, how):
    leaving = f"\n    if len(open(log).readlines()) < 2: {how}\n    pass"
    program = """
try:
    f(1)
except BaseException as e:
    print(json.dumps(type(e).__name__), flush=True)
    sys.stdin.read()
else:
    print(json.dumps("value"), flush=True)
"""
    processes = [scene.start(program, then=leaving) for _ in range(2)]
    scene.computing()
    scene.go.touch()
    # The one that was left lives on, and holds nothing.
    assert sorted(json.loads(p.stdout.readline()) for p in processes) == sorted(["value", how.split()[1].split("(")[0]])
    assert len(scene.runs) == 2


def test_a_wait_is_interrupted(scene):
    first = scene.start()
    scene.computing()
    second = scene.start("""
print("waiting", flush=True)
try:
    f(1)
except KeyboardInterrupt:
    print(json.dumps("interrupted"))
""")
    assert second.stdout.readline() == "waiting\n"
    scene.waiting(1)
    second.send_signal(signal.SIGINT)
    assert scene.python.result(second) == "interrupted"
    scene.go.touch()
    assert scene.python.result(first) == [1] and len(scene.runs) == 1


def test_children_of_one_parent(daemon, tmp_path):
    """As servers do that fork after loading: the function was called in the parent before."""
    log = tmp_path / "log"
    runs = []

    @cached.cache_data
    def f(x):
        with open(log, "a") as file:
            file.write(f"{os.getpid()}\n")
        runs.append(x)
        return [x, os.getpid()]

    assert f(0) == [0, os.getpid()]
    children = []
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                status = 0 if f(0)[1] != os.getpid() and f(1) == f(1) and f.cache_info().entries == 2 else 2
            finally:
                os._exit(status)
        children.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * 4
    assert len(log.read_text().split()) == 2 and f(1)[1] in children


def test_a_fork_while_others_compute(daemon, tmp_path):
    """The child has the parent's computations in memory, and is no part of them."""
    begun, go = threading.Event(), threading.Event()

    @cached.cache_data
    def f(x):
        begun.set()
        assert go.wait(harness.PATIENCE)
        return [x]

    @cached.cache_data
    def forks(x):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                status = 0 if other(5) == [5] and forks.cache_info() else 2
            finally:
                os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    @cached.cache_data
    def other(x):
        return [x]

    thread = threading.Thread(target=f, args=(1,))
    thread.start()
    assert begun.wait(harness.PATIENCE)
    assert forks(1) == 0
    go.set()
    thread.join()
    assert other(5) == [5] and f(1) == [1]


@cached.cache_data
def for_pools(folder, x):
    with open(os.path.join(folder, "log"), "a") as file:
        file.write("x")
    return [x]


def call_for_pools(folder):
    return for_pools(folder, 1)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(daemon, tmp_path, method):
    context = multiprocessing.get_context(method)
    with context.Pool(3) as pool:
        assert pool.map(call_for_pools, [str(tmp_path)] * 12, chunksize=1) == [[1]] * 12
        assert pool.apply(for_pools, (str(tmp_path), 1)) == [1]  # pickled by its name
        pool.close()
        pool.join()
    assert (tmp_path / "log").read_text() == "x" and for_pools(str(tmp_path), 1) == [1]


@pytest.mark.parametrize("n_workers", [1, 3])
def test_a_function_that_asks_for_itself_in_a_pool(daemon, n_workers):
    """The thread waits for the computation, which waits for the thread."""
    runs = []

    @cached.cache_data
    def f(x):
        runs.append(x)
        if len(runs) > 1:
            return ["inner"]
        with concurrent.futures.ThreadPoolExecutor(n_workers) as pool:
            return ["outer", *pool.map(f, [x] * n_workers)]

    assert f(1) == ["outer", *[["inner"]] * n_workers] and len(runs) == 1 + n_workers
    assert f(1)[0] == "outer"


@pytest.mark.parametrize("how", ["join", "future", "chain", "old pool", "wait", "pool.map"])
def test_a_function_that_asks_for_itself_in_threads(daemon, how):
    runs, results = [], []
    pool = concurrent.futures.ThreadPoolExecutor(2)
    list(pool.map(abs, range(4)))

    @cached.cache_data
    def f(x):
        runs.append(x)
        if len(runs) == 1:
            if how in ("join", "chain"):
                def inside():
                    if how == "chain":
                        thread = threading.Thread(target=lambda: results.append(f(x)))
                        thread.start()
                        thread.join()
                    else:
                        results.append(f(x))
                thread = threading.Thread(target=inside)
                thread.start()
                thread.join()
            elif how == "wait":
                future = pool.submit(f, x)
                concurrent.futures.wait([future])
                results.append(future.result())
            elif how == "pool.map":
                with multiprocessing.pool.ThreadPool(2) as threads:
                    results.extend(threads.map(f, [x]))
            else:
                results.append(pool.submit(f, x).result())
        return [len(runs)]

    assert f(1) == [2] and results == [[2]] and len(runs) == 2
    pool.shutdown()


def test_threads_that_only_wait_compute_once(daemon):
    """Who computes waits for threads of its own, and they are not those that ask."""
    runs, begun = [], threading.Event()

    def work(n):
        time.sleep(0.5)
        return n

    @cached.cache_data
    def f(x):
        runs.append(x)
        begun.set()
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            return list(pool.map(work, [1, 2]))

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        values = list(pool.map(f, [1] * 4))
    assert values == [[1, 2]] * 4 and runs == [1] and begun.is_set()


def test_a_circle_of_two_processes(daemon, python, tmp_path):
    """Each computes what the other one waits for: one of them computes it as well."""
    app = """
    import json, os, sys, time, cached
    me, other, folder = sys.argv[1:]
    @cached.cache_data
    def f(name, inner=None):
        open(os.path.join(folder, name), "w").close()
        while len(os.listdir(folder)) < 2:
            time.sleep(0.01)
        return [name, f(other) if name == me else "late"]
    print(json.dumps(f(me)))
    """
    folder = pathlib.Path(tmp_path / "met")
    folder.mkdir()
    processes = [python.start(app, *names, folder, name="circle") for names in (("x", "y"), ("y", "x"))]
    values = [python.result(p) for p in processes]
    assert [v[0] for v in values] == ["x", "y"]


def test_what_is_not_kept_is_shared_with_those_who_wait(scene):
    app = HERE.replace("@cached.cache_data", "@cached.cache_data(cache_if=lambda value: False)")
    app = app.replace("{then}", "pass") + "print(json.dumps(f(1)))"
    processes = [scene.python.start(app, scene.log, scene.go, name="once") for _ in range(3)]
    scene.waiting(2)
    scene.go.touch()
    assert [scene.python.result(p) for p in processes] == [[1]] * 3
    assert len(scene.runs) == 1
    later = scene.python.start(app, scene.log, scene.go, name="once")
    assert scene.python.result(later) == [1] and len(scene.runs) == 2


def test_a_child_of_the_computation_asks_for_its_value(daemon, python):
    """The parent waits for the child, and the child would wait for the parent's value: it computes itself."""
    app = """
    import json, os, cached

    @cached.cache_data(show_spinner=False)
    def f(x):
        if os.getpid() != first:
            return [x, "child"]
        ours, theirs = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(theirs, json.dumps(f(x)).encode())
            os._exit(0)
        os.waitpid(pid, 0)
        return [x, json.loads(os.read(ours, 100))]

    first = os.getpid()
    print(json.dumps([f(1), f(1)]))
    """
    assert python(app) == [[1, [1, "child"]]] * 2
