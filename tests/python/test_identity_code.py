# SPDX-License-Identifier: MIT
"""The code of a function: what changes it, and what does not."""

import shutil
import subprocess
import sys
import textwrap

import pytest

from harness import LONG
from test_identity import Files, files  # noqa: F401

PROGRAM = """
import functools
import math
import threading

RATE = 3
NAMES = ("a", ("b", frozenset({1, 2})))
connection = object()
model = {"weights": [1, 2]}
lock = threading.Lock()
seen = []
counter = 0


def clean(text):
    return deeper(text).strip()


def deeper(text):
    # a comment
    return text.lower() + "x"


class Parser:
    LIMIT = 10

    def __init__(self, n):
        self.n = n

    def parse(self, text):
        return text[:self.LIMIT]


def load(n, by=2, *, scale=RATE):
    '''Loads.'''
    global counter
    counter += 1
    seen.append(n)
    with lock:
        return [clean(NAMES[0]), Parser(n).parse(model["weights"]), connection, math.sqrt(RATE),
                sum(x for x in range(n))]


show(load)
"""

UNCHANGED = {
    "comments": ("    # a comment\n", "    # another\n    # and one more\n"),
    "blank lines": ("    return deeper(text).strip()", "\n\n    return deeper(text).strip()"),
    "indentation": ("    return deeper(text).strip()", "            return deeper(text).strip()"),
    "line breaks": ("return deeper(text).strip()", "return deeper(\n        text,\n    ).strip()"),
    "quotes": ('"x"', "'x'"),
    "parentheses": ("return text.lower() + \"x\"", "return (text.lower() + (\"x\"))"),
    "other functions": ("class Parser", "def unused(): pass\n\n\nclass Parser"),
    "a connection": ("connection = object()", "connection = open('/dev/null')"),
    "a model": ('{"weights": [1, 2]}', '{"weights": [3, 4], "more": object()}'),
    "a list": ("seen = []", "seen = [1, 2, object()]"),
    "a counter": ("counter = 0", "counter = 100"),
    "a constant that is not used": ("RATE = 3", "OTHER = 5\nRATE = 3"),
    "comments of a class": ("    LIMIT = 10\n", "    # at most\n    LIMIT = 10\n"),
    "how a number is written": ("LIMIT = 10", "LIMIT = 0xA"),
}

CHANGED = {
    "its own source": ("sum(x for x in range(n))", "sum(x for x in range(n + 1))"),
    "a default": ("by=2", "by=3"),
    "a constant": ("RATE = 3", "RATE = 4"),
    "the type of a constant": ("RATE = 3", "RATE = 3.0"),
    "a constant in a constant": ("frozenset({1, 2})", "frozenset({1, 3})"),
    "a helper": ("return deeper(text).strip()", "return deeper(text).lstrip()"),
    "a helper's helper": ('+ "x"', '+ "y"'),
    "a method of a class": ("text[:self.LIMIT]", "text[1:self.LIMIT]"),
    "a constant of a class": ("LIMIT = 10", "LIMIT = 11"),
    "how a class is made": ("self.n = n", "self.n = n + 1"),
    "its docstring": ("'''Loads.'''", "'''Reads.'''"),
    "a helper's default": ("def clean(text)", "def clean(text, by=1)"),
}


def test_what_changes_it_and_what_does_not(files):  # noqa: F811
    """All versions of the program as scripts of one process: what each is called plays no part."""
    texts = {"": PROGRAM}
    for name, (old, new) in {**UNCHANGED, **CHANGED}.items():
        assert PROGRAM.count(old) == 1, name
        texts[name] = PROGRAM.replace(old, new)
    for number, text in enumerate(texts.values()):
        files.write(f"v{number}.py", "def show(f):\n    global shown\n    shown = f\n" + text)
    files.write("all.py", f"""
        import importlib, json
        from cached import _identity
        print(json.dumps([_identity.code_of(importlib.import_module(f"v{{i}}").shown).hex()
                          for i in range({len(texts)})]))
        """)
    codes = dict(zip(texts, files.run("all.py")))
    assert [name for name in UNCHANGED if codes[name] != codes[""]] == []
    assert [name for name in CHANGED if codes[name] == codes[""]] == []
    assert len({codes[name] for name in CHANGED}) == len(CHANGED)


def test_our_own_decorators_are_left_out_and_others_are_not(files):  # noqa: F811
    program = """
    import functools
    import cached
    from cached import _keys
    class Decorator:  # stands for the real one
        def __call__(self, f=None, **options):
            return f if f else lambda f: f
    Decorator.__module__ = "cached._data"
    cached.cache_data = Decorator()
    {wrap}
    {decorator}
    def load(n):
        return n
    show(load)
    """
    def code(decorator, wrap="def other(f, n=1):\n        return f"):
        return files.code(program.format(decorator=decorator, wrap=wrap))

    plain = code("@cached.cache_data(ttl=1)")
    assert plain == code("") == code("@cached.cache_data") == code("@cached.cache_data(ttl=60, tags=['x'])")
    assert code("@other") != plain
    assert code("@functools.partial(other, n=2)") != plain


