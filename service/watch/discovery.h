/* SPDX-License-Identifier: MIT */
#pragma once

/* Which VMMs there are: looks through the directories, and watches them for subscribers. */

#include "vm/scan.h"
#include "watch/known-socket.h"

int discovery_new(Service *service);
void discovery_free(Service *service);

/* Starts or stops watching directories, as there are subscribers. */
void discovery_follow_subscribers(Service *service);
/* The runtime directory may be another. */
void discovery_reload(Service *service);
void discovery_send_snapshot(Peer *peer);

/* What a look through the directories came to. */
typedef struct Scanned {
        const Failure *failure; /* it could not be finished; NULL: it was */
        const ScanCut *cuts;    /* directories in which there is more than was looked at */
        size_t n_cuts;
} Scanned;

/* Looks through the directories of uid (UID_NONE: of everybody), asks what is new there, and calls
 * function (which may be NULL) when all have answered, or when nobody has for a while (a second at
 * most). One at a time for each uid: who comes meanwhile is served by the next, because the one under
 * way has not seen what they may have started. */
typedef void (*ScannedFunction)(const Scanned *scanned, void *userdata);
int discovery_scan(Service *service, uid_t uid, ScannedFunction function, void *userdata);
