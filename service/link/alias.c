/* SPDX-License-Identifier: MIT */
/* Reading and writing the mark on our links. The parser is strict: what it accepts, formatting
 * gives back byte for byte. */

#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/validate.h"
#include "link/alias.h"

#define TAP_PREFIX "org.banger.FcProc uid="
#define GUEST_MAC " guest-mac="
#define AUTO_DELETE " auto-delete="
#define MAC_SIZE 17 /* 06:00:ac:10:00:02 */

/* ":1.42": what a bus hands out, D-Bus specification "Message Protocol/Names/Bus names". */
static bool unique_name_valid(const char *name) {
        size_t n = strlen(name);

        return n > 1 && n < sizeof(((Alias *)NULL)->auto_delete) && name[0] == ':' &&
               strspn(name + 1, "0123456789.") == n - 1;
}

static const char *parse_uid(const char *p, uid_t *ret) {
        size_t n = strcspn(p, " ");
        char number[16];
        uint64_t uid;

        if (n >= sizeof(number))
                return NULL;
        (void)snprintf(number, sizeof(number), "%.*s", (int)n, p);
        if (!number_parse(number, INT32_MAX, &uid))
                return NULL;
        *ret = (uid_t)uid;
        return p + n;
}

static const char *parse_mac(const char *p, uint8_t ret[static 6]) {
        char text[MAC_SIZE + 1], again[MAC_SIZE + 1];
        Failure f;

        (void)snprintf(text, sizeof(text), "%.*s", MAC_SIZE, p);
        if (mac_check(text, ret, &f) < 0)
                return NULL;
        mac_format(ret, again);
        return strcmp(text, again) == 0 ? p + MAC_SIZE : NULL;
}

/* What stands behind prefix; NULL where text does not begin with it. */
static const char *after(const char *text, const char *prefix) {
        size_t n = strlen(prefix);

        return strncmp(text, prefix, n) == 0 ? text + n : NULL;
}

static bool parse_tap(const char *text, Alias *ret) {
        const char *p = after(text, TAP_PREFIX), *value;

        if (!p || !(p = parse_uid(p, &ret->uid)))
                return false;
        value = after(p, GUEST_MAC);
        if (value) {
                p = parse_mac(value, ret->guest_mac);
                if (!p)
                        return false;
                ret->has_guest_mac = true;
        }
        value = after(p, AUTO_DELETE);
        if (value) {
                if (!unique_name_valid(value))
                        return false;
                (void)snprintf(ret->auto_delete, sizeof(ret->auto_delete), "%s", value);
                return true;
        }
        return !*p;
}

void alias_parse(const char *text, Alias *ret) {
        Alias alias = {.kind = ALIAS_IS_TAP};

        if (strcmp(text, ALIAS_BRIDGE) == 0)
                *ret = (Alias){.kind = ALIAS_IS_BRIDGE, .uid = UID_NONE};
        else if (parse_tap(text, &alias))
                *ret = alias;
        else
                *ret = (Alias){.kind = ALIAS_FOREIGN, .uid = UID_NONE};
}

bool alias_format_tap(uid_t uid, const uint8_t *guest_mac, const char *auto_delete,
                      char ret[static ALIAS_MAX]) {
        bool deletes = auto_delete && *auto_delete;
        char mac[MAC_SIZE + 1] = "";

        if (deletes && !unique_name_valid(auto_delete))
                return false;
        if (guest_mac)
                mac_format(guest_mac, mac);
        (void)snprintf(ret, ALIAS_MAX, TAP_PREFIX "%u%s%s%s%s", uid, guest_mac ? GUEST_MAC : "",
                       mac, deletes ? AUTO_DELETE : "", deletes ? auto_delete : "");
        return true;
}
