/* SPDX-License-Identifier: MIT */
#pragma once

/* What happens to taps by themselves: they appear and go (signals), their holder changes their
 * MAC (they leave the bridge), the entry of their guest-mac goes (it is put back), their VMM lets
 * them go (auto-delete). */

#include "link/fdb-watch.h"
#include "link/link-table.h"
#include "service.h"

/* The LinkTable's. userdata: Service. */
void tap_watch_link_changed(LinkEntry *entry, const Link *before, const Link *after, void *userdata);
/* The LinkTable's, when reports were lost. userdata: Service. */
void tap_watch_reports_lost(void *userdata);
/* The FdbWatch's. userdata: Service. */
void tap_watch_entries_gone(const Mac *macs, size_t n, void *userdata);
/* After the connection to the bus: taps of an earlier life of the service, whose creators may be gone. */
void tap_watch_start(Service *service);
/* A connection vanished: its auto-delete taps that nobody attached to go. */
void tap_watch_peer_gone(Service *service, const char *unique_name);
/* A connection turned out to be uid's: a tap that names it but is another's was made on an earlier bus. */
void tap_watch_peer_known(Service *service, const char *unique_name, uid_t uid);
/* Something failed, or may not last: whatever is to be done for any tap is looked at once more in a second. */
void tap_watch_look_again(Service *service);
/* A process of uid's ended: what it held is let go now, though the report may take a second. */
void tap_watch_process_exited(Service *service, uid_t uid);
