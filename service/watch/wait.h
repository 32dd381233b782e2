/* SPDX-License-Identifier: MIT */
#pragma once

/* WaitForExit and WatchExit once they are armed: connection, process, deadline. */

#include "bus/peer.h"
#include "vm/process.h"

typedef struct WaitWatch {
        Watch watch; /* first */
        Service *service;
        Peer *peer;
        User *user;
        sd_bus_message *message; /* of WaitForExit, which is still to be answered; NULL for WatchExit */
        char *api_sock;          /* as it was given */
        sd_event_source *deadline;
        LIST_ENTRY(WaitWatch) in_peer;
} WaitWatch;

struct Call;

/* Arms it; the call's wait passes to it, and for WaitForExit its reply. timeout_usec from now,
 * USEC_FOREVER: none. */
int wait_arm(struct Call *call, Process *process, const char *api_sock, uint64_t timeout_usec,
             bool replies, Failure *f);

/* Ends the peer's own on process pid (0: any) and api_sock ("": any); the number of those ended. */
unsigned wait_cancel(Peer *peer, pid_t pid, const char *api_sock);
void watches_of_peer_gone(Peer *peer);
int wait_timed_out_failure(Failure *f, pid_t pid, const char *api_sock);

/* A process has ended: replies to those who wait, and tells everybody who may know, once. */
void wait_process_exited(Service *service, Process *process);
