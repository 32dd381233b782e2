/* SPDX-License-Identifier: MIT */
#pragma once

/* Which VMMs there are: looks through the directories, and watches them for subscribers. */

#include "known-socket.h"

int discovery_new(Service *service);
void discovery_free(Service *service);

/* Starts or stops watching directories, as there are subscribers. */
void discovery_follow_subscribers(Service *service);
/* The runtime directory may be another. */
void discovery_reload(Service *service);
void discovery_send_snapshot(Peer *peer);

/* Looks through the directories of uid (UID_NONE: of everybody), asks what is new there, and calls
 * function (which may be NULL) when all have answered, or after 2.5 s. One at a time for each uid:
 * who comes meanwhile is served by the one under way. */
typedef void (*ScannedFunction)(void *userdata);
int discovery_scan(Service *service, uid_t uid, ScannedFunction function, void *userdata);
