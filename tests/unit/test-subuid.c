/* SPDX-License-Identifier: MIT */
/* Guards service/base/subuid.c: whose a jailed VM's uid is. Ranges of root, disputed ranges and broken
 * lines count for nobody, and take nothing away from others. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/subuid.h"
#include "unit.h"

/* Users by number, from a range that no account of the machine has. */
#define U1 "1234500001"
#define U2 "1234500002"

static SubuidMap read_text(const char *text, size_t size) {
        char path[] = "/tmp/fcproc-subuid-XXXXXX";
        int fd = mkstemp(path);
        SubuidMap map;

        assert_true(fd >= 0);
        assert_int_equal(write(fd, text, size), (ssize_t)size);
        (void)close(fd);
        assert_int_equal(subuid_read(path, &map), 0);
        (void)unlink(path);
        for (size_t i = 1; i < map.n_ranges; i++) /* what find() relies on */
                assert_true(map.ranges[i - 1].first + map.ranges[i - 1].count <= map.ranges[i].first);
        return map;
}

static uid_t owner(const char *text, uid_t uid) {
        SubuidMap map = read_text(text, strlen(text));
        uid_t found = subuid_owner(&map, uid);

        assert_int_equal(subuid_contains(&map, uid), found != uid);
        subuid_clear(&map);
        assert_int_equal(map.n_ranges, 0);
        return found;
}

static size_t count(const char *text) {
        SubuidMap map = read_text(text, strlen(text));
        size_t n = map.n_ranges;

        subuid_clear(&map);
        return n;
}

static void a_range(void **state) {
        static const char text[] = U1 ":100000:65536\n" U2 ":200000:65536\n";

        assert_int_equal(owner(text, 99999), 99999);
        assert_int_equal(owner(text, 100000), 1234500001);
        assert_int_equal(owner(text, 165535), 1234500001);
        assert_int_equal(owner(text, 165536), 165536);
        assert_int_equal(owner(text, 200000), 1234500002);
        assert_int_equal(owner(text, 265535), 1234500002);
        assert_int_equal(owner(text, 265536), 265536);
        assert_int_equal(owner(text, 0), 0);
        assert_int_equal(owner(text, UID_NONE), UID_NONE);
}

static void order_does_not_matter(void **state) {
        static const char text[] = U2 ":300000:10\n" U1 ":100000:10\n" U2 ":200000:10\n" U1
                                      ":400000:10";

        for (uid_t base = 100000; base <= 400000; base += 100000) {
                assert_int_equal(owner(text, base + 9),
                                 base == 100000 || base == 400000 ? 1234500001 : 1234500002);
                assert_int_equal(owner(text, base + 10), base + 10);
                assert_int_equal(owner(text, base - 1), base - 1);
        }
}

static void no_file(void **state) {
        SubuidMap map = {.n_ranges = 7};

        assert_int_equal(subuid_read("/nonexistent/subuid", &map), 0);
        assert_int_equal(map.n_ranges, 0);
        assert_int_equal(subuid_owner(&map, 5), 5);
        assert_int_equal(subuid_read("/dev/null/subuid", &map), -ENOTDIR);
        assert_int_equal(count(""), 0);
        assert_int_equal(count("\n\n"), 0);
}

static void of_root(void **state) {
        assert_int_equal(count("0:100000:65536\n"), 0);
        assert_int_equal(count("root:100000:65536\n"), 0);
        assert_int_equal(owner("0:100000:65536\n" U1 ":200000:10\n", 200005), 1234500001);
}

static void of_no_user(void **state) {
        assert_int_equal(count("65534:100000:65536\n"), 0);
        assert_int_equal(count("4294967295:100000:65536\n"), 0);
        assert_int_equal(count("2147483648:100000:65536\n"), 0);
        assert_int_equal(count("no-such-account-here:100000:65536\n"), 0);
}

/* Nothing at or beyond what a uid may be, and never uid 0. */
static void into_invalid_uids(void **state) {
        assert_int_equal(count(U1 ":0:65536\n"), 0);
        assert_int_equal(count(U1 ":100000:0\n"), 0);
        assert_int_equal(count(U1 ":2147483647:1\n"), 1);
        assert_int_equal(count(U1 ":2147483647:2\n"), 0);
        assert_int_equal(count(U1 ":2147483000:4294967295\n"), 0);
        assert_int_equal(count(U1 ":4294901760:65536\n"), 0);
        assert_int_equal(count(U1 ":18446744073709551615:2\n"), 0);
        assert_int_equal(count(U1 ":60000:5534\n"), 1); /* up to 65533 */
        assert_int_equal(count(U1 ":60000:5535\n"), 0); /* nobody, and what is not mapped */
        assert_int_equal(count(U1 ":65534:1\n"), 0);
        assert_int_equal(count(U1 ":65535:1\n"), 1);
        assert_int_equal(count(U1 ":1:2147483647\n"), 0);
}

