/* SPDX-License-Identifier: MIT */

/*
 * The pure parts of cachectl: durations, sizes and counts as people write and read them, keys, what
 * may be shown on a terminal, the distance of words, base64, and values in files.
 */

#include "base64.h"
#include "key.h"
#include "session-number.h"
#include "session-token.h"
#include "suggest.h"
#include "units.h"
#include "utf8.h"
#include "value.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <lz4.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define SECOND UINT64_C(1000)
#define DAY    (86400 * SECOND)

struct parsed {
        const char *text;
        uint64_t value;
};

typedef const char *parser(const char *text, uint64_t *ret);

static void check_good(parser *parse, const struct parsed *rows, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                uint64_t got = 12345;
                const char *wrong = parse(rows[i].text, &got);

                if (wrong || got != rows[i].value)
                        fail_msg("'%s': %s, %llu", rows[i].text, wrong ? wrong : "fine",
                                 (unsigned long long)got);
        }
}

struct refused {
        const char *text, *why;
};

static void check_bad(parser *parse, const struct refused *rows, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                uint64_t got = 12345;
                const char *wrong = parse(rows[i].text, &got);

                if (!wrong || strcmp(wrong, rows[i].why) != 0 || got != 12345)
                        fail_msg("'%s': %s, %llu", rows[i].text, wrong ? wrong : "fine",
                                 (unsigned long long)got);
        }
}

#define N(rows) (sizeof(rows) / sizeof((rows)[0]))

static void durations_are_exact(void **state)
{
        static const struct parsed ms[] = {
                {"250ms", 250},          {"10s", 10 * SECOND},
                {"5m", 300 * SECOND},    {"1h", 3600 * SECOND},
                {"7d", 7 * DAY},         {"0s", 0},
                {"1.5s", 1500},          {"0.001s", 1},
                {"0.25h", 900 * SECOND}, {"0000000000000000000000001s", SECOND},
                {"1000us", 1},           {"18446744073709551ms", UINT64_C(18446744073709551)},
        };
        static const struct parsed us[] = {{"1us", 1},
                                           {"1.5ms", 1500},
                                           {"0.000001s", 1},
                                           {"18446744073709551615us", UINT64_MAX}};

        check_good(units_parse_duration_ms, ms, N(ms));
        check_good(units_parse_duration_us, us, N(us));
}

static void bad_durations_say_why(void **state)
{
        static const struct refused rows[] = {
                {"", "it is empty"},
                {"-5s", "it may not be negative"},
                {"s", "it does not start with a digit"},
                {" 5s", "it does not start with a digit"},
                {"+5s", "it does not start with a digit"},
                {".5s", "it does not start with a digit"},
                {"nan", "it does not start with a digit"},
                {"10", "its unit is missing"},
                {"1.5", "its unit is missing"},
                {"10 s", "its unit is unknown"},
                {"10S", "its unit is unknown"},
                {"10sec", "its unit is unknown"},
                {"1h30m", "its unit is unknown"},
                {"0x10s", "its unit is unknown"},
                {"1e3s", "its unit is unknown"},
                {"1,5s", "its unit is unknown"},
                {"10w", "its unit is unknown"},
                {"1.s", "digits are missing after the point"},
                {"1.2.3s", "its unit is unknown"},
                {"1.0000000s", "it has more than 6 digits after the point"},
                {"1.5us", "it is finer than can be kept"},
                {"0.0001ms", "it is finer than can be kept"},
                {"0.5ms", "it is finer than a millisecond"},
                {"0.0005s", "it is finer than a millisecond"},
                {"1.000001d", "it is finer than a millisecond"},
                {"1us", "it is finer than a millisecond"},
                {"18446744073709551616us", "it is too large"},
                {"18446744073709552ms", "it is too large"},
                {"213503982335d", "it is too large"},
                {"99999999999999999999999999999999d", "it is too large"},
        };

        check_bad(units_parse_duration_ms, rows, N(rows));
}

