/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: what comes in a handover
 *
 * The input says what the daemon that hands over sends: records of a number of descriptors (the
 * lowest seven bits; the highest: the bytes are a frame with its header, else a message), a byte
 * for the kind of each, the number of bytes, and the bytes. All of it waits in the socket before
 * the first question, and the other end is closed. The receiving side runs as in a daemon that
 * starts: it takes over from there (the linker sends its connect() here), adopts what it got if the
 * lowest bit of the first byte says so, and confirms. Whatever comes: it ends, an error has a
 * sentence, no descriptor is left over, and what was adopted is consistent.
 *
 * The same bytes are also the requests that the giving side is asked.
 */

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "../unit/fake-conn.h"
#include "../unit/store-copy.h"
#include "base/boot.h"
#include "fuzz.h"
#include "store/recover.h"
#include "take-over.h"

#define N_STORES  2u
#define FDS_MAX   80u /* more than one message may bring */
#define FDS_TABLE 1024
#define NOW_NS    UINT64_C(1000000000000)

enum kind {
        LISTENS,
        LISTENS_SEQPACKET,
        CONNECTED,
        DEVICE,
        PIPE,
        UNSEALED,
        SEALED,
        OPEN_TO_ALL,
        ARENA,
        TABLE,
        LARGE,
        OTHER_ARENA, /* of the second store */
        OTHER_TABLE,
        OTHER_INSTANCE, /* a header alone */
        N_KINDS,
};

/* The descriptors of one run, by kind, made when they are first asked for; the stores of all. */
static struct {
        int fd[N_KINDS];
        struct store *stores[N_STORES];
        int far; /* the end of the socket that the daemon has closed; -1: it was connected to */
} world;

/* ---- what can be sent */

static struct store *make_store(unsigned i)
{
        struct store_params p = {.arena_size = 1,
                                 .budget = 1 << 20,
                                 .uid_share = 1 << 20,
                                 .large_threshold = 20000,
                                 .max_caches = 4,
                                 .max_entries = 1000,
                                 .seed = {1, 2},
                                 .instance = 4711,
                                 .label = i ? "uid:1001" : "uid:1000"};
        struct store *s = NULL;
        uint32_t cache = 0;

        boot_id_read(p.boot);
        assert(store_new(&p, &s) == 0);
        assert(store_cache_create(s, "c", 1, &cache) == 0);
        for (uint8_t key = 0; key < 20; key++) {
                struct store_put put = {.cache = cache,
                                        .key = &key,
                                        .n_key = 1,
                                        .value = "value",
                                        .n_value = 5,
                                        .ttl_ms = STORE_NEVER};
                struct store_entry e;
                struct store_refusal why;

                if (key == 7) {
                        put.n_value = 0;
                        assert(large_new(30000, &put.large) == 0 && large_seal(put.large) == 0);
                }
                assert(store_put(s, &put, 1, &e, &why) == 0);
                large_unref(put.large);
        }
        return s;
}

static int make_memory(int seals, mode_t mode)
{
        int fd = memfd_create("m", MFD_CLOEXEC | MFD_ALLOW_SEALING);

        assert(fd >= 0 && ftruncate(fd, 8192) == 0 && fchmod(fd, mode) == 0);
        assert(fcntl(fd, F_ADD_SEALS, seals) == 0);
        return fd;
}

static int make_listener(int type)
{
        const struct sockaddr_un any = {.sun_family = AF_UNIX}; /* the kernel chooses a name */
        int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

        assert(fd >= 0);
        assert(bind(fd, (const struct sockaddr *)&any, sizeof(any.sun_family)) == 0);
        assert(listen(fd, 1) == 0);
        return fd;
}

