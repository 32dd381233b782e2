/* SPDX-License-Identifier: MIT */
#pragma once

/* Which MAC addresses on the bridge are a gateway's: a guest that has one answers for the rest of
 * the world. */

#include "link/netlink.h"

/* 1 where mac is that of a neighbour on the bridge that is the next hop of a route out of it, as far
 * as the host knows its neighbours now; else 0, or a negative errno. */
int gateway_has_mac(Netlink *nl, int bridge, const uint8_t mac[static 6]);
