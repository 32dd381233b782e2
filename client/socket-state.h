/* SPDX-License-Identifier: MIT */
#pragma once

/* What a VM left behind, or what is still in use: only a try to connect tells. Nothing is asked of
 * a listener; the connection is closed before a byte is sent. */

#include <sys/types.h>

typedef enum SocketState {
        SOCKET_ABSENT,
        SOCKET_STALE,  /* refused: nobody listens */
        SOCKET_IN_USE, /* somebody does */
        SOCKET_OTHER,  /* it is another user's, or no socket, or cannot be looked at */
} SocketState;

/* name is relative to directory, which may be AT_FDCWD. Between bind and listen a socket looks
 * stale, too: *ret_age (may be NULL) is how many seconds ago it was made or changed. */
SocketState socket_state(int directory, const char *name, uid_t uid, time_t *ret_age);
