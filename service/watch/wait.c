/* SPDX-License-Identifier: MIT */
/* Waiting. A wait costs this struct, an event source where it has a deadline, and nothing else:
 * all that wait for one process share its pidfd. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/loop.h"
#include "bus/call.h"
#include "bus/errors.h"
#include "bus/events.h"
#include "common/cleanup.h"
#include "common/failure.h"
#include "vm/process.h"
#include "watch/known-socket.h"
#include "watch/wait.h"

#define PATIENCE_USEC (200 * USEC_PER_MSEC) /* more than process.c has */

static void wait_free(WaitWatch *w) {
        process_remove_watch(&w->watch);
        LIST_REMOVE(w, in_peer);
        sd_event_source_disable_unref(w->deadline);
        user_end_wait(w->service, w->user);
        user_unref(w->user);
        peer_unref(w->peer);
        sd_bus_message_unref(w->message);
        free(w->api_sock);
        free(w);
}

static void reply_failure(WaitWatch *w, const Failure *f) {
        if (!w->message)
                return;
        log_action(LOG_OTHER, "WaitForExit", w->user->uid, w->api_sock, errors_name(f->kind),
                   f->text);
        (void)errors_reply(w->message, f);
}

int wait_timed_out_failure(Failure *f, pid_t pid, const char *api_sock) {
        return failure_set(f, FAILURE_WAIT_FOR_EXIT_TIMEOUT,
                           "Process %d%s%s is still running at the deadline", pid,
                           *api_sock ? " behind " : "", api_sock);
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata) {
        WaitWatch *w = userdata;
        pid_t pid = w->watch.process->pid;
        Failure f;

        /* ended at the last moment: its end is told by the process, which may wait for the reap */
        if (process_is_gone(w->watch.process->pidfd) && loop_set_timer(source, PATIENCE_USEC) >= 0)
                return 0;
        (void)wait_timed_out_failure(&f, pid, w->api_sock);
        events_send_wait_timed_out(w->peer, w->watch.process, w->api_sock);
        reply_failure(w, &f);
        wait_free(w);
        return 0;
}

static void on_exit_of_process(Watch *watch) {
        WaitWatch *w = (WaitWatch *)watch;
        Process *p = watch->process;
        char how[80];

        if (w->message) {
                (void)sd_bus_reply_method_return(w->message, "si", exit_cause_name(p->exit.cause),
                                                 p->exit.status);
                process_exit_describe(&p->exit, how, sizeof(how));
                log_action(LOG_OTHER, "WaitForExit", w->user->uid, w->api_sock, "done", how);
        }
        wait_free(w);
}

int wait_arm(Call *call, Process *process, const char *api_sock, uint64_t timeout_usec,
             bool replies, Failure *f) {
        WaitWatch *w = calloc(1, sizeof(*w));
        int r = 0;

        if (!w)
                return failure_oom(f);
        w->api_sock = strdup(api_sock);
        if (!w->api_sock) {
                free(w);
                return failure_oom(f);
        }
        if (timeout_usec < USEC_FOREVER / 2)
                r = loop_add_timer(call->service->event, &w->deadline, timeout_usec, on_deadline, w);
        if (r < 0) {
                free(w->api_sock);
                free(w);
                return failure_kernel(f, r, NULL, "Setting a deadline");
        }
        w->service = call->service;
        w->peer = peer_ref(call->peer);
        w->user = user_ref(call->user);
        call->counted = false; /* the wait is this one's now */
        if (replies)
                w->message = sd_bus_message_ref(call->message);
        LIST_INSERT_HEAD(&call->peer->watches, w, in_peer);
        process_add_watch(process, &w->watch, on_exit_of_process);
        return 0;
}

unsigned wait_cancel(Peer *peer, pid_t pid, const char *api_sock) {
        WaitWatch *w, *next;
        unsigned n = 0;
        Failure f;

        for (w = LIST_FIRST(&peer->watches); w; w = next) {
                next = LIST_NEXT(w, in_peer);
                if ((pid != 0 && w->watch.process->pid != pid) ||
                    (*api_sock && strcmp(w->api_sock, api_sock) != 0))
                        continue;
                (void)failure_set(&f, FAILURE_CANCELLED, "The wait for process %d was cancelled",
                                  w->watch.process->pid);
                reply_failure(w, &f);
                wait_free(w);
                n++;
        }
        return n;
}

void watches_of_peer_gone(Peer *peer) {
        while (!LIST_EMPTY(&peer->watches))
                wait_free(LIST_FIRST(&peer->watches));
}

void wait_process_exited(Service *s, Process *process) {
        unsigned long stamp = events_new_stamp();
        const char *known = "";
        uid_t owner = process->uid == UID_NONE ? UID_NONE : subuid_owner(&s->subuids, process->uid);
        /* what was found to be a VMM, and what somebody waits for: it was proven one */
        bool told = known_vmm_path(process, &known) || !LIST_EMPTY(&process->watches);
        Watch *watch;

        LIST_FOREACH(watch, &process->watches, in_process) {
                WaitWatch *w = (WaitWatch *)watch;

                if (watch->on_exit != on_exit_of_process || w->peer->stamp == stamp)
                        continue;
                w->peer->stamp = stamp;
                if (!*known)
                        known = w->api_sock;
                events_send_exited(w->peer, process->pid, owner, *w->api_sock ? w->api_sock : known,
                                   &process->exit, process->pidfd_inode);
        }
        if (told)
                for (Peer *p = peer_next(s, NULL); p; p = peer_next(s, p))
                        if (p->stamp != stamp && events_may_see(p, owner))
                                events_send_exited(p, process->pid, owner, known, &process->exit,
                                                   process->pidfd_inode);
        while ((watch = LIST_FIRST(&process->watches)))
                watch->on_exit(watch);
}
