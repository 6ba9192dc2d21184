# SPDX-License-Identifier: MIT
"""What is told of resources in numbers: by ListCaches, Stats and ListClients."""

import wire
from resource_world import a, b, c, make_holder, no_grace  # noqa: F401
from wire import pb

SEGMENT, HELD = pb.RESOURCE_SEGMENT, pb.RESOURCE_HELD


def test_qn1_what_there_is_and_what_there_was(clock, a, b, c):
    """What a cache is used for, and what there was."""
    c.set("entries", b"k", b"v")
    c.set("both", b"k", b"v")
    assert "res" not in {s.name: s for s in c.list_caches()}
    i = a.create_segment(data=bytes(100))
    b.held(kind=SEGMENT)
    assert b.lock(i).state == HELD
    waits = a.post("lock_resource", i)
    a.create_local(b"2", cache="both", policy=wire.policy(ttl_ms=1000))
    k = a.create_segment(b"3", data=bytes(7))
    c.must("open_cache", cache="new")
    kinds = {s.name: s.kind for s in c.list_caches()}
    assert kinds == {"entries": pb.CACHE_ENTRIES, "res": pb.CACHE_RESOURCES, "both": pb.CACHE_MIXED,
                     "new": pb.CACHE_UNUSED}
    n = c.stats("res")
    assert (n.resources, n.resources_held, n.resources_locked, n.resource_bytes, n.resources_waiting, n.resources_created,
            n.resources_acquired) == (2, 2, 1, 107, 1, 2, 1)
    realm = c.stats().realm
    assert (realm.resources, realm.resource_bytes, realm.resource_holders) == (3, 107, 3)
    assert c.stats().total.resources == 3 and c.stats().total.kind == pb.CACHE_MIXED
    assert sorted(x.resources for x in c.must("list_clients").list_clients.clients) == [0, 0, 0, 1, 3]
    # One after the other leaves, and is held: it counts for the realm's bounds alone.
    assert b.unlock(i) == wire.OK and a.wait(waits).resource.state == HELD
    c.must("drop_resource", cache="res", key=b"k")
    a.of("invalidate_resource", k)
    clock.advance(1001)
    c.ping()
    n = c.stats("res")
    assert (n.resources, n.resources_held, n.resources_locked, n.resource_bytes, n.resources_waiting, n.resources_dropped,
            n.resources_invalid, n.resource_failures) == (0, 0, 0, 0, 0, 1, 1, 1)
    assert c.stats("both").resources_expired == 1
    assert c.stats().realm.resource_bytes == 107
    a.release(i), b.release(i), a.release(k)
    assert c.stats().realm.resource_bytes == 0
    assert {s.name: s.kind for s in c.list_caches()}["res"] == pb.CACHE_RESOURCES
