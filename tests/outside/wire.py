# SPDX-License-Identifier: MIT
"""A client made only from proto/cached.proto and the framing text of proto/PROTOCOL.md.

It shares no line with the daemon or libcached: the messages come out of protoc, the frame header is
written here by hand. It is strict where a client should be (every reply must parse, carry a known id and
have the body that its header announces) and lets a test break every rule on the sending side.

    c = Client(path); c.hello()
    c.set("table", b"key", b"value", ttl_ms=5000)
    assert c.get("table", b"key") == b"value"          # None is a miss
    reply, body = c.call("get", cache="table", key=b"key")

`call` gives the reply whatever its status; the named methods raise Refused unless it is the expected one.
"""

import array
import importlib
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time

PROTO = pathlib.Path(os.environ.get("CACHED_PROTO", pathlib.Path(__file__).parents[2] / "proto"))

HEADER = struct.Struct("<IQ")


def _load_messages():
    """Compiles cached.proto into a directory that lives as long as the import takes."""
    out = tempfile.mkdtemp(prefix="cached-proto-")
    try:
        subprocess.run(["protoc", f"--proto_path={PROTO}", f"--python_out={out}", "cached.proto"],
                       check=True)
        sys.path.insert(0, out)
        try:
            return importlib.import_module("cached_pb2")
        finally:
            sys.path.remove(out)
    finally:
        shutil.rmtree(out)


pb = _load_messages()

# The statuses, by name: wire.OK, wire.NOT_FOUND, …
globals().update(pb.Status.items())
OK, NOT_FOUND = pb.OK, pb.NOT_FOUND


class Closed(Exception):
    """The daemon closed the connection."""


class Refused(Exception):
    """A status that the caller did not expect."""

    def __init__(self, reply):
        super().__init__(f"{pb.Status.Name(reply.status)}: {reply.error}")
        self.reply = reply
        self.status = reply.status
        self.error = reply.error


def frame(message, body=b"", n_message=None, n_body=None):
    """The bytes of one frame; the lengths can be made to lie."""
    if not isinstance(message, (bytes, bytearray)):
        message = message.SerializeToString()
    return HEADER.pack(len(message) if n_message is None else n_message,
                       len(body) if n_body is None else n_body) + message + body


def request(request_id, op, deadline_ms=0, repeated=False, session=b"", **fields):
    """A Request with one operation. None leaves a field out; lists and messages are copied in."""
    r = pb.Request(id=request_id, deadline_ms=deadline_ms, repeated=repeated, session=session)
    message = getattr(r, op)
    message.SetInParent()
    for name, value in fields.items():
        if value is None:
            continue
        if isinstance(value, (list, tuple)):
            getattr(message, name).extend(value)
        elif hasattr(value, "CopyFrom"):
            getattr(message, name).CopyFrom(value)
        else:
            setattr(message, name, value)
    return r


def policy(ttl_ms=None, max_entries=None, max_bytes=None, **windows):
    p = pb.Policy(**windows)
    if ttl_ms is not None:
        p.ttl_ms = ttl_ms
    if max_entries is not None:
        p.max_entries = max_entries
    if max_bytes is not None:
        p.max_bytes = max_bytes
    return p


def policy_tuple(p):
    """(ttl_ms, max_entries, max_bytes), None where a field is absent."""
    return (p.ttl_ms if p.WhichOneof("ttl") else None,
            p.max_entries if p.WhichOneof("entries_limit") else None,
            p.max_bytes if p.WhichOneof("bytes_limit") else None)


def charge(n_key, n_stored, flags=0, cost_us=0, encoded=False, large=False, vary=False, tags=0):
    """What an entry is charged: PROTOCOL.md, word for word. `large`: the value lies apart."""
    extension = 0
    if flags or cost_us or encoded or vary or tags:
        extension = 4 + (4 if flags else 0) + (8 if cost_us else 0) + (12 if encoded else 0)
        extension += (4 if vary else 0) + (4 + 12 * tags if tags else 0)
    n = max(20 + n_key + (16 if large else n_stored) + extension, 64)
    total = n + n // 8 + 56
    if large:
        total += (n_stored + 4095) // 4096 * 4096
    return total


