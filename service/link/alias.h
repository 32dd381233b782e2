/* SPDX-License-Identifier: MIT */
#pragma once

/* The alias of a link (IFLA_IFALIAS): what survives a restart of the service, and the only
 * evidence of who owns a tap, because setting it needs CAP_NET_ADMIN. The grammar, all of it:
 *
 *      org.banger.FcProc bridge
 *      org.banger.FcProc uid=UID[ guest-mac=MAC][ auto-delete=UNIQUE-NAME]
 *
 * UID is decimal without leading zeros, MAC a unicast address in lower case (06:00:ac:10:00:02),
 * UNIQUE-NAME the creating connection's bus name. Anything else is somebody else's alias. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define ALIAS_BRIDGE "org.banger.FcProc bridge"
#define ALIAS_MAX 256 /* IFALIASZ, include/uapi/linux/if.h */

typedef enum AliasKind {
        ALIAS_FOREIGN,
        ALIAS_IS_BRIDGE,
        ALIAS_IS_TAP
} AliasKind;

typedef struct Alias {
        AliasKind kind;
        uid_t uid; /* of a tap */
        bool has_guest_mac;
        uint8_t guest_mac[6];
        char auto_delete[64]; /* "" where the tap stays */
} Alias;

void alias_parse(const char *text, Alias *ret);
/* guest_mac may be NULL, auto_delete NULL or "". False where that is no unique name, or too long. */
bool alias_format_tap(uid_t uid, const uint8_t *guest_mac, const char *auto_delete,
                      char ret[static ALIAS_MAX]);
