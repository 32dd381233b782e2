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

#include "base/config.h"
#include "base/dir-watch.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/worker.h"
#include "bus/bus-pump.h"
#include "bus/events.h"
#include "common/cleanup.h"
#include "common/failure.h"
#include "common/validate.h"
#include "vm/scan.h"
#include "watch/discovery.h"
#include "watch/target.h"

#define ANSWER_PATIENCE_USEC (200 * USEC_PER_MSEC) /* after the last answer */
#define SCAN_PATIENCE_USEC USEC_PER_SEC            /* in all */
#define LOOKS_PER_TURN 16
#define CANDIDATES_MAX 64
#define PAUSE_USEC (2 * USEC_PER_MSEC) /* until it is looked whether the bus has caught up */
#define LATER_USEC (250 * USEC_PER_MSEC)

typedef struct ScanWaiter {
        ScannedFunction function;
        void *userdata;
        STAILQ_ENTRY(ScanWaiter) in_scan;
} ScanWaiter;

STAILQ_HEAD(ScanWaiters, ScanWaiter);

typedef struct Scan {
        Job job; /* first */
        Service *service;
        ScanPlan plan;
        ScanResult result;
        Failure failure;
        uid_t uid;
        bool with_worker, looking; /* neither: the answers are waited for */
        size_t looked;
        uint64_t end;
        bool telling; /* it is over, and its waiters are told */
        sd_event_source *slices;
        sd_event_source *deadline;
        struct ScanWaiters waiters, next_waiters;
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
        DirWatch *watch;
        sd_event_source *later;
        unsigned n_candidates;
        LIST_HEAD(, Candidate) candidates;
        LIST_ENTRY(UidDirectory) in_list;
} UidDirectory;

struct Discovery {
        LIST_HEAD(, Scan) scans;
        LIST_HEAD(, UidDirectory) directories;
        DirWatch *root_watch;
};

/* Looks at path, and has it asked if it is a listening socket that has not been. What known_ask() or
 * the look came to, where it could not be finished: a negative errno, or -EIO with f. */
static int consider(Service *s, const char *path, SocketState *ret_state, uid_t *ret_owner,
                    Failure *f) {
        _cleanup_target_ Target t = TARGET_NONE;
        int r;

        *ret_state = SOCKET_ABSENT;
        r = target_look(s, path, UID_NONE, &t, f);
        if (r == -FAILURE_ACCESS_DENIED) /* below no root any more */
                return 0;
        if (r < 0)
                return -EIO;
        if (t.socket.refusal.kind || !t.socket.agrees)
                return 0;
        *ret_state = t.socket.state;
        *ret_owner = t.socket.owner;
        return t.socket.state == SOCKET_LISTENING ? known_ask(s, path, &t.socket, t.process) : 0;
}

/* --- looking through the directories --- */

static void waiters_free(struct ScanWaiters *waiters) {
        ScanWaiter *w;

        while ((w = STAILQ_FIRST(waiters))) {
                STAILQ_REMOVE_HEAD(waiters, in_scan);
                free(w);
        }
}

static void scan_free(Scan *scan) {
        LIST_REMOVE(scan, in_list);
        sd_event_source_disable_unref(scan->deadline);
        sd_event_source_disable_unref(scan->slices);
        scan_plan_clear(&scan->plan);
        scan_result_clear(&scan->result);
        waiters_free(&scan->waiters);
        waiters_free(&scan->next_waiters);
        free(scan);
}

static int scan_start(Service *s, uid_t uid, struct ScanWaiters *waiters);

static void tell_next(Scan *scan) {
        ScanWaiter *w = STAILQ_FIRST(&scan->waiters);

        STAILQ_REMOVE_HEAD(&scan->waiters, in_scan);
        if (w->function)
                w->function(&(Scanned){.failure = scan->failure.kind ? &scan->failure : NULL,
                                       .cuts = scan->result.cuts,
                                       .n_cuts = scan->result.n_cuts},
                            w->userdata);
        free(w);
}

/* A list is a long answer: one a turn, and none while the bus is slow to take them. */
static int tell(Scan *scan) {
        if (!STAILQ_EMPTY(&scan->waiters) && !bus_pump_is_behind(scan->service->pump))
                tell_next(scan);
        if (STAILQ_EMPTY(&scan->waiters)) {
                scan_free(scan);
                return 0;
        }
        return loop_set_timer(scan->deadline,
                              bus_pump_is_behind(scan->service->pump) ? PAUSE_USEC : 0);
}

/* Everything is known; those who came meanwhile get a look of their own. */
static void scan_finish(Scan *scan) {
        struct ScanWaiters next = STAILQ_HEAD_INITIALIZER(next);
        Service *s = scan->service;

        scan->telling = true;
        STAILQ_CONCAT(&next, &scan->next_waiters);
        if (!STAILQ_EMPTY(&next) && scan_start(s, scan->uid, &next) < 0) {
                (void)failure_oom(&scan->failure); /* theirs, and nobody is told what is not true */
                STAILQ_CONCAT(&scan->waiters, &next);
        }
        (void)sd_event_source_set_priority(scan->deadline, PRIORITY_TURNS);
        if (loop_set_timer(scan->deadline, 0) < 0) {
                while (!STAILQ_EMPTY(&scan->waiters))
                        tell_next(scan);
                scan_free(scan);
        }
}

