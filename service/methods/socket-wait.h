/* SPDX-License-Identifier: MIT */
#pragma once

#include "bus/call.h"
#include "watch/target.h"

/* Parks the call until the socket at path may have become ready, at most timeout_usec after its
 * first wait: its handler runs again and looks. Returns 1 when parked; when the time is over,
 * SOCKET_NOT_READY, naming label and path, in error. */
/* Before anything else is begun with the call: no event runs its handler again. */
void call_stop_waiting_for_socket(Call *call);
int call_wait_for_socket(Call *call, const char *path, const char *label, const Target *target,
                         uint64_t timeout_usec);
