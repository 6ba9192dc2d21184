# SPDX-License-Identifier: MIT
"""The package's README and its page for newcomers: their programs run, and no public name or argument is missing."""

import contextlib
import gc
import inspect
import pathlib
import re

import pytest

import cached

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "client" / "python"
README = FOLDER / "README.md"
BLOCKS = [(page.name, number, text) for page in (README, FOLDER / "docs" / "coming-from.md")
          for number, text in enumerate(re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.S | re.M))]


@contextlib.contextmanager
def run(text, tmp_path):
    """Runs a program; gives its globals. What it opened and made is gone afterwards."""
    program = tmp_path / "program.py"
    program.write_text(text)
    space = {"__name__": "program", "__file__": str(program)}
    exec(compile(text, str(program), "exec"), space)
    yield space
    for value in space.values():
        if isinstance(value, cached.Session):
            with contextlib.suppress(cached.SessionExpiredError):
                value.close()
    cached.cache_resource.clear()
    del value
    space.clear()
    gc.collect()  # functions and their globals are circles


@pytest.mark.parametrize("page, number, text", BLOCKS, ids=[f"{page}-{number}" for page, number, _ in BLOCKS])
def test_programs(daemon, tmp_path, page, number, text):
    with run(text if "import cached" in text else f"import cached\n{text}", tmp_path):
        pass


def test_what_the_five_minutes_promise(daemon, tmp_path):
    [text] = [text for _, _, text in BLOCKS if "user.cart" in text]
    with run(text, tmp_path) as space:
        user = cached.session(space["user"].token)
        assert user.cart == ["milk", "bread"] and user.visits == 1 and dict(space["counts"]()) == {"visits": 1}


def test_the_built_in_place_is_right(daemon, tmp_path):
    pytest.importorskip("pandas")
    [text] = [text for _, _, text in BLOCKS if "empty_frame" in text]
    with run(f"import cached\n{text}", tmp_path) as space:
        frame = space["table"](1000)
        assert len(frame) == 1000 and frame["price"].sum() == 1500 and frame["count"].dtype == "int32"


def documented(text):
    """What stands in code of a page."""
    fenced = re.findall(r"^```\w*\n(.*?)^```$", text, re.S | re.M)
    plain = re.sub(r"^```\w*\n.*?^```$", "", text, flags=re.S | re.M)
    return set(re.findall(r"\w+", " ".join(fenced + re.findall(r"`([^`]+)`", plain))))


def test_every_public_name_is_there():
    text = README.read_text()
    types = {"Session"}  # a section has its name
    missing = set(cached.__all__) - documented(text) - types
    assert not missing and "A `Session` is" in text


@pytest.mark.parametrize("heading, function", [
    ("cache_data", type(cached.cache_data).__call__), ("cache_resource", cached.cache_resource),
    ("Sessions", cached.session), ("Settings", cached.configure),
])
def test_every_argument_is_there(heading, function):
    section = README.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    arguments = {name for name, p in inspect.signature(function).parameters.items() if p.kind == p.KEYWORD_ONLY}
    assert len(arguments) >= 3
    missing = arguments - documented(section)
    assert not missing


def test_every_method_of_a_session_is_there():
    section = README.read_text().split("\n## Sessions\n")[1].split("\n## ")[0]
    own = {name for name, value in vars(cached.Session).items() if not name.startswith("_")}
    assert not own - documented(section) - {"keys", "values"}  # as every mapping has them


def test_what_is_missing_is_seen():
    assert documented("a `b(c=1)` d\n```python\ne\n```\nf `g`") == {"b", "c", "1", "e", "g"}
