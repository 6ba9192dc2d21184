# SPDX-License-Identifier: MIT
"""cache_resource: objects of a process's own, made once, and released once, by the rules of all processes together."""

import os

import pytest

import harness
from fellows import Failed, Peer

# Objects, and what happens to them, as numbers.
PROGRAM = """
made, gone = [], []

class Thing:
    def __init__(self, n):
        made.append(n)
        self.n = n
        self.number = len(made)
        self.is_good = True

def note(thing):
    gone.append(thing.n)

%s
def thing(n=0):
    return Thing(n)
"""


def program(arguments=""):
    return PROGRAM % f"@cached.cache_resource({arguments})"


def test_the_same_object_for_the_same_arguments(daemon, python):
    a = Peer(python, program(""))
    assert a("thing() is thing() and thing(0) is thing(n=0) and thing(1) is not thing(0)")
    assert a("made") == [0, 1]


def test_bare_with_arguments_and_of_a_class(daemon, python):
    a = Peer(python, PROGRAM % "@cached.cache_resource" + """
class Owner:
    @cached.cache_resource
    def one(_self, n):
        return Thing(n)
    @staticmethod
    @cached.cache_resource(ttl=10)
    def two(n):
        return Thing(n)
""")
    assert a("thing(5) is thing(5)")
    assert a("Owner().one(6) is Owner().one(6) and Owner.two(7) is Owner.two(7)")
    assert a("made") == [5, 6, 7]
    assert a("[thing.__name__, Owner().one.clear(6), Owner().one(6).number]") == ["thing", None, 4]


def test_many_threads_get_one_that_is_made_once(daemon, python):
    a = Peer(python, program("") + """
def all_at_once(n):
    got, gate = [], threading.Barrier(n)
    def get():
        gate.wait()
        got.append(thing())
    threads = [threading.Thread(target=get) for _ in range(n)]
    [t.start() for t in threads], [t.join() for t in threads]
    return len(set(map(id, got))), len(got)
""")
    assert a("all_at_once(12)") == [1, 12] and a("made") == [0]


def test_one_per_process(daemon, python):
    a, b = Peer(python, program("")), Peer(python, program(""))
    assert a("thing().number") == b("thing().number") == 1


def test_clear_in_one_process_releases_in_all(daemon, python):
    a, b = (Peer(python, program("on_release=note")) for _ in range(2))
    for p in (a, b):
        p("[thing(1).n, thing(2).n]")
    a("thing.clear(1)")
    assert a("gone") == [1]
    b.until("gone", [1])
    assert a("thing(1).number") == b("thing(1).number") == 3 and a("thing(2).number") == 2
    b("thing.clear()")
    a.until("sorted(gone)", [1, 1, 2])
    assert b("sorted(gone)") == [1, 1, 2]
    assert a("thing(2).number") == b("thing(2).number") == 4


def test_clear_of_all_functions(daemon, python):
    a = Peer(python, program("on_release=note") + """
@cached.cache_resource(on_release=note)
def other():
    return Thing("other")
""")
    a("[thing().n, other().n, cached.cache_resource.clear()]")
    assert a("sorted(map(str, gone))") == ["0", "other"]


def test_a_time_to_live(daemon, python, clock):
    a = Peer(python, program("ttl=60, on_release=note"))
    assert a("thing().number") == 1
    clock.advance(59_000)
    assert a("thing().number") == 1
    clock.advance(2_000)
    a.until("gone", [0])
    assert a("thing().number") == 2


def test_who_is_used_least_makes_room(daemon, python):
    a = Peer(python, program("max_entries=2, on_release=note"))
    a("[thing(n).n for n in (1, 2, 1, 3)]")
    a.until("gone", [2])
    assert a("[thing(n).number for n in (1, 3)]") == [1, 3]


def test_a_check_at_each_access(daemon, python):
    a = Peer(python, program("cache='things', validate=lambda t: t.is_good, on_release=note"), name="checks")
    b = Peer(python, program("cache='things', on_release=note"))
    assert a("thing().number") == a("thing().number") == b("thing().number") == 1
    a("setattr(thing(), 'is_good', False)")
    assert a("thing().number") == 2 and a("gone") == [0]
    b.until("gone", [0])
    assert b("thing().number") == 2 and a("made") == [0, 0]


def test_a_check_that_raises_has_failed(daemon, python):
    a = Peer(python, program("validate=lambda t: t.is_good.no_such, on_release=note"))
    assert a("[thing().number, thing().number]") == [1, 2]
    assert "validate failed: AttributeError" in a.end()


