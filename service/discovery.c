/* SPDX-License-Identifier: MIT */
/* Which VMMs there are.
 *
 * A socket under the roots may be anybody's agent or a VMM's vsock end; what it is is asked once,
 * with GET /, of the process that listens. What answers is a VMM until that process ends. Asking
 * costs a connection and memory, so a user's sockets are asked four at a time, and what users can
 * make happen here (files appearing, processes listening) is bounded for each of them. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <time.h>

#include "cleanup.h"
#include "discovery.h"
#include "events.h"
#include "log.h"
#include "scan.h"
#include "target.h"
#include "validate.h"
#include "worker.h"

#define BUCKETS 1024
#define ASKS_PER_OWNER 4
#define ASK_TRIES 5
#define ASK_AGAIN_USEC (200 * USEC_PER_MSEC)
#define SCAN_PATIENCE_USEC (2500 * USEC_PER_MSEC)
#define CANDIDATES_MAX 64
#define LATER_USEC (250 * USEC_PER_MSEC)

typedef struct ScanWaiter {
        ScannedFunction function;
        void *userdata;
        STAILQ_ENTRY(ScanWaiter) in_scan;
} ScanWaiter;

typedef struct Scan {
        Job job; /* first */
        Service *service;
        ScanPlan plan;
        ScanResult result;
        uid_t uid;
        bool running; /* with the worker */
        sd_event_source *deadline;
        STAILQ_HEAD(, ScanWaiter) waiters;
        LIST_ENTRY(Scan) in_list;
} Scan;

/* A file that appeared and may become a listening socket in a moment. */
typedef struct Candidate {
        struct UidDirectory *directory;
        char *path;
        unsigned looks;
        sd_event_source *timer;
        LIST_ENTRY(Candidate) in_directory;
} Candidate;

typedef struct UidDirectory {
        Service *service;
        uid_t uid;
        char *path;
        sd_event_source *inotify, *later;
        unsigned n_candidates;
        LIST_HEAD(, Candidate) candidates;
        LIST_ENTRY(UidDirectory) in_list;
} UidDirectory;

struct Discovery {
        LIST_HEAD(, KnownSocket) buckets[BUCKETS];
        LIST_HEAD(, Scan) scans;
        LIST_HEAD(, UidDirectory) directories;
        sd_event_source *root_inotify;
};

static void ask_next(Service *s, User *owner);
static void scans_check(Service *s);

/* --- what is known --- */

static bool is_asking(const KnownSocket *k) {
        return k->asked == ASK_QUEUED || k->asked == ASK_RUNNING;
}

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

        LIST_FOREACH(k, &s->discovery->buckets[inode % BUCKETS], in_bucket)
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
        LIST_INSERT_HEAD(&s->discovery->buckets[k->inode % BUCKETS], k, in_bucket);
        LIST_INSERT_HEAD(&process->sockets, k, in_process);
        if (!k->path || k->fd < 0) {
                known_free(k);
                return NULL;
        }
        return k;
}

void discovery_remember(Service *s, const char *path, const ApiSocket *socket, Process *process) {
        (void)known_get(s, path, socket, process);
}

Process *discovery_recall(Service *s, dev_t device, ino_t inode) {
        KnownSocket *k = known_find(s, device, inode);
        uid_t uid;

        return k && process_read_uid(k->process, &uid) >= 0 ? process_ref(k->process) : NULL;
}

bool discovery_is_announced(const Process *process, const char **ret_path) {
        KnownSocket *k;

        LIST_FOREACH(k, &process->sockets, in_process)
                if (k->asked == ASK_ANSWERED) {
                        *ret_path = k->path;
                        return true;
                }
        return false;
}

void discovery_process_gone(Process *process) {
        Service *s = NULL;

        while (!LIST_EMPTY(&process->sockets)) {
                s = LIST_FIRST(&process->sockets)->service;
                known_free(LIST_FIRST(&process->sockets));
        }
        if (s)
                scans_check(s);
}

void discovery_owners_changed(Service *s) {
        for (unsigned i = 0; i < BUCKETS; i++) {
                KnownSocket *k, *next;

                for (k = LIST_FIRST(&s->discovery->buckets[i]); k; k = next) {
                        next = LIST_NEXT(k, in_bucket);
                        if (subuid_owner(&s->subuids, k->process->uid) != k->owner->uid)
                                known_free(k);
                }
        }
        discovery_follow_subscribers(s);
}