static void parts_are_exact(void **state)
{
        static const struct parsed good[] = {
                {"80%", 800},   {"12.5%", 125},   {"0.1%", 1},     {"100%", 1000}, {"0%", 0},
                {"0.8", 800},   {"0.001", 1},     {"0.125", 125},  {"0.0", 0},     {"100.0%", 1000},
                {"0.999", 999}, {"0.12500", 125}, {"099.9%", 999},
        };
        static const struct refused bad[] = {
                {"", "it is empty"},
                {"80", "it is neither"},
                {"0", "it is neither"},
                {"1", "it is neither"},
                {"1.0", "it is neither"},
                {"00.5", "it is neither"},
                {"-0.5", "it may not be negative"},
                {".5", "it does not start with a digit"},
                {"%", "it does not start with a digit"},
                {"0.", "digits are missing after the point"},
                {"101%", "it is more than the whole"},
                {"100.1%", "it is more than the whole"},
                {"18446744073709551615%", "it is too large"},
                {"0.8125", "it is finer than a thousandth"},
                {"0.05%", "it is finer than a thousandth"},
                {"0.1234567", "it has more than 6 digits after the point"},
                {"80 %", "its unit is unknown"},
                {"80%%", "its unit is unknown"},
                {"0,8", "its unit is unknown"},
        };
        char buf[UNITS_BUFFER_SIZE];

        check_good(units_parse_permille, good, N(good));
        check_bad(units_parse_permille, bad, N(bad));
        assert_string_equal(units_format_permille(buf, 800), "80%");
        assert_string_equal(units_format_permille(buf, 125), "12.5%");
        assert_string_equal(units_format_permille(buf, 1), "0.1%");
        assert_string_equal(units_format_permille(buf, 1000), "100%");
}

static void a_cut_text_has_no_half_character(void **state)
{
        static const struct {
                const char *text, *left;
        } rows[] = {
                {"", ""},
                {"abc", "abc"},
                {"a\xc3\xa4", "a\xc3\xa4"},
                {"a\xc3", "a"},
                {"a\xe2\x82\xac", "a\xe2\x82\xac"},
                {"a\xe2\x82", "a"},
                {"a\xe2", "a"},
                {"a\xf0\x9f\x98\x80", "a\xf0\x9f\x98\x80"},
                {"a\xf0\x9f\x98", "a"},
                {"\xf0", ""},
        };

        for (size_t i = 0; i < N(rows); i++) {
                char text[16];

                (void)snprintf(text, sizeof(text), "%s", rows[i].text);
                utf8_cut(text);
                assert_string_equal(text, rows[i].left);
        }
}

static void sizes_are_exact(void **state)
{
        static const struct parsed good[] = {
                {"0", 0},
                {"1", 1},
                {"64K", 65536},
                {"16M", 16777216},
                {"2G", UINT64_C(2147483648)},
                {"1T", UINT64_C(1099511627776)},
                {"1.5K", 1536},
                {"0.5M", 524288},
                {"18446744073709551615", UINT64_MAX},
                {"16777215T", UINT64_C(16777215) << 40},
        };
        static const struct refused bad[] = {
                {"", "it is empty"},
                {"-1", "it may not be negative"},
                {"K", "it does not start with a digit"},
                {"64k", "its unit is unknown"},
                {"64KB", "its unit is unknown"},
                {"64KiB", "its unit is unknown"},
                {"64 K", "its unit is unknown"},
                {"1.5", "it is finer than can be kept"},
                {"0.0001K", "it is finer than can be kept"},
                {"16777216T", "it is too large"},
                {"18446744073709551616", "it is too large"},
                {"18446744073709551615.5T", "it is too large"},
        };

        check_good(units_parse_size, good, N(good));
        check_bad(units_parse_size, bad, N(bad));
}

static void counts_are_whole(void **state)
{
        static const struct parsed good[] = {{"0", 0},
                                             {"007", 7},
                                             {"18446744073709551615", UINT64_MAX}};
        static const struct refused bad[] = {
                {"", "it is empty"},
                {"-1", "it may not be negative"},
                {"1.0", "it is not a whole number"},
                {"1.5", "it is not a whole number"},
                {"10K", "its unit is unknown"},
                {"x", "it does not start with a digit"},
                {"18446744073709551616", "it is too large"},
        };

        check_good(units_parse_count, good, N(good));
        check_bad(units_parse_count, bad, N(bad));
}

