# SPDX-License-Identifier: MIT
"""What a function is called, and what its code is: by scripts in processes of their own."""

import json
import os
import pathlib
import subprocess
import sys
import textwrap

import pytest

from cached import _identity

SHOW = """
def show(*functions, **more):
    import json
    from cached import _identity
    made = [_identity.identify(f, cache=more.get("cache"), version=more.get("version")) for f in functions]
    print(json.dumps([[i.name, i.cache, i.code if isinstance(i.code, str) else i.code.hex(), i.private] for i in made]))
"""


class Files:
    """Scripts and modules in a folder each, run in processes of their own."""

    def __init__(self, tmp_path):
        self.path = tmp_path

    def write(self, where, text):
        path = self.path / where
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    def run(self, *command, env=None, cwd=None):
        """What a script, or python with arguments, shows: [name, cache, code, private] of each function."""
        done = subprocess.run([sys.executable, *map(str, command)], text=True, capture_output=True,
                              cwd=cwd or self.path,
                              env={**os.environ, "PYTHONPATH": f"{self.path}:{os.environ['PYTHONPATH']}",
                                   **(env or {})})
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def script(self, text, where="app.py", **more):
        return self.run(self.write(where, SHOW + textwrap.dedent(text)), **more)

    def codes(self, text, **more):
        return [code for _, _, code, _ in self.script(text, **more)]

    def code(self, text, **more):
        [code] = self.codes(text, **more)
        return code


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path)


LOAD = """
def load_data(n):
    return n + 1
show(load_data)
"""


# ---- names


def test_two_processes_of_one_script_share(files):
    assert files.script(LOAD) == files.script(LOAD, env={"PYTHONHASHSEED": "7"})
    [[name, cache, code, private]] = files.script(LOAD)
    assert name == cache and name.startswith("app.load_data@") and len(name) == len("app.load_data@") + 8
    assert len(code) == 64 and not private


def test_two_scripts_with_the_same_function_do_not(files):
    one, other, third = (files.script(LOAD, where=w)[0] for w in ("app.py", "copy/app.py", "load.py"))
    assert len({one[0], other[0], third[0]}) == 3
    assert one[2] == other[2] == third[2]  # the same code under other names


def test_unless_cache_names_it(files):
    program = LOAD.replace("show(load_data)", "show(load_data, cache='tables')")
    one, other = (files.script(program, where=w)[0] for w in ("app.py", "copy/app.py"))
    assert one == other and one[:2] == ["load_data", "tables"]
    changed = files.script(program.replace("+ 1", "+ 2"), where="third.py")[0]
    assert changed[:2] == one[:2] and changed[2] != one[2]


def test_by_whatever_way_the_script_is_started(files):
    first = files.script(LOAD)
    (files.path / "link.py").symlink_to("app.py")
    assert files.run("app.py") == first
    assert files.run("../" + files.path.name + "/app.py") == first
    assert files.run("-m", "app") == first
    # The file is the same one by another name; what it calls itself is not.
    assert files.run("link.py")[0][0].rpartition("@")[2] == first[0][0].rpartition("@")[2]


def test_imported_and_as_the_script_it_is_one(files):
    files.write("app.py", SHOW + LOAD.replace("show(load_data)", "if __name__ == '__main__':\n    show(load_data)"))
    assert files.run("app.py") == files.run("-c", "import app; app.show(app.load_data)")


def test_children_of_multiprocessing_share_with_their_parent(files):
    program = """
    import multiprocessing
    import sys
    class Model:
        pass
    def load_data(n):
        return Model(), n
    def child(queue):
        from cached import _identity
        i = _identity.identify(load_data, cache=None, version=None)
        queue.put([i.name, i.cache, i.code.hex(), i.private])
    if __name__ == "__main__":
        context = multiprocessing.get_context(sys.argv[1])
        queue = context.Queue()
        process = context.Process(target=child, args=(queue,))
        process.start()
        got = queue.get()
        process.join()
        from cached import _identity
        i = _identity.identify(load_data, cache=None, version=None)
        import json
        print(json.dumps([got, [i.name, i.cache, i.code.hex(), i.private]]))
    """
    path = files.write("app.py", program)
    for way in ("spawn", "fork"):
        child, parent = files.run(path, way)
        assert child == parent


def test_names_are_bounded_and_still_differ(files):
    text = "".join(f"class {'C' * 150}{i}:\n    def f(self): pass\n" for i in (1, 2))
    names = [name for name, *_ in files.script(text + f"show({'C' * 150}1.f, {'C' * 150}2.f)\n")]
    assert len(set(names)) == 2 and all(len(name.encode()) <= 128 for name in names)
    text = "def ä" + "ö" * 100 + "(): pass\nshow(ä" + "ö" * 100 + ")\n"
    [[name, *_]] = files.script(text)
    assert len(name.encode()) <= 128


def test_a_version_is_the_code(files):
    made = files.script(LOAD.replace("show(load_data)", "show(load_data, version='v7')"))
    assert made[0][2] == "v7"
    with pytest.raises(TypeError, match="version"):
        _identity.identify(len, cache=None, version=7)
    names = [name for name, *_ in files.script("show(lambda x: x + 1, lambda x: x + 2, version='1')\n")]
    assert len(set(names)) == 2


