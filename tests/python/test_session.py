# SPDX-License-Identifier: MIT
"""Sessions: a mapping with attributes, shared by who has the token."""

import math
import os
import pickle
import threading

import pytest

import cached
from session_tools import cachectl, raw_set


@pytest.fixture
def s(daemon):
    made = cached.session(label="tests")
    yield made
    try:
        made.close()
    except cached.SessionExpiredError:
        pass


# ---- a mapping

def test_a_mapping(s):
    s.b = "one"
    s["a"] = [1, 2]
    s.c = None
    assert (s["b"], s.a, s.c) == ("one", [1, 2], None)
    assert list(s) == ["b", "a", "c"] and len(s) == 3 and "a" in s and "x" not in s and 5 not in s
    assert list(s.keys()) == ["b", "a", "c"] and list(s.items()) == [("b", "one"), ("a", [1, 2]), ("c", None)]
    assert list(s.values()) == ["one", [1, 2], None]
    assert s.get("b") == "one" and s.get("x") is None and s.get("x", 5) == 5
    assert s.pop("b") == "one" and s.pop("b", 7) == 7
    del s.a
    del s["c"]
    assert not s and list(s) == []
    s.update({"k": 1}, m=2)
    assert dict(s) == {"k": 1, "m": 2} and s.popitem() == ("m", 2)
    s.clear()
    assert len(s) == 0


def test_unset_keys_say_so(s):
    said = 'session has no key "k". Did you forget to initialize it?'
    with pytest.raises(KeyError) as e:
        s["k"]
    assert e.value.args == (said,)
    with pytest.raises(AttributeError) as e:
        s.k
    assert str(e.value) == said
    for act, kind in ((lambda: s.pop("k"), KeyError), (lambda: s.__delitem__("k"), KeyError), (lambda: delattr(s, "k"), AttributeError),
                      (lambda: s.incr("k", start=None), KeyError)):
        with pytest.raises(kind) as e:
            act()
        assert e.value.args == (said,)


@pytest.mark.parametrize("value", [
    None, True, False, 0, -1, 2**63 - 1, -2**63, 2**63, -2**200, 1.0, -0.0, 1e300, 5e-324, math.inf, -math.inf, "", "42", "1.5",
    "-7", "text", "zwölf", "\ud800", b"", b"42", b"\xff\0", (1, "a", (2,)), [1, [2]], {"a": 1, 2: [3]}, {1, 2}, frozenset({1}),
    bytearray(b"x"), 1 + 2j, {"n": 1.5, "s": "1.5"},
])
def test_values_are_what_they_were(s, value):
    s.k = value
    other = cached.session(s.token)
    for found in (other.k, other["k"], dict(other.items())["k"], other.setdefault("k", 1)):
        assert found == value and repr(found) == repr(value)
        assert isinstance(found, type(value)) and isinstance(found, bool) == isinstance(value, bool)


def test_not_a_number(s):
    s.k = math.nan
    assert math.isnan(s.k)


def test_names_of_its_own(s):
    for name in ("token", "items", "close", "local", "_x", "_session_"):
        with pytest.raises(AttributeError, match="name of a session's own"):
            setattr(s, name, 1)
    s["items"] = 1
    s["_x"] = 2
    assert s["items"] == 1 and s["_x"] == 2 and callable(s.items)
    with pytest.raises(AttributeError, match='session\\["_x"\\]'):
        s._x


@pytest.mark.parametrize("key", ["", "x" * 129, "a\nb", "\ud800", "\x7f", "\x85"])
def test_keys_that_are_none(s, key):
    with pytest.raises(ValueError, match="1 to 128 bytes"):
        s[key] = 1
    assert key not in s
    with pytest.raises(TypeError, match="keys are text"):
        s[1] = 2


def test_two_sessions_are_apart(daemon, python, s):
    s.k = "mine"
    found = python("""
        import cached, json, sys
        mine, reloaded = cached.session(sys.argv[1]), cached.session(label="tests")
        print(json.dumps([mine.k, list(reloaded), reloaded.token != mine.token]))
        reloaded.close()
    """, s.token)
    assert found == ["mine", [], True]


