/* SPDX-License-Identifier: MIT */
#pragma once

#include "bus/call.h"
#include "watch/target.h"

/* Takes the authorized call over: Ctrl-Alt-Del, at most grace_usec of patience, SIGKILL; replies, and
 * goes on to its end even if the caller disconnects. target must be proven. */
int shutdown_start(Call *call, const char *path, const Target *target, uint64_t grace_usec,
                   bool force, Failure *f);
void shutdown_free_all(Service *service);