static void make_pair(enum kind kind)
{
        int ends[2];

        assert(kind == PIPE ? pipe2(ends, O_CLOEXEC) == 0
                            : socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
        close(ends[1]);
        world.fd[kind] = ends[0];
}

/* Arena, table and, of the first one, the large value. */
static void make_files(unsigned i)
{
        struct store_copies c;
        uint32_t cursor = 0;

        if (!world.stores[i])
                world.stores[i] = make_store(i);
        store_copies_init(&c, world.stores[i]);
        world.fd[i ? OTHER_ARENA : ARENA] = c.arena;
        world.fd[i ? OTHER_TABLE : TABLE] = c.table;
        if (i == 0)
                world.fd[LARGE] = dup(store_large_next(world.stores[0], &cursor));
}

static void make(enum kind kind)
{
        const struct arena_header other = {.magic = ARENA_MAGIC,
                                           .layout_version = ARENA_LAYOUT_VERSION,
                                           .instance = 4712};
        int sealed = F_SEAL_SHRINK | F_SEAL_GROW;

        switch (kind) {
        case LISTENS:
        case LISTENS_SEQPACKET:
                world.fd[kind] = make_listener(kind == LISTENS ? SOCK_STREAM : SOCK_SEQPACKET);
                break;
        case CONNECTED:
        case PIPE:
                make_pair(kind);
                break;
        case UNSEALED:
        case SEALED:
        case OPEN_TO_ALL:
        case OTHER_INSTANCE:
                world.fd[kind] = make_memory(kind == UNSEALED ? 0 : sealed,
                                             kind == OPEN_TO_ALL ? 0666 : 0600);
                if (kind == OTHER_INSTANCE)
                        assert(pwrite(world.fd[kind], &other, sizeof(other), 0) == sizeof(other));
                break;
        case ARENA:
        case TABLE:
        case LARGE:
        case OTHER_ARENA:
        case OTHER_TABLE:
                make_files(kind >= OTHER_ARENA);
                break;
        case DEVICE:
        case N_KINDS:
        default:
                world.fd[kind] = open("/dev/null", O_RDWR | O_CLOEXEC);
                break;
        }
        assert(world.fd[kind] >= 0);
}

/* ---- the daemon that hands over */

/* One record into the socket. Returns how long it is. */
static size_t send_record(int fd, const uint8_t *data, size_t n)
{
        union {
                struct cmsghdr head;
                uint8_t bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
        } control = {0};
        uint8_t out[FRAME_HEADER_SIZE + 255];
        struct iovec iov = {.iov_base = out};
        struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
        unsigned n_fds = data[0] & 0x7f;
        bool is_raw = data[0] & 0x80;
        size_t at = 1, len, head = is_raw ? 0 : FRAME_HEADER_SIZE;
        int fds[FDS_MAX];

        if (n_fds > FDS_MAX)
                n_fds = FDS_MAX;
        for (unsigned i = 0; i < n_fds; i++) {
                enum kind kind = (enum kind)(at < n ? data[at++] % N_KINDS : DEVICE);

                if (world.fd[kind] < 0)
                        make(kind);
                fds[i] = world.fd[kind];
        }
        len = at < n ? data[at++] : 0;
        if (len > n - at)
                len = n - at;
        if (!is_raw)
                frame_header_write(out, (uint32_t)len, 0);
        memcpy(out + head, data + at, len);
        iov.iov_len = head + len;
        if (n_fds > 0) {
                msg.msg_control = control.bytes;
                msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
                control.head.cmsg_level = SOL_SOCKET;
                control.head.cmsg_type = SCM_RIGHTS;
                control.head.cmsg_len = CMSG_LEN(n_fds * sizeof(int));
                memcpy(CMSG_DATA(&control.head), fds, n_fds * sizeof(int));
        }
        if (iov.iov_len > 0)
                (void)!sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
        return at + len;
}

int __wrap_connect(int fd, const struct sockaddr *addr, socklen_t n);

/* The daemon's socket is the one that was filled. */
int __wrap_connect(int fd, const struct sockaddr *addr, socklen_t n)
{
        int r = dup3(world.far, fd, O_CLOEXEC);

        (void)addr;
        (void)n;
        close(world.far);
        world.far = -1;
        return r < 0 ? -1 : 0;
}

/* ---- checks */

static unsigned count_fds(void)
{
        unsigned n = 0;

        for (int fd = 3; fd < FDS_TABLE; fd++)
                n += fcntl(fd, F_GETFD) >= 0;
        return n;
}

static void check_begun(const struct take_over *t)
{
        assert(t->listen_fd >= 0 && t->instance != 0 && t->n_fds == 0);
        assert(memchr(t->version, '\0', sizeof(t->version)));
        for (size_t i = 0; i < t->given.n; i++) {
                const struct given_file *f = &t->given.files[i];

                assert(f->fd >= 0 && given_is_memory(f->fd) && given_fits(f->number));
                for (size_t j = 0; j < i; j++)
                        assert(f->kind != t->given.files[j].kind ||
                               f->number != t->given.files[j].number);
        }
}

/* Realms of what came, as the daemon that starts makes them. */
static void adopt(struct server *server, struct given *given)
{
        (void)dispatcher_adopt(server->dispatcher, given, TAKEOVER_HANDOVER);
        dispatcher_adopted(server->dispatcher);
        for (int i = 0;
             i < 100 && dispatcher_maintain(server->dispatcher, server_now_ms(server), 64); i++)
                ;
}

static void take_over(struct server *server, bool adopts)
{
        char err[TAKE_OVER_ERR_MAX] = "";
        struct log log = {.level = LOG_ERR};
        struct take_over t;
        int r = take_over_begin(&t, "/nowhere", &log, err, sizeof(err));

        assert(r <= 0 && (r == 0 || err[0] != '\0') && strlen(err) < sizeof(err));
        if (r == 0) {
                check_begun(&t);
                /* This process is not about to die. */
                if (t.peer_fd >= 0)
                        close(t.peer_fd);
                t.peer_fd = -1;
                r = take_over_confirm(&t, err, sizeof(err));
                assert(r <= 0 && t.fd < 0);
        }
        if (r == 0 && adopts)
                adopt(server, &t.given);
        take_over_done(&t);
}

static void be_asked(const uint8_t *data, size_t n)
{
        uint64_t id = 4711;
        enum handover_ask ask = handover_unpack_request(data, n, &id);

        assert(ask == HANDOVER_ASK_NOTHING || ask == HANDOVER_NEXT || ask == HANDOVER_DONE);
        if (ask == HANDOVER_ASK_NOTHING)
                assert(id == 4711);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        struct server server = {.now_ns = NOW_NS};
        char err[CONFIG_ERR_MAX];
        unsigned n_fds;
        int ends[2];

        if (n == 0)
                return 0;
        be_asked(data + 1, n - 1);
        for (unsigned i = 0; i < N_STORES; i++)
                if (!world.stores[i])
                        world.stores[i] = make_store(i);
        n_fds = count_fds();
        for (unsigned i = 0; i < N_KINDS; i++)
                world.fd[i] = -1;
        assert(config_parse("fuzz", "", 0, &server.cfg, err, sizeof(err)) == 0);
        assert(dispatcher_new(&server, server.cfg, &server.dispatcher) == 0);
        assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
        for (size_t at = 1; at < n;)
                at += send_record(ends[0], data + at, n - at);
        close(ends[0]);
        world.far = ends[1];
        for (unsigned i = 0; i < N_KINDS; i++)
                if (world.fd[i] >= 0)
                        close(world.fd[i]);
        take_over(&server, data[0] & 1);
        dispatcher_free(server.dispatcher);
        config_free(server.cfg);
        assert(count_fds() == n_fds);
        return 0;
}