static void broken_lines(void **state) {
        static const char *const lines[] = {"alice",
                                            ":",
                                            "::",
                                            ":::",
                                            U1,
                                            U1 ":",
                                            U1 ":100000",
                                            U1 ":100000:",
                                            U1 ":a:b",
                                            U1 ":100000:-1",
                                            U1 ":0100000:10",
                                            U1 ":100000:+10",
                                            U1 ": 100000:10",
                                            U1 ":100000: 10",
                                            U1 ":100000:10 ",
                                            U1 " :100000:10",
                                            "#" U1 ":100000:10",
                                            U1 ":100000:10\r",
                                            U1 ":100000:0x10",
                                            "0" U1 ":100000:10",
                                            U1 ":1e5:10",
                                            U1 "/100000/10",
                                            U1 "::100000:10",
                                            ":" U1 ":100000:10",
                                            "::" U1 ":100000:10",
                                            U1 ":100000::10",
                                            "\xff\xfe:100000:10"};

        for (size_t i = 0; i < ELEMENTS(lines); i++) {
                char text[256];

                (void)snprintf(text, sizeof(text), "%s\n", lines[i]);
                assert_int_equal(count(text), 0);
                /* the next user's is read all the same */
                (void)snprintf(text, sizeof(text), "%s\n" U2 ":200000:10\n%s", lines[i], lines[i]);
                assert_int_equal(owner(text, 200000), 1234500002);
        }
}

static void strange_bytes(void **state) {
        static const char with_nul[] = U1 ":100000:10\0junk\n" U2 ":200000:10\n";
        static char line[1024 * 1024];
        SubuidMap map = read_text(with_nul, sizeof(with_nul) - 1);

        assert_int_equal(subuid_owner(&map, 200000), 1234500002);
        subuid_clear(&map);
        memset(line, 'x', sizeof(line));
        memcpy(line + sizeof(line) - 26, "\n" U2 ":200000:10\n", 23);
        map = read_text(line, sizeof(line) - 3);
        assert_int_equal(subuid_owner(&map, 200000), 1234500002);
        subuid_clear(&map);
}

static void disputed(void **state) {
        static const char text[] = U1 ":100000:100\n" U2 ":100050:100\n" U1 ":300000:10\n";

        for (uid_t uid = 99999; uid < 100160; uid++) /* all of both, not only what is shared */
                assert_int_equal(owner(text, uid), uid);
        assert_int_equal(owner(text, 300000), 1234500001);
        assert_int_equal(count(U1 ":100000:10\n" U2 ":100000:10\n"), 0);
        /* next to each other is no dispute */
        assert_int_equal(count(U1 ":100000:10\n" U2 ":100010:10\n"), 2);
        /* a range inside another, and one that only the wide one reaches */
        assert_int_equal(count(U1 ":100000:1000\n" U2 ":100010:10\n" U2 ":100900:10\n"), 0);
        assert_int_equal(owner(U1 ":100000:1000\n" U2 ":100010:10\n" U2 ":101000:10\n", 101005),
                         1234500002);
}

static void twice_the_same_user(void **state) {
        static const char text[] = U1 ":100000:100\n" U1 ":100050:100\n" U1 ":100000:100\n";

        assert_int_equal(count(text), 1);
        assert_int_equal(owner(text, 100149), 1234500001);
        assert_int_equal(owner(text, 100150), 100150);
        /* merged, and still disputed by a third line */
        assert_int_equal(count(U1 ":100000:100\n" U1 ":100050:100\n" U2 ":100140:5\n"), 0);
}

/* Against a plain way to tell: for small random files, mark every uid by hand. */
static void at_random(void **state) {
        unsigned seed = 42;

        for (int round = 0; round < 300; round++) {
                struct {
                        unsigned first, count, user;
                } r[6];
                char text[512] = "";
                SubuidMap map;

                for (size_t i = 0; i < ELEMENTS(r); i++) {
                        r[i].first = 1 + (unsigned)rand_r(&seed) % 60;
                        r[i].count = 1 + (unsigned)rand_r(&seed) % 20;
                        r[i].user = 1234500001 + (unsigned)rand_r(&seed) % 3;
                        (void)snprintf(text + strlen(text), sizeof(text) - strlen(text),
                                       "%u:%u:%u\n", r[i].user, r[i].first, r[i].count);
                }
                map = read_text(text, strlen(text));
                for (uid_t uid = 0; uid < 100; uid++) {
                        uid_t claimed = uid, said = subuid_owner(&map, uid);
                        bool dispute = false;

                        for (size_t i = 0; i < ELEMENTS(r); i++)
                                if (uid >= r[i].first && uid < r[i].first + r[i].count) {
                                        dispute = dispute || (claimed != uid && claimed != r[i].user);
                                        claimed = r[i].user;
                                }
                        /* never a wrong user; a disputed uid never anybody's */
                        assert_true(said == uid || (said == claimed && !dispute));
                }
                subuid_clear(&map);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_range),      cmocka_unit_test(order_does_not_matter),
                cmocka_unit_test(no_file),      cmocka_unit_test(of_root),
                cmocka_unit_test(of_no_user),   cmocka_unit_test(into_invalid_uids),
                cmocka_unit_test(broken_lines), cmocka_unit_test(strange_bytes),
                cmocka_unit_test(disputed),     cmocka_unit_test(twice_the_same_user),
                cmocka_unit_test(at_random),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