static void bytes_are_short(void **state)
{
        static const struct parsed rows[] = {
                {"0", 0},
                {"1023", 1023},
                {"1K", 1024},
                {"1.2K", 1300},
                {"1023.9K", 1024 * 1024 - 1},
                {"1M", 1024 * 1024},
                {"1.2M", 1300000},
                {"64G", UINT64_C(64) << 30},
                {"15.9E", UINT64_MAX},
        };
        char buf[UNITS_BUFFER_SIZE];

        for (size_t i = 0; i < N(rows); i++)
                assert_string_equal(units_format_bytes(buf, rows[i].value), rows[i].text);
}

static void durations_are_short(void **state)
{
        static const struct parsed ms[] = {
                {"0ms", 0},
                {"999ms", 999},
                {"1s", 1000},
                {"1.5s", 1599},
                {"59.9s", 59999},
                {"1m", 60000},
                {"3m12s", 192999},
                {"1h", 3600 * SECOND},
                {"23h59m", DAY - 1},
                {"1d", DAY},
                {"99d23h", 100 * DAY - 1},
                {"3650d", 3650 * DAY},
                {"213503982334d", UINT64_MAX},
        };
        char buf[UNITS_BUFFER_SIZE];

        for (size_t i = 0; i < N(ms); i++)
                assert_string_equal(units_format_ms(buf, ms[i].value), ms[i].text);
        assert_string_equal(units_format_us(buf, 850), "850us");
        assert_string_equal(units_format_us(buf, 1234), "1.2ms");
        assert_string_equal(units_format_us(buf, 90000000), "1m30s");
        assert_string_equal(units_format_ns(buf, 999), "999ns");
        assert_string_equal(units_format_ns(buf, 1999), "1.9us");
        assert_string_equal(units_format_ns(buf, 2000000), "2ms");
}

static void only_a_full_ratio_is_100_percent(void **state)
{
        char buf[UNITS_BUFFER_SIZE];

        assert_string_equal(units_format_percent(buf, 0, 0), "-");
        assert_string_equal(units_format_percent(buf, 0, 1), "0.0%");
        assert_string_equal(units_format_percent(buf, 1, 2), "33.3%");
        assert_string_equal(units_format_percent(buf, 2, 1), "66.7%");
        assert_string_equal(units_format_percent(buf, 1, UINT64_MAX - 1), "0.1%");
        assert_string_equal(units_format_percent(buf, 5, 0), "100.0%");
        assert_string_equal(units_format_percent(buf, UINT64_MAX - 1, 1), "99.9%");
}

static void keys_are_bytes(void **state)
{
        static const char *const bad[] = {"",       "text:",   "hex:",    "hex:0",
                                          "hex:0g", "hex: 00", "hex:00 ", "hex:0x00"};
        char longest[5 + 2 * KEY_MAX + 3];
        struct key key = {.n = 0};

        assert_null(key_parse("abc", &key));
        assert_int_equal(key.n, 3);
        assert_memory_equal(key.bytes, "abc", 3);
        assert_null(key_parse("text:hex:00", &key));
        assert_int_equal(key.n, 6);
        assert_memory_equal(key.bytes, "hex:00", 6);
        assert_null(key_parse("hex:00fFA1", &key));
        assert_int_equal(key.n, 3);
        assert_memory_equal(key.bytes, "\x00\xff\xa1", 3);
        for (size_t i = 0; i < N(bad); i++)
                if (!key_parse(bad[i], &key))
                        fail_msg("'%s' is taken for a key", bad[i]);
        assert_int_equal(key.n, 3); /* failures left it alone */

        memset(longest, 'a', sizeof(longest));
        longest[KEY_MAX] = '\0';
        assert_null(key_parse(longest, &key));
        assert_int_equal(key.n, KEY_MAX);
        longest[KEY_MAX] = 'a';
        longest[KEY_MAX + 1] = '\0';
        assert_non_null(key_parse(longest, &key));
        memcpy(longest, "hex:", 4);
        memset(longest + 4, 'a', 2 * KEY_MAX + 2);
        longest[4 + 2 * KEY_MAX + 2] = '\0';
        assert_non_null(key_parse(longest, &key));
        longest[4 + 2 * KEY_MAX] = '\0';
        assert_null(key_parse(longest, &key));
        assert_int_equal(key.n, KEY_MAX);
}

