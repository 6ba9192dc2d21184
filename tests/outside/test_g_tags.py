# SPDX-License-Identifier: MIT
"""Tags, variants and prefixes: stored with entries, cleared by them, over the socket and in mappings.

Bad input, what is told of them, clearing in constant time, no read that returns what was cleared, memory that comes
back, limits that are exact right after, variants that go with what led to them.
"""

import pytest

import harness
import mapped
import test_t_takeover
import wire
from harness import wait_until

pb = wire.pb


@pytest.fixture
def daemon(make_daemon):
    return make_daemon()


@pytest.fixture
def c(daemon):
    return daemon.client()


@pytest.fixture
def m(daemon):
    client = mapped.Client(daemon.socket, harness.PATIENCE)
    daemon.clients.append(client)
    client.hello()
    yield client
    client.close()


def clear_tag(c, cache, tag):
    return c.must("clear", cache=cache, tag=tag).clear.entries


def clear_prefix(c, cache, prefix):
    return c.must("clear", cache=cache, prefix=prefix).clear.entries


def fill(c, cache, n, tags=(), first=0):
    for at in range(first, first + n, 4000):
        items = [(b"%d" % i, b"v", {"tags": list(tags)}) for i in range(at, min(at + 4000, first + n))]
        assert all(i.status == pb.OK for i in c.set_many(cache, items))


def clear_ns(c):
    return sum(x.sum_ns for x in c.stats().daemon.latencies if x.request.lower() == "clear")


# ---- basics

def test_g01_clear_by_tag(c):
    """What has the tag goes, in its cache only; the rest stays."""
    c.set("t", b"a", b"1", tags=["red"])
    c.set("t", b"b", b"2", tags=["blue", "red"])
    c.set("t", b"c", b"3", tags=["blue"])
    c.set("t", b"d", b"4")
    c.set("u", b"a", b"5", tags=["red"])
    assert c.stats("t").tags == 2
    assert clear_tag(c, "t", "red") == 2
    assert [c.get("t", k) for k in (b"a", b"b", b"c", b"d")] == [None, None, b"3", b"4"]
    assert c.get("u", b"a") == b"5"
    assert clear_tag(c, "t", "red") == 0
    assert clear_tag(c, "t", "green") == 0
    s = c.stats("t")
    assert (s.entries, s.tags, s.clears) == (2, 1, 3)
    assert c.status("clear", cache="no such cache", tag="red") == pb.NOT_FOUND


def test_g02_told_of_entries(c):
    """Listings and explanations tell an entry's tags, and Get does not."""
    c.set("t", b"a", b"1", tags=["red", "Größe", "red"])
    c.set("t", b"b", b"2")
    assert {e.key: list(e.entry.tags) for e in c.list_entries("t")} == {b"a": ["red", "Größe"], b"b": []}
    assert list(c.explain("t", b"a").entry.tags) == ["red", "Größe"]
    assert list(c.lookup("t", b"a")[0].tags) == []
    clear_tag(c, "t", "Größe")
    assert c.fate("t", b"a") == "CLEARED"
    assert "cleared" in c.explain("t", b"a").text
    assert [e.key for e in c.list_entries("t")] == [b"b"]


def test_g03_charge(c):
    """Tags are charged as PROTOCOL.md says, each one once."""
    c.set("t", b"key", b"v" * 100, tags=["red", "blue", "red"])
    assert c.explain("t", b"key").charge == wire.charge(3, 100, tags=2)
    c.set("t", b"n", b"LANG", vary=True)
    assert c.explain("t", b"n").charge == wire.charge(1, 4, vary=True)
    c.set("t", b"v", b"v" * 100, variant_of=b"n", tags=["red"], flags=1)
    assert c.explain("t", b"v").charge == wire.charge(1, 100, tags=2, flags=1)


def test_g04_replacing_takes_other_tags(c):
    """An entry has the tags that it was stored with last."""
    c.set("t", b"a", b"1", tags=["red"])
    c.set("t", b"a", b"2", tags=["blue"])
    assert clear_tag(c, "t", "red") == 0
    assert c.get("t", b"a") == b"2"
    assert clear_tag(c, "t", "blue") == 1
    c.set("t", b"a", b"3", tags=["blue"])
    assert c.get("t", b"a") == b"3"


