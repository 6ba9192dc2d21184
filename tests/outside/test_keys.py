# SPDX-License-Identifier: MIT
"""Keys: the vectors, and random values, from an independent implementation and from libcached.

keys.py is written from KEYS.md; key-digest is a small program on libcached.so. Both must agree on every key
and on what has none. Values that differ have keys that differ.
"""

import json
import os
import pathlib
import random
import re
import subprocess

import keys

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("CACHED_BUILD", ROOT / "build"))
PROTO = ROOT / "proto"
LONG = bool(os.environ.get("CACHED_LONG"))


def vectors():
    return json.loads((PROTO / "key-vectors.json").read_text())


def python_key(items):
    """Hexadecimal digits, or None: refused."""
    try:
        return keys.key(*map(keys.from_json, items)).hex()
    except keys.KeyFault:
        return None


def c_keys(rows, threads=1):
    """Of [(number that chooses the calls, items)]: hexadecimal digits, or "error: …"."""
    lines = "".join(f"{n} {json.dumps(items)}\n" for n, items in rows)
    r = subprocess.run([BUILD / "tests/unit/key-digest", str(threads)], input=lines, capture_output=True, text=True,
                       timeout=100)
    assert r.returncode == 0, r.stderr
    return r.stdout.splitlines()


def test_a_vectors_in_python():
    """The independent implementation comes to every key and encoding of the vectors."""
    for v in vectors()["vectors"]:
        if "encoding" in v:
            assert b"".join(map(keys.from_json, v["items"])).hex() == v["encoding"], v["name"]
        assert python_key(v["items"]) == v["key"], v["name"]
    for v in vectors()["invalid"]:
        assert python_key(v["items"]) is None, v["name"]


def test_a_vectors_have_what_they_should():
    """Enough of them, no name twice, every tag, the sizes around a leaf; keys differ unless the name says so."""
    all_vectors = vectors()
    names = [v["name"] for v in all_vectors["vectors"] + all_vectors["invalid"]]
    assert len(set(names)) == len(names)
    assert len(all_vectors["vectors"]) >= 80 and len(all_vectors["invalid"]) >= 30
    text = json.dumps(all_vectors["vectors"])
    for kind in (*keys.PLAIN, *keys.HOLDERS, "map", "named"):
        assert f'["{kind}"' in text or kind == "text-hex", kind
    sizes = {v["items"][0][1] for v in all_vectors["vectors"] if v["items"] and v["items"][0][0] == "bytes-rule"}
    assert sizes >= {keys.LEAF - 1, keys.LEAF, keys.LEAF + 1, 5 * keys.LEAF + 3}
    by_key = {}
    for v in all_vectors["vectors"]:
        by_key.setdefault(v["key"], []).append(v["name"])
    alike = sorted(sorted(names) for names in by_key.values() if len(names) > 1)
    assert alike == [
        ["decimal +inf", "decimal Infinity"],
        ["decimal -nan", "decimal NaN"],
        ["decimal 1.0", "decimal 10E-1"],
        ["double NaN", "double a negative NaN with a payload: the key of NaN", "double a signalling NaN: the key of NaN"],
        ["integer -0: the key of 0", "integer 0"],
        ["map a: 1, b: 2", "map b: 2, a: 1: the same"],
        ["set 1, 2, 3", "set 3, 1, 2: the same"],
    ]


def test_a_example_of_the_document():
    """The bytes and the key that KEYS.md shows are what its rules come to."""
    text = (PROTO / "KEYS.md").read_text()
    example = text[text.index("## An example"):]
    shown = "".join(re.sub(r"  +\S[\w, ]*$", "", line.strip()) for line in example.splitlines() if line[:4] == "    ")
    items = [["text", "ab"], ["int", "-256"], ["map", [[["text", "k"], ["bool", True]]]]]
    assert re.sub(r"\s", "", shown) == b"".join(map(keys.from_json, items)).hex()
    assert f"`{python_key(items)}`" in example


def test_b_vectors_in_c():
    """libcached comes to the same, by whichever calls, on one and on several threads."""
    all_vectors = vectors()
    rows = [(n, v) for v in all_vectors["vectors"] for n in (0, 1, 2)]
    for threads in (1, 3):
        for (_, v), key in zip(rows, c_keys([(n, v["items"]) for n, v in rows], threads), strict=True):
            assert key == v["key"], v["name"]
    rows = [(0, v["items"]) for v in all_vectors["invalid"]]
    for v, key in zip(all_vectors["invalid"], c_keys(rows), strict=True):
        assert key.startswith("error: item 1: "), v["name"]


# ---- random values

LETTERS = "ab0-\0\x7f\u00e9\u0308\u20ac\ud7ff\ue000\uffff\U00010000\U0001f600\U0010ffff"


