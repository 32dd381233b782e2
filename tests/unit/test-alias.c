/* SPDX-License-Identifier: MIT */
/* Guards service/link/alias.c: only our own grammar, to the byte, marks a link as ours; what parsing
 * accepts, formatting gives back. */

#include <stdio.h>
#include <string.h>

#include "link/alias.h"
#include "unit.h"

/* Parses, and where it is a tap's, formats it again. */
static Alias parse(const char *text) {
        char again[ALIAS_MAX];
        Alias a;

        alias_parse(text, &a);
        if (a.kind == ALIAS_IS_TAP) {
                assert_true(alias_format_tap(a.uid, a.has_guest_mac ? a.guest_mac : NULL,
                                             a.auto_delete, again));
                assert_string_equal(again, text);
        } else {
                assert_int_equal(a.uid, UID_NONE);
                assert_string_equal(a.auto_delete, "");
                assert_false(a.has_guest_mac);
        }
        return a;
}

static void ours(void **state) {
        Alias a;

        assert_int_equal(parse(ALIAS_BRIDGE).kind, ALIAS_IS_BRIDGE);
        a = parse("org.banger.FcProc uid=1000");
        assert_int_equal(a.kind, ALIAS_IS_TAP);
        assert_int_equal(a.uid, 1000);
        assert_string_equal(a.auto_delete, "");
        assert_int_equal(parse("org.banger.FcProc uid=0").uid, 0);
        assert_int_equal(parse("org.banger.FcProc uid=2147483647").uid, 2147483647);
        a = parse("org.banger.FcProc uid=1000 auto-delete=:1.42");
        assert_int_equal(a.kind, ALIAS_IS_TAP);
        assert_string_equal(a.auto_delete, ":1.42");
        assert_false(a.has_guest_mac);
        a = parse("org.banger.FcProc uid=1000 guest-mac=06:00:ac:10:00:02");
        assert_int_equal(a.kind, ALIAS_IS_TAP);
        assert_true(a.has_guest_mac);
        assert_memory_equal(a.guest_mac, "\x06\x00\xac\x10\x00\x02", 6);
        assert_string_equal(a.auto_delete, "");
        a = parse("org.banger.FcProc uid=1000 guest-mac=fe:ff:ff:ff:ff:ff auto-delete=:1.42");
        assert_int_equal(a.kind, ALIAS_IS_TAP);
        assert_memory_equal(a.guest_mac, "\xfe\xff\xff\xff\xff\xff", 6);
        assert_string_equal(a.auto_delete, ":1.42");
}

static void foreign(void **state) {
        static const char *const texts[] =
                {"",
                 " ",
                 "eth0",
                 "org.banger.FcProc",
                 "org.banger.FcProc ",
                 "org.banger.FcProc bridge ",
                 " org.banger.FcProc bridge",
                 "org.banger.FcProc  bridge",
                 "org.banger.fcproc bridge",
                 "org.banger.FcProc bridge\n",
                 "org.banger.FcProc uid=",
                 "org.banger.FcProc uid= ",
                 "org.banger.FcProc uid=-1",
                 "org.banger.FcProc uid=+1",
                 "org.banger.FcProc uid=01",
                 "org.banger.FcProc uid=00",
                 "org.banger.FcProc uid=0x10",
                 "org.banger.FcProc uid=1000 ",
                 "org.banger.FcProc uid= 1000",
                 "org.banger.FcProc uid=1000\n",
                 "org.banger.FcProc uid=2147483648",
                 "org.banger.FcProc uid=4294967295",
                 "org.banger.FcProc uid=4294967296",
                 "org.banger.FcProc uid=18446744073709552616",
                 "org.banger.FcProc uid=0000000000000000000000001000",
                 "org.banger.FcProc uid=1000,",
                 "org.banger.FcProc uid=1000 auto-delete",
                 "org.banger.FcProc uid=1000 auto-delete=",
                 "org.banger.FcProc uid=1000 auto-delete=:",
                 "org.banger.FcProc uid=1000 auto-delete=1.42",
                 "org.banger.FcProc uid=1000 auto-delete=:1.42 ",
                 "org.banger.FcProc uid=1000 auto-delete=:1.4a",
                 "org.banger.FcProc uid=1000  auto-delete=:1.42",
                 "org.banger.FcProc uid=1000 Auto-delete=:1.42",
                 "org.banger.FcProc uid=1000 auto-delete=::1.42",
                 "org.banger.FcProc uid=1000 uid=1001",
                 "org.banger.FcProc uid=1000 guest-mac=",
                 "org.banger.FcProc uid=1000 guest-mac=06:00:ac:10:00",
                 "org.banger.FcProc uid=1000 guest-mac=06:00:AC:10:00:02",
                 "org.banger.FcProc uid=1000 guest-mac=06-00-ac-10-00-02",
                 "org.banger.FcProc uid=1000 guest-mac=06:00:ac:10:00:0g",
                 "org.banger.FcProc uid=1000 guest-mac=01:00:5e:00:00:01",
                 "org.banger.FcProc uid=1000 guest-mac=00:00:00:00:00:00",
                 "org.banger.FcProc uid=1000 guest-mac=06:00:ac:10:00:02 ",
                 "org.banger.FcProc uid=1000 guest-mac=06:00:ac:10:00:02:03",
                 "org.banger.FcProc uid=1000  guest-mac=06:00:ac:10:00:02",
                 "org.banger.FcProc guest-mac=06:00:ac:10:00:02",
                 "org.banger.FcProc uid=1000 auto-delete=:1.42 "
                 "guest-mac=06:00:ac:10:00:02",
                 "org.banger.FcProc uid=1000 guest-mac=06:00:ac:10:00:02 "
                 "guest-mac=06:00:ac:10:00:02",
                 "org.banger.FcProc auto-delete=:1.42",
                 "org.banger.FcProc uid=1000 auto-delete=:1.42\n",
                 "org.banger.FcProc uid=1000 auto-delete=:1.42 auto-delete=:1.43",
                 "org.banger.FcProc2 uid=1000"};

        for (size_t i = 0; i < ELEMENTS(texts); i++)
                assert_int_equal(parse(texts[i]).kind, ALIAS_FOREIGN);
}

