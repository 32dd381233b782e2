/* SPDX-License-Identifier: MIT */
/* Which VMMs there are.
 *
 * The directories are read on a worker; what they hold is looked at on the loop, pinned, like a path
 * from a caller. What users can make happen here (files appearing, one scan after the other) is
 * bounded for each of them. */

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

#define SCAN_PATIENCE_USEC (2500 * USEC_PER_MSEC)
#define LOOKS_PER_TURN 16
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
        bool running; /* with the worker, or still being looked at */
        size_t looked;
        sd_event_source *look;
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
        LIST_HEAD(, Scan) scans;
        LIST_HEAD(, UidDirectory) directories;
        sd_event_source *root_inotify;
};

/* Looks at path, and has it asked if it is a listening socket that has not been. */
static SocketState consider(Service *s, const char *path) {
        _cleanup_target_ Target t = TARGET_NONE;
        Failure f;

        if (target_look(s, path, UID_NONE, &t, &f) < 0 || t.socket.refusal.kind || !t.socket.agrees)
                return SOCKET_ABSENT;
        if (t.socket.state == SOCKET_LISTENING)
                known_ask(s, path, &t.socket, t.process);
        return t.socket.state;
}

/* --- looking through the directories --- */

static void scan_free(Scan *scan) {
        ScanWaiter *w;

        LIST_REMOVE(scan, in_list);
        sd_event_source_disable_unref(scan->deadline);
        sd_event_source_disable_unref(scan->look);
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

static void on_answer(Service *s, KnownSocket *vmm) {
        Scan *scan, *next;

        if (!s->discovery || s->stopping)
                return;
        if (vmm)
                events_process_appeared(s, vmm->process, vmm->owner->uid, vmm->path);
        for (scan = LIST_FIRST(&s->discovery->scans); scan; scan = next) {
                next = LIST_NEXT(scan, in_list);
                if (!scan->running && !known_is_asking(scan->service, scan->uid))
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

/* A few at a time: between them others are served. */
static int on_look(sd_event_source *source, void *userdata) {
        Scan *scan = userdata;
        Service *s = scan->service;

        for (unsigned n = 0; n < LOOKS_PER_TURN && scan->looked < scan->result.n; n++)
                (void)consider(s, scan->result.paths[scan->looked++]);
        if (scan->looked < scan->result.n)
                return 0;
        scan->look = sd_event_source_disable_unref(scan->look);
        scan_result_clear(&scan->result);
        scan->running = false;
        if (!known_is_asking(s, scan->uid) ||
            sd_event_add_time_relative(s->event, &scan->deadline, CLOCK_MONOTONIC,
                                       SCAN_PATIENCE_USEC, 0, on_scan_deadline, scan) < 0)
                scan_finish(scan);
        return 0;
}

static void scan_job_done(Job *job) {
        Scan *scan = (Scan *)job;
        int r;

        if (scan->result.cut)
                log_message(LOG_WARNING,
                            "More sockets below the roots than are looked at (%d, and %d in a directory)",
                            SCAN_PATHS_MAX, SCAN_SOCKETS_MAX);
        scan_plan_clear(&scan->plan);
        r = sd_event_add_defer(scan->service->event, &scan->look, on_look, scan);
        if (r >= 0)
                r = sd_event_source_set_enabled(scan->look, SD_EVENT_ON);
        if (r < 0)
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

        if (event->mask & IN_Q_OVERFLOW) {
                discovery_follow_subscribers(s);
                (void)discovery_scan(s, UID_NONE, NULL, NULL);
                return 0;
        }
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
        if (events_may_see(peer, k->owner->uid) && known_vmm_path(k->process, &path) &&
            strcmp(path, k->path) == 0)
                events_send_appeared(peer, k->process, k->owner->uid, k->path);
        return 0;
}

void discovery_send_snapshot(Peer *peer) {
        (void)known_vmms_for_each(peer->service, UID_NONE, send_known, peer);
}

int discovery_new(Service *s) {
        s->discovery = calloc(1, sizeof(Discovery));
        return s->discovery ? known_new(s, on_answer) : -ENOMEM;
}

void discovery_free(Service *s) {
        if (!s->discovery)
                return;
        sd_event_source_disable_unref(s->discovery->root_inotify);
        while (!LIST_EMPTY(&s->discovery->directories))
                directory_free(LIST_FIRST(&s->discovery->directories));
        while (!LIST_EMPTY(&s->discovery->scans))
                scan_free(LIST_FIRST(&s->discovery->scans));
        known_free_all(s);
        free(s->discovery);
        s->discovery = NULL;
}
