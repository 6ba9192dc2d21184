# SPDX-License-Identifier: MIT
"""Lists and dicts that are one for all processes."""

import pytest

import cached
from cached import _binding, _client, _segment

from fellows import Failed, Peer

PROGRAM = """
made = []

@cached.cache_resource(shared=True%s)
def numbers():
    made.append(1)
    return [1, 2.5, "three", None]

@cached.cache_resource(shared=True)
def table():
    made.append(1)
    return {"n": 0, 2: "two"}

def count():
    l = numbers()
    l[0] += 1
    return l[0]
"""


def peers(python, n, arguments="", more=""):
    return [Peer(python, PROGRAM % arguments + more) for _ in range(n)]


def test_two_three_four(daemon, python):
    a, b, c = peers(python, 3)
    assert [p("count()") for p in (a, b, c)] == [2, 3, 4]
    assert [p("made") for p in (a, b, c)] == [[1], [], []]
    assert a("numbers() is numbers()")


def test_a_list_does_what_lists_do(daemon, python):
    a, b = peers(python, 2, more="""
def both(change):
    \"\"\"What is done to a list of one's own and to the shared one is the same.\"\"\"
    own, shared = numbers().copy(), numbers()
    results = []
    for l in (own, shared):
        try:
            results.append(change(l))
        except Exception as e:
            results.append(repr(e))
    assert results[0] == results[1], results
    assert own == shared and shared == own and len(own) == len(shared) and list(shared) == own, (own, shared)
    return shared.copy()
""")
    for change in ("l.append(7)", "l.extend((8, 9))", "l.insert(1, 'x')", "l.pop()", "l.pop(0)", "l.__setitem__(0, True)", "l[1:3]", "l[-1]",
                   "l.__setitem__(slice(1, 2), ['a', 'b', 'c'])", "l.__delitem__(0)", "l.remove('a')", "l.reverse()", "l.index('b')", "l.count('b')",
                   "'b' in l", "l[99]", "l.pop(99)", "l.remove('no')", "l.__iadd__([5]) and None", "[x for x in l]", "l.__delitem__(slice(0, 2))",
                   "l.clear()", "l.pop()", "l.extend([3, 1, 2])", "l.sort()", "l.sort(reverse=True)", "l == [3, 2, 1]", "l.append([[1], {2: 3}])",
                   "max(l[:3])", "bool(l)"):
        assert a(f"both(lambda l: {change})") == b("numbers().copy()")
    a("numbers()[3][0].append(9)")  # to a copy
    assert b("numbers().copy()") == [3, 2, 1, [[1], {"2": 3}]]
    assert a("repr(numbers())") == "SharedList([3, 2, 1, [[1], {2: 3}]])"


def test_a_dict(daemon, python):
    a, b = peers(python, 2)
    a("table().update({'x': 1.5}, y=[1])")
    assert b("table() == {'n': 0, 2: 'two', 'x': 1.5, 'y': [1]} and list(table()) == ['n', 2, 'x', 'y']")
    assert b("[table().setdefault('z', 5), table().setdefault('z', 6), table().pop('x'), table().pop('x', None), table().get('x')]") == [5, 5, 1.5, None, None]
    b("table().__delitem__(2)")
    assert a("[sorted(table().items()), len(table()), 2 in table(), 'n' in table(), table().add('n', 3), table().add('new')]") == [
        [["n", 0], ["y", [1]], ["z", 5]], 3, False, True, 3, 1]
    with pytest.raises(Failed, match="KeyError"):
        a("table()['gone']")
    a("table().clear()")
    assert b("table().copy()") == {}


def test_additions_of_many_processes_and_threads(daemon, python):
    all_of_them = peers(python, 4, more="""
def add(n):
    def some():
        for _ in range(n):
            numbers().add(0, 1)
            with table().lock():
                table()["n"] += 1
    threads = [threading.Thread(target=some) for _ in range(2)]
    [t.start() for t in threads], [t.join() for t in threads]
""")
    for p in all_of_them:
        p.say("add(50)")
    for p in all_of_them:
        p.hear()
    assert all_of_them[0]("[numbers()[0], table()['n']]") == [401, 400]


def test_readers_see_whole_states(daemon, python):
    a, b = peers(python, 2, more="""
def write(n):
    for i in range(n):
        numbers()[:] = [i] * (i % 500 + 1)

def read(end):
    bad = 0
    while True:
        seen = numbers()[:]
        if seen[0] == 1 and len(seen) > 2 and seen[1] == 2.5:
            continue
        bad += len(set(seen)) != 1 or len(seen) != seen[0] % 500 + 1
        if seen[0] == end - 1:
            return bad
""")
    b("numbers().copy()")
    b.say("read(3000)")
    a("write(3000)")
    assert b.hear() == 0


def test_one_that_is_killed_in_the_middle_has_changed_nothing(daemon, python):
    a, b = peers(python, 2)
    assert a("numbers().copy()") == [1, 2.5, "three", None]
    for where in ("64", "'place'"):
        c = Peer(python, PROGRAM % "" + """
import signal
def die(where):
    state = numbers()._state
    source = state.source
    class Dying:
        size = source.size
        def __getattr__(self, name):
            return getattr(source, name)
        def store(self, offset, value):
            if offset == where or (where == "place" and offset >= 128):
                os.kill(os.getpid(), signal.SIGKILL)
            source.store(offset, value)
    with numbers().lock():
        state.source = Dying()
        state.commit([9] * 50)
""", name="program")
        c.say(f"die({where})")
        c.process.wait(20)
        assert b("numbers().copy()") == a("numbers().copy()") == [1, 2.5, "three", None]
        assert a("numbers().add(0, 0)") == 1
    b("numbers().append(4)")
    assert a("numbers()[4]") == 4


