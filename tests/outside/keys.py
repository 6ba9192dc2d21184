# SPDX-License-Identifier: MIT
"""Keys in Python, written from proto/KEYS.md alone, with hashlib and nothing else.

Each function below gives the encoding of one item, as bytes; key(*items) gives the digest. from_json() reads
the notation of proto/key-vectors.json. What KEYS.md calls an error is a KeyFault.
"""

import calendar
import hashlib
import math
import re
import struct

LEAF = 1 << 20
DEPTH_MAX = 64
NAME_MAX = 255
DIGITS_MAX = 1 << 20
DIMS_MAX = 64
MEMBERS_MAX = 4194304


class KeyFault(ValueError):
    """What cannot be part of a key."""


def digest(person, data):
    return hashlib.blake2b(data, digest_size=32, person=person).digest()


def key(*items):
    """The 32 bytes that stand for the items."""
    return digest(b"cached-key-1", b"".join(items))


def u64(n):
    return struct.pack("<Q", n)


def blob(data):
    if len(data) <= LEAF:
        return u64(len(data)) + data
    leaves = [digest(b"cached-leaf-1", data[at : at + LEAF]) for at in range(0, len(data), LEAF)]
    return u64(len(data)) + digest(b"cached-tree-1", b"".join(leaves))


def utf8(s, least=0, most=None):
    """@s: text, or bytes that may be UTF-8."""
    try:
        data = s if isinstance(s, bytes) else s.encode()
        data.decode()
    except UnicodeError as e:
        raise KeyFault(f"not UTF-8: {e}") from e
    if len(data) < least or most is not None and len(data) > most:
        raise KeyFault(f"{len(data)} bytes of text")
    return blob(data)


# ---- plain values


def null():
    return b"\x01"


def boolean(v):
    return b"\x03" if v else b"\x02"


def integer(v):
    n = (abs(v).bit_length() + 7) // 8
    if n > DIGITS_MAX:
        raise KeyFault("an integer that long")
    return b"\x04" + bytes([v < 0]) + u64(n) + abs(v).to_bytes(n, "big")


def double(v):
    return b"\x05" + (bytes.fromhex("000000000000f87f") if math.isnan(v) else struct.pack("<d", v))


def text(s):
    return b"\x06" + utf8(s)


def binary(data):
    return b"\x07" + blob(data)


def decimal(s):
    if not 1 <= len(s) <= DIGITS_MAX:
        raise KeyFault("the length of a decimal number")
    m = re.fullmatch(r"([+-]?)(?:(nan)|(inf|infinity)|([0-9]*)(?:\.([0-9]*))?(?:e([+-]?)([0-9]+))?)", s, re.I | re.A)
    if not m:
        raise KeyFault(f"{s[:40]!r} is no decimal number")
    sign, nan, infinity, whole, fraction, exponent_sign, exponent = m.groups()
    negative = bytes([sign == "-"])
    if nan:
        return b"\x30\x02\x00" + struct.pack("<q", 0) + u64(0)
    if infinity:
        return b"\x30\x01" + negative + struct.pack("<q", 0) + u64(0)
    whole, fraction = whole or "", fraction or ""
    if not whole + fraction:
        raise KeyFault("no digits")
    # 25 digits are beyond 64 bits, and as good as more.
    written = int((exponent_sign or "") + (exponent or "").lstrip("0")[:25].zfill(1))
    e = written - len(fraction)
    if not all(-(1 << 63) <= x < 1 << 63 for x in (written, e)):
        raise KeyFault("the exponent")
    digits = (whole + fraction).lstrip("0").encode()
    return b"\x30\x00" + negative + struct.pack("<q", e) + u64(len(digits)) + digits


def uuid(data):
    if len(data) != 16:
        raise KeyFault("the length of a UUID")
    return b"\x31" + data


# ---- dates and times


def date_fields(year, month, day):
    if not 1 <= month <= 12:
        raise KeyFault("the month")
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    last = 29 if month == 2 and leap else calendar.mdays[month]
    if not 1 <= day <= last:
        raise KeyFault("the day")
    return struct.pack("<iBB", year, month, day)


def time_fields(hour, minute, second, nanosecond):
    if not (0 <= hour <= 23 and 0 <= minute <= 59 and 0 <= second <= 60 and 0 <= nanosecond < 10**9):
        raise KeyFault("the time")
    return struct.pack("<BBBI", hour, minute, second, nanosecond)


def zone_fields(offset, name):
    if not -86400 < offset < 86400:
        raise KeyFault("the offset")
    return struct.pack("<i", offset) + utf8(name, 0, NAME_MAX)