def test_no_token_is_shown(s):
    s.k = 1
    assert repr(s) == "<cached.Session 'tests': 1 key>" and s.token not in repr(s)
    assert repr(cached.session(s.token)) == "<cached.Session 'tests': 1 key>"
    for copy in (lambda: pickle.dumps(s), lambda: __import__("copy").copy(s)):
        with pytest.raises(TypeError, match="give its token"):
            copy()


def test_tokens_that_are_none(daemon):
    for token in ("", "x", "0" * 31, "A" * 32):
        with pytest.raises(ValueError, match="no token of a session"):
            cached.session(token)
    with pytest.raises(cached.SessionExpiredError):
        cached.session("0" * 32)
    with pytest.raises(TypeError):
        cached.session(5)
    with pytest.raises(TypeError, match="is opened"):
        cached.session("0" * 32, label="x")


def test_closed(s):
    other = cached.session(s.token)
    s.k = 1
    s.local.c = object()
    s.close()
    for act in (lambda: other.k, lambda: other["k"], lambda: other.__setitem__("k", 1), lambda: list(other), lambda: len(other),
                lambda: "k" in other, lambda: other.incr("n"), lambda: other.setdefault("k", 1), lambda: other.pop("k", None),
                lambda: other.get("k"), lambda: other.clear(), lambda: other.update(k=1), lambda: other.items(),
                lambda: other.on_change("k", print), lambda: other.incr("x", 0.5), lambda: other.set("k", 1, local=True),
                lambda: other.close()):
        with pytest.raises(cached.SessionExpiredError, match="session is over"):
            act()
    assert repr(other) == "<cached.Session 'tests': over>"
    assert "c" not in other.local


def test_expiry(daemon, clock):
    s = cached.session(idle=5)
    s.k = 1
    clock.advance(4000)
    assert s.k == 1
    clock.advance(6000)
    with pytest.raises(cached.SessionExpiredError, match="not used for too long"):
        s.k
    with pytest.raises(cached.SessionExpiredError):
        cached.session(s.token)
    with pytest.raises(ValueError):
        cached.session(idle=-1)
    with pytest.raises(ValueError):
        cached.session(idle=math.nan)


def test_attached_again_after_its_first_process_was_killed(daemon, python):
    first = python.start("""
        import cached, time
        s = cached.session()
        s.cart = ["book"]
        s.n = 5
        print(s.token, flush=True)
        time.sleep(600)
    """)
    token = first.stdout.readline().strip()
    first.kill()
    first.wait()
    with cached.session(token) as s:
        assert s.cart == ["book"] and s.n == 5
        s.close()


def test_setdefault_has_one_winner(daemon, python, s):
    program = """
        import cached, json, os, sys
        s = cached.session(sys.argv[1])
        print(json.dumps([s.setdefault("w", {"pid": os.getpid()})["pid"]]))
    """
    winners = {python.result(p)[0] for p in [python.start(program, s.token, name=f"p{i}") for i in range(5)]}
    assert len(winners) == 1 and s.w == {"pid": winners.pop()}


# ---- the daemon is away

def test_the_daemon_is_away(make_daemon, monkeypatch):
    d = make_daemon()
    monkeypatch.setenv("CACHED_SOCKET", str(d.socket))
    cached.configure(timeout=1)
    s = cached.session()
    s.cart = [1]
    cart = s.cart
    s.local.c = "kept"
    d.stop()
    for act in (lambda: s.k, lambda: s["k"], lambda: s.__setitem__("k", 1), lambda: list(s), lambda: "k" in s, lambda: s.incr("n"),
                lambda: s.setdefault("k", 1), lambda: s.get("k", 5), lambda: len(s), lambda: bool(s), lambda: s.items(),
                lambda: hasattr(s, "k"), lambda: cached.session(), lambda: s.on_change("k", print), lambda: s.incr("n", 0.5)):
        with pytest.raises(cached.SessionUnavailableError, match="cannot be used now") as e:
            act()
        assert isinstance(e.value, cached.CacheError) and e.value.code != 0 and s.token not in str(e.value)
    cart.append(2)
    with pytest.raises(cached.SessionUnavailableError):
        s.commit()
    cart.pop()
    assert "does not answer" in repr(s) and s.local.c == "kept"


