/* SPDX-License-Identifier: MIT */
/* One thread, two queues, an eventfd back. Nothing of the service's state is touched on the
 * thread: a job carries copies of what it needs. */

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "base/loop.h"
#include "base/worker.h"
#include "common/cleanup.h"

STAILQ_HEAD(JobQueue, Job);

struct Worker {
        const WorkerContext *context;
        pthread_t thread;
        bool started, stopping;
        pthread_mutex_t lock;
        pthread_cond_t wake;
        struct JobQueue waiting, finished; /* under the lock; waiting in the order of turns */
        uint64_t turn;                     /* of the job that was begun last */
        int done_fd;
        sd_event_source *source;
};

static void *worker_main(void *userdata) {
        Worker *w = userdata;
        void *context = NULL;

        (void)pthread_mutex_lock(&w->lock);
        while (!w->stopping) {
                Job *job = STAILQ_FIRST(&w->waiting);

                if (!job) {
                        (void)pthread_cond_wait(&w->wake, &w->lock);
                        continue;
                }
                STAILQ_REMOVE_HEAD(&w->waiting, in_queue);
                w->turn = job->turn;
                (void)pthread_mutex_unlock(&w->lock);
                if (!context && w->context)
                        job->no_context = w->context->open(&context);
                job->run(job, context);
                (void)pthread_mutex_lock(&w->lock);
                STAILQ_INSERT_TAIL(&w->finished, job, in_queue);
                (void)eventfd_write(w->done_fd, 1);
        }
        (void)pthread_mutex_unlock(&w->lock);
        if (context)
                w->context->close(context);
        return NULL;
}

static int on_done(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Worker *w = userdata;
        struct JobQueue finished = STAILQ_HEAD_INITIALIZER(finished);
        eventfd_t count;
        Job *job;

        (void)eventfd_read(fd, &count);
        (void)pthread_mutex_lock(&w->lock);
        STAILQ_CONCAT(&finished, &w->finished);
        (void)pthread_mutex_unlock(&w->lock);
        while ((job = STAILQ_FIRST(&finished))) {
                STAILQ_REMOVE_HEAD(&finished, in_queue);
                job->done(job);
        }
        return 0;
}

int worker_new(sd_event *event, const char *name, const WorkerContext *context, Worker **ret) {
        Worker *w = calloc(1, sizeof(*w));
        sigset_t all, before;
        int r;

        if (!w)
                return -ENOMEM;
        w->context = context;
        STAILQ_INIT(&w->waiting);
        STAILQ_INIT(&w->finished);
        (void)pthread_mutex_init(&w->lock, NULL);
        (void)pthread_cond_init(&w->wake, NULL);
        w->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        r = w->done_fd < 0 ? -errno
                           : sd_event_add_io(event, &w->source, w->done_fd, EPOLLIN, on_done, w);
        if (r >= 0)
                r = sd_event_source_set_priority(w->source, PRIORITY_OWED);
        if (r >= 0) {
                /* signals are the loop's */
                (void)sigfillset(&all);
                (void)pthread_sigmask(SIG_BLOCK, &all, &before);
                r = -pthread_create(&w->thread, NULL, worker_main, w);
                (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
                w->started = r == 0;
        }
        if (r < 0) {
                worker_free(w);
                return r;
        }
        (void)pthread_setname_np(w->thread, name);
        *ret = w;
        return 0;
}

static void drop_all(struct JobQueue *queue) {
        Job *job;

        while ((job = STAILQ_FIRST(queue))) {
                STAILQ_REMOVE_HEAD(queue, in_queue);
                if (job->drop)
                        job->drop(job);
        }
}

void worker_free(Worker *w) {
        if (!w)
                return;
        if (w->started) {
                (void)pthread_mutex_lock(&w->lock);
                w->stopping = true;
                (void)pthread_cond_signal(&w->wake);
                (void)pthread_mutex_unlock(&w->lock);
                (void)pthread_join(w->thread, NULL);
        }
        sd_event_source_disable_unref(w->source);
        drop_all(&w->waiting);
        drop_all(&w->finished);
        (void)close_fd(w->done_fd);
        (void)pthread_cond_destroy(&w->wake);
        (void)pthread_mutex_destroy(&w->lock);
        free(w);
}

/* A user's first job is of the present turn, each further one of the turn after the one before. */
static void insert(Worker *w, Job *job) {
        Job *other, *before = NULL;

        job->turn = w->turn;
        STAILQ_FOREACH(other, &w->waiting, in_queue)
                if (other->user == job->user)
                        job->turn = other->turn + 1;
        STAILQ_FOREACH(other, &w->waiting, in_queue)
                if (other->turn <= job->turn)
                        before = other;
        if (before)
                STAILQ_INSERT_AFTER(&w->waiting, before, job, in_queue);
        else
                STAILQ_INSERT_HEAD(&w->waiting, job, in_queue);
}

void worker_submit(Worker *w, Job *job) {
        (void)pthread_mutex_lock(&w->lock);
        insert(w, job);
        (void)pthread_cond_signal(&w->wake);
        (void)pthread_mutex_unlock(&w->lock);
}
