# SPDX-License-Identifier: MIT
"""A reader of proto/VALUES.md written from that page alone, for test_values_vectors.py: it knows none of the package's code and
gives the notation of proto/value-vectors.json."""

import math
import struct

DEPTH = 512


class Corrupt(Exception):
    """It does not keep to the page."""


def need(true):
    if not true:
        raise Corrupt


class Reader:
    """One item of CBOR, into the notation."""

    def __init__(self, data, value=b""):
        self.data, self.at = data, 0
        self.value = value  # what buffers are offsets in
        self.shared = []
        self.complete = []
        self.depth = self.hashed = 0

    def take(self, n):
        need(n <= len(self.data) - self.at)
        self.at += n
        return self.data[self.at - n:self.at]

    def head(self):
        first = self.take(1)[0]
        major, info = first >> 5, first & 31
        if info < 24:
            return major, info, 0
        if info == 31:
            need(major in (2, 3, 4, 5, 7))
            return major, None, 0
        need(info <= 27)
        n = 1 << (info - 24)
        return major, int.from_bytes(self.take(n), "big"), n

    def at_break(self):
        if self.data[self.at:self.at + 1] == b"\xff":
            self.at += 1
            return True
        return False

    def string(self, major, n):
        if n is not None:
            return self.take(n)
        whole = b""
        while not self.at_break():
            chunk, n, _ = self.head()
            need(chunk == major and n is not None)
            whole += self.take(n)
        return whole

    def many(self, n, read):
        self.depth += 1
        need(self.depth <= DEPTH)
        items = []
        while not self.at_break() if n is None else len(items) < n:
            items.append(read())
        self.depth -= 1
        return items

    def key(self):
        self.hashed += 1
        item = self.item()
        self.hashed -= 1
        need(item[0] not in ("list", "map", "set", "bytearray", "buffer"))
        return item

    def of(self, *majors):
        """The content of a tag: a string or array."""
        major, n, _ = self.head()
        need(major in majors)
        return self.string(major, n) if major in (2, 3) else self.many(n, self.item)

    def item(self):
        major, n, width = self.head()
        if major < 2:
            return ["int", str(n if major == 0 else -1 - n)]
        if major == 2:
            return ["bytes", self.string(2, n).hex()]
        if major == 3:
            return ["text", text(self.string(3, n))]
        if major == 4:
            return ["list", *self.many(n, self.item)]
        if major == 5:
            pairs = self.many(n, lambda: [self.key(), self.item()])
            need(distinct([k for k, _ in pairs]))
            return ["map", *pairs]
        if major == 7:
            return self.simple(n, width)
        self.depth += 1
        need(self.depth <= DEPTH)
        result = self.tagged(n)
        self.depth -= 1
        return result

    def simple(self, n, width):
        if width in (2, 4, 8):
            return double(struct.unpack({2: ">e", 4: ">f", 8: ">d"}[width], n.to_bytes(width, "big"))[0])
        need(width == 0 and n in (20, 21, 22))
        return {20: ["bool", False], 21: ["bool", True], 22: ["null"]}[n]

    def tagged(self, tag):
        if tag in (2, 3):
            n = int.from_bytes(self.of(2), "big")
            return ["int", str(n if tag == 2 else -1 - n)]
        if tag == 28:
            need(not self.hashed)
            self.complete.append(False)
            number = len(self.complete) - 1
            major = self.data[self.at:self.at + 1][0] >> 5 if self.at < len(self.data) else 0
            self.complete[number] = major in (4, 5)
            item = self.item()
            self.complete[number] = True
            return ["shared", item]
        if tag == 29:
            major, n, _ = self.head()
            need(major == 0 and not self.hashed and n < len(self.complete) and self.complete[n])
            return ["reference", n]
        if tag in (258, 51713):
            major, n, _ = self.head()
            need(major == 4)
            members = self.many(n, self.key)
            need(distinct(members))
            return ["set" if tag == 258 else "frozenset", *members]
        if tag == 51712:
            return ["tuple", *self.of(4)]
        if tag == 51714:
            return ["bytearray", self.of(2).hex()]
        if tag == 273:
            return ["text-hex", self.of(2).hex()]
        return self.small(tag, self.item())

    def small(self, tag, content):
        kind, *parts = content
        if tag in (0, 1004):
            need(kind == "text")
            return ["datetime" if tag == 0 else "date", parts[0]]
        if tag in (4, 30):
            need(kind == "list" and [p[0] for p in parts] == ["int", "int"])
            return ["decimal-parts" if tag == 4 else "fraction", parts[0][1], parts[1][1]]
        if tag == 37:
            need(kind == "bytes" and len(parts[0]) == 32)
            return ["uuid", parts[0]]
        if tag == 1002:
            units = {"1": 10**9, "-3": 10**6, "-6": 10**3, "-9": 1}
            need(kind == "map" and all(k[0] == "int" and k[1] in units and v[0] == "int" for k, v in parts))
            total = sum(units[k[1]] * int(v[1]) for k, v in parts)
            return ["duration", str(total // 10**9), total % 10**9]
        if tag == 43000:
            need(kind == "list" and [p[0] for p in parts] == ["double", "double"])
            return ["complex", parts[0][1], parts[1][1]]
        if tag == 51715:
            need(kind == "list" and [p[0] for p in parts] == ["int", "int"])
            offset, size = int(parts[0][1]), int(parts[1][1])
            need(0 <= offset <= len(self.value) and 0 <= size <= len(self.value) - offset)
            return ["buffer", self.value[offset:offset + size].hex()]
        if tag == 51716:
            need(kind == "list" and len(parts) == 2 and parts[0][0] == "text")
            return ["named", parts[0][1], parts[1]]
        if tag in (51717, 51718):
            need(kind == "list" and len(parts) == 3 and parts[0][0] == "text" and parts[2][0] == "int")
            return ["local-datetime" if tag == 51717 else "local-time", parts[0][1], parts[1], int(parts[2][1])]
        if tag == 51719:
            need(kind == "text")
            return ["decimal", parts[0]]
        raise Corrupt


def text(data):
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Corrupt from None


def double(number):
    return ["double", "nan" if math.isnan(number) else struct.pack(">d", number).hex()]


def distinct(items):
    return len({repr(i) for i in items}) == len(items)


def item(data, value=b""):
    reader = Reader(data, value)
    result = reader.item()
    need(reader.at == len(data))
    return result


def value(flags, data):
    """The notation of an entry's value."""
    if flags == 0:
        return ["bytes", data.hex()]
    if flags == 0x63760001:
        return ["text", text(data)]
    if flags == 0x63760002:
        return item(data)
    need(flags == 0x63760003 and len(data) >= 64)
    magic, version, zero, at, size, total, rest = struct.unpack("<8sIIQQQ24s", data[:64])
    need(magic == b"cached-v" and version == 1 and zero == 0 and total == len(data) and not any(rest))
    need(64 <= at <= total and size <= total - at)
    return item(data[at:at + size], data)
