/* SPDX-License-Identifier: MIT */
#pragma once

/* Watches bridges' forwarding tables (RTNLGRP_NEIGH) for entries that go and that no frame makes. */

#include <stdint.h>
#include <systemd/sd-event.h>

typedef struct FdbWatch FdbWatch;

/* An entry of mac went, on some port; NULL: any may have gone, the kernel had to drop reports. */
typedef void (*FdbGoneWatchFunction)(const uint8_t *mac, void *userdata);

int fdb_watch_new(sd_event *event, FdbGoneWatchFunction function, void *userdata, FdbWatch **ret);
void fdb_watch_free(FdbWatch *watch);