static void shown_keys_read_back(void **state)
{
        static const struct {
                const char *bytes;
                size_t n;
                const char *shown;
        } rows[] = {
                {"abc", 3, "abc"},
                {"a b", 3, "a b"},
                {"hex:", 4, "text:hex:"},
                {"text:x", 6, "text:text:x"},
                {"\0", 1, "hex:00"},
                {"\xff\xfe", 2, "hex:fffe"},
                {"a\nb", 3, "hex:610a62"},
                {"\xc3\xa4", 2, "\xc3\xa4"},
                {"\xe2\x80\xae", 3, "hex:e280ae"}, /* turns the direction of what follows */
        };
        char buf[KEY_FORMAT_SIZE];
        uint8_t bytes[KEY_MAX];
        unsigned seed = 1;
        struct key key;

        for (size_t i = 0; i < N(rows); i++)
                assert_string_equal(key_format(buf, rows[i].bytes, rows[i].n), rows[i].shown);
        for (size_t i = 0; i < 20000; i++) {
                size_t n = 1 + (size_t)rand_r(&seed) % KEY_MAX;
                bool text = rand_r(&seed) % 2;

                for (size_t j = 0; j < n; j++)
                        bytes[j] = (uint8_t)(text ? ' ' + rand_r(&seed) % 95 : rand_r(&seed));
                if (n > 5 && i % 16 == 0)
                        memcpy(bytes, i % 32 ? "hex:a" : "text:", 5);
                if (key_parse(key_format(buf, bytes, n), &key) || key.n != n ||
                    memcmp(key.bytes, bytes, n) != 0)
                        fail_msg("'%s' does not read back as the same key", buf);
        }
        memset(bytes, 'a', sizeof(bytes));
        memcpy(bytes, "text:", 5);
        assert_int_equal(strlen(key_format(buf, bytes, KEY_MAX)), 5 + KEY_MAX);
        memset(bytes, 0xff, sizeof(bytes));
        assert_int_equal(strlen(key_format(buf, bytes, KEY_MAX)), 4 + 2 * KEY_MAX);
}

static void only_plain_text_is_printable(void **state)
{
        static const char *const good[] = {"",
                                           "a",
                                           "a b",
                                           "\xc2\xa0",
                                           "\xed\x9f\xbf",
                                           "\xee\x80\x80",
                                           "\xf0\x9f\x98\x80",
                                           "\xf4\x8f\xbf\xbd"};
        static const char *const bad[] = {
                "\n",
                "\x1b[2J",
                "\x7f",
                "\xc2\x80",
                "\xc2\x9b",
                "\x80",
                "\xc0\xaf",
                "\xc1\xbf",
                "\xe0\x80\xaf",
                "\xe0\x9f\xbf",
                "\xed\xa0\x80",
                "\xed\xbf\xbf",
                "\xf0\x80\x80",
                "\xf0\x8f\xbf\xbf",
                "\xf4\x90\x80\x80",
                "\xf5\x80\x80",
                "\xff",
                "\xc3",
                "\xe2\x82",
                "\xc3(",
                "\xe2\x82(",
                "\xef\xbf\xbe",
                "\xef\xbb\xbf",
                "\xe2\x80\xa8",
                "\xf3\xa0\x80\x81",
        };

        for (size_t i = 0; i < N(good); i++)
                if (!utf8_is_printable(good[i], strlen(good[i])))
                        fail_msg("row %zu of the good is refused", i);
        for (size_t i = 0; i < N(bad); i++)
                if (utf8_is_printable(bad[i], strlen(bad[i])))
                        fail_msg("row %zu of the bad is taken", i);
        assert_false(utf8_is_printable("a\0b", 3));
        assert_true(utf8_is_name("\xe2\x80\xae", 3)); /* odd, and still a name */
        assert_false(utf8_is_name("a\tb", 3));
        assert_false(utf8_is_name("\xff", 1));
}