int discovery_for_each(Service *s, uid_t uid, VmmFoundFunction function, void *userdata) {
        for (unsigned i = 0; i < BUCKETS; i++) {
                KnownSocket *k;

                LIST_FOREACH(k, &s->discovery->buckets[i], in_bucket) {
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

/* --- asking what they are --- */

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

        k->request = NULL;
        if (answer->kind == VMM_BUSY && !answer->api_server && ++k->tries < ASK_TRIES &&
            sd_event_add_time_relative(s->event, &k->again, CLOCK_MONOTONIC, ASK_AGAIN_USEC, 0,
                                       on_again, k) >= 0)
                return;
        k->owner->asks_running--;
        if (answer->kind == VMM_DONE || answer->api_server) {
                bool known = discovery_is_announced(k->process, &other);

                k->asked = ASK_ANSWERED;
                if (!known && !k->process->exited)
                        events_process_appeared(s, k->process, k->owner->uid, k->path);
        } else
                k->asked = ASK_SILENT;
        ask_next(s, k->owner);
        scans_check(s);
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

/* Looks at path, and has it asked if it is a listening socket that has not been. */
static SocketState consider(Service *s, const char *path) {
        _cleanup_target_ Target t = TARGET_NONE;
        KnownSocket *k;
        Failure f;

        if (target_find(s, path, &t, &f) < 0 || t.socket.refusal.kind || !t.socket.agrees)
                return SOCKET_ABSENT;
        if (t.socket.state != SOCKET_LISTENING)
                return t.socket.state;
        k = known_get(s, path, &t.socket, t.process);
        if (k && k->asked == ASK_NOT_YET) {
                k->asked = ASK_QUEUED;
                TAILQ_INSERT_TAIL(&k->owner->ask_queue, k, in_ask_queue);
                ask_next(s, k->owner);
        }
        return SOCKET_LISTENING;
}

/* --- looking through the directories --- */

static bool scan_is_settled(const Scan *scan) {
        for (unsigned i = 0; i < BUCKETS; i++) {
                KnownSocket *k;

                LIST_FOREACH(k, &scan->service->discovery->buckets[i], in_bucket)
                        if (is_asking(k) && (scan->uid == UID_NONE || k->owner->uid == scan->uid))
                                return false;
        }
        return true;
}

static void scan_free(Scan *scan) {
        ScanWaiter *w;

        LIST_REMOVE(scan, in_list);
        sd_event_source_disable_unref(scan->deadline);
        scan_plan_clear(&scan->plan);
        scan_result_clear(&scan->result);
        while ((w = STAILQ_FIRST(&scan->waiters))) {
                STAILQ_REMOVE_HEAD(&scan->waiters, in_scan);
                free(w);
        }
        free(scan);
}

static void scan_finish(Scan *scan) {
        STAILQ_HEAD(, ScanWaiter) waiters = STAILQ_HEAD_INITIALIZER(waiters);
        ScanWaiter *w;

        STAILQ_CONCAT(&waiters, &scan->waiters);
        scan_free(scan);
        while ((w = STAILQ_FIRST(&waiters))) {
                STAILQ_REMOVE_HEAD(&waiters, in_scan);
                if (w->function)
                        w->function(w->userdata);
                free(w);
        }
}

static void scans_check(Service *s) {
        Scan *scan, *next;

        if (!s->discovery)
                return;
        for (scan = LIST_FIRST(&s->discovery->scans); scan; scan = next) {
                next = LIST_NEXT(scan, in_list);
                if (!scan->running && scan_is_settled(scan))
                        scan_finish(scan);
        }
}

static int on_scan_deadline(sd_event_source *source, uint64_t usec, void *userdata) {
        scan_finish(userdata);
        return 0;
}

static void scan_job_run(Job *job, Netlink *nl) {
        Scan *scan = (Scan *)job;

        scan_run(&scan->plan, &scan->result);
}

static void scan_job_done(Job *job) {
        Scan *scan = (Scan *)job;
        Service *s = scan->service;

        scan->running = false;
        if (scan->result.cut)
                log_message(LOG_WARNING,
                            "More than %d sockets below the roots; the rest is not looked at",
                            SCAN_PATHS_MAX);
        for (size_t i = 0; i < scan->result.n; i++)
                (void)consider(s, scan->result.paths[i]);
        scan_result_clear(&scan->result);
        scan_plan_clear(&scan->plan);
        if (scan_is_settled(scan) ||
            sd_event_add_time_relative(s->event, &scan->deadline, CLOCK_MONOTONIC,
                                       SCAN_PATIENCE_USEC, 0, on_scan_deadline, scan) < 0)
                scan_finish(scan);
}

int discovery_scan(Service *s, uid_t uid, ScannedFunction function, void *userdata) {
        ScanWaiter *w = calloc(1, sizeof(*w));
        Scan *scan;

        if (!w)
                return -ENOMEM;
        *w = (ScanWaiter){.function = function, .userdata = userdata};
        LIST_FOREACH(scan, &s->discovery->scans, in_list)
                if (scan->uid == uid)
                        break;
        if (!scan) {
                scan = calloc(1, sizeof(*scan));
                if (!scan || scan_plan(s->config, &s->subuids, uid, &scan->plan) < 0) {
                        free(scan);
                        free(w);
                        return -ENOMEM;
                }
                scan->job = (Job){.run = scan_job_run, .done = scan_job_done};
                scan->service = s;
                scan->uid = uid;
                STAILQ_INIT(&scan->waiters);
                LIST_INSERT_HEAD(&s->discovery->scans, scan, in_list);
                scan->running = true;
                worker_submit(s->file_worker, &scan->job);
        }
        STAILQ_INSERT_TAIL(&scan->waiters, w, in_scan);
        return 0;
}

void discovery_scan_forget(Service *s, void *userdata) {
        ScanWaiter *w;
        Scan *scan;

        LIST_FOREACH(scan, &s->discovery->scans, in_list)
                STAILQ_FOREACH(w, &scan->waiters, in_scan)
                        if (w->userdata == userdata)
                                w->function = NULL;
}

/* --- watching directories for subscribers --- */

static void candidate_free(Candidate *c) {
        LIST_REMOVE(c, in_directory);
        c->directory->n_candidates--;
        sd_event_source_disable_unref(c->timer);
        free(c->path);
        free(c);
}

static int on_candidate(sd_event_source *source, uint64_t usec, void *userdata) {
        Candidate *c = userdata;
        uint64_t wait = MIN_OF(USEC_PER_MSEC << MIN_OF(c->looks, 6U), 50 * USEC_PER_MSEC);

        if (consider(c->directory->service, c->path) != SOCKET_NOT_LISTENING || c->looks > 24 ||
            sd_event_source_set_time_relative(c->timer, wait) < 0 ||
            sd_event_source_set_enabled(c->timer, SD_EVENT_ONESHOT) < 0)
                candidate_free(c);
        else
                c->looks++;
        return 0;
}

static int on_later(sd_event_source *source, uint64_t usec, void *userdata) {
        UidDirectory *d = userdata;

        d->later = sd_event_source_disable_unref(d->later);
        (void)discovery_scan(d->service, d->uid, NULL, NULL);
        return 0;
}

/* Too much at once: the whole directory is looked through in a moment, once. */
static void look_through_later(UidDirectory *d) {
        if (!d->later)
                (void)sd_event_add_time_relative(d->service->event, &d->later, CLOCK_MONOTONIC,
                                                 LATER_USEC, 0, on_later, d);
}

static void add_candidate(UidDirectory *d, const char *name) {
        _cleanup_free_ char *path = NULL;
        Candidate *c;

        if (asprintf(&path, "%s/%s", d->path, name) < 0) {
                path = NULL;
                return;
        }
        LIST_FOREACH(c, &d->candidates, in_directory)
                if (strcmp(c->path, path) == 0)
                        return;
        if (d->n_candidates >= CANDIDATES_MAX || !path_valid(path) || !(c = calloc(1, sizeof(*c)))) {
                look_through_later(d);
                return;
        }
        c->directory = d;
        c->path = TAKE_PTR(path);
        LIST_INSERT_HEAD(&d->candidates, c, in_directory);
        d->n_candidates++;
        if (sd_event_add_time_relative(d->service->event, &c->timer, CLOCK_MONOTONIC, 0,
                                       USEC_PER_MSEC, on_candidate, c) < 0)
                candidate_free(c);
}

static int on_directory(sd_event_source *source, const struct inotify_event *event, void *userdata) {
        UidDirectory *d = userdata;

        if (event->mask & IN_Q_OVERFLOW)
                look_through_later(d);
        else if (event->mask & IN_IGNORED) /* removed; on_root() sees it come back */
                d->inotify = sd_event_source_disable_unref(d->inotify);
        else if (event->len > 0)
                add_candidate(d, event->name);
        return 0;
}

static void directory_arm(UidDirectory *d) {
        _cleanup_close_ int root = -1, fd = -1;
        char name[16];

        if (d->inotify)
                return;
        root = open(d->service->config->runtime_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        (void)snprintf(name, sizeof(name), "%u", d->uid);
        fd = root < 0 ? -1 : kernel.open_beneath(root, name);
        if (fd < 0 ||
            sd_event_add_inotify_fd(d->service->event, &d->inotify, fd,
                                    IN_CREATE | IN_MOVED_TO | IN_ONLYDIR, on_directory, d) < 0)
                d->inotify = NULL;
}

static void directory_free(UidDirectory *d) {
        while (!LIST_EMPTY(&d->candidates))
                candidate_free(LIST_FIRST(&d->candidates));
        sd_event_source_disable_unref(d->inotify);
        sd_event_source_disable_unref(d->later);
        LIST_REMOVE(d, in_list);
        free(d->path);
        free(d);
}

static void directory_watch(Service *s, uid_t uid) {
        UidDirectory *d;

        LIST_FOREACH(d, &s->discovery->directories, in_list)
                if (d->uid == uid)
                        break;
        if (!d) {
                d = calloc(1, sizeof(*d));
                if (!d)
                        return;
                d->service = s;
                d->uid = uid;
                LIST_INIT(&d->candidates);
                LIST_INSERT_HEAD(&s->discovery->directories, d, in_list);
                if (asprintf(&d->path, "%s/%u", s->config->runtime_dir, uid) < 0) {
                        d->path = NULL;
                        directory_free(d);
                        return;
                }
        }
        directory_arm(d);
}

static int on_root(sd_event_source *source, const struct inotify_event *event, void *userdata) {
        Service *s = userdata;
        UidDirectory *d;
        uint64_t uid;

        if (event->len == 0 || !number_parse(event->name, INT32_MAX, &uid) ||
            !events_has_subscriber(s, subuid_owner(&s->subuids, (uid_t)uid)))
                return 0;
        LIST_FOREACH(d, &s->discovery->directories, in_list)
                if (d->uid == uid)
                        d->inotify = sd_event_source_disable_unref(d->inotify);
        directory_watch(s, (uid_t)uid);
        /* what was put there before the watch was */
        (void)discovery_scan(s, subuid_owner(&s->subuids, (uid_t)uid), NULL, NULL);
        return 0;
}

static void watch_all(Service *s) {
        DIR *stream = opendir(s->config->runtime_dir);
        struct dirent *entry;
        uint64_t uid;

        while (stream && (entry = readdir(stream))) /* root's own directory: one entry for each user */
                if (number_parse(entry->d_name, INT32_MAX, &uid))
                        directory_watch(s, (uid_t)uid);
        if (stream)
                (void)closedir(stream);
}

void discovery_reload(Service *s) {
        s->discovery->root_inotify = sd_event_source_disable_unref(s->discovery->root_inotify);
        while (!LIST_EMPTY(&s->discovery->directories))
                directory_free(LIST_FIRST(&s->discovery->directories));
        discovery_follow_subscribers(s);
}

void discovery_follow_subscribers(Service *s) {
        UidDirectory *d, *next;
        bool any = false;

        if (!s->discovery || s->stopping)
                return;
        for (d = LIST_FIRST(&s->discovery->directories); d; d = next) {
                next = LIST_NEXT(d, in_list);
                if (!events_has_subscriber(s, subuid_owner(&s->subuids, d->uid)))
                        directory_free(d);
        }
        for (Peer *p = peer_next(s, NULL); p; p = peer_next(s, p))
                any = any || p->subscribed;
        if (!any) {
                s->discovery->root_inotify = sd_event_source_disable_unref(s->discovery->root_inotify);
                return;
        }
        if (!s->discovery->root_inotify &&
            sd_event_add_inotify(s->event, &s->discovery->root_inotify, s->config->runtime_dir,
                                 IN_CREATE | IN_MOVED_TO | IN_ONLYDIR, on_root, s) < 0)
                log_message(LOG_WARNING, "%s cannot be watched; VMMs that start are not announced",
                            s->config->runtime_dir);
        for (Peer *p = peer_next(s, NULL); p; p = peer_next(s, p)) {
                if (!p->subscribed)
                        continue;
                if (p->user->uid == 0)
                        watch_all(s);
                else
                        directory_watch(s, p->user->uid);
        }
}

static int send_known(KnownSocket *k, void *userdata) {
        Peer *peer = userdata;
        const char *path;

        /* a process that answers on two sockets is announced by the one it is listed under */
        if (events_may_see(peer, k->owner->uid) && discovery_is_announced(k->process, &path) &&
            strcmp(path, k->path) == 0)
                events_send_appeared(peer, k->process, k->owner->uid, k->path);
        return 0;
}

void discovery_send_snapshot(Peer *peer) {
        (void)discovery_for_each(peer->service, UID_NONE, send_known, peer);
}

int discovery_new(Service *s) {
        s->discovery = calloc(1, sizeof(Discovery));
        return s->discovery ? 0 : -ENOMEM;
}

void discovery_free(Service *s) {
        if (!s->discovery)
                return;
        sd_event_source_disable_unref(s->discovery->root_inotify);
        while (!LIST_EMPTY(&s->discovery->directories))
                directory_free(LIST_FIRST(&s->discovery->directories));
        while (!LIST_EMPTY(&s->discovery->scans))
                scan_free(LIST_FIRST(&s->discovery->scans));
        for (unsigned i = 0; i < BUCKETS; i++)
                while (!LIST_EMPTY(&s->discovery->buckets[i]))
                        known_free(LIST_FIRST(&s->discovery->buckets[i]));
        free(s->discovery);
        s->discovery = NULL;
}