def test_helpers_behind_decorators(files):  # noqa: F811
    program = """
    import functools
    def twice(f):
        @functools.wraps(f)
        def inner(*args):
            return {inner}
        return inner
    @twice
    def helper(x):
        return {helper}
    @functools.lru_cache(maxsize=None)
    def kept(x):
        return {kept}
    half = functools.partial(helper, {half})
    def load(n):
        return helper(n) + kept(n) + half()
    show(load)
    show(helper)
    """
    base = {"inner": "f(f(*args))", "helper": "x + 1", "kept": "x + 1", "half": "2"}
    codes = [files.code(program.format(**base))]
    for name, text in (("inner", "f(*args)"), ("helper", "x + 2"), ("kept", "x + 3"), ("half", "3")):
        codes.append(files.code(program.format(**{**base, name: text})))
    assert codes[1:2] != codes[:1] and codes[1] != codes[2] and codes[3] == codes[4] == codes[0]  # of helper alone
    whole = [files.codes(program.replace("show(helper)", "").format(**{**base, **more}))[0] for more in (
        {}, {"inner": "f(*args)"}, {"helper": "x + 2"}, {"kept": "x + 3"}, {"half": "3"})]
    assert len(set(whole)) == 5


def test_mutual_recursion(files):  # noqa: F811
    program = """
    def even(n):
        return True if n == 0 else odd(n - 1)
    def odd(n):
        return {last} if n == 0 else even(n - 1)
    def load(n):
        return even(n), load
    show(load, even, odd)
    """
    a, b = files.codes(program.format(last="False")), files.codes(program.format(last="None"))
    assert len(set(a + b)) == 6
    assert files.codes(program.format(last="False")) == a


@pytest.mark.skipif(not LONG, reason="the long form: hundreds of helpers")
def test_a_long_chain_of_helpers(files):  # noqa: F811
    def program(last):
        chain = "".join(f"def f{i}(x):\n    return f{i + 1}(x)\n" for i in range(2000))
        return chain + f"def f2000(x):\n    return {last}\nshow(f0)\n"
    assert files.code(program("x")) != files.code(program("-x"))


def test_helpers_of_other_modules_of_the_project(files):  # noqa: F811
    def code(helper="x + 1", constant="5", installed="x", other="0"):
        files.write("project/__init__.py", "")
        files.write("project/tools.py", f"from . import deep\nLIMIT = {constant}\nUNUSED = {other}\n"
                                        f"def clean(x):\n    return deep.more({helper})\n")
        files.write("project/deep.py", "def more(x):\n    return x\n")
        files.write("lib/site-packages/installed.py", f"VERSION = 1\ndef helper(x):\n    return {installed}\n")
        return files.code("""
        import sys, pathlib
        sys.path.insert(0, str(pathlib.Path(__file__).parent / "lib/site-packages"))
        import installed, project.tools
        from installed import helper
        from project import tools as t
        def load(n):
            return project.tools.clean(n) + t.LIMIT + installed.helper(n) + helper(n) + installed.VERSION
        show(load)
        """)
    base = code()
    assert code(helper="x + 2") != base and code(constant="6") != base
    assert code(installed="x + 7") == base and code(other="1") == base
    files.write("project/deep.py", "")
    assert code() == base


def test_an_installed_application_sees_its_own_helpers(files):  # noqa: F811
    def code(own, other):
        files.write("lib/site-packages/app/__init__.py", "")
        files.write("lib/site-packages/app/tools.py", f"def clean(x):\n    return {own}\n")
        files.write("lib/site-packages/foreign.py", f"def helper(x):\n    return {other}\n")
        files.write("lib/site-packages/app/main.py",
                    "import foreign\nfrom .tools import clean\ndef load(n):\n    return clean(n), foreign.helper(n)\n")
        return files.code("""
        import sys, pathlib
        sys.path.insert(0, str(pathlib.Path(__file__).parent / "lib/site-packages"))
        from app.main import load
        show(load)
        """)
    assert code("x", "x") == code("x", "x + 1") != code("x + 1", "x")


def test_closures(files):  # noqa: F811
    codes = files.codes("""
    def adder(n, more=None):
        def add(x):
            return x + n if more is None else more
        return add
    def through(f):
        return lambda x: f(x)
    show(adder(1), adder(1), adder(2), adder("1"), adder([1]), adder([2]), adder(1, object()), through(adder(1)),
         through(adder(2)),
         through(len))
    """)
    one, again, two, text, first_list, second_list, hidden, *through = codes
    assert one == again
    assert len({one, two, text, first_list, hidden, *through}) == 8
    assert first_list == second_list  # what is no constant is not looked into


