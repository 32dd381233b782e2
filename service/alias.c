/* SPDX-License-Identifier: MIT */
/* Reading and writing the mark on our links. The parser is strict: what it accepts, formatting
 * gives back byte for byte. */

#include <stdio.h>
#include <string.h>

#include "alias.h"
#include "cleanup.h"
#include "validate.h"

#define TAP_PREFIX "org.banger.FcProc uid="
#define AUTO_DELETE " auto-delete="

/* ":1.42": what a bus hands out, D-Bus specification "Message Protocol/Names/Bus names". */
static bool unique_name_valid(const char *name) {
        size_t n = strlen(name);

        return n > 1 && n < sizeof(((Alias *)NULL)->auto_delete) && name[0] == ':' &&
               strspn(name + 1, "0123456789.") == n - 1;
}

void alias_parse(const char *text, Alias *ret) {
        char number[16];
        const char *p;
        uint64_t uid;
        size_t n;

        *ret = (Alias){.kind = ALIAS_FOREIGN, .uid = UID_NONE};
        if (strcmp(text, ALIAS_BRIDGE) == 0) {
                ret->kind = ALIAS_IS_BRIDGE;
                return;
        }
        if (strncmp(text, TAP_PREFIX, strlen(TAP_PREFIX)) != 0)
                return;
        p = text + strlen(TAP_PREFIX);
        n = strcspn(p, " ");
        if (n >= sizeof(number))
                return;
        (void)snprintf(number, sizeof(number), "%.*s", (int)n, p);
        if (!number_parse(number, INT32_MAX, &uid))
                return;
        p += n;
        if (*p) {
                if (strncmp(p, AUTO_DELETE, strlen(AUTO_DELETE)) != 0 ||
                    !unique_name_valid(p + strlen(AUTO_DELETE)))
                        return;
                (void)snprintf(ret->auto_delete, sizeof(ret->auto_delete), "%s",
                               p + strlen(AUTO_DELETE));
        }
        ret->kind = ALIAS_IS_TAP;
        ret->uid = (uid_t)uid;
}

bool alias_format_tap(uid_t uid, const char *auto_delete, char ret[static ALIAS_MAX]) {
        if (!auto_delete || !*auto_delete) {
                (void)snprintf(ret, ALIAS_MAX, TAP_PREFIX "%u", uid);
                return true;
        }
        if (!unique_name_valid(auto_delete))
                return false;
        (void)snprintf(ret, ALIAS_MAX, TAP_PREFIX "%u" AUTO_DELETE "%s", uid, auto_delete);
        return true;
}
