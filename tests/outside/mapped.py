# SPDX-License-Identifier: MIT
"""A client that looks entries up by itself, made only from proto/ARENA.md, layout.h and page.h.

Like wire.py it shares no line with daemon or library: that it finds what the daemon stored is the test of those
texts. It is slow, and one thread; of the memory order that ARENA.md asks for it has what Python's own slowness gives.

    c = Client(path); c.hello()
    c.mapped_get("table", b"key")            # the value, None for a miss, Ask where only the socket knows
"""

import array
import ctypes
import mmap
import os
import socket
import struct
import time

import wire

pb = wire.pb

NEVER = (1 << 40) - 1
CHUNK_SHIFT, SPAN = 14, 1 << 20
RINGS, SLOTS, COUNTERS = 2, 3800, 256
RING_AT, RING_SIZE, COUNTERS_AT = 64, 128, 320
TOUCHES_AT = COUNTERS_AT + COUNTERS * 16
CLOCK_MONOTONIC_COARSE = 6

_xxh = ctypes.CDLL("libxxhash.so.0")


class _Hash128(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


_xxh.XXH3_128bits_withSeed.restype = _Hash128
_xxh.XXH3_128bits_withSeed.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64]
_xxh.XXH3_64bits.restype = ctypes.c_uint64
_xxh.XXH3_64bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]

U64 = (1 << 64) - 1


def mix(seed, generation):
    x = (seed ^ generation) * 0xbf58476d1ce4e5b9 & U64
    x = (x ^ x >> 31) * 0x94d049bb133111eb & U64
    return x ^ x >> 29


def bucket_of(h, n):
    level = n.bit_length() - 1
    b = h & ((2 << level) - 1)
    return b if b < n else b & ((1 << level) - 1)


class Ask(Exception):
    """Only the daemon can tell."""


