/* SPDX-License-Identifier: MIT */
#pragma once

/* A link, and what makes one ours. */

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "link/alias.h"

/* Reserved names: no caller's name can begin with '_'. */
#define DISPLACED_PREFIX "_fcx" /* a tap that was replaced or deleted and waits for its delete */
#define HALF_MADE_BRIDGE "_fcbr0"

typedef enum LinkKind {
        LINK_OTHER,
        LINK_BRIDGE,
        LINK_TAP /* tun of type tap */
} LinkKind;

typedef struct Link {
        int ifindex;
        char name[IFNAMSIZ];
        LinkKind kind;
        bool up, carrier, persistent;
        uint32_t carrier_up_count;
        int master; /* ifindex, 0 for none */
        uint32_t mtu, group;
        uint8_t mac[6];
        Alias alias;
        uid_t tun_uid;         /* who may attach; UID_NONE: anybody who may at all */
        bool isolated, locked; /* as a bridge's port */
} Link;

/* Ours, a tap, under its own name. */
bool link_is_our_tap(const Link *link);
bool link_is_displaced(const Link *link);
/* Not just being made by the worker, which makes it persistent last. A holder can take persistence
 * away, but not that it was held. */
bool link_is_complete(const Link *link);
/* Ours, on a bridge, with this guest-mac. */
bool link_has_guest_mac(const Link *link, const uint8_t mac[static 6]);
/* The MAC that we give a tap's host side: made of its ifindex, so that a changed one is known
 * for changed after a restart, too. */
void tap_mac(int ifindex, uint8_t ret[static 6]);
