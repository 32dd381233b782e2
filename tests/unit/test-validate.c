/* SPDX-License-Identifier: MIT */
/* Guards common/validate.c: what a caller may write as a name, a path, a label, a number or an
 * address, and that text from elsewhere leaves as valid, printable UTF-8. */

#include <linux/limits.h>
#include <stdio.h>
#include <string.h>

#include "common/text.h"
#include "common/validate.h"
#include "unit.h"

static void link_names(void **state) {
        static const char *const good[] = {"a",  "tap0",    "br-fc",
                                           "0a", "a.b_c-d", "fc-123456789012",
                                           "1-", "9.9.9",   "abcdefghijklmno"};
        static const char *const bad[] = {"",
                                          ".",
                                          "..",
                                          "-a",
                                          "_a",
                                          ".a",
                                          "A",
                                          "tap%d",
                                          "tap 0",
                                          "tap\t0",
                                          "tap\n",
                                          "tap/0",
                                          "tap:0",
                                          "tap\x1b",
                                          "tap\xff",
                                          "t\xc3\xa4p",
                                          "0",
                                          "123",
                                          "000000000000000",
                                          "abcdefghijklmnop",
                                          "tap@0",
                                          "tAp",
                                          "tap*",
                                          "tap=0",
                                          "../x",
                                          "a\x7f"};

        for (size_t i = 0; i < ELEMENTS(good); i++)
                assert_true(link_name_valid(good[i]));
        for (size_t i = 0; i < ELEMENTS(bad); i++)
                assert_false(link_name_valid(bad[i]));
}

/* Every byte, as the first and as a later one. */
static void link_name_bytes(void **state) {
        for (int c = 1; c < 256; c++) {
                bool lower = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
                char first[] = {(char)c, 'x', '\0'}, later[] = {'x', (char)c, '\0'};

                assert_int_equal(link_name_valid(first), lower);
                assert_int_equal(link_name_valid(later), lower || c == '.' || c == '_' || c == '-');
        }
}

static void tap_names(void **state) {
        char *prefixes[] = {"tap", "fc", NULL}, *none[] = {NULL};
        Failure f;

        assert_int_equal(tap_name_check("tap0", prefixes, &f), 0);
        assert_int_equal(tap_name_check("tap", prefixes, &f), 0);
        assert_int_equal(tap_name_check("fc", prefixes, &f), 0);
        assert_int_equal(tap_name_check("eth0", prefixes, &f), -FAILURE_INVALID_ARGS);
        assert_non_null(strstr(f.text, "'eth0'"));
        assert_non_null(strstr(f.text, "'tap'"));
        assert_int_equal(tap_name_check("ta", prefixes, &f), -FAILURE_INVALID_ARGS);
        assert_int_equal(tap_name_check("tap0", none, &f), -FAILURE_INVALID_ARGS);
        assert_int_equal(tap_name_check("tap%d", prefixes, &f), -FAILURE_INVALID_ARGS);
        assert_int_equal(f.kind, FAILURE_INVALID_ARGS);
        assert_non_null(strstr(f.text, "'tap%d'"));
        for (const char *const *p = (const char *const[]){"lo", "all", "default", "", NULL}; *p; p++)
                assert_int_equal(tap_name_check(*p, prefixes, &f), -FAILURE_INVALID_ARGS);
}

static void paths(void **state) {
        static const char *const good[] = {"/a",        "/run/banger/1000/web.sock",
                                           "/...",      "/.a",
                                           "/a.",       "/..a",
                                           "/ ",        "/%s",
                                           "/\xc3\xa4", "/a b/c"};
        static const char *const bad[] = {"",        "/",         "a",     "a/b", "./a",  "//",
                                          "//a",     "/a/",       "/a//b", "/.",  "/..",  "/a/./b",
                                          "/a/../b", "/a/.",      "/a/..", "/\n", "/a\t", "/\x1b[m",
                                          "/\x7f",   "/a/\x01/b", " /a"};
        Failure f;

        for (size_t i = 0; i < ELEMENTS(good); i++) {
                assert_true(path_valid(good[i]));
                assert_int_equal(socket_path_check(good[i], &f), 0);
        }
        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                assert_false(path_valid(bad[i]));
                assert_int_equal(socket_path_check(bad[i], &f), -FAILURE_INVALID_ARGS);
        }
}

static void path_lengths(void **state) {
        static char path[1024 * 1024 + 1];
        Failure f;

        /* /aaa…a/aaa…a: components of 99, so that only the whole is too long */
        for (size_t length = PATH_MAX - 3; length <= PATH_MAX + 1; length++) {
                for (size_t i = 0; i < length; i++)
                        path[i] = i % 100 == 0 && i + 1 < length ? '/' : 'a';
                path[length] = '\0';
                assert_int_equal(path_valid(path), length < PATH_MAX);
        }
        memset(path, 'a', sizeof(path));
        path[0] = '/';
        path[1 + NAME_MAX] = '\0';
        assert_true(path_valid(path));
        path[1 + NAME_MAX] = 'a';
        path[2 + NAME_MAX] = '\0';
        assert_false(path_valid(path));
        path[2 + NAME_MAX] = 'a';
        path[sizeof(path) - 1] = '\0';
        assert_int_equal(socket_path_check(path, &f), -FAILURE_INVALID_ARGS);
        assert_true(strlen(f.text) < 400); /* quotes a part only */
}

