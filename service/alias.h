/* SPDX-License-Identifier: MIT */
#pragma once

/* The alias of a link (IFLA_IFALIAS): what survives a restart of the service, and the only
 * evidence of who owns a tap, because setting it needs CAP_NET_ADMIN. The grammar, all of it:
 *
 *      org.banger.FcProc bridge
 *      org.banger.FcProc uid=UID
 *      org.banger.FcProc uid=UID auto-delete=UNIQUE-NAME
 *
 * UID is decimal without leading zeros, UNIQUE-NAME the creating connection's bus name. Anything
 * else is somebody else's alias. */

#include <stdbool.h>
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
        uid_t uid;            /* of a tap */
        char auto_delete[64]; /* "" where the tap stays */
} Alias;

void alias_parse(const char *text, Alias *ret);
/* auto_delete may be NULL or "". False where it does not fit. */
bool alias_format_tap(uid_t uid, const char *auto_delete, char ret[static ALIAS_MAX]);
