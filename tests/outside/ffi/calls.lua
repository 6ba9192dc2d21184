-- SPDX-License-Identifier: MIT
-- libcached through LuaJIT's FFI; run by test_ffi.py: calls.lua LIBRARY CDEF STEP
--
-- CDEF holds the headers' declarations as the preprocessor left them, and the macros as constants: nothing else is
-- known of the library here.

local ffi = require("ffi")
local file = assert(io.open(arg[2]))
ffi.cdef(file:read("*a"))
file:close()
local lib = ffi.load(arg[1])

-- A handle on the daemon of $CACHED_SOCKET.
local function handle(socket)
        local o = ffi.gc(lib.cached_options_new(), lib.cached_options_free)
        assert(lib.cached_options_set_socket(o, socket or os.getenv("CACHED_SOCKET")) == lib.CACHED_OK)
        assert(lib.cached_options_set_timeout_ms(o, 20000) == lib.CACHED_OK)
        local c = ffi.new("cached *[1]")
        assert(lib.cached_new(o, c) == lib.CACHED_OK)
        return ffi.gc(c[0], lib.cached_free)
end

-- The code and the reply of a call.
local function call(f, ...)
        local r = ffi.new("cached_reply *[1]")
        local arguments = {...}
        local n = select("#", ...)
        arguments[n + 1] = r
        local code = f(unpack(arguments, 1, n + 1))
        assert(r[0] ~= nil and lib.cached_reply_code(r[0]) == code)
        return code, ffi.gc(r[0], lib.cached_reply_free)
end

local function value(r)
        local n = ffi.new("size_t[1]")
        local at = lib.cached_reply_value(r, n)
        return at ~= nil and ffi.string(at, n[0]) or nil
end

local steps = {}

function steps.basics()
        local c = handle()
        local key, text = "k\0\255", string.rep("a value\0", 1000)
        local code, r = call(lib.cached_set, c, "ffi", key, #key, text, #text, nil)
        assert(code == lib.CACHED_OK, ffi.string(lib.cached_reply_error(r)))
        assert(lib.cached_reply_version(r) > 0)
        code, r = call(lib.cached_get, c, "ffi", key, #key)
        assert(code == lib.CACHED_OK and value(r) == text)
        assert(lib.cached_reply_ttl_ms(r) == 18446744073709551615ULL)

        local keys, sizes = ffi.new("const void *[2]"), ffi.new("size_t[2]", #key, 4)
        keys[0], keys[1] = ffi.cast("const char *", key), ffi.cast("const char *", "none")
        code, r = call(lib.cached_get_many, c, "ffi", 2, keys, sizes)
        assert(code == lib.CACHED_OK and lib.cached_reply_n_items(r) == 2)
        assert(lib.cached_reply_item_code(r, 0) == lib.CACHED_OK)
        assert(lib.cached_reply_item_code(r, 1) == lib.CACHED_NOT_FOUND)
        local n = ffi.new("size_t[1]")
        assert(ffi.string(lib.cached_reply_item_value(r, 0, n), n[0]) == text)

        code, r = call(lib.cached_stats, c, "ffi")
        local entries = ffi.new("uint64_t[1]")
        assert(lib.cached_reply_u64(r, "cache.entries", entries) == lib.CACHED_OK and entries[0] == 1)

        assert(lib.cached_delete(c, "ffi", key, #key, nil) == lib.CACHED_OK)
        assert(lib.cached_get(c, "ffi", key, #key, nil) == lib.CACHED_NOT_FOUND)
end

function steps.errors()
        local c = handle()
        local code, r = call(lib.cached_get, c, "ffi", string.rep("k", 65), 65)
        assert(code == lib.CACHED_INVALID and ffi.string(lib.cached_reply_error(r)):find("64"))
        assert(lib.cached_get(nil, "ffi", "k", 1, nil) == lib.CACHED_ERR_USAGE)
        local nowhere = os.getenv("CACHED_SOCKET") .. ".none"
        code, r = call(lib.cached_ping, handle(nowhere))
        assert(code == lib.CACHED_ERR_UNREACHABLE)
        assert(ffi.string(lib.cached_reply_error(r)):find(nowhere, 1, true))
        assert(ffi.string(lib.cached_strerror(code)) == "no daemon answers on the socket")
end

-- One key, which test_ffi.py has made too: of ["text", "load"], ["list", ["int", 42], ["bool", true]], ["null"].
function steps.keys()
        local k = ffi.gc(lib.cached_key_new(), lib.cached_key_free)
        local key = ffi.new("uint8_t[?]", lib.CACHED_KEY_SIZE)
        lib.cached_key_add_text(k, "load", 4)
        lib.cached_key_begin_list(k)
        lib.cached_key_add_int(k, 42)
        lib.cached_key_add_bool(k, true)
        lib.cached_key_end(k)
        lib.cached_key_add_null(k)
        assert(lib.cached_key_finish(k, key) == lib.CACHED_OK)
        local hex = ffi.string(key, lib.CACHED_KEY_SIZE):gsub(".", function(b) return ("%02x"):format(b:byte()) end)
        assert(hex == os.getenv("EXPECTED_KEY"), hex)
        assert(lib.cached_key_add_text(k, "\255", 1) == lib.CACHED_ERR_USAGE)
        assert(ffi.string(lib.cached_key_error(k)):find("UTF-8", 1, true))
end

function steps.loop()
        ffi.cdef("struct pollfd { int fd; short events, revents; }; int poll(struct pollfd *, unsigned long, int);")
        local c = handle()
        local made = ffi.new("cached_pipeline *[1]")
        assert(lib.cached_pipeline_new_nonblocking(c, made) == lib.CACHED_OK)
        local p = made[0]
        local waiting = ffi.new("struct pollfd[1]", {{lib.cached_pipeline_fd(p), 1, 0}})
        for i = 1, 100 do
                local key = tostring(i)
                assert(lib.cached_pipeline_set(p, "loop", key, #key, key, #key, nil, i) == lib.CACHED_OK)
                assert(lib.cached_pipeline_get(p, "loop", key, #key, 1000 + i) == lib.CACHED_OK)
        end
        local tag, reply, found = ffi.new("uint64_t[1]"), ffi.new("cached_reply *[1]"), 0
        while lib.cached_pipeline_in_flight(p) > 0 do
                assert(ffi.C.poll(waiting, 1, 20000) == 1)
                assert(lib.cached_pipeline_dispatch(p) == lib.CACHED_OK)
                while lib.cached_pipeline_next(p, tag, reply) ~= lib.CACHED_ERR_AGAIN do
                        assert(lib.cached_reply_code(reply[0]) == lib.CACHED_OK)
                        if tag[0] > 1000 then
                                assert(value(reply[0]) == tostring(tonumber(tag[0]) - 1000))
                                found = found + 1
                        end
                        lib.cached_reply_free(reply[0])
                end
        end
        assert(found == 100)
        lib.cached_pipeline_free(p)
end

steps[arg[3]]()
