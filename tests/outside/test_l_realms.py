# SPDX-License-Identifier: MIT
"""Who may do what, and who sees what: realms by uid, named realms with roles."""

import pytest

import harness
import wire
from wire import pb

ALICE, BOB, CAROL = 12345, 12346, 12347
TEAM = 54321  # a group

OPEN = {"socket_mode": "0666"}
NAMED = f"[realm shared]\nreaders = {CAROL}, @{TEAM}\nwriters = {BOB}\nadmins = {ALICE}\n"

ANYTHING = [
    ("ping", {}, b""),
    ("get", dict(cache="t", key=b"k"), b""),
    ("get_many", dict(cache="t", keys=[b"k"]), b""),
    ("list_caches", {}, b""),
    ("list_entries", dict(cache="t"), b""),
    ("explain", dict(cache="t", key=b"k"), b""),
    ("stats", {}, b""),
    ("list_clients", {}, b""),
    ("get_config", {}, b""),
    ("open_cache", dict(cache="t"), b""),
    ("set", dict(cache="t", key=b"k"), b"v"),
    ("set_many", dict(cache="t", sets=[pb.Set(key=b"k")], sizes=[1]), b"v"),
    ("touch", dict(cache="t", key=b"k"), b""),
    ("delete", dict(cache="t", key=b"x"), b""),
    ("clear", dict(cache="t"), b""),
    ("set_policy", dict(cache="t", policy=wire.policy(max_entries=100)), b""),
    ("clear", dict(all=True), b""),
]
READER, WRITER = 9, 15  # how many of these each may, from the top


@pytest.fixture(autouse=True)
def root():
    harness.needs_root()


@pytest.fixture
def shared(make_daemon):
    d = make_daemon(daemon=OPEN, extra=NAMED)
    admin = d.client(uid=ALICE, realm="shared")
    admin.set("t", b"k", b"v")
    return d


def test_l40_two_uids_see_nothing_of_each_other(make_daemon):
    """Names, values, counts: nothing of one uid's realm shows in another's."""
    d = make_daemon(daemon=OPEN)
    a, b = d.client(uid=ALICE), d.client(uid=BOB)
    assert (a.info.realm, b.info.realm) == (f"uid:{ALICE}", f"uid:{BOB}")
    assert a.info.uid == ALICE and a.info.role == pb.ROLE_ADMIN
    a.open("secret name", max_entries=10)
    for i in range(10):
        a.set("secret name", b"%d" % i, b"of alice")
    a.get("secret name", b"1")
    assert b.list_caches() == []
    assert b.get("secret name", b"1") is None
    assert b.get_many("secret name", [b"1", b"2"])[0][1] is None if b.open("secret name") else True
    s = b.stats()
    assert (s.realm.entries, s.total.stores, s.total.hits, s.realm.bytes_charged) == (0, 0, 0, 0)
    assert s.realm.name == f"uid:{BOB}"
    b.set("secret name", b"1", b"of bob")
    assert a.get("secret name", b"1") == b"of alice"
    assert a.lookup("secret name", b"1")[0].uid == ALICE
    assert b.clear().entries == 1
    assert a.stats().realm.entries == 10
    assert b.fate("secret name", b"2") == "NEVER_STORED"


def test_l41_clients_of_other_realms_are_not_shown(make_daemon):
    """ListClients shows the own realm's clients; root sees all."""
    d = make_daemon(daemon=OPEN)
    a = d.client(uid=ALICE, name="a")
    b = d.client(uid=BOB, name="b")
    r = d.client(name="r")
    assert [x.name for x in a.clients()] == ["a"]
    assert [x.name for x in b.clients()] == ["b"]
    assert sorted(x.name for x in r.clients()) == ["a", "b", "r"]


def test_l42_ids_of_caches_are_not_shared(make_daemon):
    """A cache_id of one realm opens nothing in another."""
    d = make_daemon(daemon=OPEN)
    a, b = d.client(uid=ALICE), d.client(uid=BOB)
    i = a.open("t").cache_id
    a.set("t", b"k", b"v")
    assert b.status("get", cache_id=i, key=b"k") in (wire.NOT_FOUND, pb.INVALID)


def test_l43_events_stay_in_the_realm(make_daemon):
    """A policy change is told to holders of the same cache in the same realm only."""
    d = make_daemon(daemon=OPEN)
    a, b = d.client(uid=ALICE), d.client(uid=BOB)
    a.open("t")
    b.open("t")
    a.open("t", max_entries=3)
    b.ping()
    b.ping()
    assert not b.events


