/* SPDX-License-Identifier: MIT */
/* Guards service/bus/options.c: an option that is unknown, of another type, or given twice is refused
 * and named; nothing is passed over. */

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-bus.h>

#include "bus/options.h"
#include "unit.h"

static sd_bus *bus;
static int pair[2];

typedef struct Read {
        int flag, has_flag;
        const char *text;
        uint32_t number;
        uint64_t large;
        int has_text, has_number, has_large;
} Read;

static sd_bus_message *message_new(void) {
        sd_bus_message *m = NULL;

        assert_true(sd_bus_message_new_method_call(bus, &m, "a.b", "/c", "d.e", "F") >= 0);
        return m;
}

static int read_all(sd_bus_message *m, Read *ret, Failure *f) {
        const Option options[] = {
                {"flag", 'b', &ret->flag, &ret->has_flag},
                {"text", 's', &ret->text, &ret->has_text},
                {"number", 'u', &ret->number, &ret->has_number},
                {"large", 't', &ret->large, &ret->has_large},
                {"silent", 'b', &ret->flag, NULL},
        };

        *f = (Failure){};
        assert_true(sd_bus_message_seal(m, 1, 0) >= 0);
        assert_true(sd_bus_message_rewind(m, true) >= 0);
        return options_read(m, options, ELEMENTS(options), f);
}

static void all_of_them(void **state) {
        sd_bus_message *m = message_new();
        Read read = {};
        Failure f;

        assert_true(sd_bus_message_append(m, "a{sv}", 5, "number", "u", 4294967295U, "text", "s",
                                          "", "flag", "b", 1, "large", "t", UINT64_MAX, "silent",
                                          "b", 0) >= 0);
        assert_int_equal(read_all(m, &read, &f), 0);
        assert_true(read.has_flag && read.has_text && read.has_number && read.has_large);
        assert_int_equal(read.flag, 0); /* "silent" came later, into the same */
        assert_string_equal(read.text, "");
        assert_int_equal(read.number, UINT32_MAX);
        assert_true(read.large == UINT64_MAX);
        assert_int_equal(sd_bus_message_at_end(m, true), 1);
        sd_bus_message_unref(m);
}

static void none(void **state) {
        sd_bus_message *m = message_new();
        Read read = {.number = 7};
        Failure f;

        assert_true(sd_bus_message_append(m, "a{sv}", 0) >= 0);
        assert_int_equal(read_all(m, &read, &f), 0);
        assert_false(read.has_flag || read.has_text || read.has_number || read.has_large);
        assert_int_equal(read.number, 7);
        assert_true(sd_bus_message_rewind(m, true) >= 0);
        assert_int_equal(options_read(m, NULL, 0, &f), 0);
        sd_bus_message_unref(m);
}

/* What follows the dictionary is still to be read. */
static void more_follows(void **state) {
        sd_bus_message *m = message_new();
        const char *text;
        Read read = {};
        Failure f;

        assert_true(sd_bus_message_append(m, "a{sv}s", 1, "flag", "b", 1, "after") >= 0);
        assert_int_equal(read_all(m, &read, &f), 0);
        assert_true(sd_bus_message_read(m, "s", &text) > 0);
        assert_string_equal(text, "after");
        sd_bus_message_unref(m);
}

static void refused(sd_bus_message *m, const char *word) {
        Read read = {};
        Failure f;

        assert_int_equal(read_all(m, &read, &f), -FAILURE_INVALID_ARGS);
        assert_int_equal(f.kind, FAILURE_INVALID_ARGS);
        if (!strstr(f.text, word))
                fail_msg("'%s' does not name '%s'", f.text, word);
        sd_bus_message_unref(m);
}

static void unknown(void **state) {
        static const char *const keys[] = {"",      "Flag",
                                           "flag ", "flags",
                                           "fla",   "a-very-long-key-that-nobody-knows-of-at-all"};
        sd_bus_message *m;
        Failure f;

        for (size_t i = 0; i < ELEMENTS(keys); i++) {
                m = message_new();
                assert_true(sd_bus_message_append(m, "a{sv}", 2, "flag", "b", 1, keys[i], "b", 1) >=
                            0);
                refused(m, "Unknown option");
        }
        m = message_new();
        assert_true(sd_bus_message_append(m, "a{sv}", 1, "flag", "b", 1) >= 0);
        assert_true(sd_bus_message_seal(m, 1, 0) >= 0);
        assert_int_equal(options_read(m, NULL, 0, &f), -FAILURE_INVALID_ARGS);
        assert_non_null(strstr(f.text, "has none"));
        sd_bus_message_unref(m);
}

static void wrong_type(void **state) {
        sd_bus_message *m = message_new();

        assert_true(sd_bus_message_append(m, "a{sv}", 1, "flag", "s", "yes") >= 0);
        refused(m, "'flag' has type 's'");
        m = message_new();
        assert_true(sd_bus_message_append(m, "a{sv}", 1, "number", "i", 5) >= 0);
        refused(m, "'number' has type 'i'");
        m = message_new();
        assert_true(sd_bus_message_append(m, "a{sv}", 1, "number", "t", (uint64_t)5) >= 0);
        refused(m, "must be 'u'");
        m = message_new();
        assert_true(sd_bus_message_append(m, "a{sv}", 1, "text", "v", "s", "nested") >= 0);
        refused(m, "'text' has type 'v'");
        m = message_new();
        assert_true(sd_bus_message_append(m, "a{sv}", 1, "text", "o", "/path") >= 0);
        refused(m, "'text' has type 'o'");
        m = message_new();
        assert_true(sd_bus_message_append(m, "a{sv}", 1, "large", "(tt)", (uint64_t)1,
                                          (uint64_t)2) >= 0);
        refused(m, "'large' has type '(tt)'");
        m = message_new();
        assert_true(sd_bus_message_append(m, "a{sv}", 1, "text", "as", 1, "x") >= 0);
        refused(m, "'text' has type 'as'");
}

static void twice(void **state) {
        sd_bus_message *m = message_new();

        assert_true(sd_bus_message_append(m, "a{sv}", 3, "flag", "b", 1, "number", "u", 1, "flag",
                                          "b", 0) >= 0);
        refused(m, "'flag' is given twice");
}

static void no_dictionary(void **state) {
        sd_bus_message *m = message_new();

        refused(m, "a{sv}"); /* nothing at all */
        m = message_new();
        assert_true(sd_bus_message_append(m, "s", "flag") >= 0);
        refused(m, "a{sv}");
        m = message_new();
        assert_true(sd_bus_message_append(m, "a{ss}", 1, "flag", "yes") >= 0);
        refused(m, "a{sv}");
        m = message_new();
        assert_true(sd_bus_message_append(m, "av", 1, "s", "flag") >= 0);
        refused(m, "a{sv}");
}

static int connect_bus(void **state) {
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
                return -1;
        return sd_bus_new(&bus) < 0 || sd_bus_set_fd(bus, pair[0], pair[0]) < 0 ||
                               sd_bus_start(bus) < 0
                       ? -1
                       : 0;
}

static int disconnect_bus(void **state) {
        sd_bus_close_unref(bus);
        return close(pair[1]);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(all_of_them),   cmocka_unit_test(none),
                cmocka_unit_test(more_follows),  cmocka_unit_test(unknown),
                cmocka_unit_test(wrong_type),    cmocka_unit_test(twice),
                cmocka_unit_test(no_dictionary),
        };

        return cmocka_run_group_tests(tests, connect_bus, disconnect_bus);
}
