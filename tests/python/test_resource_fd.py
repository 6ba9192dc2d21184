# SPDX-License-Identifier: MIT
"""Open sockets and files that are one for all processes."""

import socket
import threading

import pytest

from peers import Failed, Peer


class Server:
    """Says in answer to each line which connection it came on, and which line of that it was."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.connections = []
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                connection = self.listener.accept()[0]
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self.serve, args=(connection, len(self.connections)), daemon=True).start()

    def serve(self, connection, number):
        lines = connection.makefile("rb")
        for i, line in enumerate(lines, 1):
            connection.sendall(b"%d %d %s" % (number, i, line))

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for c in self.connections:
            c.close()


@pytest.fixture
def server():
    made = Server()
    yield made
    made.close()


def client(port, arguments='kind="descriptor"'):
    return f"""
import socket
made, gone = [], []

@cached.cache_resource({arguments})
def connection():
    made.append(1)
    return socket.create_connection(("127.0.0.1", {port}))

def ask(text):
    with cached.lock(connection()) as s:
        s.sendall(text.encode() + b"\\n")
        answer = b""
        while not answer.endswith(b"\\n"):
            answer += s.recv(100)
        return answer.decode().strip()
"""


def test_one_connection_for_all(daemon, python, server):
    a, b, c = (Peer(python, client(server.port)) for _ in range(3))
    assert [a("ask('x')"), b("ask('y')"), c("ask('z')"), a("ask('u')")] == ["1 1 x", "1 2 y", "1 3 z", "1 4 u"]
    assert [p("made") for p in (a, b, c)] == [[1], [], []]
    assert b("[type(connection()).__name__, connection() is connection(), connection().family.name, connection().type.name]") == [
        "socket", True, "AF_INET", "SOCK_STREAM"]


def test_a_socket_with_a_time_limit_does_not_fail_elsewhere(daemon, python, server):
    a, b = (Peer(python, client(server.port).replace("made.append(1)\n    return socket.create_connection((",
                                                     "return socket.create_connection(timeout=20, address=(")) for _ in range(2))
    assert [a("ask('x')"), b("ask('y')"), a("connection().gettimeout()")] == ["1 1 x", "1 2 y", 20]


def test_that_it_is_declared_is_enough(daemon, python, server):
    text = client(server.port, "shared=True").replace("def connection():", "def connection() -> socket.socket:")
    a, b = (Peer(python, text) for _ in range(2))
    assert [a("ask('x')"), b("ask('y')")] == ["1 1 x", "1 2 y"]


def test_a_lock_whose_owner_is_killed_ends_the_connection(daemon, python, server):
    a, b = (Peer(python, client(server.port, 'kind="descriptor", on_release=gone.append')) for _ in range(2))
    assert [a("ask('x')"), b("ask('y')")] == ["1 1 x", "1 2 y"]
    a("globals().update(l=cached.lock(connection()))")
    a("l.__enter__().sendall(b'half a line')")
    a.kill()
    b.until("len(gone)", 1)
    assert b("ask('z')") == "2 1 z"


def test_a_lock_is_for_one(daemon, python, server):
    a, b = (Peer(python, client(server.port)) for _ in range(2))
    b("connection().fileno()")
    a("globals().update(l=cached.lock(connection()))")
    a("l.__enter__().fileno()")
    with pytest.raises(Failed, match="TimeoutError"):
        b("cached.lock(connection(), 0.05).__enter__()")
    a("l.__exit__(None, None, None)")
    assert b("ask('x')") == "1 1 x"


def test_who_finds_it_out_of_step_says_so(daemon, python, server):
    a, b = (Peer(python, client(server.port, 'kind="descriptor", on_release=gone.append')) for _ in range(2))
    assert [a("ask('x')"), b("ask('y')")] == ["1 1 x", "1 2 y"]
    b("cached.invalidate(connection(), 'out of step')")
    a.until("len(gone)", 1)
    assert [a("ask('x')"), b("ask('y')")] == ["2 1 x", "2 2 y"]


def test_the_other_end_closes(daemon, python, server):
    a = Peer(python, client(server.port, 'kind="descriptor", on_release=gone.append'))
    a("ask('x')")
    server.connections[0].shutdown(socket.SHUT_RDWR)
    a.until("len(gone)", 1)
    assert a("ask('y')") == "2 1 y"


def test_a_text_file_is_one_log(daemon, python, tmp_path):
    log = tmp_path / "log"
    a, b = (Peer(python, f"""