# ---- what stays in the process

def test_what_cannot_be_stored(s, python):
    lock = threading.Lock()
    with pytest.raises(cached.UnserializableSessionStateError) as e:
        s.lock = lock
    assert 'session key "lock"' in str(e.value) and "_thread.lock" in str(e.value) and "local=True" in str(e.value)
    assert e.value.__cause__ is not None
    s.set("lock", lock, local=True)
    s.local.other = lock
    other = cached.session(s.token)
    assert s.lock is lock and other["lock"] is lock and other.local.lock is lock and "lock" in other and len(other) == 2
    assert set(s.keys()) == {"lock", "other"} and dict(s.items())["lock"] is lock
    assert python("import cached, sys, json; s = cached.session(sys.argv[1]); print(json.dumps(['lock' in s, list(s)]))",
                  s.token) == [False, []]
    with cached.session() as apart:
        assert "lock" not in apart
        apart.close()
    del s.lock
    s.other = "stored"
    assert "lock" not in s and s.other == "stored" and "other" not in s.local
    with pytest.raises(AttributeError):
        s.local.lock
    s.local.n = 1
    with pytest.raises(TypeError, match="local"):
        s.incr("n")


def test_a_child_has_none_of_it(s):
    s.local.c = object()
    r, w = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            s.n = 5
            os.write(w, b"ok" if "c" not in s and s.n == 5 else b"no")
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(r, 10) == b"ok" and s.n == 5 and "c" in s
    os.close(r)
    os.close(w)


# ---- other writers

def test_with_cachectl(daemon, s):
    cachectl(daemon, s, "set", "@", "name", "Ada")
    cachectl(daemon, s, "incr", "@", "n")
    cachectl(daemon, s, "incr", "@", "n", "41")
    cachectl(daemon, s, "incr", "@", "x", "1.5")
    assert (s.name, s.n, s.x) == ("Ada", 42, 1.5) and type(s.name) is str
    s.n += 1
    s.x += 1
    s.t = "42"
    s.f = 2.0
    assert cachectl(daemon, s, "get", "@", "n").strip() == "43" and cachectl(daemon, s, "get", "@", "x").strip() == "2.5"
    assert cachectl(daemon, s, "get", "@", "t").strip() == "42"
    cachectl(daemon, s, "incr", "@", "f", "0.5")
    cachectl(daemon, s, "incr", "@", "f", "0.5")
    assert s.f == 3.0 and isinstance(s.f, float) and s.t == "42" and isinstance(s.t, str)
    cachectl(daemon, s, "set", "@", "t", "007")
    assert s.t == "007"


HOSTILE = [b"", b"\xff\xfe", b"9" * 5000, b"1e999", b"nan", b"-0", b"1.50", b"\x9b" + b"\xff" * 8, b"cached-v" + b"\xff" * 60,
           b"\x81" * 3000, b"0x10", b"1_0", b" 1", b"infinity" * 9, b"\xd9\xca\x04\x82\x6dpython:pickle\x83\x44cos\n\x80\x80"]


@pytest.mark.parametrize("flags", [0, 1, 0x63760001, 0x63760002, 0x63760003, 0x63760101, 0x63760102, 0xffffffff])
def test_hostile_values(daemon, s, flags):
    for data in HOSTILE:
        raw_set(daemon, s, "k", flags, data)
        s.other = 1
        try:
            value = s.k
        except (cached.CorruptValueError, cached.PickleRefusedError) as error:
            assert 'session key "k"' in str(error)
        else:
            assert isinstance(value, (str, bytes, int, float, list))
            if flags == 0 and data == b"-0":
                assert repr(value) == "-0.0", "as the daemon writes that real number"
            elif flags == 0:
                assert value == data or value.encode() == data, "no other one is a number"
            if flags == 0x63760102:
                assert value == data
        assert s.other == 1 and set(s) == {"k", "other"}
        del s.k
        assert list(s) == ["other"]
