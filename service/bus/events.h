/* SPDX-License-Identifier: MIT */
#pragma once

/* Signals, by unicast and only to those who may see them. */

#include "bus/peer.h"
#include "link/netlink.h"
#include "vm/process.h"

/* To every subscriber of uid (uid 0 subscribes to all). */
void events_process_appeared(Service *service, Process *process, uid_t uid, const char *api_sock);
void events_tap(Service *service, const char *signal, const Link *link);
/* To one peer. */
void events_send_appeared(Peer *peer, Process *process, uid_t uid, const char *api_sock);
void events_send_exited(Peer *peer, pid_t pid, uid_t uid, const char *api_sock,
                        const ProcessExit *exit, uint64_t pidfd_inode);
void events_send_wait_timed_out(Peer *peer, const Process *process, const char *api_sock);

/* An event that goes to several peers, to each once. */
unsigned long events_new_stamp(void);
bool events_may_see(const Peer *peer, uid_t uid);
bool events_has_subscriber(Service *service, uid_t uid);
