# SPDX-License-Identifier: MIT
"""Random operations from outside, each reply compared with a simple model of what PROTOCOL.md says.

The model is a dictionary per cache and one list of uses for the realm; every operation walks what it needs to. It knows
the charge formula, LRU, TTL, max_entries, max_bytes, the realm's budget, versions, counters and fates; it is
obviously right before it is fast.

Time: TTLs and advances are whole hours, so the seconds that the test itself takes never decide anything. An
entry stored at hour n with a TTL of k hours is gone at hour n + k: the real time that passed since only adds.
"""

import random

import pytest

import harness
import wire
from wire import pb

HOUR = 3_600_000
THRESHOLD = 4096


class Entry:
    def __init__(self, cache, key, value, deadline, flags, cost, version):
        self.cache, self.key, self.value = cache, key, value
        self.deadline, self.flags, self.cost, self.version = deadline, flags, cost, version
        self.charge = wire.charge(len(key), len(value), flags, cost, False, len(value) >= THRESHOLD)


class Cache:
    def __init__(self):
        self.ttl = self.max_entries = self.max_bytes = None
        self.entries = {}
        self.fates = {}
        self.hits = self.misses = self.stores = self.deletes = self.saved = 0
        self.left = dict.fromkeys(("EXPIRED", "EVICTED_MAX_ENTRIES", "EVICTED_MAX_BYTES", "EVICTED_REALM_BUDGET"), 0)

    def charged(self):
        return sum(e.charge for e in self.entries.values())


class Model:
    """`uses` holds every entry, the least recently used first."""

    def __init__(self, budget):
        self.budget = budget
        self.caches = {}
        self.uses = []
        self.hour = 0

    def drop(self, e, fate):
        c = self.caches[e.cache]
        del c.entries[e.key]
        self.uses.remove(e)
        c.fates[e.key] = fate
        if fate in c.left:
            c.left[fate] += 1

    def expire(self):
        for e in [e for e in self.uses if e.deadline is not None and e.deadline <= self.hour]:
            self.drop(e, "EXPIRED")

    def use(self, e):
        self.uses.remove(e)
        self.uses.append(e)

    def find(self, cache, key):
        c = self.caches.get(cache)
        return c.entries.get(key) if c else None

    def get(self, cache, key, touch=True):
        e = self.find(cache, key)
        c = self.caches.get(cache)
        if touch and c:
            if e:
                c.hits += 1
                c.saved += e.cost
                self.use(e)
            else:
                c.misses += 1
        return e

    def oldest(self, cache, but):
        return next((e for e in self.uses if e is not but and (cache is None or e.cache == cache)), None)

    def put(self, cache, *what):
        """The status; the entry is made with version None. A refused store creates no cache."""
        known = cache in self.caches
        status = self._put(self.caches.setdefault(cache, Cache()), cache, *what)
        if status != pb.OK and not known:
            del self.caches[cache]
        return status

    def _put(self, c, cache, key, value, ttl, flags, cost, mode=pb.SET_ANY, expected=None):
        old = c.entries.get(key)
        if mode == pb.SET_ADD_ONLY and old:
            return pb.EXISTS
        if (mode == pb.SET_REPLACE_ONLY or expected is not None) and not old:
            return pb.NOT_FOUND
        if expected is not None and old.version != expected:
            return pb.VERSION_MISMATCH
        hours = c.ttl if ttl is None else ttl
        deadline = None if hours in (None, "never") else self.hour + hours
        e = Entry(cache, key, value, deadline, flags, cost, None)
        if self.never_fits(c, e):
            return pb.TOO_LARGE
        freed = old.charge if old else 0
        if c.max_entries is not None and not old:
            while len(c.entries) >= c.max_entries:
                self.drop(self.oldest(cache, old), "EVICTED_MAX_ENTRIES")
        if c.max_bytes is not None:
            while c.charged() - freed + e.charge > c.max_bytes:
                self.drop(self.oldest(cache, old), "EVICTED_MAX_BYTES")
        while sum(x.charge for x in self.uses) - freed + e.charge > self.budget:
            self.drop(self.oldest(None, old), "EVICTED_REALM_BUDGET")
        if old:
            self.uses.remove(old)
        c.entries[key] = e
        self.uses.append(e)
        c.stores += 1
        return pb.OK

    def never_fits(self, c, e):
        return e.charge > self.budget or (c.max_bytes is not None and e.charge > c.max_bytes)

    def set_policy(self, cache, ttl, max_entries, max_bytes):
        c = self.caches.setdefault(cache, Cache())
        c.ttl, c.max_entries, c.max_bytes = ttl, max_entries, max_bytes
        while max_entries is not None and len(c.entries) > max_entries:
            self.drop(self.oldest(cache, None), "EVICTED_MAX_ENTRIES")
        while max_bytes is not None and c.charged() > max_bytes:
            self.drop(self.oldest(cache, None), "EVICTED_MAX_BYTES")


