/* SPDX-License-Identifier: MIT */
/* Guards service/link/alias.c: what parsing accepts, formatting gives back to the byte. The kernel passes
 * on whatever a privileged program wrote there. */

#include "fuzz.h"
#include "link/alias.h"

static void check(const char *text) {
        char again[ALIAS_MAX];
        Alias a;

        alias_parse(text, &a);
        if (a.kind != ALIAS_IS_TAP)
                return;
        if (!alias_format_tap(a.uid, a.has_guest_mac ? a.guest_mac : NULL, a.auto_delete, again) ||
            strcmp(text, again) != 0)
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static const char prefix[] = "org.banger.FcProc uid=";
        _cleanup_free_ char *text = fuzz_text(data, size),
                            *prefixed = malloc(strlen(text) + sizeof(prefix));
        char again[ALIAS_MAX];
        Alias a;

        if (!prefixed)
                abort();
        (void)strcpy(stpcpy(prefixed, prefix), text);
        check(text);
        check(prefixed);
        if (*text && alias_format_tap(7, NULL, text, again)) {
                alias_parse(again, &a);
                if (a.kind != ALIAS_IS_TAP || a.uid != 7 || strcmp(a.auto_delete, text) != 0)
                        abort();
        }
        if (size >= 6 && alias_format_tap(7, data, text, again)) {
                bool unicast = !(data[0] & 1) && memcmp(data, "\0\0\0\0\0\0", 6) != 0;

                alias_parse(again, &a);
                if ((a.kind == ALIAS_IS_TAP) != unicast ||
                    (unicast &&
                     (memcmp(a.guest_mac, data, 6) != 0 || strcmp(a.auto_delete, text) != 0)))
                        abort();
        }
        return 0;
}
