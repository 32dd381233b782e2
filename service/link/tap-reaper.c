/* SPDX-License-Identifier: MIT */
/* The queue of taps that wait for their delete. While a batch is under way the next one gathers:
 * under load batches are full, and a single delete starts at once. */

#include <errno.h>
#include <sys/queue.h>

#include "base/log.h"
#include "base/worker.h"
#include "common/cleanup.h"
#include "link/tap-reaper.h"
#include "link/tap.h"

typedef struct Waiter {
        TapReapedFunction function;
        void *userdata;
        STAILQ_ENTRY(Waiter) in_entry;
} Waiter;

typedef struct Entry {
        int ifindex;
        STAILQ_HEAD(, Waiter) waiters;
        STAILQ_ENTRY(Entry) in_queue;
} Entry;

STAILQ_HEAD(EntryQueue, Entry);

typedef struct Batch {
        Job job; /* first */
        TapReaper *reaper;
        int ifindexes[TAP_BATCH_MAX];
        size_t n;
        struct EntryQueue entries;
        int result;
        Failure failure;
} Batch;

struct TapReaper {
        Worker *worker;
        TapBatchFunction on_batch;
        void *userdata;
        struct EntryQueue waiting;
        bool busy;
        Batch batch; /* one at a time */
};

static void start_batch(TapReaper *reaper);

static void entry_finish(Entry *e, const Failure *failure) {
        Waiter *w;

        while ((w = STAILQ_FIRST(&e->waiters))) {
                STAILQ_REMOVE_HEAD(&e->waiters, in_entry);
                if (w->function)
                        w->function(failure, w->userdata);
                free(w);
        }
        free(e);
}

static void batch_run(Job *job, void *context) {
        Batch *b = (Batch *)job;
        Netlink *nl = context;

        b->result = nl ? taps_delete(nl, b->ifindexes, b->n, &b->failure)
                       : failure_kernel(&b->failure, job->no_context, NULL,
                                        "Opening a netlink socket");
}

static void batch_done(Job *job) {
        Batch *b = (Batch *)job;
        TapReaper *reaper = b->reaper;
        struct EntryQueue entries = STAILQ_HEAD_INITIALIZER(entries);
        Entry *e;

        if (b->result < 0)
                log_message(LOG_WARNING, "%s", b->failure.text);
        reaper->busy = false;
        STAILQ_CONCAT(&entries, &b->entries);
        /* the loop's picture of the links first, then those who waited */
        reaper->on_batch(b->result < 0, reaper->userdata);
        while ((e = STAILQ_FIRST(&entries))) {
                STAILQ_REMOVE_HEAD(&entries, in_queue);
                entry_finish(e, b->result < 0 ? &b->failure : NULL);
        }
        if (!reaper->busy)
                start_batch(reaper);
}

static void start_batch(TapReaper *reaper) {
        Batch *b = &reaper->batch;
        Entry *e;

        if (reaper->busy || STAILQ_EMPTY(&reaper->waiting))
                return;
        *b = (Batch){.job = {.run = batch_run, .done = batch_done}, .reaper = reaper};
        STAILQ_INIT(&b->entries);
        while (b->n < TAP_BATCH_MAX && (e = STAILQ_FIRST(&reaper->waiting))) {
                STAILQ_REMOVE_HEAD(&reaper->waiting, in_queue);
                STAILQ_INSERT_TAIL(&b->entries, e, in_queue);
                b->ifindexes[b->n++] = e->ifindex;
        }
        reaper->busy = true;
        worker_submit(reaper->worker, &b->job);
}

static Entry *find_entry(struct EntryQueue *queue, int ifindex) {
        Entry *e;

        STAILQ_FOREACH(e, queue, in_queue)
                if (e->ifindex == ifindex)
                        return e;
        return NULL;
}

int tap_reaper_add(TapReaper *reaper, int ifindex, TapReapedFunction function, void *userdata) {
        Entry *e = find_entry(&reaper->waiting, ifindex);
        Waiter *w;

        if (!e && reaper->busy)
                e = find_entry(&reaper->batch.entries, ifindex);
        if (e && !function)
                return 0;
        w = calloc(1, sizeof(*w));
        if (!w)
                return -ENOMEM;
        *w = (Waiter){.function = function, .userdata = userdata};
        if (!e) {
                e = calloc(1, sizeof(*e));
                if (!e) {
                        free(w);
                        return -ENOMEM;
                }
                e->ifindex = ifindex;
                STAILQ_INIT(&e->waiters);
                STAILQ_INSERT_TAIL(&reaper->waiting, e, in_queue);
        }
        STAILQ_INSERT_TAIL(&e->waiters, w, in_entry);
        start_batch(reaper);
        return 0;
}

int tap_reaper_new(sd_event *event, TapBatchFunction on_batch, void *userdata, TapReaper **ret) {
        TapReaper *reaper = calloc(1, sizeof(*reaper));
        int r;

        if (!reaper)
                return -ENOMEM;
        STAILQ_INIT(&reaper->waiting);
        STAILQ_INIT(&reaper->batch.entries);
        reaper->on_batch = on_batch;
        reaper->userdata = userdata;
        r = worker_new(event, "tap-reaper", &netlink_context, &reaper->worker);
        if (r < 0) {
                free(reaper);
                return r;
        }
        *ret = reaper;
        return 0;
}

static void free_entries(struct EntryQueue *queue) {
        Entry *e;

        while ((e = STAILQ_FIRST(queue))) {
                Waiter *w;

                STAILQ_REMOVE_HEAD(queue, in_queue);
                while ((w = STAILQ_FIRST(&e->waiters))) {
                        STAILQ_REMOVE_HEAD(&e->waiters, in_entry);
                        free(w);
                }
                free(e);
        }
}

void tap_reaper_free(TapReaper *reaper) {
        if (!reaper)
                return;
        worker_free(reaper->worker);
        free_entries(&reaper->waiting);
        free_entries(&reaper->batch.entries);
        free(reaper);
}
