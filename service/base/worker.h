/* SPDX-License-Identifier: MIT */
#pragma once

/* A thread for what blocks: writing links, reading files that need NSS. Jobs run one after the
 * other; users take turns, and each user's are in order. Each comes back to the event loop. */

#include <pthread.h>
#include <sys/queue.h>
#include <systemd/sd-event.h>

typedef struct Job Job;

/* run is called on the worker, with the worker's context (NULL where it could not be opened, or where
 * it has none); done on the event loop, where the job may be freed. */
struct Job {
        void (*run)(Job *job, void *context);
        void (*done)(Job *job);
        void (*drop)(Job *job); /* at the end of the service, instead of done; may be NULL */
        uid_t user;             /* whose turn it takes */
        int no_context;         /* -errno: why the worker could not open its context */
        uint64_t turn;          /* the worker's */
        STAILQ_ENTRY(Job) in_queue;
};

typedef struct Worker Worker;

/* What a worker opens for its jobs, on its thread. -errno: it could not; it is tried again with the
 * next job. */
typedef struct WorkerContext {
        int (*open)(void **ret);
        void (*close)(void *context);
} WorkerContext;

/* context may be NULL, and is a constant. */
int worker_new(sd_event *event, const char *name, const WorkerContext *context, Worker **ret);
/* Waits for the job that runs; those that have not begun, and those not yet done, are dropped. */
void worker_free(Worker *worker);
void worker_submit(Worker *worker, Job *job);
