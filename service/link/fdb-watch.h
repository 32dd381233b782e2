/* SPDX-License-Identifier: MIT */
#pragma once

/* Watches bridges' forwarding tables (RTNLGRP_NEIGH) for entries that go and that no frame makes. */

#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

typedef struct FdbWatch FdbWatch;

typedef struct Mac {
        uint8_t bytes[6];
} Mac;

int mac_compare(const void *a, const void *b); /* for qsort() and bsearch() */

/* Entries of these addresses went, on whatever port; sorted by mac_compare(). NULL: any may have gone,
 * the reports were too many. */
typedef void (*FdbGoneWatchFunction)(const Mac *macs, size_t n, void *userdata);

int fdb_watch_new(sd_event *event, FdbGoneWatchFunction function, void *userdata, FdbWatch **ret);
void fdb_watch_free(FdbWatch *watch);
