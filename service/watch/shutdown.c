/* SPDX-License-Identifier: MIT */
/* Ending a VMM with patience.
 *
 *      describe ──> running ──> Ctrl-Alt-Del ──204, queue full──> wait ──exit──> "ctrl-alt-del"
 *         │            ^             │ busy, unreachable: again       │ grace over
 *         │            └─────────────┘                                v
 *         ├── not started, refused, grace over ────────────────────> SIGKILL ──exit──> "killed"
 *         └── paused without force ──> VmmRefused                        └── 10 s: WaitForExitTimeout
 *
 * A paused VMM takes the request and does nothing until it is resumed, hence the question first. With
 * force it is asked as any other: whoever resumes it within the grace lets its guest shut down. */

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/log.h"
#include "base/loop.h"
#include "bus/errors.h"
#include "common/cleanup.h"
#include "common/failure.h"
#include "vm/process.h"
#include "watch/shutdown.h"
#include "watch/wait.h"

#define AGAIN_USEC (100 * USEC_PER_MSEC) /* at first, then twice as long each time */
#define AGAIN_MAX_USEC (2 * USEC_PER_SEC)
#define REQUESTS_PER_USER 16U
#define KILL_PATIENCE_USEC (10 * USEC_PER_SEC)

typedef struct Shutdown {
        Watch watch; /* first */
        Service *service;
        User *user;
        sd_bus_message *message;
        char *path;
        int socket_fd;
        bool force, asked, killed;
        uid_t expected_uid;
        uint64_t grace_usec, pause_usec;
        VmmRequest *request;
        sd_event_source *deadline, *again;
        LIST_ENTRY(Shutdown) in_list;
} Shutdown;

static LIST_HEAD(, Shutdown) shutdowns = LIST_HEAD_INITIALIZER(shutdowns);

static void try_now(Shutdown *d);

static void shutdown_free(Shutdown *d) {
        LIST_REMOVE(d, in_list);
        process_remove_watch(&d->watch);
        vmm_request_cancel(d->request);
        sd_event_source_disable_unref(d->deadline);
        sd_event_source_disable_unref(d->again);
        user_end_wait(d->service, d->user);
        user_unref(d->user);
        sd_bus_message_unref(d->message);
        (void)close_fd(d->socket_fd);
        free(d->path);
        free(d);
}

void shutdown_free_all(Service *s) {
        while (!LIST_EMPTY(&shutdowns))
                shutdown_free(LIST_FIRST(&shutdowns));
}

static void fail(Shutdown *d, const Failure *f) {
        log_action(LOG_OTHER, "Shutdown", d->user->uid, d->path, errors_name(f->kind), f->text);
        (void)errors_reply(d->message, f);
        shutdown_free(d);
}

static void on_exit_of_process(Watch *watch) {
        Shutdown *d = (Shutdown *)watch;
        const ProcessExit *e = &watch->process->exit;
        const char *how = d->killed ? "killed" : d->asked ? "ctrl-alt-del" : "already-gone";
        char ended[80], text[100];

        (void)sd_bus_reply_method_return(d->message, "ssi", how, exit_cause_name(e->cause),
                                         e->status);
        process_exit_describe(e, ended, sizeof(ended));
        (void)snprintf(text, sizeof(text), "%s, %s", how, ended);
        log_action(LOG_DEED, "Shutdown", d->user->uid, d->path, "done", text);
        shutdown_free(d);
}

static int on_never_died(sd_event_source *source, uint64_t usec, void *userdata) {
        Shutdown *d = userdata;
        Failure f;

        (void)failure_set(&f, FAILURE_WAIT_FOR_EXIT_TIMEOUT,
                          "Process %d behind %s was sent SIGKILL 10 s ago and has not ended; it may hang in the kernel "
                          "(see /proc/%d/stack)",
                          d->watch.process->pid, d->path, d->watch.process->pid);
        fail(d, &f);
        return 0;
}

static void kill_now(Shutdown *d) {
        Failure f;
        uid_t uid;
        int r;

        if (d->killed)
                return;
        vmm_request_cancel(TAKE_PTR(d->request));
        d->again = sd_event_source_disable_unref(d->again);
        d->deadline = sd_event_source_disable_unref(d->deadline);
        /* it may have become somebody else's by exec of a set-uid program since it was looked at */
        r = process_read_uid(d->watch.process, &uid);
        if (r != -ESRCH && (r < 0 || uid != d->expected_uid)) {
                (void)failure_set(&f, FAILURE_ACCESS_DENIED,
                                  "Process %d may be another user's meanwhile and was not killed; look again",
                                  d->watch.process->pid);
                fail(d, &f);
                return;
        }
        d->killed = process_kill(d->watch.process, &f) >= 0;
        if (!d->killed && f.kind != FAILURE_NO_SUCH_PROCESS) {
                fail(d, &f);
                return;
        }
        (void)loop_add_timer(d->service->event, &d->deadline, KILL_PATIENCE_USEC, on_never_died, d);
}

