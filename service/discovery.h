/* SPDX-License-Identifier: MIT */
#pragma once

/* The sockets that were seen, who listens on them, and whether that is a VMM: one that answers
 * GET /. It is a memory, not a database: what is forgotten is found again. */

#include <sys/queue.h>

#include "peer.h"
#include "process.h"
#include "sockets.h"
#include "vmm.h"

typedef enum AskState {
        ASK_NOT_YET,
        ASK_QUEUED,
        ASK_RUNNING,
        ASK_ANSWERED,
        ASK_SILENT
} AskState;

typedef struct KnownSocket {
        Service *service;
        char *path;
        int fd; /* O_PATH: as long as it is held, its inode number means this socket */
        dev_t device;
        ino_t inode;
        Process *process;
        User *owner;
        AskState asked;
        unsigned tries;
        VmmRequest *request;
        sd_event_source *again;
        LIST_ENTRY(KnownSocket) in_process, in_bucket;
        TAILQ_ENTRY(KnownSocket) in_ask_queue;
} KnownSocket;

int discovery_new(Service *service);
void discovery_free(Service *service);

/* A listener that was seen; at most max_waits_per_user for each owner are kept. */
void discovery_remember(Service *service, const char *path, const ApiSocket *socket,
                        Process *process);
/* The living process that listened on this inode, referenced, or NULL. */
Process *discovery_recall(Service *service, dev_t device, ino_t inode);
/* Whether the process was found to be a VMM, and by which socket. */
bool discovery_is_announced(const Process *process, const char **ret_path);
void discovery_process_gone(Process *process);

/* /etc/subuid has changed: what is known of sockets whose owner is another now is forgotten. */
void discovery_owners_changed(Service *service);

/* Starts or stops watching directories, as there are subscribers. */
void discovery_follow_subscribers(Service *service);
/* The runtime directory may be another. */
void discovery_reload(Service *service);
void discovery_send_snapshot(Peer *peer);

/* Looks through the directories of uid (UID_NONE: of everybody), asks what is new there, and calls
 * function when all have answered, or after 2.5 s. One at a time for each uid: who comes meanwhile
 * is served by the one under way. function gets NULL userdata never; cancel by the same pair. */
typedef void (*ScannedFunction)(void *userdata);
int discovery_scan(Service *service, uid_t uid, ScannedFunction function, void *userdata);
void discovery_scan_forget(Service *service, void *userdata);

/* Every socket that answered, of uid (UID_NONE: of all). */
typedef int (*VmmFoundFunction)(KnownSocket *known, void *userdata);
int discovery_for_each(Service *service, uid_t uid, VmmFoundFunction function, void *userdata);
