/* SPDX-License-Identifier: MIT */
#pragma once

/* What happens to taps by themselves: they appear and go (signals), their holder changes their
 * MAC (they leave the bridge), their VMM lets them go (auto-delete). */

#include "service.h"

/* The LinkTable's. userdata: Service. */
void tap_watch_link_changed(LinkEntry *entry, const Link *before, const Link *after, void *userdata);
/* After the connection to the bus: taps of an earlier life of the service, whose creators may be gone. */
void tap_watch_start(Service *service);
/* A connection vanished: its auto-delete taps that nobody attached to go. */
void tap_watch_peer_gone(Service *service, const char *unique_name);
/* A connection turned out to be uid's: a tap that names it but is another's was made on an earlier bus. */
void tap_watch_peer_known(Service *service, const char *unique_name, uid_t uid);
/* Displaced taps that could not be deleted: once more in a second. */
void tap_watch_reap_again(Service *service);
/* A process of uid's ended: what it held is let go now, though the report may take a second. */
void tap_watch_process_exited(Service *service, uid_t uid);