@cached.cache_resource(kind="descriptor", encoding="utf-8")
def log():
    f = open({str(log)!r}, "w", encoding="utf-8")
    f.write("begun\\n")
    return f
""") for _ in range(2))
    for i in range(3):
        for name, p in (("a", a), ("b", b)):
            p(f"log().write('{name}{i} ü\\n')")
    assert log.read_text().split("\n") == ["begun", "a0 ü", "b0 ü", "a1 ü", "b1 ü", "a2 ü", "b2 ü", ""]


def test_a_binary_file_has_one_position(daemon, python, tmp_path):
    path = tmp_path / "data"
    path.write_bytes(bytes(range(100)))
    a, b = (Peer(python, f"""
@cached.cache_resource(kind="descriptor")
def data():
    f = open({str(path)!r}, "rb")
    f.read(10)
    return f
""") for _ in range(2))
    assert [a("list(data().read(3))"), b("list(data().read(3))"), a("data().seek(50)"), b("list(data().read(2))"), b("data().mode")] == [
        [10, 11, 12], [13, 14, 15], 50, [50, 51], "rb"]


def test_a_pipe_and_a_number(daemon, python, tmp_path):
    a, b = (Peer(python, """
@cached.cache_resource(kind="descriptor")
def reader():
    r, w = os.pipe()
    os.write(w, b"abcdef")
    return r

@cached.cache_resource(kind="descriptor")
def bell():
    return __import__("cached")._binding.departed_bell()
""") for _ in range(2))
    assert [a("reader().read(2).decode()"), b("reader().read(2).decode()"), a("reader().read(2).decode()")] == ["ab", "cd", "ef"]
    assert a("os.fstat(bell().fileno()).st_ino") == b("os.fstat(bell().fileno()).st_ino")


def test_what_is_no_descriptor(daemon, python, tmp_path):
    a = Peer(python, f"""
import ssl, socket

@cached.cache_resource(kind="descriptor")
def plain(what):
    if what == "tls":
        return ssl.create_default_context().wrap_socket(socket.socket(), server_hostname="x")
    if what == "folder":
        return os.open("/", os.O_RDONLY)
    return {{"text": lambda: open({str(tmp_path / "f")!r}, "w", encoding="latin-1"), "number": lambda: 12345, "list": list}}[what]()

@cached.cache_resource(kind="descriptor", encoding="utf-8")
def binary():
    return open({str(tmp_path / "f")!r}, "wb")
""")
    for call, text in {
        "plain('tls')": "its keys are in the memory of this process",
        "plain('text')": "say cache_resource(encoding='latin-1')",
        "plain('number')": "which is no open descriptor",
        "plain('list')": "a socket, a file or a number of a descriptor is needed",
        "plain('folder')": "a descriptor that cannot be shared",
        "binary()": "has encoding= and returned a binary file",
    }.items():
        with pytest.raises(Failed) as e:
            a(call)
        assert e.value.args[0] == "TypeError" and text in e.value.args[1]


def test_alone_without_a_daemon(daemon, python, server):
    daemon.stop()
    a, b = (Peer(python, client(server.port)) for _ in range(2))
    assert [a("ask('x')"), a("ask('y')"), a("made")] == ["1 1 x", "1 2 y", [1]]
    daemon.process = daemon.spawn()
    a.until("connection() is connection() and connection.__cached__.holding.table[connection.__cached__.key((), {})].instance > 0")
    assert [b("ask('z')"), a("ask('u')"), a("made"), b("made")] == ["1 3 z", "1 4 u", [1], []]


def test_wrong_options(daemon, python):
    a = Peer(python, "def f(): return 1")
    for arguments, text in {
        "kind='thing'": 'kind= of \'f\' is "local", "segment", "buffers" or "descriptor"',
        "kind='local', shared=True": "whose objects stay in their process",
        "kind='segment', readonly=True": 'readonly=True, which is for kind="buffers"',
        "capacity=5": "capacity= of 'f' is for shared lists and dicts",
        "shared=True, capacity=-5": "capacity= of 'f' is a number of bytes",
        "encoding='utf-8'": 'encoding= of \'f\' is for kind="descriptor"',
    }.items():
        with pytest.raises(Failed) as e:
            a(f"cached.cache_resource(f, {arguments})")
        assert e.value.args[0] == "ValueError" and text in e.value.args[1]