def test_an_orderly_end_releases(daemon, python, tmp_path):
    log = tmp_path / "log"
    text = program(f"on_release=lambda t: open({str(log)!r}, 'a').write(f'{{t.n}} ')")
    a, b = Peer(python, text), Peer(python, text)
    for p in (a, b):
        p("[thing(1).n, thing(2).n]")
    a.end()
    assert sorted(log.read_text().split()) == ["1", "2"]
    b.kill()
    assert sorted(log.read_text().split()) == ["1", "2"]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_multiprocessing_release_at_their_end(daemon, python, tmp_path, method):
    folder = tmp_path / "gone"
    folder.mkdir()
    from fellows import BEFORE

    assert python(BEFORE + f"""
import multiprocessing, pathlib

@cached.cache_resource(on_release=lambda pid: pathlib.Path({str(folder)!r}, str(pid)).touch())
def mine():
    return os.getpid()

def work(_):
    return mine()

if __name__ == "__main__":
    mine()
    context = multiprocessing.get_context({method!r})
    with context.Pool(2) as pool:
        pids = set(pool.map(work, range(20), chunksize=1))
        pool.close()
        pool.join()
    assert os.getpid() not in pids
    here = set(map(int, os.listdir({str(folder)!r})))
    print(json.dumps(here == pids))
""")
    assert len(list(folder.iterdir())) >= 2


def test_a_handler_that_ends_the_process_in_an_orderly_way(daemon, python, tmp_path):
    log = tmp_path / "log"
    a = Peer(python, program(f"on_release=lambda t: open({str(log)!r}, 'a').write('x')") + """
import signal
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
""")
    a("thing().n")
    a.process.terminate()
    a.end()
    assert log.read_text() == "x"


def test_a_failing_on_release_is_a_warning(daemon, python):
    a = Peer(python, program("on_release=lambda t: 1 / 0"))
    a("[thing().n, thing.clear()]")
    assert "RuntimeWarning: on_release of cache_resource function 'thing' failed: ZeroDivisionError" in a.end()


def test_what_the_function_raises_is_the_callers(daemon, python):
    a = Peer(python, """
tries = []

@cached.cache_resource
def slow():
    tries.append(threading.current_thread().name)
    if len(tries) < 3:
        time.sleep(0.05)
        raise LookupError("no")
    return "made"

def all_at_once(n):
    got, gate = [], threading.Barrier(n)
    def get():
        gate.wait()
        try:
            got.append(slow())
        except LookupError as e:
            got.append(str(e))
    threads = [threading.Thread(target=get) for _ in range(n)]
    [t.start() for t in threads], [t.join() for t in threads]
    return sorted(got)
""")
    assert a("all_at_once(5)") == ["made"] * 3 + ["no"] * 2
    assert a("len(set(tries))") == 3


def test_a_function_that_asks_for_itself(daemon, python):
    a = Peer(python, """
@cached.cache_resource
def loop(n):
    return loop(n - 1) if n else loop(n)

@cached.cache_resource
def deep(n):
    return [n] + deep(n - 1) if n else []
""")
    with pytest.raises(Failed, match="RecursionError.*'loop' asks for the object that it is making"):
        a("loop(1)")
    assert a("deep(3)") == [3, 2, 1]


def test_threads_that_wait_in_a_circle(daemon, python):
    a = Peer(python, """
gate = threading.Barrier(2)

@cached.cache_resource
def one():
    gate.wait()
    return two()

@cached.cache_resource
def two():
    gate.wait()
    return one()

def both():
    errors = []
    def get(f):
        try:
            f()
        except (RuntimeError, threading.BrokenBarrierError) as e:
            errors.append(str(e))
            gate.abort()
    threads = [threading.Thread(target=get, args=(f,)) for f in (one, two)]
    [t.start() for t in threads], [t.join() for t in threads]
    return errors
""")
    assert any("waited for in a circle" in text for text in a("both()"))


def test_functions_of_an_event_loop(daemon, python):
    a = Peer(python, """
import asyncio
made, gone = [], []

@cached.cache_resource(on_release=gone.append)
async def thing(n):
    made.append(n)
    await asyncio.sleep(0.02)
    if n < 0:
        raise LookupError(n)
    return [n]

async def many():
    got = await asyncio.gather(*(thing(1) for _ in range(10)))
    return len(set(map(id, got)))

async def failing():
    got = await asyncio.gather(*(thing(-1) for _ in range(3)), return_exceptions=True)
    return [type(e).__name__ for e in got]
""")
    assert a("[asyncio.run(many()), asyncio.run(thing(1)), made]") == [1, [1], [1]]
    assert a("asyncio.run(failing())") == ["LookupError"] * 3
    assert a("[thing.clear(), gone, asyncio.run(thing(1)), made.count(1)]") == [None, [[1]], [1], 2]


