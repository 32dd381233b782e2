/* SPDX-License-Identifier: MIT */
#pragma once

/* The sockets that were seen, who listens on them, and whether that is a VMM: one that answers
 * GET /. It is a memory, not a database: what is forgotten is found again.
 *
 * A listener that does not answer may be a VMM that is stopped, or overloaded: it is listed as what
 * is known of it, and asked again. */

#include <sys/queue.h>

#include "bus/peer.h"
#include "vm/process.h"
#include "vm/sockets.h"
#include "vm/vmm.h"

typedef enum AskState {
        ASK_NOT_YET,
        ASK_QUEUED,
        ASK_RUNNING,
        ASK_ANSWERED, /* a VMM */
        ASK_SILENT,   /* no answer yet: asked again after a while */
        ASK_OTHER     /* an answer, and not a VMM's */
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
        bool had_its_chance; /* it was asked once: nobody waits for it any more */
        unsigned tries;
        VmmRequest *request;
        sd_event_source *again;
        LIST_ENTRY(KnownSocket) in_process, in_bucket;
        TAILQ_ENTRY(KnownSocket) in_ask_queue;
} KnownSocket;

/* An answer came, or a process with sockets ended; vmm is the socket that makes its process known
 * for a VMM, or NULL. */
typedef void (*KnownAnswerFunction)(Service *service, KnownSocket *vmm);

int known_new(Service *service, KnownAnswerFunction on_answer);
void known_free_all(Service *service);

/* A listener that was seen; at most KNOWN_PER_OWNER for each owner are kept. */
#define KNOWN_PER_OWNER 2048U
void known_remember(Service *service, const char *path, const ApiSocket *socket, Process *process);
/* The same, and has it asked what it is. -ENOBUFS: its owner has too many, -ENOMEM, -EMFILE. */
int known_ask(Service *service, const char *path, const ApiSocket *socket, Process *process);
/* Whether the first answer of one of uid's sockets (UID_NONE: of anybody's) is still to come. */
bool known_is_asking(Service *service, uid_t uid);

/* The living process that listened on this inode, referenced, or NULL. */
Process *known_recall(Service *service, dev_t device, ino_t inode);
/* Whether the process was found to be a VMM, and by which socket: the one it is listed under. */
bool known_vmm_path(const Process *process, const char **ret_path);
void known_process_gone(Process *process);
/* /etc/subuid has changed: what is known of sockets whose owner is another now is forgotten. */
void known_owners_changed(Service *service);
/* The roots have changed: what is below none of them is forgotten. */
void known_roots_changed(Service *service);

/* Every living process of uid (UID_NONE: of everybody) that listens, once: under the socket that
 * answered, or, with answered false, under the first by name of those that may still. */
typedef int (*KnownFunction)(KnownSocket *known, bool answered, void *userdata);
int known_for_each_process(Service *service, uid_t uid, KnownFunction function, void *userdata);