class Walk:
    """One random walk through requests, on the daemon and on the model at once."""

    def __init__(self, c, clock, model, seed):
        self.c, self.clock, self.m = c, clock, model
        self.rng = random.Random(seed)
        self.names = [f"c{i}" for i in range(5)]
        self.last_version = 0

    def key(self):
        # Some keys are much more popular than others.
        return b"key %d" % min(self.rng.randrange(120), self.rng.randrange(120))

    def size(self):
        return self.rng.choice([0, 1, self.rng.randrange(200), self.rng.randrange(4000),
                                self.rng.choice([4095, 4096, 4097, 9000])])

    def check_entry(self, got, e, size=True):
        assert got.version == e.version and (got.flags, got.cost_us) == (e.flags, e.cost)
        if size:
            assert got.size == len(e.value)
        if e.deadline is None:
            assert got.WhichOneof("ttl") is None
        else:
            left = (e.deadline - self.m.hour) * HOUR
            assert left - HOUR // 2 < got.ttl_ms <= left

    def new_version(self, version):
        assert version > self.last_version
        self.last_version = version
        return version

    def fields(self):
        flags = self.rng.choice([0, 0, 7])
        cost = self.rng.choice([0, 0, 1000])
        ttl = self.rng.choice([None, None, "never", 1, 2, 5, 20])
        more = dict(flags=flags, cost_us=cost)
        if ttl == "never":
            more["never_expires"] = True
        elif ttl is not None:
            more["ttl_ms"] = ttl * HOUR
        return more, ttl, flags, cost

    def op_get(self, name):
        key, look = self.key(), self.rng.random() < 0.1
        entry, value = self.c.lookup(name, key, no_touch=look)
        e = self.m.get(name, key, not look)
        assert value == (e.value if e else None)
        if e:
            self.check_entry(entry, e)

    def op_get_many(self, name):
        keys = [self.key() for _ in range(self.rng.randrange(1, 12))]
        if name not in self.m.caches:
            return
        for key, (item, value) in zip(keys, self.c.get_many(name, keys)):
            e = self.m.get(name, key)
            assert value == (e.value if e else None)
            if e:
                self.check_entry(item.entry, e)

    def op_set(self, name):
        key, value = self.key(), self.rng.randbytes(self.size())
        more, ttl, flags, cost = self.fields()
        mode = self.rng.choice([pb.SET_ANY] * 6 + [pb.SET_ADD_ONLY, pb.SET_REPLACE_ONLY])
        expected = None
        e = self.m.find(name, key)
        if self.rng.random() < 0.1:
            expected = e.version if e and self.rng.random() < 0.7 else self.rng.randrange(1, 1000)
            mode = pb.SET_ANY
        reply, _ = self.c.call("set", value, cache=name, key=key, mode=mode, expected_version=expected, **more)
        status = self.m.put(name, key, value, ttl, flags, cost, mode, expected)
        if reply.status == pb.TOO_LARGE and status not in (pb.OK, pb.TOO_LARGE):
            # Two reasons at once: which one is named first is the daemon's choice.
            assert self.m.never_fits(self.m.caches.get(name, Cache()), Entry(name, key, value, None, flags, cost, None))
        else:
            assert reply.status == status, reply.error
        if status == pb.OK:
            e = self.m.find(name, key)
            e.version = self.new_version(reply.entry.version)
            self.check_entry(reply.entry, e)

    def op_set_many(self, name):
        items, plan = [], []
        for _ in range(self.rng.randrange(1, 8)):
            key, value = self.key(), self.rng.randbytes(self.size())
            more, ttl, flags, cost = self.fields()
            items.append((key, value, more))
            plan.append((key, value, ttl, flags, cost))
        for item, (key, value, ttl, flags, cost) in zip(self.c.set_many(name, items), plan):
            assert item.status == self.m.put(name, key, value, ttl, flags, cost), item.error
            if item.status == pb.OK:
                self.m.find(name, key).version = self.new_version(item.version)

    def op_touch(self, name):
        key = self.key()
        ttl = self.rng.choice([None, "never", 1, 3, 10])
        more = {"never_expires": True} if ttl == "never" else {} if ttl is None else {"ttl_ms": ttl * HOUR}
        got = self.c.touch(name, key, **more)
        e = self.m.find(name, key)
        assert (got is None) == (e is None)
        if e:
            if ttl is not None:
                e.deadline = None if ttl == "never" else self.m.hour + ttl
            self.m.use(e)
            self.check_entry(got, e)

    def op_delete(self, name):
        key = self.key()
        e = self.m.find(name, key)
        assert self.c.delete(name, key) == (e is not None)
        if e:
            self.m.drop(e, "DELETED")
            self.m.caches[name].deletes += 1

    def op_explain(self, name):
        key = self.key()
        got = self.c.explain(name, key)
        fate = pb.Fate.Name(got.fate)[len("FATE_"):]
        e = self.m.find(name, key)
        if name not in self.m.caches:
            assert fate == "NO_CACHE"
        elif e:
            assert fate == "LIVE" and got.charge == e.charge
            self.check_entry(got.entry, e)
        else:
            # The memory of departed keys is bounded: it may have forgotten, it may not invent.
            assert fate.replace("UID_SHARE", "REALM_BUDGET") in ("NEVER_STORED", self.m.caches[name].fates.get(key))

    def op_policy(self, name):
        ttl = self.rng.choice([None, None, 3, 10])
        entries = self.rng.choice([None, None, 1, 10, 40])
        size = self.rng.choice([None, None, 5_000, 60_000])
        got = self.c.must("open_cache", cache=name, policy=wire.policy(
            ttl and ttl * HOUR, entries, size)).cache
        assert got.created == (name not in self.m.caches)
        self.m.set_policy(name, ttl, entries, size)

    def op_clear(self, name):
        if name not in self.m.caches:
            return
        entries = list(self.m.caches[name].entries.values())
        assert self.c.clear(name).entries == len(entries)
        for e in entries:
            self.m.drop(e, "CLEARED")

    def op_advance(self, _):
        self.m.hour += 1
        self.clock.advance(HOUR)
        self.m.expire()
        # Counters are compared once the sweep, which is bounded per turn, has caught up.
        harness.wait_until(lambda: self.c.stats().realm.entries == len(self.m.uses), "the expired are swept")

    def op_compare(self, _):
        got = {s.name: s for s in self.c.list_caches()}
        assert set(got) == set(self.m.caches)
        for name, c in self.m.caches.items():
            s = got[name]
            assert (s.entries, s.bytes_held) == (len(c.entries), c.charged())
            assert s.bytes_raw == sum(len(e.key) + len(e.value) for e in c.entries.values())
            assert (s.hits, s.misses, s.stores, s.deletes, s.time_saved_us) == \
                (c.hits, c.misses, c.stores, c.deletes, c.saved)
            # One uid alone in its realm: its share and the realm's budget are the same limit.
            assert (s.expirations, s.evicted_max_entries, s.evicted_max_bytes,
                    s.evicted_realm_budget + s.evicted_uid_share) == \
                tuple(c.left.values())
            assert {e.key: e.entry.version for e in self.c.list_entries(name)} == \
                {e.key: e.version for e in c.entries.values()}

    def run(self, n):
        ops = [(self.op_get, 400), (self.op_set, 330), (self.op_get_many, 40), (self.op_set_many, 40), (self.op_touch, 60),
               (self.op_delete, 40), (self.op_explain, 40), (self.op_policy, 12), (self.op_clear, 4),
               (self.op_advance, 25), (self.op_compare, 9)]
        chosen = self.rng.choices([f for f, _ in ops], [w for _, w in ops], k=n)
        for i, op in enumerate(chosen):
            try:
                op(self.rng.choice(self.names))
            except AssertionError as e:
                raise AssertionError(f"operation {i}, {op.__name__}: {e}") from e
        self.op_compare(None)


@pytest.mark.parametrize("seed", range(4 if not harness.LONG else 40))
def test_c40_random_operations_against_a_model(make_daemon, needs_clock, seed):
    """5,000 random operations each (20,000 in all, 200,000 in the long run): every reply is the model's."""
    budget = 192 << 10
    d = make_daemon(memory={"realm_budget": budget, "large_threshold": THRESHOLD})
    Walk(d.client(), d.clock, Model(budget), seed).run(5000)
