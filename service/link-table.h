/* SPDX-License-Identifier: MIT */
#pragma once

/* The links of the host as the kernel reports them (RTNLGRP_LINK): read once, then kept up. The
 * kernel queues a report before the request that caused it is answered, so that after
 * link_table_sync() the table holds everything that any finished request has done. */

#include <sys/queue.h>
#include <systemd/sd-event.h>

#include "netlink.h"

/* Reserved names: no caller's name can begin with '_'. */
#define DISPLACED_PREFIX "_fcx" /* a tap that was replaced or deleted and waits for its delete */
#define HALF_MADE_BRIDGE "_fcbr0"

typedef struct LinkEntry {
        Link link;
        bool announced;  /* the tap was complete, and said to be created */
        unsigned duties; /* queued for it, see tap-watch.c */
        LIST_ENTRY(LinkEntry) in_bucket, in_name_bucket;
} LinkEntry;

typedef struct LinkTable LinkTable;

/* before == NULL: it appeared; after == NULL: it is gone. */
typedef void (*LinkChangedFunction)(LinkEntry *entry, const Link *before, const Link *after,
                                    void *userdata);

int link_table_new(sd_event *event, LinkChangedFunction on_change, void *userdata, LinkTable **ret);
void link_table_free(LinkTable *table);

/* Takes in every report that is there. Calls on_change. */
void link_table_sync(LinkTable *table);

LinkEntry *link_table_by_name(LinkTable *table, const char *name);
LinkEntry *link_table_by_ifindex(LinkTable *table, int ifindex);
LinkEntry *link_table_next(LinkTable *table, LinkEntry *after); /* NULL: the first */

/* Ours, a tap, under its own name. */
bool link_is_our_tap(const Link *link);
bool link_is_displaced(const Link *link);
/* Counts of uid's (UID_NONE: everybody's). */
unsigned link_table_count_taps(LinkTable *table, uid_t uid);
unsigned link_table_count_displaced(LinkTable *table, uid_t uid);

/* The MAC that we give a tap's host side: made of its ifindex, so that a changed one is known
 * for changed after a restart, too. */
void tap_mac(int ifindex, uint8_t ret[static 6]);
