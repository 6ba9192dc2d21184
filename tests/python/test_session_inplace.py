# SPDX-License-Identifier: MIT
"""Values of sessions that are changed in place: written back, or an error, or a warning; never lost without a word."""

import gc
import threading
import warnings

import pytest

import cached


@pytest.fixture
def s(daemon):
    made = cached.session()
    yield made
    made.close()


def test_written_back_at_the_end_of_a_block(s):
    other = cached.session(s.token)
    s.cart = []
    with s:
        s.cart.append("a")
        assert s.cart == ["a"] and other.cart == []
        s.cart.append("b")
        s["nested"] = {"x": [1]}
        s.nested["x"].append(2)
        s.setdefault("late", []).append(1)
        assert dict(s.items())["cart"] == ["a", "b"]
    assert other.cart == ["a", "b"] and other.nested == {"x": [1, 2]} and other.late == [1]


def test_written_back_when_the_block_fails(s):
    s.cart = []
    with pytest.raises(ZeroDivisionError):
        with s:
            s.cart.append("a")
            1 / 0
    assert cached.session(s.token).cart == ["a"]


def test_by_commit_and_by_the_next_access(s):
    other = cached.session(s.token)
    cart = s.cart = []
    cart.append(1)
    assert other.cart == []
    s.commit()
    assert other.cart == [1]
    s.cart.append(2)
    assert s.cart == [1, 2] and other.cart == [1, 2]
    s.cart.append(3)
    for value in s.values():
        assert value == [1, 2, 3]
    assert other.cart == [1, 2, 3]


def test_by_the_end_of_a_run(s):
    other = cached.session(s.token)
    s.cart = []
    with cached.bind_session(s) as bound:
        assert bound is s
        cached.session_state.cart.append(1)
        assert other.cart == []
    assert other.cart == [1]


def test_a_conflict_names_the_key(s, python):
    s.cart, s.other = [], []
    with pytest.raises(cached.SessionConflictError, match='session key "cart" was changed in place here') as e:
        with s:
            s.cart.append("mine")
            s.other.append("mine")
            python("import cached, sys; cached.session(sys.argv[1]).cart = ['theirs']", s.token)
    assert e.value.key == "cart" and e.value.value == ["mine"]
    assert s.cart == ["theirs"] and cached.session(s.token).other == ["mine"]


def test_a_conflict_is_told_at_the_next_access(s):
    other = cached.session(s.token)
    s.cart = [0]
    with s:
        s.cart.append("mine")
        other.cart = ["theirs"]
        with pytest.raises(cached.SessionConflictError):
            s.cart
        assert s.cart == ["theirs"]
        s.cart.append("mine")
    assert other.cart == ["theirs", "mine"]
    cart = s.cart
    cart.append("late")
    del other.cart
    with pytest.raises(cached.SessionConflictError):
        s.cart
    with pytest.raises(KeyError):
        s["cart"]


def test_somebody_elses_change_is_seen(s):
    other = cached.session(s.token)
    s.cart = [0]
    with s:
        first = s.cart
        other.cart = [1]
        assert s.cart == [1] and first == [0]
    assert other.cart == [1]


def test_many_append_and_nothing_is_lost_silently(s, python):
    """Each append is there, or its process was told."""
    s.log = []
    program = """
        import cached, json, sys
        s = cached.session(sys.argv[1])
        mine, conflicts = [], 0
        for i in range(20):
            try:
                with s:
                    s.log.append([sys.argv[2], i])
                mine.append(i)
            except cached.SessionConflictError:
                conflicts += 1
        print(json.dumps([mine, conflicts]))
    """
    running = [python.start(program, s.token, i, name=f"p{i}") for i in range(4)]
    for name, p in enumerate(running):
        mine, conflicts = python.result(p)
        assert [i for who, i in s.log if who == str(name)] == mine and len(mine) + conflicts == 20


def test_what_is_not_written_back_is_said(s, python):
    said = ('session value "cart" was changed in place and not written back: change it inside of `with session:`, call '
            "session.commit() afterwards, or assign it to its key")
    mine = cached.session(s.token)
    mine.cart = [1]
    mine.kept = [1]
    mine.cart.append(2)
    with pytest.warns(cached.SessionWarning) as caught:
        del mine
        gc.collect()
    assert [str(w.message) for w in caught] == [said]
    p = python.start("import cached, sys; s = cached.session(sys.argv[1]); s.cart.append(3)", s.token)
    python.result(p)
    assert said in p.errors and s.cart == [1]
    mine = cached.session(s.token)
    mine.cart.append(2)
    mine.commit()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del mine
        gc.collect()


def test_changed_into_what_cannot_be_stored(s):
    s.cart, s.other = [], []
    with pytest.raises(cached.UnserializableSessionStateError, match='session key "cart"'):
        with s:
            s.cart.append(threading.Lock())
            s.other.append(1)
    assert cached.session(s.token).other == [1]
    s.cart = []


def test_set_and_delete_forget_what_was_handed_out(s):
    cart = s.cart = [1]
    cart.append(2)
    s.cart = [5]
    s.commit()
    assert s.cart == [5]
    s.cart.append(6)
    del s.cart
    s.commit()
    assert "cart" not in s
    s.cart = [1]
    s.cart.append(1)
    s.clear()
    s.commit()
    assert len(s) == 0


def test_objects(s, python):
    """What is pickled is tracked as everything else."""
    program = """
        import cached, collections, json, sys
        s = cached.session(sys.argv[1])
        with s:
            s.counts.update("aab")
        print(json.dumps(type(s.counts).__name__))
    """
    import collections

    s.counts = collections.Counter()
    assert python(program, s.token) == "Counter"
    assert s.counts == {"a": 2, "b": 1}


def test_pickle_never(s, monkeypatch):
    import collections

    s.counts = collections.Counter("a")
    monkeypatch.setenv("CACHED_PICKLE", "never")
    other = cached.session(s.token)
    with pytest.raises(cached.PickleRefusedError, match='session key "counts"'):
        other.counts
    with pytest.raises(cached.UnserializableSessionStateError, match='session key "x"'):
        other.x = collections.Counter()
    other.plain = {"a": [1]}
    assert other.plain == {"a": [1]}
