/* SPDX-License-Identifier: MIT */
#pragma once

/* The one bridge that taps are plugged into. Everything here blocks in the kernel for a moment
 * and is called on the worker. */

#include "base/config.h"
#include "common/failure.h"
#include "link/netlink.h"

typedef struct BridgeState {
        int ifindex;
        bool complete; /* nothing is to be done */
        char address[INET6_ADDRSTRLEN + 4];
} BridgeState;

/* Looks and changes nothing. -FAILURE_NOT_OURS: something of that name is no bridge. One that is
 * missing is no failure: ifindex 0, not complete. */
int bridge_inspect(Netlink *nl, const Config *config, BridgeState *ret, Failure *f);

/* Makes it, completes it, or, where it is somebody else's, brings it up. On failure what was made
 * stays under its reserved name, down, for the next call to complete. */
int bridge_ensure(Netlink *nl, const Config *config, BridgeState *ret, Failure *f);

/* -FAILURE_NO_SUCH_BRIDGE, -FAILURE_NOT_OURS, -FAILURE_IN_USE where it has ports. */
int bridge_remove(Netlink *nl, const Config *config, Failure *f);
