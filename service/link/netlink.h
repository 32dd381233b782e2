/* SPDX-License-Identifier: MIT */
#pragma once

/* rtnetlink: build, send, wait for the answer. One socket, one thread at a time; nothing here
 * decides anything. Functions return 0 or a negative errno; netlink_detail() then has the kernel's
 * extended ack, where it gave one. See rtnetlink(7) and Linux' net/core/rtnetlink.c. */

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/worker.h"
#include "link/link.h"

typedef struct Netlink Netlink;

/* What to change on a link, or with kind how to make one; fields left 0 or NULL stay. */
typedef struct LinkChange {
        int ifindex; /* 0: a new link of this kind and name */
        const char *kind;
        const char *name; /* with ifindex: rename */
        const char *alias;
        const uint8_t *mac;
        uint32_t mtu, group;
        int master; /* an ifindex, or LINK_NO_MASTER to leave the bridge */
        bool up, down;
} LinkChange;
#define LINK_NO_MASTER (-1)

/* Flags of a bridge port (IFLA_BRPORT_*); they go as slave data, in a message without
 * IFLA_MASTER: beside it the kernel says EOPNOTSUPP, and in IFLA_PROTINFO it ignores them. */
typedef struct PortFlags {
        bool isolated;
        bool locked; /* and learning off, and no frames to addresses that the bridge does not know */
} PortFlags;

typedef struct FdbEntry {
        int port;
        bool own;       /* the port's (or the bridge's) own MAC */
        bool is_static; /* not learnt from a frame */
        bool sticky;    /* no frame moves it to another port */
} FdbEntry;

typedef void (*LinkFunction)(const Link *link, bool deleted, void *userdata);
typedef void (*FdbGoneFunction)(const uint8_t mac[static 6], void *userdata);
typedef void (*NeighbourFunction)(const void *address, const uint8_t mac[static 6], void *userdata);
typedef void (*NextHopFunction)(int family, const void *address, void *userdata);
typedef void (*AddressFunction)(int ifindex, int family, const void *address, uint8_t prefix,
                                void *userdata);

/* A worker's socket, as its context. */
extern const WorkerContext netlink_context;

int netlink_open(Netlink **ret);
void netlink_close(Netlink *nl);
static inline void netlink_closep(Netlink **nl) {
        netlink_close(*nl);
}
int netlink_fd(Netlink *nl);
const char *netlink_detail(Netlink *nl);

/* By ifindex, or by name where ifindex is 0. -ENODEV: none. */
int netlink_get_link(Netlink *nl, int ifindex, const char *name, Link *ret);
int netlink_dump_links(Netlink *nl, LinkFunction function, void *userdata);
int netlink_change_link(Netlink *nl, const LinkChange *change);
int netlink_set_port(Netlink *nl, int ifindex, const PortFlags *flags, bool up);
int netlink_delete_link(Netlink *nl, int ifindex);
/* Everything in the group goes, in one wait of the kernel's. */
int netlink_delete_group(Netlink *nl, uint32_t group);
/* A static, sticky entry; -EEXIST where the bridge knows the address already. */
int netlink_add_fdb(Netlink *nl, int port, const uint8_t mac[static 6]);
/* The same, whoever has the address. */
int netlink_take_fdb(Netlink *nl, int port, const uint8_t mac[static 6]);
/* What port's bridge knows of the address; -ENOENT: nothing. */
int netlink_get_fdb(Netlink *nl, int port, const uint8_t mac[static 6], FdbEntry *ret);
/* Reports of entries of bridges' tables that went and were not learnt; does not block. -ENOBUFS:
 * some were lost. */
int netlink_open_fdb_monitor(Netlink **ret);
int netlink_read_fdb_monitor(Netlink *nl, FdbGoneFunction function, void *userdata);
/* What the host knows of who is on a link, and the gateways behind which its routes go on. */
int netlink_dump_neighbours(Netlink *nl, int ifindex, int family, NeighbourFunction function,
                            void *userdata);
int netlink_dump_next_hops(Netlink *nl, int ifindex, int family, NextHopFunction function,
                           void *userdata);
int netlink_add_address(Netlink *nl, int ifindex, int family, const void *address, uint8_t prefix);
int netlink_dump_addresses(Netlink *nl, int family, AddressFunction function, void *userdata);