class Client:
    """One connection. Ids count up from 1; replies that overtake are kept until they are asked for."""

    def __init__(self, path=None, timeout=20.0, sock=None):
        if sock is None:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            sock.settimeout(timeout)
            try:
                sock.connect(str(path))
            except BaseException:
                sock.close()
                raise
        self.sock = sock
        self.sock.settimeout(timeout)
        self.buffer = bytearray()
        self.last_id = 0
        self.waiting = {}
        self.events = []
        self.info = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    # ---- bytes

    def send_raw(self, data, fds=()):
        """Every byte of @data, and @fds with the first of them."""
        if fds:
            sent = self.sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
            data = data[sent:]
        if data:
            self.sock.sendall(data)

    def _read(self, n):
        while len(self.buffer) < n:
            try:
                chunk = self.sock.recv(max(65536, min(n - len(self.buffer), 1 << 20)))
            except (ConnectionResetError, BrokenPipeError) as e:
                raise Closed("reset") from e
            if not chunk:
                raise Closed(f"end of stream, {len(self.buffer)} bytes of an unfinished frame")
            self.buffer += chunk
        out = bytes(memoryview(self.buffer)[:n])
        del self.buffer[:n]
        return out

    # ---- frames

    def send(self, message, body=b"", fds=()):
        self.send_raw(frame(message, body), fds)

    def recv_any(self):
        """The next frame, whatever it is: (Reply, body)."""
        n_message, n_body = HEADER.unpack(self._read(HEADER.size))
        assert 0 < n_message <= 64 << 20, f"the daemon announced a message of {n_message} bytes"
        reply = pb.Reply()
        reply.ParseFromString(self._read(n_message))
        return reply, self._read(n_body)

    def recv(self):
        """The next reply; events are put aside in `events`."""
        while True:
            reply, body = self.recv_any()
            if reply.WhichOneof("result") != "event":
                return reply, body
            assert reply.id == 0 and not body, "an event has id 0 and no body"
            self.events.append(reply.event)

    def next_id(self):
        self.last_id += 1
        return self.last_id

    def post(self, op, body=b"", deadline_ms=0, **fields):
        """Sends a request without waiting; gives its id for wait()."""
        i = self.next_id()
        self.send(request(i, op, deadline_ms, **fields), body)
        return i

    def wait(self, request_id):
        """The reply to one id."""
        while request_id not in self.waiting:
            reply, body = self.recv()
            if reply.id == 0:
                raise Refused(reply)
            assert 0 < reply.id <= self.last_id and reply.id not in self.waiting, f"reply to nobody: {reply}"
            self.waiting[reply.id] = reply, body
        return self.waiting.pop(request_id)

    def call(self, op, body=b"", deadline_ms=0, **fields):
        return self.wait(self.post(op, body, deadline_ms, **fields))

    def status(self, op, body=b"", **fields):
        """Only the status of a call; for errors also checks that the text is there."""
        reply, _ = self.call(op, body, **fields)
        if reply.status not in (OK, NOT_FOUND):
            assert reply.error, f"{pb.Status.Name(reply.status)} without a sentence"
        else:
            assert not reply.error, reply.error
        return reply.status

    def must(self, op, body=b"", **fields):
        """The reply of a call that has to succeed."""
        reply, _ = self.call(op, body, **fields)
        if reply.status != OK:
            raise Refused(reply)
        return reply

    def expect_goodbye(self, status=None, request_id=None):
        """Reads to the end of the stream; gives the last reply, which has to carry @status."""
        last = None
        try:
            while True:
                last, _ = self.recv()
        except Closed:
            pass
        if status is not None:
            assert last is not None, "closed without a word"
            assert last.status == status, f"{pb.Status.Name(last.status)}: {last.error}"
            assert last.error
            if request_id is not None:
                assert last.id == request_id
        return last

    def wait_event(self, timeout=10.0):
        """The next event, pinging to make the order of things plain."""
        deadline = time.monotonic() + timeout
        while not self.events and time.monotonic() < deadline:
            self.ping()
        return self.events.pop(0) if self.events else None

    # ---- requests

    def repeat(self, request_id, op, body=b"", **fields):
        """The reply to a request that an earlier connection of this client_id sent under this id."""
        self.send(request(request_id, op, repeated=True, **fields), body)
        return self.wait(request_id)

    def hello(self, realm="", name="outside", features=pb.FEATURE_EVENTS, minimum=1, maximum=1, client_id=b"",
              last_id=None):
        """@last_id: the last id of an earlier connection with this client_id, from which ids count on."""
        if last_id is not None:
            self.last_id = last_id
        reply = self.must("hello", protocol_min=minimum, protocol_max=maximum, client=name, realm=realm,
                          features=features, client_id=client_id)
        self.info = reply.hello
        return reply.hello

    def ping(self):
        return self.must("ping").ping

    def open(self, cache, **limits):
        """CacheInfo. Without limits the policy stays; open(x, unlimited=True) opens with an empty one."""
        p = None
        if limits.pop("unlimited", False) or limits:
            p = policy(**limits)
        return self.must("open_cache", cache=cache, policy=p).cache

    def set_policy(self, cache, unpin=False, reset=(), **limits):
        return self.must("set_policy", cache=cache, policy=policy(**limits) if limits else None,
                         unpin=unpin, reset=list(reset)).cache

    def get(self, cache, key, **more):
        """The value, or None for a miss."""
        return self.lookup(cache, key, **more)[1]

    def lookup(self, cache, key, **more):
        """(EntryInfo, value), or (None, None) for a miss."""
        reply, body = self.call("get", cache=cache, key=key, **more)
        if reply.status == NOT_FOUND:
            assert not body
            return None, None
        if reply.status != OK:
            raise Refused(reply)
        assert reply.entry.size == len(body)
        return reply.entry, body

    def set(self, cache, key, value, **more):
        return self.must("set", value, cache=cache, key=key, **more).entry

    def touch(self, cache, key, **more):
        """EntryInfo, or None for a miss."""
        reply, _ = self.call("touch", cache=cache, key=key, **more)
        if reply.status == NOT_FOUND:
            return None
        if reply.status != OK:
            raise Refused(reply)
        return reply.entry

    def delete(self, cache, key):
        status = self.status("delete", cache=cache, key=key)
        assert status in (OK, NOT_FOUND)
        return status == OK

    def clear(self, cache=None):
        """One cache; without a name the whole realm."""
        return self.must("clear", cache=cache, all=cache is None).clear

    def get_many(self, cache, keys, **more):
        """[(item, value or None)] in the order of the keys."""
        reply, body = self.call("get_many", cache=cache, keys=keys, **more)
        if reply.status != OK:
            raise Refused(reply)
        out, at = [], 0
        for item in reply.get_many.items:
            if item.status == OK:
                out.append((item, body[at:at + item.entry.size]))
                at += item.entry.size
            else:
                out.append((item, None))
        assert at == len(body) and len(out) == len(keys)
        return out

    def set_many(self, cache, items):
        """@items: (key, value, {fields of Set}); the items of the result."""
        sets = [pb.Set(key=k, **more) for k, _, more in items]
        reply = self.must("set_many", b"".join(v for _, v, _ in items), cache=cache, sets=sets,
                          sizes=[len(v) for _, v, _ in items])
        return list(reply.set_many.items)

    def stats(self, cache=None):
        """CacheStats of one cache, or the whole StatsResult."""
        result = self.must("stats", cache=cache).stats
        return result.cache if cache else result

    def explain(self, cache, key):
        return self.must("explain", cache=cache, key=key).explain

    def fate(self, cache, key):
        """The fate's name without its prefix: "LIVE", "EXPIRED", …"""
        return pb.Fate.Name(self.explain(cache, key).fate)[len("FATE_"):]

    def list_caches(self, page_size=0):
        out, cursor = [], 0
        while True:
            page = self.must("list_caches", page_size=page_size, cursor=cursor).list_caches
            out += page.caches
            cursor = page.next
            if not cursor:
                return out

    def list_pages(self, cache, page_size=0):
        """The pages of a cache's entries, one list each."""
        cursor = 0
        while True:
            page = self.must("list_entries", cache=cache, page_size=page_size, cursor=cursor).list_entries
            yield list(page.entries)
            cursor = page.next
            if not cursor:
                return

    def list_entries(self, cache, page_size=0):
        return [e for page in self.list_pages(cache, page_size) for e in page]

    def clients(self):
        return list(self.must("list_clients").list_clients.clients)

    def config(self):
        """{name: ConfigSetting}"""
        return {s.name: s for s in self.must("get_config").config.settings}
