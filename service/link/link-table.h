/* SPDX-License-Identifier: MIT */
#pragma once

/* The links of the host as the kernel reports them (RTNLGRP_LINK): read once, then kept up. The
 * kernel queues a report before the request that caused it is answered, so that after
 * link_table_sync() the table holds everything that any finished request has done. */

#include <sys/queue.h>
#include <systemd/sd-event.h>

#include "link/link.h"
#include "link/netlink.h"

typedef struct LinkEntry {
        Link link;
        bool announced; /* the tap was complete, and said to be created */
        bool mac_taken; /* its holder changed its MAC on the bridge that it is on */
        uint8_t taken_mac[6];
        unsigned duties, duties_again; /* queued, and asked for once more: see tap-watch.c */
        LIST_ENTRY(LinkEntry) in_bucket, in_name_bucket;
} LinkEntry;

typedef struct LinkTable LinkTable;

/* before == NULL: it appeared; after == NULL: it is gone. A link that was reported more often than
 * the loop read changes once. */
typedef void (*LinkChangedFunction)(LinkEntry *entry, const Link *before, const Link *after,
                                    void *userdata);

/* The kernel dropped reports, and all links were read again. */
typedef void (*LinkReportsLostFunction)(void *userdata);

int link_table_new(sd_event *event, LinkChangedFunction on_change, LinkReportsLostFunction on_lost,
                   void *userdata, LinkTable **ret);
void link_table_free(LinkTable *table);

/* Takes in every report that is there; it ends, however many more are made. Calls on_change. */
void link_table_sync(LinkTable *table);
/* False where memory is short: something is missing. */
bool link_table_is_whole(const LinkTable *table);

LinkEntry *link_table_by_name(LinkTable *table, const char *name);
LinkEntry *link_table_by_ifindex(LinkTable *table, int ifindex);
LinkEntry *link_table_next(LinkTable *table, LinkEntry *after); /* NULL: the first */

/* Counts of uid's (UID_NONE: everybody's). */
unsigned link_table_count_taps(LinkTable *table, uid_t uid);
unsigned link_table_count_displaced(LinkTable *table, uid_t uid);