def test_lambdas_on_one_line(files):  # noqa: F811
    codes = files.codes("""
    a, b, c = (lambda x: x + 1), (lambda x: x + 2), (lambda y: y + 1)
    d, e = (lambda x, n=1: x + n), (lambda x, n=2: x + n)
    show(a, b, c, d, e)
    """)
    assert len(set(codes)) == 5


def test_methods_that_a_method_calls(files):  # noqa: F811
    program = """
    class Base:
        def inherited(self):
            return {inherited}
    class Model(Base):
        RATE = {rate}
        def load(self, n):
            return self.helper(n) + self.inherited() + self.size + self.RATE
        def helper(self, n):
            return {helper}
        @property
        def size(self):
            return {size}
        def unused(self):
            return {unused}
    show(Model.load)
    """
    base = {"inherited": "1", "rate": "2", "helper": "3", "size": "4", "unused": "5"}
    codes = [files.code(program.format(**base))] + [files.code(program.format(**{**base, name: "9"})) for name in base]
    assert len(set(codes)) == 5 and codes[0] == codes[-1]


def test_classes_and_enums_that_are_used(files):  # noqa: F811
    program = """
    import dataclasses, enum
    class Color(enum.Enum):
        RED = {red}
        BLUE = 2
    @dataclasses.dataclass
    class Point:
        x: int = {x}
        def norm(self):
            return {norm}
    def load(n):
        return Color.RED, Point().norm()
    show(load)
    """
    base = {"red": "1", "x": "0", "norm": "abs(self.x)"}
    codes = [files.code(program.format(**base)), files.code(program.format(**base))]
    codes += [files.code(program.format(**{**base, name: "9"})) for name in base]
    assert codes[0] == codes[1] and len(set(codes)) == 4


def test_what_runs_counts_and_not_what_the_file_says_by_now(files):  # noqa: F811
    """A process that imported a module before somebody edited it must not store under the new code's key."""
    files.write("tools.py", "def helper(x):\n    return x + 1\n")
    program = """
    import pathlib, tools
    def load(n):
        return tools.helper(n)
    {edit}
    show(load)
    """
    path = files.path / "tools.py"
    old = files.code(program.format(edit=""))
    stale = files.code(program.format(
        edit=f"pathlib.Path({str(path)!r}).write_text('def helper(x):\\n    return x + 2\\n')"))
    new = files.code(program.format(edit=""))
    assert len({old, stale, new}) == 3
    moved = files.code(program.format(
        edit=f"pathlib.Path({str(path)!r}).write_text('# moved\\n\\ndef helper(x):\\n    return x + 2\\n')"))
    assert moved == new


def test_what_is_defined_below_is_seen(files):  # noqa: F811
    program = """
    from cached import _identity
    def load(n):
        return helper(n) + RATE
    identity = _identity.identify(load, cache=None, version=None)
    def helper(n):
        return {helper}
    RATE = {rate}
    first = identity.code
    RATE = 100
    assert identity.code == first
    import json
    print(json.dumps([["", "", identity.code.hex(), False]]))
    """
    assert len({files.code(program.format(helper=h, rate=r)) for h, r in (("n", 1), ("-n", 1), ("n", 2))}) == 3


def test_a_package_hanging_on_a_function_takes_no_time(files):  # noqa: F811
    """A function of a library as it is: its package is not parsed, and nothing breaks."""
    codes = files.codes("""
    import json, subprocess, unittest.mock, argparse
    show(json.dumps, subprocess.run, unittest.mock.patch, argparse.ArgumentParser.parse_args, argparse.ArgumentParser)
    """)
    assert len(set(codes)) == 5


EVERYTHING = '''
from __future__ import annotations
import os.path as p
X = 1
async def coroutine(a, /, b: int = 2, *args, c=3, d, **kw) -> dict:
    """Doc.

        indented
    """
    async with a as (x, y), b:
        async for i in c:
            await i
    return {**kw, "k": [*args], b"k": {1, 2.5, 1j, None, ..., True}}
def f(x, *, n=-1):
    def inner(y=x):
        nonlocal x
        x = y
        return lambda z=1, *a, **k: (yield z)
    if (m := x) > 1 and not n or x is not None and 1 < n <= 3 != 4:
        text = f"a{x!r:>{n}} {x=} {m:%Y-%m} {{}} {'q'}" "b" f'c{n}' + rb"\\d".decode() + "\\N{BULLET}\\u00e9"
    elif x[1:2, ::3, ...]:
        del x[0], n
    try:
        raise ValueError from None
    except (ValueError, TypeError) as e:
        assert e, "message"
    else:
        pass
    finally:
        with open(p.sep) as g: g.read()
    for i, *rest in [a for b in x if b for a in b]: continue
    while True: break
    t = {k: v for k, v in x}, (i for i in x), {*x}, x @ n ** 2 // 3 << 1 & ~0 ^ 7 | 8
    x.y.z += 1; x: int = 3
    class C(Base, metaclass=M):
        a: int = 1
        @property
        def p(self): return super().p
    return coroutine, X, t, text, 10**20, 1e300, 0x10, "a" "b", u"u", r"\\n", """multi
line"""
'''