def date(*ymd):
    return b"\x20" + date_fields(*ymd)


def time(*hmsn):
    return b"\x21" + time_fields(*hmsn)


def time_zone(h, m, s, ns, offset, name):
    return b"\x22" + time_fields(h, m, s, ns) + zone_fields(offset, name)


def datetime(y, mo, d, h, m, s, ns):
    return b"\x23" + date_fields(y, mo, d) + time_fields(h, m, s, ns)


def datetime_zone(y, mo, d, h, m, s, ns, offset, name):
    return b"\x24" + date_fields(y, mo, d) + time_fields(h, m, s, ns) + zone_fields(offset, name)


def duration(seconds, nanosecond):
    if not (-(1 << 63) <= seconds < 1 << 63 and 0 <= nanosecond < 10**9):
        raise KeyFault("the duration")
    return b"\x25" + struct.pack("<qI", seconds, nanosecond)


# ---- arrays


def array(dtype, dims, data):
    if len(dims) > DIMS_MAX:
        raise KeyFault("the dimensions")
    elements = math.prod(dims)
    if elements >= 1 << 64:
        raise KeyFault("the elements")
    if len(data) % elements if elements else data:
        raise KeyFault("the length of the data")
    return b"\x32" + utf8(dtype, 1, NAME_MAX) + u64(len(dims)) + b"".join(map(u64, dims)) + blob(data)


# ---- what holds other items


def ordered(items):
    return b"\x10" + b"".join(items) + b"\x00"


def tuple_(items):
    return b"\x11" + b"".join(items) + b"\x00"


def named(name, items):
    return b"\x14" + utf8(name, 1, NAME_MAX) + b"".join(items) + b"\x00"


def member(item):
    return digest(b"cached-member-1", item)


def map_(pairs):
    """@pairs: (encoded key, encoded value)."""
    if 2 * len(pairs) > MEMBERS_MAX:
        raise KeyFault("that many pairs")
    digests = sorted((member(k), member(v)) for k, v in pairs)
    if len({k for k, _ in digests}) != len(digests):
        raise KeyFault("a key twice")
    return b"\x12" + u64(len(digests)) + b"".join(k + v for k, v in digests)


def set_(items):
    if len(items) > MEMBERS_MAX:
        raise KeyFault("that many members")
    digests = sorted(map(member, items))
    if len(set(digests)) != len(digests):
        raise KeyFault("a member twice")
    return b"\x13" + u64(len(digests)) + b"".join(digests)


# ---- the notation of the vectors


def by_rule(n):
    """Byte i is i mod 251."""
    period = bytes(range(251))
    return (period * (n // 251 + 1))[:n]


def variant(first, name, value):
    """The key of the variant that an entry leads to, for one value of the input that it names."""
    return key(named("cached-variant", [binary(first), text(name), binary(value)]))


PLAIN = {
    "null": null,
    "bool": boolean,
    "int": lambda s: integer(int(s)),
    "double": lambda bits: double(struct.unpack(">d", bytes.fromhex(bits))[0]),
    "text": text,
    "text-hex": lambda h: text(bytes.fromhex(h)),
    "text-repeat": lambda s, n: text(s * n),
    "bytes": lambda h: binary(bytes.fromhex(h)),
    "bytes-rule": lambda n: binary(by_rule(n)),
    "decimal": decimal,
    "uuid": lambda h: uuid(bytes.fromhex(h)),
    "date": date,
    "time": time,
    "time-zone": time_zone,
    "datetime": datetime,
    "datetime-zone": datetime_zone,
    "duration": lambda s, ns: duration(int(s), ns),
    "array": lambda dtype, dims, h: array(dtype, dims, bytes.fromhex(h)),
    "array-rule": lambda dtype, dims, n: array(dtype, dims, by_rule(n)),
}
HOLDERS = {"list": ordered, "tuple": tuple_, "set": set_}


def from_json(item, depth=0):
    """The encoding of ["int", "5"], ["list", [["null"], ...]], ..."""
    kind, *args = item
    if kind in PLAIN:
        return PLAIN[kind](*args)
    if depth == DEPTH_MAX:
        raise KeyFault("too deep")
    if kind == "map":
        return map_([(from_json(k, depth + 1), from_json(v, depth + 1)) for k, v in args[0]])
    encoded = [from_json(i, depth + 1) for i in args[-1]]
    return named(args[0], encoded) if kind == "named" else HOLDERS[kind](encoded)
