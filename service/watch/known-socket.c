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

#include "base/loop.h"
#include "common/cleanup.h"
#include "vm/process.h"
#include "watch/known-socket.h"

#define BUCKETS 1024
#define ASKS_PER_OWNER 4
#define ASK_TRIES 5
#define ASK_AGAIN_USEC (200 * USEC_PER_MSEC)
#define SILENCE_USEC (10 * USEC_PER_SEC) /* until one that did not answer is asked again */

struct KnownSockets {
        KnownAnswerFunction on_answer;
        unsigned long round; /* of known_for_each_process() */
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

static int known_get(Service *s, const char *path, const ApiSocket *socket, Process *process,
                     KnownSocket **ret) {
        KnownSocket *k = known_find(s, socket->device, socket->inode);
        User *owner;

        if (k && k->process == process) {
                *ret = k;
                return 0;
        }
        if (k)
                known_free(k); /* another process has called listen on it */
        if (user_get(s, socket->owner, &owner) < 0)
                return -ENOMEM;
        if (owner->known_sockets >= KNOWN_PER_OWNER || !(k = calloc(1, sizeof(*k)))) {
                int r = owner->known_sockets >= KNOWN_PER_OWNER ? -ENOBUFS : -ENOMEM;

                user_unref(owner);
                return r;
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
                int r = k->path ? -EMFILE : -ENOMEM;

                known_free(k);
                return r;
        }
        *ret = k;
        return 0;
}

void known_remember(Service *s, const char *path, const ApiSocket *socket, Process *process) {
        KnownSocket *k;

        (void)known_get(s, path, socket, process, &k); /* what is forgotten is found again */
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

static void forget_if(Service *s, bool (*is_to_go)(const KnownSocket *k)) {
        for (unsigned i = 0; i < BUCKETS; i++) {
                KnownSocket *k, *next;

                for (k = LIST_FIRST(&s->known->buckets[i]); k; k = next) {
                        next = LIST_NEXT(k, in_bucket);
                        if (is_to_go(k))
                                known_free(k);
                }
        }
}

static bool has_another_owner(const KnownSocket *k) {
        return subuid_owner(&k->service->subuids, k->process->uid) != k->owner->uid;
}

void known_owners_changed(Service *s) {
        forget_if(s, has_another_owner);
}

static bool is_below_no_root(const KnownSocket *k) {
        return !socket_path_has_root(k->service->config, k->path);
}

void known_roots_changed(Service *s) {
        forget_if(s, is_below_no_root);
}

/* The socket that a process is listed under, or NULL. */
static KnownSocket *listed_under(const Process *process) {
        KnownSocket *k, *best = NULL;

        LIST_FOREACH(k, &process->sockets, in_process) {
                if (k->asked == ASK_ANSWERED)
                        return k;
                if (k->asked != ASK_OTHER && k->asked != ASK_NOT_YET &&
                    (!best || strcmp(k->path, best->path) < 0))
                        best = k;
        }
        return best;
}

int known_for_each_process(Service *s, uid_t uid, KnownFunction function, void *userdata) {
        unsigned long round = ++s->known->round;

        for (unsigned i = 0; i < BUCKETS; i++) {
                KnownSocket *k, *best;

                LIST_FOREACH(k, &s->known->buckets[i], in_bucket) {
                        int r;

                        if (k->process->listed_in == round) /* once, however many sockets it has */
                                continue;
                        k->process->listed_in = round;
                        best = listed_under(k->process);
                        if (!best || (uid != UID_NONE && best->owner->uid != uid) ||
                            k->process->exited || process_is_gone(k->process->pidfd))
                                continue;
                        r = function(best, best->asked == ASK_ANSWERED, userdata);
                        if (r < 0)
                                return r;
                }
        }
        return 0;
}

static int on_again(sd_event_source *source, uint64_t usec, void *userdata) {
        KnownSocket *k = userdata;

        k->again = sd_event_source_disable_unref(k->again);
        if (k->asked == ASK_RUNNING) /* between two tries */
                k->owner->asks_running--;
        k->asked = ASK_QUEUED;
        TAILQ_INSERT_TAIL(&k->owner->ask_queue, k, in_ask_queue);
        ask_next(k->service, k->owner);
        return 0;
}

static void be_silent(KnownSocket *k) {
        k->asked = ASK_SILENT;
        k->had_its_chance = true;
        k->tries = 0;
        (void)loop_add_timer(k->service->event, &k->again, SILENCE_USEC, on_again, k);
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
        } else if (answer->is_other)
                k->asked = ASK_OTHER;
        else
                be_silent(k);
        k->had_its_chance = true;
        ask_next(s, k->owner);
        s->known->on_answer(s, is_new ? k : NULL);
}

static void ask_next(Service *s, User *owner) {
        while (owner->asks_running < ASKS_PER_OWNER && !s->stopping) {
                KnownSocket *k = TAILQ_FIRST(&owner->ask_queue);

                if (!k)
                        return;
                TAILQ_REMOVE(&owner->ask_queue, k, in_ask_queue);
                if (vmm_describe(s->http, k->fd, k->process, on_described, k, &k->request) < 0) {
                        be_silent(k);
                        continue;
                }
                k->asked = ASK_RUNNING;
                owner->asks_running++;
        }
}

int known_ask(Service *s, const char *path, const ApiSocket *socket, Process *process) {
        KnownSocket *k;
        int r = known_get(s, path, socket, process, &k);

        if (r < 0 || k->asked != ASK_NOT_YET)
                return r;
        k->asked = ASK_QUEUED;
        TAILQ_INSERT_TAIL(&k->owner->ask_queue, k, in_ask_queue);
        ask_next(s, k->owner);
        return 0;
}

bool known_is_asking(Service *s, uid_t uid) {
        for (unsigned i = 0; i < BUCKETS; i++) {
                KnownSocket *k;

                LIST_FOREACH(k, &s->known->buckets[i], in_bucket)
                        if ((k->asked == ASK_QUEUED || k->asked == ASK_RUNNING) &&
                            !k->had_its_chance && (uid == UID_NONE || k->owner->uid == uid))
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