static void marks_of_direction_are_known(void **state)
{
        static const char *const marks[] = {"\xd8\x9c",     "\xe2\x80\x8e", "\xe2\x80\x8f",
                                            "\xe2\x80\xaa", "\xe2\x80\xae", "\xe2\x81\xa6",
                                            "\xe2\x81\xa9"};
        static const char *const others[] = {"",
                                             "a",
                                             "\xd8\x9b",     /* an Arabic semicolon */
                                             "\xe2\x80\x8d", /* joins the parts of an emoji */
                                             "\xe2\x80\xaf",
                                             "\xe2\x81\xaa",
                                             "\xe2\x80",
                                             "\xe2"};

        for (size_t i = 0; i < N(marks); i++)
                assert_int_equal(utf8_direction_mark(marks[i]), strlen(marks[i]));
        for (size_t i = 0; i < N(others); i++)
                assert_int_equal(utf8_direction_mark(others[i]), 0);
}

static void distances_count_single_errors(void **state)
{
        assert_int_equal(suggest_distance("get", "get"), 0);
        assert_int_equal(suggest_distance("gett", "get"), 1);
        assert_int_equal(suggest_distance("gte", "get"), 1);
        assert_int_equal(suggest_distance("", "get"), 3);
        assert_int_equal(suggest_distance("get", ""), 3);
        assert_int_equal(suggest_distance("stats", "status"), 1);
        assert_int_equal(suggest_distance("kitten", "sitting"), 3);
        assert_int_equal(suggest_distance("0123456789012345678901234567890", "x"), 31);
        assert_int_equal(suggest_distance("01234567890123456789012345678901", "x"), UINT_MAX);
}

static void base64_pads(void **state)
{
        static const struct {
                const char *bytes, *text;
        } rows[] = {{"", ""},
                    {"f", "Zg=="},
                    {"fo", "Zm8="},
                    {"foo", "Zm9v"},
                    {"foob", "Zm9vYg=="},
                    {"foobar", "Zm9vYmFy"},
                    {"\xff\xfe\xfd", "//79"}};

        for (size_t i = 0; i < N(rows); i++) {
                char *text = base64_encode(rows[i].bytes, strlen(rows[i].bytes));

                assert_non_null(text);
                assert_string_equal(text, rows[i].text);
                free(text);
        }
}

static void a_damaged_block_is_refused(void **state)
{
        static const char zeros[100000];
        char packed[1000];
        struct value v = {NULL, 0};
        int n = LZ4_compress_default(zeros, packed, sizeof(zeros), sizeof(packed));

        assert_true(n > 0);
        assert_int_equal(value_unpack_lz4(packed, (size_t)n, sizeof(zeros), &v), 0);
        assert_int_equal(v.n, sizeof(zeros));
        assert_memory_equal(v.bytes, zeros, sizeof(zeros));
        value_done(&v);
        /* Lies about the size, in both directions and beyond reason. */
        assert_int_equal(value_unpack_lz4(packed, (size_t)n, sizeof(zeros) - 1, &v),
                         VALUE_E_DAMAGED);
        assert_int_equal(value_unpack_lz4(packed, (size_t)n, sizeof(zeros) + 1, &v),
                         VALUE_E_DAMAGED);
        assert_int_equal(value_unpack_lz4(packed, (size_t)n, 0, &v), VALUE_E_DAMAGED);
        assert_int_equal(value_unpack_lz4(packed, (size_t)n, UINT64_MAX, &v), VALUE_E_DAMAGED);
        assert_int_equal(value_unpack_lz4(packed, (size_t)n, UINT32_MAX, &v), VALUE_E_DAMAGED);
        /* Damage: never a crash, never something else than what was packed under a good size. */
        assert_int_equal(value_unpack_lz4("", 0, 10, &v), VALUE_E_DAMAGED);
        for (int i = 0; i < n; i++)
                assert_int_equal(value_unpack_lz4(packed, (size_t)i, sizeof(zeros), &v),
                                 VALUE_E_DAMAGED);
        for (int i = 0; i < n * 8; i++) {
                packed[i / 8] ^= (char)(1 << i % 8);
                if (value_unpack_lz4(packed, (size_t)n, sizeof(zeros), &v) == 0) {
                        assert_int_equal(v.n, sizeof(zeros));
                        value_done(&v);
                }
                packed[i / 8] ^= (char)(1 << i % 8);
        }
        assert_null(v.bytes);
        /* Nothing at all, packed. */
        n = LZ4_compress_default(zeros, packed, 0, sizeof(packed));
        assert_int_equal(value_unpack_lz4(packed, (size_t)n, 0, &v), 0);
        assert_int_equal(v.n, 0);
        value_done(&v);
}