static int on_scan_deadline(sd_event_source *source, uint64_t usec, void *userdata) {
        Scan *scan = userdata;

        if (scan->telling)
                return tell(scan);
        scan_finish(scan);
        return 0;
}

/* Everything was looked at. Waits a little for those that were asked what they are. */
static void await_answers(Scan *scan) {
        Service *s = scan->service;
        uint64_t now = loop_now(), patience;

        if (!known_is_asking(s, scan->uid) || now >= scan->end) {
                scan_finish(scan);
                return;
        }
        patience = MIN_OF(ANSWER_PATIENCE_USEC, scan->end - now);
        if (loop_set_timer(scan->deadline, patience) < 0)
                scan_finish(scan);
}

static void on_answer(Service *s, KnownSocket *vmm) {
        Scan *scan, *next;

        if (!s->discovery || s->stopping)
                return;
        if (vmm)
                events_process_appeared(s, vmm->process, vmm->owner->uid, vmm->path);
        for (scan = LIST_FIRST(&s->discovery->scans); scan; scan = next) {
                next = LIST_NEXT(scan, in_list);
                if (!scan->with_worker && !scan->looking && !scan->telling)
                        await_answers(scan);
        }
}

static void scan_job_run(Job *job, void *context) {
        Scan *scan = (Scan *)job;

        scan_run(&scan->plan, &scan->result);
}

static void look_at_next(Scan *scan) {
        char *path = scan->result.paths[scan->looked++], *slash = strrchr(path, '/');
        SocketState state;
        uid_t owner = UID_NONE;
        Failure f;
        int r = consider(scan->service, path, &state, &owner, &f);

        if (r == -ENOBUFS) { /* its owner has too many: that concerns its owner alone */
                *slash = '\0';
                r = scan_add_cut(&scan->result, path, owner);
        }
        if (r == -EIO)
                scan->failure = f;
        else if (r < 0)
                (void)failure_kernel(&scan->failure, r, NULL, "Looking at %s", path);
}

/* A few at a time: between them others are served. */
static int on_slice(sd_event_source *source, uint64_t usec, void *userdata) {
        Scan *scan = userdata;
        uint64_t end = loop_now() + TURN_USEC;

        for (unsigned n = 0; n < LOOKS_PER_TURN && scan->looked < scan->result.n; n++) {
                look_at_next(scan);
                if (loop_now() > end)
                        break;
        }
        if (scan->looked < scan->result.n)
                return loop_slice_again(scan->slices);
        scan->looking = false;
        scan->end = loop_now() + SCAN_PATIENCE_USEC;
        await_answers(scan);
        return 0;
}

static void scan_job_done(Job *job) {
        Scan *scan = (Scan *)job;

        scan->with_worker = false;
        scan->looking = true;
        if (scan->result.error < 0)
                (void)failure_kernel(&scan->failure, scan->result.error, NULL,
                                     "Looking through the directories of sockets");
        if (loop_slice_again(scan->slices) < 0)
                scan_finish(scan);
}

/* Takes the waiters over where it succeeds. */
static int scan_start(Service *s, uid_t uid, struct ScanWaiters *waiters) {
        Scan *scan = calloc(1, sizeof(*scan));

        if (!scan)
                return -ENOMEM;
        if (scan_plan(s->config, &s->subuids, uid, &scan->plan) < 0 ||
            loop_add_slices(s->event, &scan->slices, on_slice, scan) < 0 ||
            loop_add_timer(s->event, &scan->deadline, USEC_PER_SEC, on_scan_deadline, scan) < 0) {
                sd_event_source_disable_unref(scan->slices);
                scan_plan_clear(&scan->plan);
                free(scan);
                return -ENOMEM;
        }
        (void)sd_event_source_set_enabled(scan->deadline, SD_EVENT_OFF);
        scan->job = (Job){.run = scan_job_run,
                          .done = scan_job_done,
                          .user = uid == UID_NONE ? 0 : uid}; /* at the end discovery_free() frees it */
        scan->service = s;
        scan->uid = uid;
        STAILQ_INIT(&scan->waiters);
        STAILQ_INIT(&scan->next_waiters);
        STAILQ_CONCAT(&scan->waiters, waiters);
        LIST_INSERT_HEAD(&s->discovery->scans, scan, in_list);
        scan->with_worker = true;
        worker_submit(s->file_worker, &scan->job);
        return 0;
}

int discovery_scan(Service *s, uid_t uid, ScannedFunction function, void *userdata) {
        struct ScanWaiters waiters = STAILQ_HEAD_INITIALIZER(waiters);
        ScanWaiter *w = calloc(1, sizeof(*w));
        Scan *scan;
        int r = 0;

        if (!w)
                return -ENOMEM;
        *w = (ScanWaiter){.function = function, .userdata = userdata};
        LIST_FOREACH(scan, &s->discovery->scans, in_list)
                if (scan->uid == uid && !scan->telling)
                        break;
        if (scan)
                STAILQ_INSERT_TAIL(&scan->next_waiters, w, in_scan);
        else {
                STAILQ_INSERT_TAIL(&waiters, w, in_scan);
                r = scan_start(s, uid, &waiters);
                if (r < 0)
                        free(w);
        }
        return r;
}