class Values:
    """Random items in the notation of the vectors; a few are not valid."""

    def __init__(self, seed):
        self.r = random.Random(seed)

    def text(self):
        return "".join(self.r.choice(LETTERS) for _ in range(self.r.choice((0, 1, 2, 3, 20, 200))))

    def hex(self):
        return self.r.randbytes(self.r.choice((0, 1, 2, 8, 127, 128, 129, 1000))).hex()

    def number(self):
        bits = self.r.choice((0, 1, 7, 8, 31, 32, 62, 63, 64, 65, 200, 3000))
        return self.r.choice((-1, 1)) * (self.r.getrandbits(bits) if bits else 0)

    def double(self):
        special = ("7ff8000000000000", "fff0000000000001", "8000000000000000", "3ff0000000000000")
        return self.r.choice(special) if self.r.random() < 0.3 else self.r.randbytes(8).hex()

    def decimal(self):
        r = self.r
        if r.random() < 0.1:
            return r.choice(("nan", "Inf", "-infinity", "1e", "", "--1", "1e99999999999999999999", ".", "1 "))
        digits = "".join(r.choice("00123456789") for _ in range(r.randint(0, 30)))
        at = r.randint(0, len(digits))
        exponent = r.choice(("", "e5", "E-300", "e+0", "e9223372036854775807", "e-9223372036854775800"))
        return r.choice(("", "-", "+")) + digits[:at] + r.choice(("", ".")) + digits[at:] + exponent

    def near(self, low, high):
        """Within, on and just beyond the bounds."""
        return self.r.choice((low, high, self.r.randint(low, high), self.r.randint(low, high), self.r.randint(low, high),
                              self.r.choice((low - 1, high + 1, low, high, low, high))))

    def date(self):
        return [self.near(-(1 << 31) + 1, (1 << 31) - 2), self.near(1, 12), self.r.choice((1, 28, self.near(1, 31)))]

    def time(self):
        return [self.near(0, 23), self.near(0, 59), self.near(0, 60), self.near(0, 10**9 - 1)]

    def zone(self):
        return [self.near(-86399, 86399), self.r.choice(("", "UTC", self.text()))]

    def array(self):
        dims = [self.r.choice((0, 1, 2, 3, 1 << 33)) for _ in range(self.r.randint(0, 4))]
        n = keys.math.prod(dims)
        size = n * self.r.choice((0, 1, 8)) if n < 1000 else 0
        return [self.r.choice(("<f8", "|u1", self.text())), dims, self.r.randbytes(size + (self.r.random() < 0.05)).hex()]

    def plain(self):
        r = self.r
        return r.choice((
            lambda: ["null"],
            lambda: ["bool", r.random() < 0.5],
            lambda: ["int", str(self.number())],
            lambda: ["double", self.double()],
            lambda: ["text", self.text()],
            lambda: ["text-hex", r.choice((self.hex(), self.text().encode().hex()))],
            lambda: ["bytes", self.hex()],
            lambda: ["bytes-rule", r.choice((r.randint(0, 100), keys.LEAF, keys.LEAF + 1, 3 * keys.LEAF + r.randint(-2, 2)))
                     if r.random() < 0.03 else r.randint(0, 3000)],
            lambda: ["decimal", self.decimal()],
            lambda: ["uuid", r.randbytes(16).hex()],
            lambda: ["date", *self.date()],
            lambda: ["time", *self.time()],
            lambda: ["time-zone", *self.time(), *self.zone()],
            lambda: ["datetime", *self.date(), *self.time()],
            lambda: ["datetime-zone", *self.date(), *self.time(), *self.zone()],
            lambda: ["duration", str(self.near(-(1 << 63) + 1, (1 << 63) - 2)), self.near(0, 10**9 - 1)],
            lambda: ["array", *self.array()],
        ))()

    def item(self, depth=0):
        if depth == 5 or self.r.random() < 0.6:
            return self.plain()
        kind = self.r.choice(("list", "tuple", "set", "map", "named"))
        n = self.r.choice((0, 1, 2, 3, 8))
        if kind == "map":
            return [kind, [[self.item(depth + 1), self.item(depth + 1)] for _ in range(n)]]
        members = [self.item(depth + 1) for _ in range(n)]
        return [kind, self.text() or "T", members] if kind == "named" else [kind, members]

    def items(self):
        return [self.item() for _ in range(self.r.choice((0, 1, 1, 1, 2, 3)))]


def test_c_random_values():
    """C and Python agree on random nested values: on the key, and on what has none."""
    count = 30000 if LONG else 1500
    values = Values(4711)
    rows = [(i, values.items()) for i in range(count)]
    refused = 0
    for (_, items), key in zip(rows, c_keys(rows, threads=2), strict=True):
        want = python_key(items)
        if want is None:
            refused += 1
            assert key.startswith("error: item "), items
        else:
            assert key == want, items
    assert count * 0.1 < refused < count * 0.7


def test_c_other_values_have_other_keys():
    """Among random values, and their encodings, no two that differ meet."""
    values = Values(42)
    seen = {}
    for _ in range(300 if not LONG else 5000):
        items = values.items()
        key = python_key(items)
        if key is not None:
            encoding = b"".join(map(keys.from_json, items))
            assert seen.setdefault(key, encoding) == encoding
    assert len(seen) > 100


def test_d_errors_are_sentences():
    """Each refusal says what is wrong and what to do, within one line of printable text."""
    rows = [(0, [["null"], *v["items"]]) for v in vectors()["invalid"]]
    for line in c_keys(rows):
        assert re.fullmatch(r"error: item 2: [ -~]{20,220}", line), line
        assert ": " in line[len("error: item 2: "):] or "?" in line, line