@pytest.mark.parametrize("uid, groups, role, n", [
    (CAROL, (), pb.ROLE_READER, READER),
    (99999, (TEAM,), pb.ROLE_READER, READER),
    (99999, (1, 2, 3, TEAM), pb.ROLE_READER, READER),
    (BOB, (), pb.ROLE_WRITER, WRITER),
    (BOB, (TEAM,), pb.ROLE_WRITER, WRITER),
    (ALICE, (), pb.ROLE_ADMIN, len(ANYTHING)),
    (None, (), pb.ROLE_ADMIN, len(ANYTHING)),
])
def test_l44_roles(shared, uid, groups, role, n):
    """Readers, writers and admins of a named realm may exactly what the table of PROTOCOL.md says."""
    c = shared.client(uid=uid, groups=groups, realm="shared")
    assert c.info.role == role and c.info.realm == "shared"
    for i, (op, fields, body) in enumerate(ANYTHING):
        reply, _ = c.call(op, body, **fields)
        if i < n:
            assert reply.status in (wire.OK, wire.NOT_FOUND), f"{op}: {reply.error}"
        else:
            assert reply.status == pb.DENIED and reply.error, op
    if n < len(ANYTHING):
        assert shared.client(uid=ALICE, realm="shared").stats("t").policy.WhichOneof("entries_limit") is None
    if n == READER:
        assert shared.client(uid=ALICE, realm="shared").get("t", b"k") == b"v"


def test_l45_a_named_realm_is_shared(shared):
    """Its members see the same entries, and who stored them."""
    a, b = shared.client(uid=ALICE, realm="shared"), shared.client(uid=BOB, realm="shared")
    c = shared.client(uid=CAROL, realm="shared")
    b.set("t", b"from bob", b"1")
    assert a.get("t", b"from bob") == c.get("t", b"from bob") == b"1"
    assert c.lookup("t", b"from bob")[0].uid == BOB and c.lookup("t", b"k")[0].uid == ALICE


@pytest.mark.parametrize("realm", ["shared", "uid:0", f"uid:{ALICE}", "nobody", "uid:", "uid:x", "../x", "x" * 1000])
def test_l46_strangers_stay_outside(shared, realm):
    """Who is not listed, and who asks for another's realm or for one that does not exist, is refused."""
    c = shared.connect(uid=99999)
    reply, _ = c.call("hello", protocol_min=1, protocol_max=1, realm=realm)
    assert reply.status in (pb.DENIED, wire.NOT_FOUND, pb.INVALID)
    assert realm not in ("shared", f"uid:{ALICE}") or reply.status == pb.DENIED
    if len(realm) < 100:
        denied, exists = reply.error, None
        d = shared.connect(uid=99999)
        exists = d.call("hello", protocol_min=1, protocol_max=1, realm="shared")[0].error
        # Whether a realm exists is nobody else's business: the same words for both.
        if realm == "nobody":
            assert denied.replace("nobody", "shared") == exists


def test_l47_after_a_refused_hello_there_is_no_way_in(shared):
    """A connection whose Hello was refused may not go on without one."""
    c = shared.connect(uid=99999)
    c.call("hello", protocol_min=1, protocol_max=1, realm="shared")
    try:
        reply, _ = c.call("get", cache="t", key=b"k")
        assert reply.status == pb.PROTOCOL
    except (wire.Refused, wire.Closed, BrokenPipeError, ConnectionResetError) as e:
        assert not isinstance(e, wire.Refused) or e.status == pb.PROTOCOL


def test_l48_root_enters_any_realm(shared):
    """Root is admin everywhere, also in a user's own realm."""
    a = shared.client(uid=ALICE)
    a.set("mine", b"k", b"v")
    r = shared.client(realm=f"uid:{ALICE}")
    assert r.info.role == pb.ROLE_ADMIN and r.get("mine", b"k") == b"v"
    reply, _ = shared.connect().call("hello", protocol_min=1, protocol_max=1, realm="no such realm")
    assert reply.status not in (wire.OK,) and reply.error


def test_l49_the_overflow_uid_is_refused(make_daemon):
    """A peer that the kernel cannot name is not let in: it could be anybody."""
    d = make_daemon(daemon=OPEN, extra="[realm shared]\nreaders = 65534\n")
    for realm in ("", "uid:65534", "shared"):
        c = d.connect(uid=65534)
        try:
            reply, _ = c.call("hello", protocol_min=1, protocol_max=1, realm=realm)
        except wire.Refused as e:
            reply = e.reply
        except (BrokenPipeError, ConnectionResetError):
            reply = c.expect_goodbye()
        assert reply.status == pb.DENIED and "65534" in reply.error or "overflow" in reply.error
    assert d.client().ping()


def test_l50_reload_config_is_for_root_and_the_daemon(shared):
    """Another uid may not reload, be it admin of a realm."""
    for realm in ("", "shared"):
        c = shared.client(uid=ALICE, realm=realm)
        assert c.status("reload_config") == pb.DENIED
    assert shared.client().status("reload_config") == wire.OK


def test_l51_roles_change_with_a_reload(shared):
    """Who lost its realm is closed or denied; who gained it gets in; a changed role holds at once."""
    bob = shared.client(uid=BOB, realm="shared")
    carol = shared.client(uid=CAROL, realm="shared")
    shared.config_path.write_text(harness.config_text(daemon=OPEN, extra=f"[realm shared]\nreaders = {BOB}\n"))
    root = shared.client()
    root.must("reload_config")
    assert bob.status("set", b"x", cache="t", key=b"k") == pb.DENIED
    assert bob.get("t", b"k") == b"v"
    try:
        reply, _ = carol.call("get", cache="t", key=b"k")
        assert reply.status == pb.DENIED
    except (wire.Refused, wire.Closed, BrokenPipeError, ConnectionResetError) as e:
        assert not isinstance(e, wire.Refused) or e.status == pb.DENIED