static void labels(void **state) {
        char longest[66];
        Failure f;

        memset(longest, 'x', sizeof(longest));
        longest[64] = '\0';
        assert_int_equal(label_check(longest, &f), 0);
        longest[64] = 'x';
        longest[65] = '\0';
        assert_int_equal(label_check(longest, &f), -FAILURE_INVALID_ARGS);
        assert_int_equal(label_check("", &f), -FAILURE_INVALID_ARGS);
        assert_int_equal(label_check("web server, the first", &f), 0);
        assert_int_equal(label_check("t\xc3\xa4glich", &f), 0);
        for (int c = 1; c < 128; c++) {
                char text[] = {'a', (char)c, '\0'};

                assert_int_equal(label_check(text, &f), c < 0x20 || c == 0x7f || c == '<' || c == '>'
                                                                ? -FAILURE_INVALID_ARGS
                                                                : 0);
        }
}

static void pids(void **state) {
        Failure f;

        assert_int_equal(pid_check(0, &f), -FAILURE_INVALID_ARGS);
        assert_int_equal(pid_check(1, &f), 0);
        assert_int_equal(pid_check(INT32_MAX, &f), 0);
        assert_int_equal(pid_check((uint32_t)INT32_MAX + 1, &f), -FAILURE_INVALID_ARGS);
        assert_int_equal(pid_check(UINT32_MAX, &f), -FAILURE_INVALID_ARGS);
        assert_non_null(strstr(f.text, "4294967295"));
}

static void uids(void **state) {
        assert_true(uid_valid(0));
        assert_true(uid_valid(1000));
        assert_true(uid_valid(65533));
        assert_false(uid_valid(65534));
        assert_true(uid_valid(65535));
        assert_true(uid_valid(INT32_MAX));
        assert_false(uid_valid((uid_t)INT32_MAX + 1));
        assert_false(uid_valid(UID_NONE));
}

static void macs(void **state) {
        static const char *const bad[] = {"",
                                          "06:00:ac:10:00:0",
                                          "06:00:ac:10:00:022",
                                          "06-00-ac-10-00-02",
                                          "0600ac100002",
                                          "06:00:ac:10:00:0g",
                                          "06:00:ac:10:00: 2",
                                          "06:00:ac:10:00;02",
                                          "00:00:00:00:00:00",
                                          "ff:ff:ff:ff:ff:ff",
                                          "01:00:5e:00:00:01",
                                          "07:00:ac:10:00:02",
                                          "+6:00:ac:10:00:02",
                                          "06:00:ac:10:00:02\n",
                                          " 6:00:ac:10:00:02",
                                          "0x:00:ac:10:00:02",
                                          ":06:00:ac:10:00:0"};
        uint8_t mac[6], expected[6] = {0x06, 0x00, 0xac, 0x10, 0xfe, 0x02};
        char text[18];
        Failure f;

        assert_int_equal(mac_check("06:00:ac:10:fe:02", mac, &f), 0);
        assert_memory_equal(mac, expected, 6);
        assert_int_equal(mac_check("06:00:AC:10:Fe:02", mac, &f), 0);
        assert_memory_equal(mac, expected, 6);
        mac_format(mac, text);
        assert_string_equal(text, "06:00:ac:10:fe:02");
        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                memset(mac, 0x55, 6);
                assert_int_equal(mac_check(bad[i], mac, &f), -FAILURE_INVALID_ARGS);
                assert_memory_equal(mac, "UUUUUU", 6); /* written on success only */
                assert_non_null(strstr(f.text, "guest-mac"));
        }
        for (int c = 1; c < 256; c++) { /* as a digit, and as a separator */
                char digit[] = "02:00:00:00:00:00", separator[] = "02:00:00:00:00:00";

                digit[16] = separator[14] = (char)c;
                assert_int_equal(mac_check(digit, mac, &f) == 0,
                                 strchr("0123456789abcdefABCDEF", c) != NULL);
                assert_int_equal(mac_check(separator, mac, &f) == 0, c == ':');
        }
}