def test_methods_partials_wrappers_and_builtins(files):
    names = [name.rpartition("@")[0] for name, *_ in files.script("""
    import functools, math
    class Model:
        def run(self): pass
        @classmethod
        def made(cls): pass
        @staticmethod
        def static(): pass
        def __call__(self): pass
    def wrap(f):
        @functools.wraps(f)
        def inner(*args, **kwargs):
            return f(*args, **kwargs)
        return inner
    @wrap
    def wrapped(): pass
    show(Model.run, Model().run, Model.made, Model.static, Model(), functools.partial(Model.run, 1), wrapped, math.sqrt,
         len)
    """)]
    assert names == ["app.Model.run", "app.Model.run", "app.Model.made", "app.Model.static", "app.Model.__call__",
                     "app.Model.run",
                     "app.wrapped", "math.sqrt", "builtins.len"]


# ---- where there is no file


def test_a_session_without_a_file_is_private_to_its_process(files):
    program = SHOW + LOAD
    one, other = files.run("-c", program)[0], files.run("-c", program)[0]
    assert one[3] and other[3] and one[0] != other[0] and one[0].startswith("__main__.load_data@")
    assert one[2] == other[2]
    assert files.run("-c", program.replace("+ 1", "+ 2"))[0][2] != one[2]


NOTEBOOK = """
import json, linecache, sys
from cached import _identity
cells = json.loads(sys.argv[1])
space = {"__name__": "__main__", **json.loads(sys.argv[2])}
import __main__
__main__.__dict__.pop("__file__")
for number, text in enumerate(cells):
    name = f"/tmp/ipykernel_{number}{sys.argv[4]}/{number}.py"
    if sys.argv[3] == "old":
        name = f"<ipython-input-{number}-abcdef>"
    linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    exec(compile(text, name, "exec"), space)
i = _identity.identify(space["f"], cache=None, version=None)
print(json.dumps([[i.name, i.cache, i.code.hex(), i.private]]))
"""


def notebook(files, cells, space=None, kind="old", number=1, **env):
    path = files.write("kernel.py", NOTEBOOK)
    return files.run(path, json.dumps(cells), json.dumps(space or {}), kind, number, env=env)[0]


@pytest.mark.parametrize("kind", ["old", "new"])
def test_notebooks(files, kind):
    cells = ["import os\nRATE = 3\n", "def helper(x):\n    return x * RATE\n",
             "# a comment\ndef f(x):\n    return helper(x) + 1\n"]
    env = {"JPY_SESSION_NAME": "/home/me/report.ipynb"}
    first = notebook(files, cells, kind=kind, **env)
    assert first[0].startswith("report.f@") and not first[3]
    assert notebook(files, ["", *cells], kind=kind, number=2, **env) == first
    code = first[2]
    assert notebook(files, [cells[0], cells[1], cells[2].replace("# a comment", "\n\n# more")], kind=kind,
                    **env)[2] == code
    assert notebook(files, [cells[0].replace("3", "4"), *cells[1:]], kind=kind, **env)[2] != code
    assert notebook(files, [cells[0], cells[1].replace("*", "+"), cells[2]], kind=kind, **env)[2] != code
    assert notebook(files, cells, kind=kind, JPY_SESSION_NAME="/home/me/other.ipynb")[0] != first[0]
    visual = notebook(files, cells, {"__vsc_ipynb_file__": "/home/me/report.ipynb"}, kind=kind)
    assert visual[0] == first[0]
    nobody = notebook(files, cells, kind=kind)
    assert nobody[3] and nobody[2] == code


def test_code_of_exec(files):
    """It has no source: its code in this version of Python stands for it."""
    def code(text):
        return files.codes(f"""
        space = {{"__name__": "made"}}
        exec({text!r}, space)
        show(space["f"])
        """)
    base = "N = 1\ndef g(x):\n    return x + N\ndef f(x):\n    return g(x)\n"
    assert code(base) == code("\n# comment\n" + base)
    assert len({tuple(code(text)) for text in (base, base.replace("N = 1", "N = 2"), base.replace("x + N", "x - N"),
                                               base.replace("g(x)\n", "g(x) + 1\n"))}) == 4


def test_the_interpreter_s_own_functions():
    i = _identity.identify(len, cache=None, version=None)
    assert i.name.startswith("builtins.len@") and len(i.code) == 32 and i.code == _identity.code_of(len)
    assert i.code != _identity.code_of(max)
    assert pathlib.Path(_identity.__file__).exists()


PIPED = """
import cached

def rate():
    return {rate}

@cached.cache_data
def price(x):
    return x * rate()

before = price(2)

def rate():
    return {rate} * 10

@cached.cache_data
def price(x):
    return x * rate()

print(before, price(2), price.cache_info().cache)
"""


def test_scripts_that_are_read_from_a_pipe_share_nothing(daemon, tmp_path):
    """Nothing tells one from another one. Within one, a helper is code, too."""
    caches = set()
    for rate in (3, 1000, 3):
        done = subprocess.run([sys.executable, "-"], input=PIPED.format(rate=rate), text=True, capture_output=True, cwd=tmp_path)
        before, after, cache = done.stdout.split()
        assert (before, after) == (f"{2 * rate}", f"{20 * rate}"), done.stderr
        caches.add(cache)
    assert len(caches) == 3