/* --- watching directories for subscribers --- */

static void candidate_free(Candidate *c) {
        LIST_REMOVE(c, in_directory);
        c->directory->n_candidates--;
        sd_event_source_disable_unref(c->timer);
        free(c->path);
        free(c);
}

static void look_through_later(UidDirectory *d);

static int on_candidate(sd_event_source *source, uint64_t usec, void *userdata) {
        Candidate *c = userdata;
        uint64_t wait = MIN_OF(USEC_PER_MSEC << MIN_OF(c->looks, 6U), 50 * USEC_PER_MSEC);
        SocketState state;
        uid_t owner;
        Failure f;

        if (consider(c->directory->service, c->path, &state, &owner, &f) < 0) {
                look_through_later(c->directory);
                candidate_free(c);
        } else if (state != SOCKET_NOT_LISTENING || c->looks > 24 ||
                   loop_set_timer(c->timer, wait) < 0)
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
                (void)loop_add_timer(d->service->event, &d->later, LATER_USEC, on_later, d);
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
        if (loop_add_timer(d->service->event, &c->timer, 0, on_candidate, c) < 0 ||
            sd_event_source_set_priority(c->timer, PRIORITY_TURNS) < 0) /* one's own files */
                candidate_free(c);
}

static void directory_arm(UidDirectory *d);

static void on_directory(const char *name, void *userdata) {
        UidDirectory *d = userdata;

        if (name) {
                add_candidate(d, name);
                return;
        }
        d->watch = dir_watch_free(d->watch);
        directory_arm(d); /* where it is gone on_root() sees it come back */
        look_through_later(d);
}

static void directory_arm(UidDirectory *d) {
        _cleanup_close_ int root = -1, fd = -1;
        char name[16];

        if (d->watch)
                return;
        root = open(d->service->config->runtime_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        (void)snprintf(name, sizeof(name), "%u", d->uid);
        fd = root < 0 ? -1 : kernel.open_beneath(root, name);
        if (fd >= 0)
                (void)dir_watch_new(d->service->dirs, fd, on_directory, d, &d->watch);
}

static void directory_free(UidDirectory *d) {
        while (!LIST_EMPTY(&d->candidates))
                candidate_free(LIST_FIRST(&d->candidates));
        dir_watch_free(d->watch);
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

static void on_root(const char *name, void *userdata) {
        Service *s = userdata;
        UidDirectory *d;
        uint64_t uid;

        if (!name) {
                s->discovery->root_watch = dir_watch_free(s->discovery->root_watch);
                discovery_follow_subscribers(s);
                (void)discovery_scan(s, UID_NONE, NULL, NULL);
                return;
        }
        if (!number_parse(name, INT32_MAX, &uid) ||
            !events_has_subscriber(s, subuid_owner(&s->subuids, (uid_t)uid)))
                return;
        LIST_FOREACH(d, &s->discovery->directories, in_list)
                if (d->uid == uid) /* that was another directory of this name */
                        d->watch = dir_watch_free(d->watch);
        directory_watch(s, (uid_t)uid);
        /* what was put there before the watch was */
        (void)discovery_scan(s, subuid_owner(&s->subuids, (uid_t)uid), NULL, NULL);
}

static int watch_root(Service *s) {
        _cleanup_close_ int fd = -1;

        if (s->discovery->root_watch)
                return 0;
        fd = open(s->config->runtime_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? -errno : dir_watch_new(s->dirs, fd, on_root, s, &s->discovery->root_watch);
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
        known_roots_changed(s);
        s->discovery->root_watch = dir_watch_free(s->discovery->root_watch);
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
                s->discovery->root_watch = dir_watch_free(s->discovery->root_watch);
                return;
        }
        if (watch_root(s) < 0)
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

static int send_known(KnownSocket *k, bool answered, void *userdata) {
        Peer *peer = userdata;

        if (answered && events_may_see(peer, k->owner->uid))
                events_send_appeared(peer, k->process, k->owner->uid, k->path);
        return 0;
}

void discovery_send_snapshot(Peer *peer) {
        (void)known_for_each_process(peer->service, UID_NONE, send_known, peer);
}

int discovery_new(Service *s) {
        s->discovery = calloc(1, sizeof(Discovery));
        return s->discovery ? known_new(s, on_answer) : -ENOMEM;
}

void discovery_free(Service *s) {
        if (!s->discovery)
                return;
        dir_watch_free(s->discovery->root_watch);
        while (!LIST_EMPTY(&s->discovery->directories))
                directory_free(LIST_FIRST(&s->discovery->directories));
        while (!LIST_EMPTY(&s->discovery->scans))
                scan_free(LIST_FIRST(&s->discovery->scans));
        known_free_all(s);
        free(s->discovery);
        s->discovery = NULL;
}