static void numbers(void **state) {
        static const char *const bad[] = {"",
                                          "00",
                                          "01",
                                          "-1",
                                          "+1",
                                          " 1",
                                          "1 ",
                                          "1\n",
                                          "0x1",
                                          "1e3",
                                          "1.0",
                                          "a",
                                          "18446744073709551616",
                                          "99999999999999999999999",
                                          "-0",
                                          "\xd9\xa1"};
        uint64_t n = 7;

        for (size_t i = 0; i < ELEMENTS(bad); i++)
                assert_false(number_parse(bad[i], UINT64_MAX, &n));
        assert_int_equal(n, 7);
        assert_true(number_parse("0", 0, &n));
        assert_int_equal(n, 0);
        assert_true(number_parse("18446744073709551615", UINT64_MAX, &n));
        assert_true(n == UINT64_MAX);
        assert_true(number_parse("100", 100, &n));
        assert_false(number_parse("101", 100, &n));
        assert_false(number_parse("18446744073709551615", UINT64_MAX - 1, &n));
        assert_true(n == 100);
}

/* Against a second way to tell: encode every code point, and try every short sequence. */
static void utf8_every_code_point(void **state) {
        for (uint32_t c = 1; c < 0x120000; c++) {
                unsigned char s[4];
                size_t n;

                if (c < 0x80)
                        n = 1, s[0] = (unsigned char)c;
                else if (c < 0x800)
                        n = 2, s[0] = (unsigned char)(0xc0 | (c >> 6));
                else if (c < 0x10000)
                        n = 3, s[0] = (unsigned char)(0xe0 | (c >> 12));
                else
                        n = 4, s[0] = (unsigned char)(0xf0 | (c >> 18));
                for (size_t i = 1; i < n; i++)
                        s[i] = (unsigned char)(0x80 | ((c >> (6 * (n - 1 - i))) & 0x3f));
                assert_int_equal(utf8_sequence((char *)s, n),
                                 (c >= 0xd800 && c <= 0xdfff) || c > 0x10ffff ? 0 : n);
                if (n > 1)
                        assert_int_equal(utf8_sequence((char *)s, n - 1), 0);
        }
}

static void utf8_broken(void **state) {
        static const char *const bad[] = {"\x80",
                                          "\xbf",
                                          "\xc0\x80",
                                          "\xc1\xbf",
                                          "\xe0\x80\x80",
                                          "\xe0\x9f\xbf",
                                          "\xf0\x80\x80\x80",
                                          "\xf0\x8f\xbf\xbf",
                                          "\xf4\x90\x80\x80",
                                          "\xf5\x80\x80\x80",
                                          "\xf8\x88\x80\x80\x80",
                                          "\xfe",
                                          "\xff",
                                          "\xed\xa0\x80",
                                          "\xed\xbf\xbf",
                                          "\xc3(",
                                          "\xe2\x82(",
                                          "\xe2(\xa1",
                                          "\xf0\x9f\x98(",
                                          "\xc3\xc3\xa4"};

        assert_int_equal(utf8_sequence("", 0), 0);
        for (size_t i = 0; i < ELEMENTS(bad); i++)
                assert_int_equal(utf8_sequence(bad[i], strlen(bad[i])), 0);
}

static void text(void **state) {
        char out[64];

        text_make_printable("web\n\tx\x1b[31m\x7f", out, sizeof(out));
        assert_string_equal(out, "web  x [31m ");
        text_make_valid("web\n\tx\x1b[31m\x7f\r", out, sizeof(out));
        assert_string_equal(out, "web\n\tx [31m  ");
        text_make_printable("t\xc3\xa4g\xffx\xe2\x82", out, sizeof(out));
        assert_string_equal(out, "t\xc3\xa4g\xef\xbf\xbdx\xef\xbf\xbd\xef\xbf\xbd");
        text_make_printable("", out, sizeof(out));
        assert_string_equal(out, "");
}

/* Whatever the room, the result ends at a character's boundary and is a beginning of the whole. */
static void text_cut(void **state) {
        static const char source[] = "a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\xff z";
        char whole[64];

        text_make_printable(source, whole, sizeof(whole));
        for (size_t size = 1; size < sizeof(whole); size++) {
                char out[64];
                size_t n;

                memset(out, 'Z', sizeof(out));
                text_make_printable(source, out, size);
                n = strlen(out);
                assert_true(n < size);
                assert_memory_equal(out, whole, n);
                assert_true(n == strlen(whole) || n + 4 >= size);
                for (size_t i = 0; i < n;) {
                        size_t k = utf8_sequence(out + i, n - i);

                        assert_true(k > 0);
                        i += k;
                }
                for (size_t i = size; i < sizeof(out); i++)
                        assert_int_equal(out[i], 'Z');
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(link_names),
                cmocka_unit_test(link_name_bytes),
                cmocka_unit_test(tap_names),
                cmocka_unit_test(paths),
                cmocka_unit_test(path_lengths),
                cmocka_unit_test(labels),
                cmocka_unit_test(pids),
                cmocka_unit_test(uids),
                cmocka_unit_test(macs),
                cmocka_unit_test(numbers),
                cmocka_unit_test(utf8_every_code_point),
                cmocka_unit_test(utf8_broken),
                cmocka_unit_test(text),
                cmocka_unit_test(text_cut),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