def test_the_lock(daemon, python):
    a, b = peers(python, 2, more="""
def try_lock(timeout=0):
    try:
        with numbers().lock(timeout):
            return True
    except TimeoutError as e:
        return str(e)
""")
    assert a("try_lock()") is True
    a("globals().update(l=numbers().lock())")
    a("l.__enter__()[0]")
    assert "the lock of the shared list of 'numbers' is taken" in b("try_lock(0.05)")
    assert a("try_lock()") is True, "who has it may take it again"
    a("numbers().append('mine')")
    a("l.__exit__(None, None, None)")
    assert b("[try_lock(), numbers()[-1]]") == [True, "mine"]
    a("globals().update(l=cached.lock(numbers()))")
    assert a("l.__enter__() is numbers()")
    a.kill()
    assert b("[try_lock(5), numbers()[-1]]") == [True, "mine"]


def test_what_does_not_fit(daemon, python):
    a, b = peers(python, 2, arguments=", capacity=200")
    with pytest.raises(Failed) as e:
        a("numbers().extend(range(10**6, 10**6 + 100))")
    assert e.value.args[0] == "SharedFullError" and "give cache_resource(capacity=" in e.value.args[1] and "room for 200" in e.value.args[1]
    assert a("numbers().copy()") == b("numbers().copy()") == [1, 2.5, "three", None]
    a("numbers().append(1)")
    assert b("len(numbers())") == 5


def test_what_cannot_be_shared(daemon, python):
    a = Peer(python, """
@cached.cache_resource(shared=True)
def f(what):
    return {"set": {1}, "own": type("Own", (list,), {})(), "deep": [object()]}[what]
""")
    for what, text in {"set": "returned a set: shared by all processes are lists, dicts and numpy arrays", "own": "returned a Own"}.items():
        with pytest.raises(Failed) as e:
            a(f"f({what!r})")
        assert e.value.args[0] == "TypeError" and text in e.value.args[1]
    with pytest.raises(Failed, match="the shared list of 'f' cannot hold this"):
        a("f('deep')")


def test_clear_makes_a_new_one(daemon, python):
    a, b = peers(python, 2, arguments=", on_release=lambda l: made.append(l[0])")
    a("globals().update(old=numbers())")
    assert [a("count()"), b("count()")] == [2, 3]
    b("numbers.clear()")
    b.until("made", [3])
    a.until("made", [1, 3])
    assert [a("count()"), b("count()"), a("old[0]")] == [2, 3, 3]


def test_a_child_goes_on_with_what_its_parent_gave(daemon, python):
    a, b = peers(python, 2, more="""
def child():
    l = numbers()
    l.append("parent")
    pid = os.fork()
    if pid == 0:
        l.append("child")
        l.append("again")
        os._exit(0 if numbers() == l and len(l) == 7 else 1)
    return os.waitpid(pid, 0)[1]
""")
    assert a("child()") == 0
    assert b("numbers()[4:]") == ["parent", "child", "again"] == a("numbers()[4:]")


def test_alone_without_a_daemon_and_then_together(daemon, python):
    daemon.stop()
    a, b = peers(python, 2)
    a("globals().update(l=numbers())")
    assert [a("count()"), a("count()"), a("l[0]")] == [2, 3, 3]
    daemon.process = daemon.spawn()
    a.until("numbers() is l and l._state.source.size > 0 and type(l._state.source).__name__ == 'Resource'")
    assert [b("count()"), a("count()"), a("l[0]"), a("made"), b("made")] == [4, 5, 5, [1], []]


SCRIBBLES = {
    "what it is": "r.store(0, 5)",
    "its version": "r.store(8, 1 | 9 << 32)",
    "its form": "r.store(8, 77 | 1 << 32)",
    "its number": "r.store(64, 2**64 - 1)",
    "its length": "[r.store(136, 2**63), r.store(136 + r.size // 2 - 64, 2**63)]",
    "its bytes": "r.write(152, b'\\xff' * (r.size - 152))",
    "everything": "r.write(0, b'\\xff' * r.size)",
    "zero": "r.write(0, bytes(r.size))",
}


@pytest.mark.parametrize("what", SCRIBBLES)
def test_others_that_write_nonsense(daemon, python, what):
    a, b = peers(python, 2, more="""
def scribble():
    r = numbers()._state.source
    return bool(%s)

def whole():
    try:
        return numbers().copy()
    except cached.SharedDataError:
        return None
""" % SCRIBBLES[what])
    b("numbers()[0]")
    a("numbers()[0]")
    a("scribble()")
    for p in (a, b, Peer(python, PROGRAM % "")):
        for use in ("numbers()[0]", "numbers().append(1)"):
            try:
                p(use)  # an older view may be as good as before
            except Failed as e:
                assert e.args[0] in ("SharedDataError",), e.args
    b("numbers.clear()")
    a.until("whole()", [1, 2.5, "three", None])


def test_a_segment_of_another_program_that_is_too_small(daemon):
    """It has the name and the key, and no room for a value."""
    @cached.cache_resource(shared=True, cache="small")
    def numbers():
        return [1]

    client = _client.current()
    key = numbers.__cached__.key((), {})
    theirs = _binding.acquire(client, "segment", "small", key)
    assert theirs.making
    theirs.give_size(160)
    _segment.begin(theirs, _segment.LIST)
    theirs.publish()
    with pytest.raises(cached.SharedDataError, match="numbers' is too small for a value"):
        numbers()
    _binding.drop(client, "small", key)
    theirs.release()
    assert numbers()[0] == 1