def test_a_child_makes_its_own(daemon, python, tmp_path):
    log = tmp_path / "log"
    a = Peer(python, program(f"on_release=lambda t: open({str(log)!r}, 'a').write(f'{{os.getpid()}} ')") + """
def in_child(orderly):
    mine = thing()
    pid = os.fork()
    if pid == 0:
        other = thing()
        status = 0 if other is not mine and thing() is other and len(made) == 2 else 1
        if orderly:
            import atexit
            atexit._run_exitfuncs()
        os._exit(status)
    return [os.waitpid(pid, 0)[1], thing() is mine, os.getpid()]
""")
    assert a("in_child(False)[:2]") == [0, True]
    assert not log.exists()
    status, same, pid = a("in_child(True)")
    assert (status, same) == (0, True)
    pids = log.read_text().split()
    assert len(pids) == 1 and int(pids[0]) != pid
    a.end()
    assert log.read_text().split()[1:] == [str(pid)]


@pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""),
                    reason="the sanitizer's allocator may be locked for ever in the child of a process with threads")
def test_children_of_one_parent_and_threads(daemon, python):
    """A server that forks when its threads are at work."""
    a = Peer(python, program("") + """
stop = threading.Event()

def busy():
    while not stop.is_set():
        thing(1)
        thing.clear(2)
        thing(2)

def serve(n):
    threads = [threading.Thread(target=busy) for _ in range(3)]
    [t.start() for t in threads]
    pids = []
    for _ in range(n):
        pid = os.fork()
        if pid == 0:
            own = thing(1)
            os._exit(0 if thing(1) is own else 1)
        pids.append(pid)
    status = [os.waitpid(p, 0)[1] for p in pids]
    stop.set()
    [t.join() for t in threads]
    return status
""")
    assert a("serve(8)") == [0] * 8


def test_in_use_no_on_release_comes(daemon, python):
    a, b = (Peer(python, program("on_release=note")) for _ in range(2))
    a("thing().n")
    a("globals().update(w=thing.use())")
    assert a("w.__enter__().number") == 1
    b("thing.clear()")
    a.until("thing().number", 2)
    assert a("gone") == []
    a("w.__exit__(None, None, None)")
    assert a("gone") == [0]


def test_wrong_options(daemon, python):
    a = Peer(python, """
def f(): return 1
def g(): yield 1
async def h(): return 1
""")
    for expression, text in {
        "cached.cache_resource(f, max_entries=0)": "max_entries= of 'f' is a number from 1 on",
        "cached.cache_resource(f, validate=3)": "validate= of 'f' is a function of the object",
        "cached.cache_resource(f, on_release=h)": "on_release= of 'f' cannot be an async def",
        "cached.cache_resource(g)": "it is a generator, which can be used only once",
        "cached.cache_resource(f, scope='all')": 'scope= of \'f\' is "global" or "session"',
        "cached.cache_resource(3)": "decorates a function, not 3",
        "cached.cache_resource(lambda: (x for x in ()))()": "returned a generator, which can be used only once",
        "cached.invalidate([])": "was not given out by a function of cache_resource",
    }.items():
        with pytest.raises(Failed) as e:
            a(expression)
        assert text in e.value.args[1]


def test_that_somebody_says_it_is_no_good(daemon, python):
    a, b = (Peer(python, program("on_release=note")) for _ in range(2))
    assert a("thing().number") == b("thing().number") == 1
    a("cached.invalidate(thing(), 'broken')")
    assert a("gone") == [0] and a("thing().number") == 2
    b.until("gone", [0])
    assert b("thing().number") == 2


def test_as_an_argument_it_is_its_cache_key_and_instance(daemon, python):
    a, b = (Peer(python, program("") + """
from cached import _keys

def identity(obj):
    return _keys.value_digest(obj).hex()
""") for _ in range(2))
    assert a("identity(thing(1)) != identity(thing(2))")
    assert a("identity(thing(1))") == b("identity(thing(1))")
    a("globals().update(old=identity(thing(1)))")
    a("thing.clear(1)")
    assert a("identity(thing(1)) != old")


def test_a_check_that_fails_each_time_has_it_replaced_each_time(daemon):
    """The daemon pauses what is made in vain; an object of this process's own is replaced all the same."""
    import cached

    made, ended = [], []

    @cached.cache_resource(validate=lambda value: False, on_release=ended.append)
    def f():
        made.append(len(made))
        return [made[-1]]

    with pytest.warns(cached.CacheWarning, match="its check failed"):
        assert [f()[0] for _ in range(7)] == list(range(7))
    harness.wait_until(lambda: len(ended) == 6, "the others were released")
