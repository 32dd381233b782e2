/* SPDX-License-Identifier: MIT */
/* Guards service/alias.c: only our own grammar, to the byte, marks a link as ours; what parsing
 * accepts, formatting gives back. */

#include <stdio.h>
#include <string.h>

#include "alias.h"
#include "unit.h"

/* Parses, and where it is a tap's, formats it again. */
static Alias parse(const char *text) {
        char again[ALIAS_MAX];
        Alias a;

        alias_parse(text, &a);
        if (a.kind == ALIAS_IS_TAP) {
                assert_true(alias_format_tap(a.uid, a.auto_delete, again));
                assert_string_equal(again, text);
        } else {
                assert_int_equal(a.uid, UID_NONE);
                assert_string_equal(a.auto_delete, "");
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
}

static void foreign(void **state) {
        static const char *const texts[] = {"",
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

static void formats(void **state) {
        char text[ALIAS_MAX], name[80];
        Alias a;

        assert_true(alias_format_tap(1000, NULL, text));
        assert_string_equal(text, "org.banger.FcProc uid=1000");
        assert_true(alias_format_tap(1000, "", text));
        assert_string_equal(text, "org.banger.FcProc uid=1000");
        assert_true(alias_format_tap(1000, ":1.42", text));
        assert_string_equal(text, "org.banger.FcProc uid=1000 auto-delete=:1.42");
        for (const char *const *p = (const char *const[]){"1.42", ":", ":a", "org.example.Name",
                                                          ":1.42 ", ":1 42", NULL};
             *p; p++)
                assert_false(alias_format_tap(1000, *p, text));

        /* the longest name that is kept is also read back */
        memset(name, '1', sizeof(name));
        name[0] = ':';
        for (size_t n = 60; n < 70; n++) {
                name[n] = '\0';
                assert_int_equal(alias_format_tap(2147483647, name, text), n < sizeof(a.auto_delete));
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
                cmocka_unit_test(ours),
                cmocka_unit_test(foreign),
                cmocka_unit_test(neighbours),
                cmocka_unit_test(formats),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
