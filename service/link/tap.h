/* SPDX-License-Identifier: MIT */
#pragma once

/* Taps: making one, taking one out of use, deleting many. Everything here is called on a worker. */

#include "base/kernel.h"
#include "common/failure.h"
#include "link/link-table.h"
#include "link/netlink.h"

#define TAP_MTU_MIN 1280 /* what IPv6 needs, RFC 8200 */

typedef struct TapSpec {
        char name[IFNAMSIZ];
        char bridge[IFNAMSIZ];
        uid_t owner;   /* whose it is: goes into the alias */
        uid_t tun_uid; /* who may attach */
        gid_t tun_gid; /* (gid_t)-1: no group; the kernel wants uid and gid to match if set */
        bool isolated;
        bool has_guest_mac;
        uint8_t guest_mac[6];
        bool may_be_gateways; /* guest_mac, by whoever may answer for the rest of the world */
        uint32_t mtu;         /* 0: the bridge's */
        char auto_delete[64]; /* the creating connection's unique name, or "" */
} TapSpec;

typedef struct TapMade {
        int ifindex;
        int displaced; /* the ifindex of the tap that it replaced and that waits for its delete, or 0 */
        bool gateways_mac; /* nothing was done: guest_mac is a gateway's, and must not be */
} TapMade;

/* Creates it, up and on the bridge; one of the same owner is replaced. On failure nothing that
 * was made is left; ret->displaced may be set all the same. NO_SUCH_BRIDGE, NOT_OURS,
 * ACCESS_DENIED (another owner's, a gateway's guest_mac), IN_USE (guest_mac), INVALID_ARGS (mtu), NOT_SUPPORTED,
 * KERNEL_REFUSED. */
int tap_create(Netlink *nl, const Features *features, const TapSpec *spec, TapMade *ret, Failure *f);

/* Says that spec's guest_mac is somebody's: -FAILURE_IN_USE. */
int tap_guest_mac_in_use(const TapSpec *spec, Failure *f);

/* Takes a tap out of use for good: off the bridge, down, and under a reserved name, so that its
 * holder's frames go nowhere and its name is free. name, owner: what the caller was authorized on.
 * -FAILURE_NO_SUCH_TAP where it is gone, or was displaced meanwhile; -FAILURE_NOT_OURS where it is
 * no longer that. */
int tap_displace(Netlink *nl, const Features *features, int ifindex, const char *name, uid_t owner,
                 Failure *f);

/* Deletes displaced taps, n at most TAP_BATCH_MAX, in one wait of the kernel's; blocks for some 15 ms.
 * What is gone already is no failure. */
#define TAP_BATCH_MAX 16
int taps_delete(Netlink *nl, const int *ifindexes, size_t n, Failure *f);

/* Takes a port off its bridge and down: its holder has changed its MAC. */
int tap_unplug(Netlink *nl, int ifindex, Failure *f);
/* Sees to it that a tap on its bridge has the entry of its guest-mac. 1: it had to be put back.
 * Somebody whose own MAC that is now keeps it; their unplugging will be reported. */
int tap_keep_entry(Netlink *nl, int ifindex, Failure *f);
/* Gives a tap the MAC that we gave it. */
int tap_put_back_mac(Netlink *nl, int ifindex, Failure *f);
