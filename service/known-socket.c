/* SPDX-License-Identifier: MIT */
/* What is known of sockets, and asking what they are.
 *
 * A socket under the roots may be anybody's agent or a VMM's vsock end; what it is is asked once,
 * with GET /, of the process that listens. What answers is a VMM until that process ends. Asking
 * costs a connection and memory, so a user's sockets are asked four at a time. */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>

#include "cleanup.h"
#include "known-socket.h"
#include "loop.h"

#define BUCKETS 1024
#define ASKS_PER_OWNER 4
#define ASK_TRIES 5
#define ASK_AGAIN_USEC (200 * USEC_PER_MSEC)

struct KnownSockets {
        KnownAnswerFunction on_answer;
        LIST_HEAD(, KnownSocket) buckets[BUCKETS];
};

static void ask_next(Service *s, User *owner);

static void known_free(KnownSocket *k) {
        Service *s = k->service;
        User *owner = k->owner;
        bool was_running = k->asked == ASK_RUNNING;

        if (k->asked == ASK_QUEUED)
                TAILQ_REMOVE(&owner->ask_queue, k, in_ask_queue);
        vmm_request_cancel(k->request);
        sd_event_source_disable_unref(k->again);
        LIST_REMOVE(k, in_bucket);
        LIST_REMOVE(k, in_process);
        process_unref(k->process);
        (void)close_fd(k->fd);
        owner->known_sockets--;
        free(k->path);
        free(k);
        if (was_running) {
                owner->asks_running--;
                ask_next(s, owner);
        }
        user_unref(owner);
}

static KnownSocket *known_find(Service *s, dev_t device, ino_t inode) {
        KnownSocket *k;

        LIST_FOREACH(k, &s->known->buckets[inode % BUCKETS], in_bucket)
                if (k->inode == inode && k->device == device)
                        return k;
        return NULL;
}

static KnownSocket *known_get(Service *s, const char *path, const ApiSocket *socket,
                              Process *process) {
        KnownSocket *k = known_find(s, socket->device, socket->inode);
        User *owner;

        if (k && k->process == process)
                return k;
        if (k)
                known_free(k); /* another process has called listen on it */
        if (socket->owner == UID_NONE || user_get(s, socket->owner, &owner) < 0)
                return NULL;
        if (owner->known_sockets >= s->config->max_waits_per_user || !(k = calloc(1, sizeof(*k)))) {
                user_unref(owner);
                return NULL;
        }
        *k = (KnownSocket){.service = s,
                           .path = strdup(path),
                           .fd = fcntl(socket->fd, F_DUPFD_CLOEXEC, 3),
                           .device = socket->device,
                           .inode = socket->inode,
                           .process = process_ref(process),
                           .owner = owner};
        owner->known_sockets++;
        LIST_INSERT_HEAD(&s->known->buckets[k->inode % BUCKETS], k, in_bucket);
        LIST_INSERT_HEAD(&process->sockets, k, in_process);
        if (!k->path || k->fd < 0) {
                known_free(k);
                return NULL;
        }
        return k;
}

void known_remember(Service *s, const char *path, const ApiSocket *socket, Process *process) {
        (void)known_get(s, path, socket, process);
}

Process *known_recall(Service *s, dev_t device, ino_t inode) {
        KnownSocket *k = known_find(s, device, inode);
        uid_t uid;

        return k && process_read_uid(k->process, &uid) >= 0 ? process_ref(k->process) : NULL;
}

bool known_vmm_path(const Process *process, const char **ret_path) {
        KnownSocket *k;

        LIST_FOREACH(k, &process->sockets, in_process)
                if (k->asked == ASK_ANSWERED) {
                        *ret_path = k->path;
                        return true;
                }
        return false;
}

void known_process_gone(Process *process) {
        Service *s = NULL;

        while (!LIST_EMPTY(&process->sockets)) {
                s = LIST_FIRST(&process->sockets)->service;
                known_free(LIST_FIRST(&process->sockets));
        }
        if (s)
                s->known->on_answer(s, NULL);
}