static void write_pattern(int fd, size_t n)
{
        char *bytes = malloc(n + 1);

        assert_non_null(bytes);
        for (size_t i = 0; i < n; i++)
                bytes[i] = (char)(i * 31 >> 3);
        assert_int_equal(value_write(fd, bytes, n, -1), 0);
        free(bytes);
}

static void a_file_is_read_to_its_end(void **state)
{
        static const size_t sizes[] = {0, 1, 65535, 65536, 65537, 98304, 1000000};

        for (size_t i = 0; i < N(sizes); i++) {
                struct value v = {NULL, 0};
                FILE *f = tmpfile();
                int fd = fileno(f);

                write_pattern(fd, sizes[i]);
                /* In a pipe the size is not known before, in a file it is. */
                assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
                assert_int_equal(value_read(fd, sizes[i], &v), 0);
                assert_int_equal(v.n, sizes[i]);
                for (size_t j = 0; j < v.n; j++)
                        if (v.bytes[j] != (char)(j * 31 >> 3))
                                fail_msg("byte %zu of %zu is another one", j, v.n);
                value_done(&v);
                assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
                if (sizes[i] > 0)
                        assert_int_equal(value_read(fd, sizes[i] - 1, &v), VALUE_E_TOO_LARGE);
                assert_null(v.bytes);
                fclose(f);
        }
        assert_int_equal(value_read(-1, 1, &(struct value){NULL, 0}), -EBADF);
}

static void an_endless_file_is_not_read_for_ever(void **state)
{
        struct value v = {NULL, 0};
        int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);

        assert_int_equal(value_read(fd, 1000000, &v), VALUE_E_TOO_LARGE);
        assert_null(v.bytes);
        close(fd);
}

static void check_content(const char *path, const char *expected)
{
        struct value v = {NULL, 0};
        int fd = open(path, O_RDONLY | O_CLOEXEC);

        assert_true(fd >= 0);
        assert_int_equal(value_read(fd, 1000, &v), 0);
        assert_int_equal(v.n, strlen(expected));
        assert_memory_equal(v.bytes, expected, v.n);
        value_done(&v);
        close(fd);
}

static void files_are_replaced_whole(void **state)
{
        char dir[] = "/tmp/test-units-XXXXXX";
        struct stat before, after;

        assert_non_null(mkdtemp(dir));
        assert_int_equal(chdir(dir), 0);
        umask(027);

        assert_int_equal(value_write_file("a", "one", 3, -1), 0);
        check_content("a", "one");
        assert_int_equal(stat("a", &before), 0);
        assert_int_equal(before.st_mode & 07777, 0640);
        assert_int_equal(value_write_file("a", "two", 3, -1), 0);
        check_content("a", "two");
        assert_int_equal(stat("a", &after), 0);
        assert_int_not_equal(before.st_ino, after.st_ino);

        /* Through links, also where the file is not there yet. */
        assert_int_equal(mkdir("sub", 0700), 0);
        assert_int_equal(symlink("../a", "sub/link"), 0);
        assert_int_equal(symlink("b", "dangling"), 0);
        assert_int_equal(value_write_file("sub/link", "three", 5, -1), 0);
        assert_int_equal(value_write_file("dangling", "four", 4, -1), 0);
        check_content("a", "three");
        check_content("b", "four");
        assert_int_equal(lstat("sub/link", &after), 0);
        assert_true(S_ISLNK(after.st_mode));

        assert_int_equal(value_write_file("/dev/null", "five", 4, -1), 0);
        assert_int_equal(stat("/dev/null", &after), 0);
        assert_true(S_ISCHR(after.st_mode));
        assert_int_equal(value_write_file("/dev/full", "six", 3, -1), -ENOSPC);
        assert_int_equal(value_write_file("sub", "x", 1, -1), -EISDIR);
        assert_int_equal(value_write_file("none/x", "x", 1, -1), -ENOENT);
        assert_int_equal(value_write_file("a/x", "x", 1, -1), -ENOTDIR);

        /* Nothing else was left behind, or the directories could not be removed. */
        assert_int_equal(unlink("sub/link"), 0);
        assert_int_equal(rmdir("sub"), 0);
        assert_int_equal(unlink("a") + unlink("b") + unlink("dangling"), 0);
        assert_int_equal(chdir("/"), 0);
        assert_int_equal(rmdir(dir), 0);
}