class Arena:
    """A mapping of it, and the look-up."""

    def __init__(self, fd, size):
        self.map = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ)
        assert self.map[:8] == b"cacarena"
        (self.version, self.features, self.size, self.instance, self.seed, _, self.cache_dir, self.owners,
         self.span_table, self.index, self.spans, self.n_caches, self.n_spans, self.max_buckets) = \
            struct.unpack_from("<IIQQQQQQQQQIIQ", self.map, 8)
        self.extents, self.n_extents = struct.unpack_from("<QQ", self.map, 112)
        self.dead_tags, = struct.unpack_from("<Q", self.map, 128)
        assert self.version == 3 and self.features == 0 and self.size == size

    def u32(self, at):
        return struct.unpack_from("<I", self.map, at)[0]

    def u64(self, at):
        return struct.unpack_from("<Q", self.map, at)[0]

    @property
    def retired(self):
        return self.u32(104)

    @property
    def n_buckets(self):
        return self.u64(192)

    @property
    def clock_offset_ms(self):
        return struct.unpack_from("<q", self.map, 200)[0]

    def find_cache(self, name):
        """(id, generation), or None."""
        want = _xxh.XXH3_64bits(name.encode(), len(name.encode()))
        for i in range(1, self.n_caches):
            generation, _, name_hash = struct.unpack_from("<IIQ", self.map, self.cache_dir + 16 * i)
            if generation and name_hash == want:
                return i, generation
        return None

    def block(self, handle):
        span, chunk = handle >> CHUNK_SHIFT, handle & ((1 << CHUNK_SHIFT) - 1)
        if span >= self.n_spans:
            raise Ask
        size = self.u32(self.span_table + 4 * span)
        if size == 0 or (chunk + 1) * size > SPAN:
            raise Ask
        return self.spans + span * SPAN + chunk * size, size

    def has_dead_tag(self, at, n_ext):
        """Of an extension block: the tags are its last field."""
        fields, = struct.unpack_from("<H", self.map, at + 2)
        if not fields & 64:
            return False
        p = 4 + sum(n for bit, n in ((1, 4), (2, 8), (4, 12), (8, 24), (16, 4), (32, 8)) if fields & bit)
        n = self.u32(at + p)
        if p + 4 + 12 * n > n_ext or n > 9:
            raise Ask
        for i in range(n):
            tag = self.u32(at + p + 4 + 12 * i)
            if tag >= 65536:
                raise Ask
            if self.u32(self.dead_tags + tag // 32 * 4) >> tag % 32 & 1:
                return True
        return False

    EXT_SIZES = {1: 4, 2: 8, 4: 12, 8: 24, 16: 4, 32: 8}

    def extension(self, at):
        """Its fields by their bits: what few entries have. None where there is no extension."""
        n_ext, fields = struct.unpack_from("<HH", self.map, at)
        found, p = {}, 4
        for bit, n in self.EXT_SIZES.items():
            if fields & bit:
                if p + n > n_ext:
                    raise Ask
                found[bit] = self.map[at + p:at + p + n]
                p += n
        return found

    def times(self, ext, now):
        """{"stale", "due"} as it is now; None: it is not to be served."""
        if 8 not in ext:
            return set()
        fresh, serve, refresh = struct.unpack("<3Q", ext[8])
        if now >= serve:
            return None
        return ({"stale"} if now >= fresh else set()) | ({"due"} if now >= refresh else set())

    def entry(self, handle, generation, key, now):
        """(handle, version, value) if this is the key's live entry."""
        at, size = self.block(handle)
        gen, version, deadline, hi, sizes = struct.unpack_from("<5I", self.map, at)
        n_stored, n_key, kind = sizes >> 10, (sizes >> 4 & 63) + 1, sizes & 15
        deadline |= (hi >> 12 & 0xff) << 32
        n_ext = struct.unpack_from("<H", self.map, at + 20)[0] if kind & 1 else 0
        if 20 + n_ext + n_key + n_stored > size:
            raise Ask
        key_at = at + 20 + n_ext
        if gen != generation or self.map[key_at:key_at + n_key] != key or (deadline != NEVER and now >= deadline):
            return None
        if kind & 1 and self.has_dead_tag(at + 20, n_ext):
            return None
        ext = self.extension(at + 20) if kind & 1 else {}
        times = self.times(ext, now)
        if times is None:
            return None
        self.last_times = times
        if kind & 6 or (16 in ext and ext[16][0] & 1):
            raise Ask  # in a file of its own, or encoded, or there is no value
        n_messages = int.from_bytes(ext.get(32, b""), "little")
        if kind & 8:
            off, n = struct.unpack_from("<QQ", self.map, key_at + n_key)
            if n_stored != 16 or off > self.n_extents or n > self.n_extents - off:
                raise Ask
            if n_messages > n:
                raise Ask
            return handle, version, self.map[self.extents + off:self.extents + off + n - n_messages]
        if n_messages > n_stored:
            raise Ask
        return handle, version, self.map[key_at + n_key:key_at + n_key + n_stored - n_messages]

    def look_up(self, name, key, now):
        for _ in range(100):
            if self.retired:
                raise Ask
            cache = self.find_cache(name)
            if cache is None:
                raise Ask
            h = _xxh.XXH3_128bits_withSeed(key, len(key), mix(self.seed, cache[1]))
            n = self.n_buckets
            places = [self.index + 64 * bucket_of(x, n) for x in (h.low, h.high)]
            before = [self.u64(p) for p in places]
            found, asked = None, False
            for place in places:
                tags = struct.unpack_from("<9H", self.map, place + 8)
                handles = struct.unpack_from("<9I", self.map, place + 28)
                for tag, handle in zip(tags, handles):
                    if handle and tag == h.low >> 48 and not found:
                        try:
                            found = self.entry(handle, cache[1], key, now)
                        except Ask:
                            asked = True
            if any(b & 1 for b in before) or [self.u64(p) for p in places] != before or self.n_buckets != n:
                continue
            if asked:
                raise Ask
            return cache[0], found
        raise Ask


class Client(wire.Client):
    """wire.Client with the mapping; `fds` keeps the descriptors that came, by part."""

    def __init__(self, *args, **kw):
        super().__init__(*args, **kw)
        self.received, self.fds, self.arena = [], {}, None

    def close(self):
        super().close()
        for fd in self.received:
            os.close(fd)
        self.received = []

    def _read(self, n):
        while len(self.buffer) < n:
            data, control, flags, _ = self.sock.recvmsg(65536, socket.CMSG_SPACE(4 * 64), socket.MSG_CMSG_CLOEXEC)
            for level, kind, content in control:
                assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
                self.received += array.array("i", content)
            assert not flags & socket.MSG_CTRUNC
            if not data:
                raise wire.Closed("end of stream")
            self.buffer += data
        out = bytes(memoryview(self.buffer)[:n])
        del self.buffer[:n]
        return out

    def hello(self, features=pb.FEATURE_EVENTS | pb.FEATURE_MAPPED, **more):
        info = super().hello(features=features, **more)
        if info.features & pb.FEATURE_MAPPED:
            m = info.mapping
            assert len(self.received) == len(m.parts)
            self.fds = dict(zip(m.parts, self.received))
            self.arena = Arena(self.fds[pb.MAP_ARENA], m.arena_bytes)
            self.page = mmap.mmap(self.fds[pb.MAP_PAGE], m.page_bytes)
            self.dirty = mmap.mmap(self.fds[pb.MAP_DIRTY], m.dirty_map_bytes)
            self.epoch = mmap.mmap(self.fds[pb.MAP_EPOCH], m.epoch_bytes, mmap.MAP_SHARED, mmap.PROT_READ)
            assert self.epoch[:8] == b"cacepoch" and self.page[:8] == b"ccacpage"
            self.bit = m.dirty_bit
        else:
            assert not self.received and not info.HasField("mapping")
        return info

    # ---- what it notes

    def now_ms(self):
        boot = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        return (time.clock_gettime_ns(CLOCK_MONOTONIC_COARSE) + boot) // 1000000 + self.arena.clock_offset_ms

    def ring_words(self, ring):
        """(head, last mark, tail)"""
        at = RING_AT + RING_SIZE * ring
        mark, head = struct.unpack_from("<IQ", self.page, at + 4)
        return head, mark, struct.unpack_from("<Q", self.page, at + 64)[0]

    def put(self, ring, handle, version):
        head, _, tail = self.ring_words(ring)
        assert head - tail < SLOTS, "the ring is full"
        struct.pack_into("<II", self.page, TOUCHES_AT + 8 * (ring * SLOTS + head % SLOTS), handle, version)
        struct.pack_into("<Q", self.page, RING_AT + RING_SIZE * ring + 8, head + 1)

    def set_dirty(self):
        self.dirty[self.bit // 8] = self.dirty[self.bit // 8] | 1 << self.bit % 8

    def touch_page(self, handle, version, ring=0, now=None):
        now = (self.now_ms() if now is None else now) & 0xffffffff
        if now != self.ring_words(ring)[1]:
            self.put(ring, 0, now)
            struct.pack_into("<I", self.page, RING_AT + RING_SIZE * ring + 4, now)
        self.put(ring, handle, version)
        self.set_dirty()

    def count(self, cache, hit, by=1):
        for i in range(COUNTERS):
            at = COUNTERS_AT + 16 * ((cache + i) % COUNTERS)
            known = struct.unpack_from("<I", self.page, at)[0]
            if known in (0, cache):
                struct.pack_into("<I", self.page, at, cache)
                old = struct.unpack_from("<I", self.page, at + (4 if hit else 8))[0]
                struct.pack_into("<I", self.page, at + (4 if hit else 8), (old + by) & 0xffffffff)
                return
        raise Ask

    # ---- looking up

    def mapped_get(self, name, key, ring=0, now=None, note=True):
        cache, found = self.arena.look_up(name, key, self.now_ms())
        if struct.unpack_from("<Q", self.epoch, 16)[0] != self.arena.instance:
            raise Ask
        if note:
            self.count(cache, found is not None)
        if found is None:
            return None
        if note:
            self.touch_page(found[0], found[1], ring, now)
        return found[2]

    def drain(self):
        self.must("drain")