void known_owners_changed(Service *s) {
        for (unsigned i = 0; i < BUCKETS; i++) {
                KnownSocket *k, *next;

                for (k = LIST_FIRST(&s->known->buckets[i]); k; k = next) {
                        next = LIST_NEXT(k, in_bucket);
                        if (subuid_owner(&s->subuids, k->process->uid) != k->owner->uid)
                                known_free(k);
                }
        }
}

int known_vmms_for_each(Service *s, uid_t uid, KnownFunction function, void *userdata) {
        for (unsigned i = 0; i < BUCKETS; i++) {
                KnownSocket *k;

                LIST_FOREACH(k, &s->known->buckets[i], in_bucket) {
                        int r;

                        if (k->asked != ASK_ANSWERED || (uid != UID_NONE && k->owner->uid != uid) ||
                            k->process->exited || process_is_gone(k->process->pidfd))
                                continue;
                        r = function(k, userdata);
                        if (r < 0)
                                return r;
                }
        }
        return 0;
}

static int on_again(sd_event_source *source, uint64_t usec, void *userdata) {
        KnownSocket *k = userdata;

        k->again = sd_event_source_disable_unref(k->again);
        k->asked = ASK_QUEUED;
        k->owner->asks_running--;
        TAILQ_INSERT_TAIL(&k->owner->ask_queue, k, in_ask_queue);
        ask_next(k->service, k->owner);
        return 0;
}

static void on_described(const VmmAnswer *answer, void *userdata) {
        KnownSocket *k = userdata;
        Service *s = k->service;
        const char *other;
        bool is_new = false;

        k->request = NULL;
        if (answer->kind == VMM_BUSY && !answer->api_server && ++k->tries < ASK_TRIES &&
            loop_add_timer(s->event, &k->again, ASK_AGAIN_USEC, on_again, k) >= 0)
                return;
        k->owner->asks_running--;
        if (answer->kind == VMM_DONE || answer->api_server) {
                is_new = !known_vmm_path(k->process, &other) && !k->process->exited;
                k->asked = ASK_ANSWERED;
        } else
                k->asked = ASK_SILENT;
        ask_next(s, k->owner);
        s->known->on_answer(s, is_new ? k : NULL);
}

static void ask_next(Service *s, User *owner) {
        while (owner->asks_running < ASKS_PER_OWNER && !s->stopping) {
                KnownSocket *k = TAILQ_FIRST(&owner->ask_queue);

                if (!k)
                        return;
                TAILQ_REMOVE(&owner->ask_queue, k, in_ask_queue);
                k->asked = ASK_SILENT;
                if (vmm_describe(s->http, k->fd, k->process, on_described, k, &k->request) < 0)
                        continue;
                k->asked = ASK_RUNNING;
                owner->asks_running++;
        }
}

void known_ask(Service *s, const char *path, const ApiSocket *socket, Process *process) {
        KnownSocket *k = known_get(s, path, socket, process);

        if (!k || k->asked != ASK_NOT_YET)
                return;
        k->asked = ASK_QUEUED;
        TAILQ_INSERT_TAIL(&k->owner->ask_queue, k, in_ask_queue);
        ask_next(s, k->owner);
}

bool known_is_asking(Service *s, uid_t uid) {
        for (unsigned i = 0; i < BUCKETS; i++) {
                KnownSocket *k;

                LIST_FOREACH(k, &s->known->buckets[i], in_bucket)
                        if ((k->asked == ASK_QUEUED || k->asked == ASK_RUNNING) &&
                            (uid == UID_NONE || k->owner->uid == uid))
                                return true;
        }
        return false;
}

int known_new(Service *s, KnownAnswerFunction on_answer) {
        s->known = calloc(1, sizeof(KnownSockets));
        if (!s->known)
                return -ENOMEM;
        s->known->on_answer = on_answer;
        return 0;
}

void known_free_all(Service *s) {
        if (!s->known)
                return;
        for (unsigned i = 0; i < BUCKETS; i++)
                while (!LIST_EMPTY(&s->known->buckets[i]))
                        known_free(LIST_FIRST(&s->known->buckets[i]));
        free(s->known);
        s->known = NULL;
}