@pytest.mark.skipif(not LONG, reason="the long form: several interpreters")
def test_all_versions_of_python_come_to_the_same_digest(tmp_path):
    """Where there are several on this machine."""
    (tmp_path / "everything.py").write_text(EVERYTHING)
    (tmp_path / "look.py").write_text(textwrap.dedent("""
        import importlib.util, sys, types
        spec = importlib.util.spec_from_file_location("source", sys.argv[1])
        source = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(source)
        module = types.ModuleType("everything")
        exec(compile(open("everything.py").read(), "everything.py", "exec"),
             module.__dict__)
        for function in (module.f, module.coroutine):
            found = source.source_of(function)
            print(found.digest.hex(), found.names, found.attributes)
        """))
    from cached import _source
    interpreters = {path for n in range(9, 15) for path in (shutil.which(f"python3.{n}"),) if path}
    said = {}
    for python in sorted({sys.executable, *interpreters}):
        version = subprocess.run([python, "-c", "import sys; print(sys.version_info >= (3, 9))"], text=True,
                                 capture_output=True)
        if version.stdout.strip() == "True":
            done = subprocess.run([python, "look.py", _source.__file__], text=True, capture_output=True, cwd=tmp_path)
            assert done.returncode == 0, (python, done.stderr)
            said[python] = done.stdout
    assert len(set(said.values())) == 1, said
    if len(said) == 1:
        pytest.skip("one version of Python is all there is")


# Programs that do one thing with 1 and another with 2 in them.
MATTERS = {
    "a method of a global object": "class C:\n    def m(self): return {n}\nc = C()\ndef load(): return c.m()\n",
    "a base's method": "class B:\n    def m(self): return {n}\nclass C(B):\n    def load(self): return super().m()\n"
                       "load = C.load\n",
    "a cached property": "import functools\nclass C:\n    @functools.cached_property\n    def p(self): return {n}\n"
                         "    def load(self): return self.p\nload = C.load\n",
    "a cached property of a class": "import functools\nclass C:\n    @functools.cached_property\n"
                                    "    def p(self): return {n}\ndef load(): return C().p\n",
    "a static method": "class C:\n    @staticmethod\n    def m(): return {n}\ndef load(): return C.m()\n",
    "a partial method": "import functools\nclass C:\n    def m(self, n): return n\n"
                        "    p = functools.partialmethod(m, {n})\ndef load(): return C().p()\n",
    "a metaclass": "class M(type):\n    def __call__(self): return {n}\nclass C(metaclass=M): pass\n"
                   "def load(): return C()\n",
    "a single dispatch": "import functools\n@functools.singledispatch\ndef g(x): return 0\n@g.register(int)\n"
                         "def other(x): return {n}\ndef load(): return g(1)\n",
    "a tuple of functions": "def g(): return {n}\nall = (len, g)\ndef load(): return all[1]()\n",
    "a global member of an enum": "import enum\nclass E(enum.Enum):\n    A1 = 1\n    A2 = 2\nm = E.A{n}\n"
                                  "def load(): return m\n",
    "a member in a closure": "import enum\nclass E(enum.Enum):\n    A1 = [1]\n    A2 = [2]\ndef make(m):\n"
                             "    def load(): return m\n    return load\nload = make(E.A{n})\n",
    "a path": "import pathlib\np = pathlib.Path('{n}')\ndef load(): return p.read_text()\n",
    "a date": "import datetime\nd = datetime.date(2024, 1, {n})\ndef load(): return d\n",
    "a number with a point": "import decimal\nd = decimal.Decimal('1.{n}')\ndef load(): return d\n",
    "a pattern": "import re\np = re.compile('" + "x" * 250 + "{n}')\ndef load(): return p\n",
}


@pytest.mark.parametrize("text", MATTERS.values(), ids=MATTERS)
def test_what_matters_behind_a_name(files, text):  # noqa: F811
    one, two, again = (files.code(text.format(n=n) + "show(load)\n") for n in (1, 2, 1))
    assert one == again != two