def test_g05_large_values(c):
    """Values that lie apart have tags, too."""
    for i, n in enumerate((1000, 300_000, 6_000_000)):
        c.set("t", b"%d" % i, b"x" * n, tags=["red"])
    assert clear_tag(c, "t", "red") == 3
    assert [c.get("t", b"%d" % i) for i in range(3)] == [None] * 3
    wait_until(lambda: c.stats().realm.bytes_charged == 0)


# ---- bad input

@pytest.mark.parametrize("tag, word", [("", "empty"), ("t" * 300, "128 bytes"), ("t" * 129, "128 bytes"),
                                       ("a\nb", "control"), ("a\x00b", "control"), ("\x7f", "control")])
def test_g10_bad_tags(c, tag, word):
    """Each is refused with a sentence, in Set, SetMany and Clear, and nothing is changed."""
    c.set("t", b"k", b"old")
    for op, body, fields in (("set", b"v", {"cache": "t", "key": b"k", "tags": ["ok", tag]}),
                             ("clear", b"", {"cache": "t", "tag": tag})):
        reply, _ = c.call(op, body, **fields)
        assert reply.status == pb.INVALID and word in reply.error, reply.error
    good, bad = c.set_many("t", [(b"x", b"1", {"tags": ["ok"]}), (b"k", b"2", {"tags": [tag]})])
    assert good.status == pb.OK and bad.status == pb.INVALID and word in bad.error
    assert c.get("t", b"k") == b"old" and c.get("t", b"x") == b"1"


def test_g11_bytes_that_are_no_text(c):
    """A tag that is not UTF-8."""
    message = pb.Request(id=c.next_id())
    message.set.cache, message.set.key = "t", b"k"
    message.set.tags.append("XXXX")
    c.send_raw(wire.frame(message.SerializeToString().replace(b"XXXX", b"ab\xff\xfe"), b"v"))
    reply, _ = c.wait(message.id)
    assert reply.status == pb.INVALID and "UTF-8" in reply.error


def test_g12_nine_tags(c):
    """Eight are allowed."""
    tags = ["t%d" % i for i in range(9)]
    reply, _ = c.call("set", b"v", cache="t", key=b"k", tags=tags)
    assert reply.status == pb.INVALID and "9 tags" in reply.error and "8" in reply.error
    c.set("t", b"k", b"v", tags=tags[:8], flags=1, cost_us=1)
    assert list(c.explain("t", b"k").entry.tags) == tags[:8]
    c.set("t", b"k", b"v", tags=["x" * 128])
    assert clear_tag(c, "t", "x" * 128) == 1


@pytest.mark.parametrize("prefix", [b"", b"p" * 65])
def test_g13_bad_prefixes(c, prefix):
    """1 to 64 bytes."""
    c.set("t", b"k", b"v")
    reply, _ = c.call("clear", cache="t", prefix=prefix)
    assert reply.status == pb.INVALID and "1 to 64 bytes" in reply.error
    assert c.get("t", b"k") == b"v"


def test_g14_all_and_a_tag(c):
    """A tag is of one cache."""
    for more in ({"tag": "red"}, {"prefix": b"x"}):
        reply, _ = c.call("clear", all=True, **more)
        assert reply.status == pb.INVALID and "leave one out" in reply.error


def test_g15_bad_variants(c):
    """What a variant belongs to is a key of another entry, which is there and has `vary`."""
    c.set("t", b"plain", b"v")
    for of in (b"plain", b"nothing"):
        assert c.call("set", b"v", cache="t", key=b"k", variant_of=of)[0].status == pb.NOT_FOUND
    for of in (b"k", b"n" * 65):
        reply, _ = c.call("set", b"v", cache="t", key=b"k", variant_of=of)
        assert reply.status == pb.INVALID and "variant_of" in reply.error
    assert c.get("t", b"k") is None