#define TOKEN "0123456789abcdef00000000ffffffff"

static void tokens_are_32_digits(void **state)
{
        char token[SESSION_TOKEN_DIGITS + 1] = "untouched";
        static const char *const bad[] = {"",        "0",          TOKEN "0",
                                          " " TOKEN, TOKEN "\r\n", "\n" TOKEN "\n",
                                          "x" TOKEN, NULL};

        (void)state;
        assert_null(session_token_check(TOKEN));
        assert_string_equal(session_token_check("0123456789ABCDEF00000000ffffffff"),
                            "it has something other than hexadecimal digits in small letters in "
                            "it");
        for (size_t i = 0; bad[i]; i++) {
                assert_non_null(session_token_take(bad[i], strlen(bad[i]), token));
                assert_string_equal(token, "untouched");
        }
        assert_non_null(session_token_take(NULL, 0, token));
        assert_null(session_token_take(TOKEN, strlen(TOKEN), token));
        assert_string_equal(token, TOKEN);
        assert_null(session_token_take(TOKEN "\nmore", strlen(TOKEN) + 5, token));
        assert_null(session_token_take(TOKEN "\n\0x", strlen(TOKEN) + 3, token));
}

static void numbers_to_add_are_decimal(void **state)
{
        static const char *const bad[] = {"",      " 1",  "1 ",    "0x10",
                                          "inf",   "nan", "1e999", "-",
                                          "1.2.3", "e",   ".",     "9223372036854775808",
                                          NULL};
        struct session_number n = {.integer = 7};

        (void)state;
        for (size_t i = 0; bad[i]; i++)
                assert_non_null(session_number_parse(bad[i], &n));
        assert_int_equal(n.integer, 7);
        assert_null(session_number_parse("-9223372036854775808", &n));
        assert_true(!n.is_real && n.integer == INT64_MIN);
        assert_null(session_number_parse("+5", &n));
        assert_true(!n.is_real && n.integer == 5 && n.real == 5.0);
        assert_null(session_number_parse("-.5", &n));
        assert_true(n.is_real && n.real == -0.5);
        assert_null(session_number_parse("2e3", &n));
        assert_true(n.is_real && n.real == 2000.0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(durations_are_exact),
                cmocka_unit_test(bad_durations_say_why),
                cmocka_unit_test(parts_are_exact),
                cmocka_unit_test(a_cut_text_has_no_half_character),
                cmocka_unit_test(sizes_are_exact),
                cmocka_unit_test(counts_are_whole),
                cmocka_unit_test(bytes_are_short),
                cmocka_unit_test(durations_are_short),
                cmocka_unit_test(only_a_full_ratio_is_100_percent),
                cmocka_unit_test(keys_are_bytes),
                cmocka_unit_test(shown_keys_read_back),
                cmocka_unit_test(only_plain_text_is_printable),
                cmocka_unit_test(marks_of_direction_are_known),
                cmocka_unit_test(distances_count_single_errors),
                cmocka_unit_test(base64_pads),
                cmocka_unit_test(a_damaged_block_is_refused),
                cmocka_unit_test(a_file_is_read_to_its_end),
                cmocka_unit_test(an_endless_file_is_not_read_for_ever),
                cmocka_unit_test(files_are_replaced_whole),
                cmocka_unit_test(tokens_are_32_digits),
                cmocka_unit_test(numbers_to_add_are_decimal),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