static int on_grace_over(sd_event_source *source, uint64_t usec, void *userdata) {
        kill_now(userdata);
        return 0;
}

static int on_again(sd_event_source *source, uint64_t usec, void *userdata) {
        Shutdown *d = userdata;

        d->again = sd_event_source_disable_unref(d->again);
        try_now(d);
        return 0;
}

/* Where memory is out a guest is not killed for it: the end of the grace is armed already. */
static void try_again(Shutdown *d) {
        uint64_t pause = d->pause_usec;
        Failure f;

        d->pause_usec = MIN_OF(2 * pause, AGAIN_MAX_USEC);
        if (d->grace_usec == 0)
                kill_now(d);
        else if (loop_add_timer(d->service->event, &d->again, pause, on_again, d) < 0 &&
                 !d->deadline) {
                (void)failure_oom(&f);
                fail(d, &f);
        }
}

static void on_ctrl_alt_del(const VmmAnswer *answer, void *userdata) {
        Shutdown *d = userdata;

        d->request = NULL;
        if (answer->kind == VMM_DONE || answer->queue_full) {
                d->asked = true;
                if (d->grace_usec == 0)
                        kill_now(d);
        } else if (answer->kind == VMM_REFUSED)
                kill_now(d);
        else
                try_again(d);
}

static void on_described(const VmmAnswer *answer, void *userdata) {
        Shutdown *d = userdata;
        Failure f;

        d->request = NULL;
        if (answer->kind == VMM_DONE && answer->state == VMM_PAUSED && !d->force) {
                (void)failure_set(&f, FAILURE_VMM_REFUSED,
                                  "The VMM behind %s is paused and would not see Ctrl-Alt-Del; resume it "
                                  "(PATCH /vm {\"state\":\"Resumed\"})",
                                  d->path);
                fail(d, &f);
                return;
        }
        if (answer->kind == VMM_DONE && answer->state == VMM_NOT_STARTED) {
                kill_now(d);
                return;
        }
        if (answer->kind == VMM_BUSY || answer->kind == VMM_UNREACHABLE) {
                try_again(d);
                return;
        }
        if (vmm_send_ctrl_alt_del(d->service->http, d->socket_fd, d->watch.process, on_ctrl_alt_del,
                                  d, &d->request) < 0)
                try_again(d);
}

/* How many of the user's VMMs are being spoken to. */
static unsigned requests_of(const User *user) {
        unsigned n = 0;
        Shutdown *d;

        LIST_FOREACH(d, &shutdowns, in_list)
                n += d->user == user && d->request;
        return n;
}

static void try_now(Shutdown *d) {
        if (d->grace_usec > 0 && requests_of(d->user) >= REQUESTS_PER_USER) {
                try_again(d);
                return;
        }
        if (vmm_describe(d->service->http, d->socket_fd, d->watch.process, on_described, d,
                         &d->request) < 0)
                try_again(d);
}

int shutdown_start(Call *call, const char *path, const Target *t, uint64_t grace_usec, bool force,
                   Failure *f) {
        Shutdown *d = calloc(1, sizeof(*d));

        if (!d)
                return failure_oom(f);
        d->path = strdup(path);
        d->socket_fd = fcntl(t->socket.fd, F_DUPFD_CLOEXEC, 3);
        if (!d->path || d->socket_fd < 0 ||
            (grace_usec > 0 && grace_usec < USEC_FOREVER / 2 &&
             loop_add_timer(call->service->event, &d->deadline, grace_usec, on_grace_over, d) < 0)) {
                (void)close_fd(d->socket_fd);
                free(d->path);
                free(d);
                return failure_oom(f);
        }
        d->service = call->service;
        d->user = user_ref(call->user);
        d->message = sd_bus_message_ref(call->message);
        d->grace_usec = grace_usec;
        d->pause_usec = AGAIN_USEC;
        d->force = force;
        d->expected_uid = t->process->uid;
        call->counted = false; /* the wait is this one's now */
        LIST_INSERT_HEAD(&shutdowns, d, in_list);
        process_add_watch(t->process, &d->watch, on_exit_of_process);
        try_now(d);
        return 0;
}
