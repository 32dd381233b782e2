/* SPDX-License-Identifier: MIT */
/* Guards service/base/config.c: defaults, what each key takes, the order of drop-ins, and that one wrong
 * line, or a file that others can write, refuses the whole and says where. */

#include <arpa/inet.h>
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/config.h"
#include "unit.h"

static char directory[] = "/tmp/fcproc-config-XXXXXX", file[64], dropins[64];

static void put(const char *name, const char *text) {
        char path[128];
        FILE *stream;

        (void)snprintf(path, sizeof(path), "%s%s%s", name ? dropins : file, name ? "/" : "",
                       name ?: "");
        stream = fopen(path, "we");
        assert_non_null(stream);
        assert_true(fputs(text, stream) >= 0);
        assert_int_equal(fclose(stream), 0);
        assert_int_equal(chmod(path, 0644), 0);
}

static int remove_entry(const char *path, const struct stat *st, int flag, struct FTW *ftw) {
        return strcmp(path, directory) == 0 ? 0 : remove(path);
}

static int clear(void **state) {
        (void)nftw(directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
        return mkdir(dropins, 0755);
}

static Config *good(void) {
        Config *c = NULL;
        char *reason = NULL;
        int r = config_load(file, &c, &reason);

        if (r < 0)
                fail_msg("%s", reason);
        assert_null(reason);
        return c;
}

/* It is refused with "FILE:LINE: …", the reason holding this word; line 0: the file as a whole. */
static void bad(const char *name, int line, const char *word) {
        Config untouched, *c = &untouched;
        char where[160], *reason = NULL;

        assert_true(config_load(file, &c, &reason) < 0);
        assert_ptr_equal(c, &untouched);
        assert_non_null(reason);
        (void)snprintf(where, sizeof(where), "%s%s%s:%d: ", name ? dropins : file, name ? "/" : "",
                       name ?: "", line);
        if (line == 0)
                strrchr(where, ':')[-2] = '\0';
        if (strncmp(reason, where, strlen(where)) != 0 || (word && !strstr(reason, word)))
                fail_msg("'%s' is not about '%s' (%s)", reason, where, word);
        free(reason);
}

static void bad_line(const char *line) {
        char text[1024];

        (void)snprintf(text, sizeof(text), "[fcproc]\n\n%s\n", line);
        put(NULL, text);
        bad(NULL, 3, NULL);
}

static Config *with_line(const char *line) {
        char text[1024];

        (void)snprintf(text, sizeof(text), "[fcproc]\n%s\n", line);
        put(NULL, text);
        return good();
}

static void defaults(void **state) {
        Config *c;

        put(NULL, "");
        c = good();
        assert_string_equal(c->firecracker_bin, "firecracker");
        assert_string_equal(c->bridge_name, "br-fc");
        assert_int_equal(c->bridge_family, AF_INET);
        assert_int_equal(c->bridge_ip.in.s_addr, inet_addr("172.16.0.1"));
        assert_int_equal(c->cidr, 24);
        assert_string_equal(c->bridge_address, "172.16.0.1/24");
        assert_string_equal(c->runtime_dir, "/run/banger");
        assert_null(c->socket_roots[0]);
        assert_string_equal(c->tap_prefixes[0], "tap");
        assert_string_equal(c->tap_prefixes[1], "fc");
        assert_null(c->tap_prefixes[2]);
        assert_true(c->port_isolation);
        assert_int_equal(c->socket_timeout_usec, 5 * USEC_PER_SEC);
        assert_int_equal(c->max_taps_per_user, 64);
        assert_int_equal(c->max_waits_per_user, 1024);
        assert_int_equal(c->max_calls_per_user, 64);
        assert_int_equal(c->max_polkit_per_user, 8);
        assert_int_equal(c->max_taps, 1000);
        assert_int_equal(c->max_waits, 65536);
        config_free(c);
        config_free(NULL);
}

static void every_key(void **state) {
        Config *c;

        put(NULL,
            "# a comment\n; another\n[fcproc]\nfirecracker_bin=/opt/fc\nbridge_name = br0\nbridge_ip = fd00::1\n"
            "cidr = 64\nruntime_dir = /run/x\nsocket_roots = /srv/jailer,/srv/b /srv/c\ntap_prefixes = vm t-\n"
            "port_isolation = off\nsocket_timeout_sec = 0\nmax_taps_per_user = 1\nmax_waits_per_user = 2\n"
            "max_calls_per_user = 3\nmax_polkit_per_user = 4\nmax_taps = 5\nmax_waits = 1000000\n");
        c = good();
        assert_string_equal(c->firecracker_bin, "/opt/fc");
        assert_string_equal(c->bridge_name, "br0");
        assert_int_equal(c->bridge_family, AF_INET6);
        assert_string_equal(c->bridge_address, "fd00::1/64");
        assert_string_equal(c->runtime_dir, "/run/x");
        assert_string_equal(c->socket_roots[0], "/srv/jailer");
        assert_string_equal(c->socket_roots[1], "/srv/b");
        assert_string_equal(c->socket_roots[2], "/srv/c");
        assert_null(c->socket_roots[3]);
        assert_string_equal(c->tap_prefixes[0], "vm");
        assert_string_equal(c->tap_prefixes[1], "t-");
        assert_false(c->port_isolation);
        assert_int_equal(c->socket_timeout_usec, 0);
        assert_int_equal(c->max_taps_per_user, 1);
        assert_int_equal(c->max_waits_per_user, 2);
        assert_int_equal(c->max_calls_per_user, 3);
        assert_int_equal(c->max_polkit_per_user, 4);
        assert_int_equal(c->max_taps, 5);
        assert_int_equal(c->max_waits, 1000000);
        config_free(c);
}

static void good_values(void **state) {
        static const char *const lines[] = {"firecracker_bin =",
                                            "firecracker_bin = fc-1.16",
                                            "bridge_name = abcdefghijklmno",
                                            "cidr = 1",
                                            "cidr = 32",
                                            "bridge_ip = fe80::1",
                                            "bridge_ip = 223.255.255.254",
                                            "socket_roots =",
                                            "socket_timeout_sec = 86400",
                                            "port_isolation = YES",
                                            "port_isolation = True",
                                            "port_isolation = 0",
                                            "max_taps = 1",
                                            "tap_prefixes = a-very-long-pr",
                                            "max_taps = 7\nmax_taps = 8"};

        for (size_t i = 0; i < ELEMENTS(lines); i++)
                config_free(with_line(lines[i]));
}

static void bad_values(void **state) {
        static const char *const lines[] = {"firecracker_bin = bin/fc",
                                            "firecracker_bin = ./fc",
                                            "firecracker_bin = /usr/../fc",
                                            "bridge_name =",
                                            "bridge_name = abcdefghijklmnop",
                                            "bridge_name = Br0",
                                            "bridge_name = 123",
                                            "bridge_name = br/0",
                                            "bridge_name = br%d",
                                            "bridge_name = _fcbr0",
                                            "bridge_name = ..",
                                            "bridge_ip =",
                                            "bridge_ip = 172.16.0",
                                            "bridge_ip = 172.16.0.256",
                                            "bridge_ip = 0.0.0.0",
                                            "bridge_ip = 127.0.0.1",
                                            "bridge_ip = 224.0.0.1",
                                            "bridge_ip = 255.255.255.255",
                                            "bridge_ip = 172.16.0.1/24",
                                            "bridge_ip = ::",
                                            "bridge_ip = ::1",
                                            "bridge_ip = ff02::1",
                                            "bridge_ip = ::ffff:1.2.3.4",
                                            "bridge_ip = localhost",
                                            "bridge_ip = 0x7f000001",
                                            "cidr =",
                                            "cidr = 0",
                                            "cidr = 129",
                                            "cidr = 33",
                                            "cidr = 024",
                                            "cidr = -1",
                                            "cidr = 24x",
                                            "cidr = 280",
                                            "cidr = 65560",
                                            "runtime_dir =",
                                            "runtime_dir = run/banger",
                                            "runtime_dir = /",
                                            "runtime_dir = /run/",
                                            "runtime_dir = /run/../etc",
                                            "socket_roots = srv",
                                            "socket_roots = /srv /",
                                            "socket_roots = /srv/./x",
                                            "tap_prefixes =",
                                            "tap_prefixes = tap Fc",
                                            "tap_prefixes = _fcx",
                                            "tap_prefixes = -t",
                                            "tap_prefixes = a-much-too-long",
                                            "tap_prefixes = tap%",
                                            "port_isolation =",
                                            "port_isolation = maybe",
                                            "port_isolation = 2",
                                            "socket_timeout_sec =",
                                            "socket_timeout_sec = 86401",
                                            "socket_timeout_sec = 1.5",
                                            "socket_timeout_sec = 5s",
                                            "socket_timeout_sec = -1",
                                            "max_taps_per_user = 0",
                                            "max_taps_per_user = x",
                                            "max_taps_per_user = 1000001",
                                            "max_waits_per_user = 0",
                                            "max_waits_per_user = -1",
                                            "max_calls_per_user = 0",
                                            "max_calls_per_user = 4294967297",
                                            "max_polkit_per_user = 0",
                                            "max_polkit_per_user =",
                                            "max_taps = 0",
                                            "max_taps = 01",
                                            "max_waits = 0",
                                            "max_waits = 1e3",
                                            "unknown = 1",
                                            "Max_taps = 1",
                                            "max_taps",
                                            "just words",
                                            "[fcproc"};

        for (size_t i = 0; i < ELEMENTS(lines); i++)
                bad_line(lines[i]);
        put(NULL, "[fcproc]\nmax_taps = 1\n[other]\nmax_taps = 1\n");
        bad(NULL, 4, "[other]");
        put(NULL, "max_taps = 1\n[fcproc]\n");
        bad(NULL, 1, "[fcproc]");
        put(NULL, "[fcproc]\ncolour = blue\n");
        bad(NULL, 2, "unknown key 'colour'");
}

/* The first mistake is the one that is told. */
static void first_mistake(void **state) {
        put(NULL, "[fcproc]\nmax_taps = 5\nmax_taps = x\nmax_waits = y\n");
        bad(NULL, 3, "max_taps = 'x'");
}

/* inih reads 199 bytes at a time, and takes an indented line for more of the value before. */
static void lines_that_are_not_what_they_seem(void **state) {
        for (size_t length = 150; length < 450; length++) {
                char text[512] = "[fcproc]\nfirecracker_bin = fc\nsocket_roots =";
                size_t n = strlen(text), start = n - strlen("socket_roots =");
                char *reason = NULL;
                Config *c;

                while (n - start < length)
                        n = (size_t)(stpcpy(text + n, " /srv/abcde") - text);
                (void)strcpy(text + n, "\nmax_taps = 0\n");
                put(NULL, text);
                assert_true(config_load(file, &c, &reason) < 0);
                assert_true(strstr(reason, ":3: ") || strstr(reason, ":4: max_taps"));
                free(reason);
                (void)strcpy(text + n, "\n"); /* all of it, or none */
                put(NULL, text);
                if (config_load(file, &c, &reason) < 0) {
                        assert_non_null(strstr(reason, ":3: "));
                        free(reason);
                } else {
                        size_t roots = 0;

                        while (c->socket_roots[roots])
                                assert_string_equal(c->socket_roots[roots++], "/srv/abcde");
                        assert_int_equal(roots, (n - start - strlen("socket_roots =")) /
                                                        strlen(" /srv/abcde"));
                        config_free(c);
                }
        }
        put(NULL, "[fcproc]\nfirecracker_bin = fc\n  max_taps = 0\n");
        bad(NULL, 3, NULL);
        put(NULL, "[fcproc]\nfirecracker_bin = fc\n  max_taps = 5\n");
        bad(NULL, 3, NULL);
        put(NULL, "[fcproc]\nsocket_roots = /srv/a\n\t/srv/b\n");
        bad(NULL, 3, NULL);
}

/* Whether a prefix fits is known only with the address. */
static void prefix_and_address(void **state) {
        put(NULL, "[fcproc]\ncidr = 64\n");
        bad(NULL, 2, "IPv4");
        put("50.conf", "[fcproc]\nbridge_ip = fd00::1\n");
        config_free(good());
        put("50.conf", "[fcproc]\n\n\ncidr = 64\n");
        put(NULL, "");
        bad("50.conf", 4, "IPv4");
}

static void dropin_order(void **state) {
        Config *c;

        put(NULL, "[fcproc]\nmax_taps = 1\nmax_waits = 1\ntap_prefixes = a\n");
        put("20.conf", "[fcproc]\nmax_taps = 20\ntap_prefixes = b c\n");
        put("10.conf", "[fcproc]\nmax_taps = 10\nmax_waits = 10\n");
        put("9.conf",
            "[fcproc]\nmax_taps = 9\nmax_waits = 9\nmax_calls_per_user = 9\n"); /* by name, not by number */
        put("99.config", "[fcproc]\nmax_taps = 99\n");
        put(".hidden.conf", "[fcproc]\nmax_taps = 99\n");
        put(".conf", "[fcproc]\nmax_taps = 99\n");
        put("30.conf~", "not even a line");
        c = good();
        assert_int_equal(c->max_taps, 9);
        assert_int_equal(c->max_waits, 9);
        assert_int_equal(c->max_calls_per_user, 9);
        assert_string_equal(c->tap_prefixes[0], "b");
        assert_string_equal(c->tap_prefixes[1], "c");
        assert_null(c->tap_prefixes[2]);
        config_free(c);
        put("20.conf", "[fcproc]\n\nmax_taps = none\n");
        bad("20.conf", 3, "max_taps = 'none'");
}

static void whose_file(void **state) {
        char path[128];

        put(NULL, "[fcproc]\nmax_taps = 5\n");
        for (mode_t mode = 0; mode < 01000; mode++) {
                assert_int_equal(chmod(file, mode), 0);
                if (mode & 022)
                        bad(NULL, 0, "root alone");
                else
                        config_free(good());
        }
        assert_int_equal(chmod(file, 0644), 0);
        assert_int_equal(chown(file, 1, (gid_t)-1), 0);
        bad(NULL, 0, "root alone");
        assert_int_equal(chown(file, 0, (gid_t)-1), 0);
        put("10.conf", "");
        (void)snprintf(path, sizeof(path), "%s/10.conf", dropins);
        assert_int_equal(chown(path, 1, (gid_t)-1), 0);
        bad("10.conf", 0, "root alone");
}

static void no_file(void **state) {
        char path[128];

        bad(NULL, 0, "No such file");
        assert_int_equal(mkdir(file, 0755), 0);
        bad(NULL, 0, "regular file");
        assert_int_equal(rmdir(file), 0);
        put(NULL, "");
        (void)snprintf(path, sizeof(path), "%s/10.conf", dropins);
        assert_int_equal(symlink("/nonexistent", path), 0);
        bad("10.conf", 0, "No such file");
}

static void strange_bytes(void **state) {
        Config *c;

        c = with_line("max_taps = 5\r");
        assert_int_equal(c->max_taps, 5);
        config_free(c);
        put(NULL, "\xef\xbb\xbf[fcproc]\nmax_taps = 6"); /* a BOM, and no newline at the end */
        c = good();
        assert_int_equal(c->max_taps, 6);
        config_free(c);
        bad_line("firecracker_bin = /a\x01z");
        bad_line("runtime_dir = /run/\x1b[31m");
}

static int make_directory(void **state) {
        if (!mkdtemp(directory))
                return -1;
        (void)snprintf(file, sizeof(file), "%s/fcproc.conf", directory);
        (void)snprintf(dropins, sizeof(dropins), "%s/fcproc.conf.d", directory);
        return 0;
}

static int remove_directory(void **state) {
        (void)nftw(directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
        return rmdir(directory);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup(defaults, clear),
                cmocka_unit_test_setup(every_key, clear),
                cmocka_unit_test_setup(good_values, clear),
                cmocka_unit_test_setup(bad_values, clear),
                cmocka_unit_test_setup(first_mistake, clear),
                cmocka_unit_test_setup(prefix_and_address, clear),
                cmocka_unit_test_setup(dropin_order, clear),
                cmocka_unit_test_setup(whose_file, clear),
                cmocka_unit_test_setup(lines_that_are_not_what_they_seem, clear),
                cmocka_unit_test_setup(no_file, clear),
                cmocka_unit_test_setup(strange_bytes, clear),
        };

        if (geteuid() != 0) {
                (void)fprintf(stderr,
                              "skipped: a configuration must be root's, so only root can test one\n");
                return 77;
        }
        return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