def test_g16_as_many_tags_as_are_allowed(make_daemon):
    """Beyond limits.tags_per_realm a Set gets LIMIT; tags that nothing has any more do not count."""
    c = make_daemon(limits={"tags_per_realm": 4}).client()
    c.set("t", b"a", b"v", tags=["1", "2"])
    c.set("u", b"a", b"v", tags=["1", "2"])
    reply, _ = c.call("set", b"v", cache="t", key=b"b", tags=["3"])
    assert reply.status == pb.LIMIT and "limits.tags_per_realm" in reply.error
    c.set("t", b"b", b"v", tags=["1"])
    clear_tag(c, "t", "2")
    c.set("t", b"c", b"v", tags=["3"])
    assert c.status("set", b"v", cache="t", key=b"d", tags=["4"]) == pb.LIMIT
    c.clear("u")
    c.set("t", b"d", b"v", tags=["4"])


# ---- clearing many

def test_g20_constant_time(c):
    """A hundred times as many entries: the request itself takes no longer, and all are gone."""
    spent = []
    for cache, n in (("small", 1000), ("big", 100_000)):
        fill(c, cache, n, ["red"])
        before = clear_ns(c)
        assert clear_tag(c, cache, "red") == n
        spent.append(clear_ns(c) - before)
        assert c.stats(cache).entries == 0
        assert not any(v for _, v in c.get_many(cache, [b"%d" % i for i in range(0, n, max(1, n // 500))]))
    # Dropping them one by one would take a hundred times as long.
    assert spent[1] < 20 * spent[0] + 3_000_000, spent
    wait_until(lambda: c.stats().realm.bytes_charged == 0)
    assert c.stats().realm.bytes_reclaiming == 0


def test_g21_limits_are_exact_right_after(c):
    """What was cleared leaves before anything else, one for each that is stored."""
    c.open("t", max_entries=10_000)
    fill(c, "t", 2000)
    fill(c, "t", 8000, ["red"], first=2000)
    assert clear_tag(c, "t", "red") == 8000
    assert c.stats("t").entries == 2000
    fill(c, "t", 8000, first=20_000)
    s = c.stats("t")
    assert s.entries == 10_000 and s.evicted_max_entries == 0
    assert all(v for _, v in c.get_many("t", [b"%d" % i for i in range(2000)]))
    c.set("t", b"one more", b"v")
    s = c.stats("t")
    assert s.entries == 10_000 and s.evicted_max_entries == 1


def test_g22_prefix(c):
    """What begins with these bytes goes, and nothing else; others are served meanwhile."""
    fill(c, "t", 50_000)
    n = sum(str(i).startswith("12") for i in range(50_000))
    assert clear_prefix(c, "t", b"12") == n
    assert c.stats("t").entries == 50_000 - n
    assert c.get("t", b"12") is None and c.get("t", b"12345") is None
    assert c.get("t", b"13") == b"v" and c.get("t", b"2") == b"v"
    assert clear_prefix(c, "t", b"12") == 0
    assert c.status("clear", cache="no such cache", prefix=b"1") == pb.NOT_FOUND
    assert clear_prefix(c, "t", b"1") == sum(str(i)[0] == "1" for i in range(50_000)) - n


def test_g23_a_client_that_goes_while_it_clears(daemon, c):
    """Several clear large caches by prefix and go; nothing is left behind that others would meet."""
    fill(c, "t", 100_000)
    for _ in range(6):
        other = daemon.client()
        other.post("clear", cache="t", prefix=b"9")
        other.close()
    assert clear_prefix(c, "t", b"9") <= 11_111
    assert c.stats("t").entries == 100_000 - 11_111


def test_g24_budget_is_kept(make_daemon):
    """Storing goes on at once after a clear; the budget holds all the while."""
    c = make_daemon(memory={"realm_budget": "16M", "uid_share": "100%"}).client()
    for turn in range(6):
        fill(c, "t", 40_000, ["red", "turn%d" % turn])
        realm = c.stats().realm
        assert realm.bytes_charged <= realm.budget_bytes
        assert clear_tag(c, "t", "turn%d" % turn) > 0
        assert c.stats("t").entries == 0
    wait_until(lambda: c.stats().realm.bytes_charged == 0)


# ---- mapped

def test_g30_mapped_readers(c, m):
    """No look-up returns what was cleared, from the moment when the clear was answered."""
    for n in (3, 200):
        fill(c, "t", n, ["red", "blue"])
        c.set("t", b"stays", b"v", tags=["green"])
        assert m.mapped_get("t", b"1") == b"v"
        assert clear_tag(c, "t", "red") == n
        assert [m.mapped_get("t", b"%d" % i) for i in range(n)] == [None] * n
        assert m.mapped_get("t", b"stays") == b"v"
        c.set("t", b"1", b"new", tags=["red"])
        assert m.mapped_get("t", b"1") == b"new"
        wait_until(lambda: c.stats().realm.bytes_reclaiming == 0)
        assert m.mapped_get("t", b"1") == b"new"
        c.clear("t")


# ---- variants

def test_g40_variants_go_with_what_led_to_them(c):
    """Deleted, replaced by something else, cleared, evicted: but not when the same is stored again."""
    def node(value=b"LANG", **more):
        c.set("t", b"n", value, vary=True, **more)

    def variants():
        for k in (b"v1", b"v2"):
            c.set("t", k, b"v", variant_of=b"n")

    def left():
        return [c.get("t", k) is not None for k in (b"v1", b"v2")]

    node(), variants(), node()
    assert left() == [True, True]
    assert c.lookup("t", b"n")[1] == b"LANG"
    c.delete("t", b"n")
    assert left() == [False, False]
    node(), variants(), node(b"PATH")
    assert left() == [False, False]
    variants(), c.set("t", b"n", b"plain")
    assert left() == [False, False]
    node(tags=["red"]), variants(), clear_tag(c, "t", "red")
    assert left() == [False, False]
    node(), variants(), clear_prefix(c, "t", b"n")
    assert left() == [False, False]
    node(), variants()
    c.get("t", b"v1"), c.get("t", b"v2")
    c.open("t", max_entries=2)
    wait_until(lambda: c.stats("t").entries == 0)


def test_g41_variants_of_variants(c):
    """All that a chain of them leads to goes; listings tell no tag for that."""
    c.set("t", b"n0", b"in", vary=True)
    for i in range(1, 500):
        c.set("t", b"n%d" % i, b"in", vary=True, variant_of=b"n%d" % (i - 1))
    c.set("t", b"other", b"v", tags=["red"])
    assert sorted({t for e in c.list_entries("t") for t in e.entry.tags}) == ["red"]
    assert c.stats("t").tags == 1
    c.delete("t", b"n0")
    wait_until(lambda: c.stats("t").entries == 1)
    assert c.fate("t", b"n250") == "CLEARED"


def test_g42_the_input_that_multiplies(c):
    """Explain names the inputs, those with most values first."""
    c.set("t", b"n", b"LANG", vary=True)
    for lang in range(3):
        c.set("t", b"l%d" % lang, b"PATH", vary=True, variant_of=b"n")
        for path in range(20):
            c.set("t", b"l%d.%d" % (lang, path), b"v", variant_of=b"l%d" % lang)
    e = c.explain("t", b"n")
    assert [(i.name, i.variants) for i in e.inputs] == [("PATH", 20), ("LANG", 3)]
    assert "2 inputs, most on PATH, of which 20 values are stored" in e.text
    assert not c.explain("t", b"l0.0").inputs


# ---- a successor

@pytest.mark.parametrize("how", [test_t_takeover.take_over, test_t_takeover.restart])
def test_g50_after_a_restart(daemon, how):
    """Tags and variants are taken over, handed over or left by a killed one; what was cleared is not."""
    c = daemon.client()
    fill(c, "t", 500, ["red"])
    fill(c, "t", 500, ["blue"], first=500)
    c.set("t", b"n", b"LANG", vary=True)
    c.set("t", b"v", b"v", variant_of=b"n")
    clear_tag(c, "t", "red")
    c.close()
    how(daemon)
    c = daemon.client()
    assert c.stats("t").entries == 502 and c.stats("t").tags == 1
    assert c.get("t", b"1") is None and c.get("t", b"700") == b"v"
    assert clear_tag(c, "t", "blue") == 500
    c.delete("t", b"n")
    assert c.get("t", b"v") is None
    wait_until(lambda: c.stats().realm.bytes_charged == 0)