def test_l52_a_realms_own_budget(make_daemon):
    """A named realm may have a budget of its own."""
    d = make_daemon(daemon=OPEN, memory={"realm_budget": "1M"}, extra="[realm small]\nbudget = 128K\n")
    c = d.client(realm="small")
    assert c.stats().realm.budget_bytes == 128 << 10
    assert d.client().stats().realm.budget_bytes == 1 << 20


def test_l53_the_share_of_a_uid_in_a_shared_realm(make_daemon):
    """A writer at its share evicts its own entries, never another writer's."""
    d = make_daemon(daemon=OPEN, memory={"realm_budget": "1M", "uid_share": "128K"},
                    extra=f"[realm shared]\nwriters = {ALICE}, {BOB}\n")
    a, b = d.client(uid=ALICE, realm="shared"), d.client(uid=BOB, realm="shared")
    b.set("t", b"of bob", b"v" * 10000)
    for i in range(50):
        a.set("t", b"%d" % i, b"v" * 10000)
    assert b.get("t", b"of bob") is not None
    assert a.fate("t", b"0") == "EVICTED_UID_SHARE"
    live = sum(a.explain("t", b"%d" % i).fate == pb.FATE_LIVE for i in range(50))
    assert live == (128 << 10) // wire.charge(2, 10000)


def test_l54_a_global_budget_above_the_realms(make_daemon):
    """Many realms together stay under the global budget; the sum is what the daemon reports."""
    d = make_daemon(daemon=OPEN, memory={"realm_budget": "256K", "global_budget": "512K"})
    root, realms = d.client(), [d.client(uid=20000 + i) for i in range(5)]
    for n in range(40):
        for c in realms:
            c.set("t", b"%d" % n, b"v" * 10000)
        assert 0 < root.stats().daemon.bytes_charged <= 512 << 10
        assert all(c.stats().realm.bytes_charged <= 256 << 10 for c in realms)
    assert sum(c.stats().realm.bytes_charged for c in realms) == root.stats().daemon.bytes_charged
    assert realms[0].stats().daemon.bytes_charged == 0, "what all realms hold together is root's business"
    assert any(c.stats().total.evicted_global_budget for c in realms)
    assert realms[-1].get("t", b"39") is not None


def test_l55_socket_permissions_keep_others_out(daemon):
    """With the default mode another uid cannot even connect."""
    with pytest.raises(PermissionError):
        daemon.connect(uid=ALICE)


def test_l60_arriving_values_count_towards_every_budget(make_daemon):
    """Room is made as a large value arrives, in the realm and in the daemon, and given back if it never does."""
    d = make_daemon(daemon=OPEN, memory={"realm_budget": "64M", "global_budget": "64M"})
    a, b, watcher = d.client(uid=ALICE), d.client(uid=BOB), d.client()
    small = b"y" * 900000
    a2 = d.client(uid=ALICE)
    for i in range(5):
        a2.set("t", b"s%d" % i, small)
    before = watcher.stats().daemon.bytes_charged
    size, sent = 40 << 20, 30 << 20
    a.send_raw(wire.frame(wire.request(a.next_id(), "set", cache="t", key=b"A"), b"x" * sent, n_body=size))
    harness.wait_until(lambda: watcher.stats().daemon.bytes_charged >= before + sent)
    # No room for another one of that size while so much of the first is there.
    reply, _ = b.call("set", b"x" * size, cache="t", key=b"B")
    assert reply.status == pb.NO_SPACE
    assert f"{64 << 20} bytes" in reply.error and "arriving" in reply.error
    a.close()
    harness.wait_until(lambda: watcher.stats().daemon.bytes_charged == before)
    b.set("t", b"B", b"x" * size)
    b.clear("t")
    assert a2.stats().realm.entries == 5


def test_l61_a_large_value_is_replaced_within_the_budget(make_daemon):
    """What a large value replaces makes room for it, and stays until it is complete."""
    d = make_daemon(daemon=OPEN, memory={"realm_budget": "64M"})
    c = d.client()
    c.set("t", b"k", b"a" * (40 << 20))
    half = d.client()
    half.send_raw(wire.frame(wire.request(half.next_id(), "set", cache="t", key=b"k"), b"x" * 200000, n_body=40 << 20))
    c.ping()
    assert len(c.get("t", b"k")) == 40 << 20
    half.close()
    c.set("t", b"k", b"b" * (40 << 20), mode=pb.SET_REPLACE_ONLY)
    assert c.get("t", b"k") == b"b" * (40 << 20)
    assert c.status("set", b"c" * (40 << 20), cache="t", key=b"k", mode=pb.SET_ADD_ONLY) == pb.EXISTS
    assert c.stats().realm.entries == 1
