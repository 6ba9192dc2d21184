# SPDX-License-Identifier: MIT
"""cachectl against a daemon that means harm: it leads in circles, dawdles, and says what steers a terminal.

The fake answers each request with what a function of the test makes of it.
"""

import contextlib
import pathlib
import shutil
import socket
import tempfile
import threading
import time

import pytest

import wire
from cachectl import DONE, REFUSED, UNREACHABLE, needs_cachectl, run_plain

pytestmark = needs_cachectl
pb = wire.pb


def receive(s):
    def exactly(n):
        data = b""
        while len(data) < n:
            part = s.recv(n - len(data))
            if not part:
                raise EOFError
            data += part
        return data
    n_message, n_body = wire.HEADER.unpack(exactly(wire.HEADER.size))
    request = pb.Request.FromString(exactly(n_message))
    exactly(n_body)
    return request


def hello(request):
    reply = pb.Reply(id=request.id)
    reply.hello.protocol = 1
    reply.hello.version = "0.0"
    reply.hello.realm = "uid:0"
    reply.hello.max_message_bytes = 1 << 20
    reply.hello.max_value_bytes = 1 << 30
    reply.hello.max_requests_in_flight = 16
    reply.hello.max_keys_per_request = 4096
    return reply


@contextlib.contextmanager
def fake(answer):
    """Serves one connection with answer(request) -> Reply; gives the socket's path and what was asked for."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="cached-t-"))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(directory / "s"))
    listener.listen()
    asked = []

    def serve():
        with contextlib.suppress(OSError, EOFError):
            connection, _ = listener.accept()
            with connection:
                connection.sendall(wire.frame(hello(receive(connection))))
                while True:
                    asked.append(receive(connection))
                    connection.sendall(wire.frame(answer(asked[-1])))
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield str(directory / "s"), asked
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        shutil.rmtree(directory)


def entries(request, following):
    reply = pb.Reply(id=request.id)
    reply.list_entries.next = following
    reply.list_entries.entries.add(key=b"k")
    return reply


def caches(request, following):
    reply = pb.Reply(id=request.id)
    reply.list_caches.next = following
    reply.list_caches.caches.add(name="c")
    return reply


LISTINGS = [(["ls", "t"], entries, "list_entries"), (["caches"], caches, "list_caches"),
            (["caches", "--names"], caches, "list_caches")]


@pytest.mark.parametrize("args, page, op", LISTINGS)
@pytest.mark.parametrize("cursors", [[7, 7], [7, 6], [7, 9, 3]])
def test_cli_f1_a_listing_that_goes_in_circles_ends(args, page, op, cursors):
    with fake(lambda request: page(request, cursors[min(len(asked), len(cursors)) - 1])) as (path, asked):
        r = run_plain("--socket", path, *args)
    assert r.status == UNREACHABLE and "does not advance" in r.err
    assert [getattr(request, op).cursor for request in asked] == [0] + cursors[:-1]


@pytest.mark.parametrize("args, page, op", LISTINGS)
def test_cli_f2_a_listing_that_never_ends_is_given_up(args, page, op):
    """Each page comes in time, but --timeout is for all of them."""
    def dawdle(request):
        time.sleep(0.02)
        return page(request, len(asked))
    with fake(dawdle) as (path, asked):
        r = run_plain("--socket", path, "--timeout", "300ms", *args)
    assert r.status == UNREACHABLE and "--timeout" in r.err
    assert 1 < len(asked) <= 16


@pytest.mark.parametrize("args, page, op", LISTINGS)
def test_cli_f3_a_listing_of_many_pages(args, page, op):
    with fake(lambda request: page(request, len(asked) if len(asked) < 50 else 0)) as (path, asked):
        r = run_plain("--socket", path, *args)
    assert r.status == DONE and len(asked) == 50
    assert len(r.lines) == 50 + (args[-1] != "--names")


MARKS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@pytest.mark.parametrize("args", [["caches"], ["caches", "--names"]])
def test_cli_f4_a_name_cannot_turn_around_what_follows(args):
    def turned(request):
        reply = pb.Reply(id=request.id)
        for i, mark in enumerate(MARKS):
            reply.list_caches.caches.add(name=f"a{i}{mark}b")
        return reply
    with fake(turned) as (path, _):
        r = run_plain("--socket", path, *args)
        assert r.status == DONE
    assert not set(MARKS) & set(r.text)
    for i in range(len(MARKS)):
        assert f"a{i}?b" in r.text


def test_cli_f5_an_error_cannot_either():
    with fake(lambda request: pb.Reply(id=request.id, status=pb.INVALID, error="a\u202eb\u2066c")) as (path, _):
        r = run_plain("--socket", path, "get", "t", "k")
    assert "a?b?c" in r.err


# ---- a change of which nobody knows any more


def lost(request):
    reply = pb.Reply(id=request.id, status=pb.OUTCOME_UNKNOWN)
    reply.error = "the daemon does not remember"
    return reply


def stored(request):
    reply = pb.Reply(id=request.id)
    reply.entry.version = 7
    return reply


@pytest.mark.parametrize("more", [[], ["--ttl", "1h"]])
def test_cf30_a_plain_set_is_repeated(more):
    """A second time changes nothing: what was to be there is there."""
    answers = [lost, lost, stored]
    with fake(lambda r: answers.pop(0)(r)) as (path, asked):
        r = run_plain("--socket", path, "set", "c", "k", *more, stdin=b"v")
    assert (r.status, r.err, len(asked)) == (DONE, "", 3)


def test_cf31_but_not_for_ever():
    with fake(lost) as (path, asked):
        r = run_plain("--socket", path, "set", "c", "k", stdin=b"v")
    assert r.status == REFUSED and 1 < len(asked) < 20
    assert r.err == "cachectl: set: it is not known whether it happened: the daemon does not remember\n"


@pytest.mark.parametrize("more", [["--add"], ["--replace"], ["--version", "3"]])
def test_cf32_a_set_with_a_condition_is_not(more):
    """The second time would fail because of the first."""
    with fake(lost) as (path, asked):
        r = run_plain("--socket", path, "set", "c", "k", *more, stdin=b"v")
    assert r.status == REFUSED and len(asked) == 1
    assert r.err == "cachectl: set: it is not known whether it happened: the daemon does not remember\n"