/* One byte changed, put in, left out: never somebody else's tap, never a crash. */
static void neighbours(void **state) {
        static const char text[] = "org.banger.FcProc uid=1000 auto-delete=:1.42";

        for (size_t i = 0; i < sizeof(text) - 1; i++)
                for (int c = 0; c < 256; c++) {
                        char changed[sizeof(text)];
                        bool digit = c >= '0' && c <= '9', in_uid = i >= 22 && i < 26,
                             in_name = i >= 40 && (digit || c == '.'),
                             cut = c == 0 && i >= 23 && i <= 26, cut_name = c == 0 && i > 40;
                        Alias a;

                        memcpy(changed, text, sizeof(text));
                        changed[i] = (char)c;
                        a = parse(changed);
                        if (changed[i] == text[i] || (in_uid && digit && !(i == 22 && c == '0')) ||
                            in_name || cut || cut_name)
                                assert_int_equal(a.kind, ALIAS_IS_TAP);
                        else
                                assert_int_equal(a.kind, ALIAS_FOREIGN);
                }
}

/* The same for each byte of a guest's address: only another unicast one, in lower case. */
static void neighbours_of_a_mac(void **state) {
        static const char text[] = "org.banger.FcProc uid=1 guest-mac=06:00:ac:10:00:02";

        for (size_t i = 34; i < sizeof(text) - 1; i++)
                for (int c = 1; c < 256; c++) {
                        char changed[sizeof(text)];
                        bool hex = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'),
                             colon = (i - 34) % 3 == 2, even = strchr("02468ace", c) != NULL;

                        memcpy(changed, text, sizeof(text));
                        changed[i] = (char)c;
                        assert_int_equal(parse(changed).kind == ALIAS_IS_TAP,
                                         colon ? c == ':' : hex && (i != 35 || even));
                }
}

static void formats(void **state) {
        static const uint8_t mac[6] = {0x06, 0x00, 0xac, 0x10, 0x00, 0x02};
        char text[ALIAS_MAX], name[80];
        Alias a;

        assert_true(alias_format_tap(1000, NULL, NULL, text));
        assert_string_equal(text, "org.banger.FcProc uid=1000");
        assert_true(alias_format_tap(1000, NULL, "", text));
        assert_string_equal(text, "org.banger.FcProc uid=1000");
        assert_true(alias_format_tap(1000, NULL, ":1.42", text));
        assert_string_equal(text, "org.banger.FcProc uid=1000 auto-delete=:1.42");
        assert_true(alias_format_tap(7, mac, NULL, text));
        assert_string_equal(text, "org.banger.FcProc uid=7 guest-mac=06:00:ac:10:00:02");
        assert_true(alias_format_tap(7, mac, ":1.42", text));
        assert_string_equal(text,
                            "org.banger.FcProc uid=7 guest-mac=06:00:ac:10:00:02 auto-delete=:1.42");
        for (const char *const *p = (const char *const[]){"1.42", ":", ":a", "org.example.Name",
                                                          ":1.42 ", ":1 42", NULL};
             *p; p++)
                assert_false(alias_format_tap(1000, NULL, *p, text));

        /* the longest name that is kept is also read back */
        memset(name, '1', sizeof(name));
        name[0] = ':';
        for (size_t n = 60; n < 70; n++) {
                name[n] = '\0';
                assert_int_equal(alias_format_tap(2147483647, mac, name, text),
                                 n < sizeof(a.auto_delete));
                if (n < sizeof(a.auto_delete)) {
                        alias_parse(text, &a);
                        assert_int_equal(a.kind, ALIAS_IS_TAP);
                        assert_string_equal(a.auto_delete, name);
                }
                name[n] = '1';
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(ours),       cmocka_unit_test(foreign),
                cmocka_unit_test(neighbours), cmocka_unit_test(neighbours_of_a_mac),
                cmocka_unit_test(formats),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
