/* SPDX-License-Identifier: MIT */
/* Methods on processes: who is behind a socket, waiting for its end, ending it. */

#include <errno.h>
#include <string.h>

#include "base/config.h"
#include "bus/authorize.h"
#include "bus/call.h"
#include "bus/errors.h"
#include "bus/events.h"
#include "bus/options.h"
#include "bus/tap-count.h"
#include "common/cleanup.h"
#include "common/failure.h"
#include "common/validate.h"
#include "link/link-table.h"
#include "methods/methods.h"
#include "vm/process.h"
#include "watch/discovery.h"
#include "watch/shutdown.h"
#include "watch/target.h"
#include "watch/wait.h"

#define SUBSCRIPTIONS_MAX 16U /* connections of one user */
#define QUEUED_MAX 4096U      /* messages that the bus has not taken yet */

/* --- FindPID, OpenProcess, ResolvePID --- */

/* What the three look-ups have in common: path is checked, the caller is known and may, and
 * ret->process is the listener, or NULL with ret_failure saying why there is none. */
static int find_listener(Service *s, sd_bus_message *m, const char *path, Call **ret_call,
                         Target *ret, Failure *ret_failure) {
        Failure f;
        int r;

        if (socket_path_check(path, &f) < 0)
                return errors_reply(m, &f);
        r = call_begin(s, m, CALL_SHORT, ret_call);
        if (r != 0)
                return r;
        call_set_object(*ret_call, "%s", path);
        if (target_find(*ret_call, path, ret, &f) < 0)
                return call_fail_with(*ret_call, &f);
        r = target_authorize(*ret_call, ACTION_INSPECT, path, ret);
        if (r != 0)
                return r;
        if (ret->socket.refusal.kind)
                return call_fail_with(*ret_call, &ret->socket.refusal);
        if (!ret->process)
                (void)target_no_listener(ret_failure, path, ret);
        return 0;
}

int method_find_pid(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_(call_leave) Call *call = NULL;
        _cleanup_target_ Target t = TARGET_NONE;
        const char *path;
        Failure f;
        int r;

        r = sd_bus_message_read(m, "s", &path);
        if (r < 0)
                return r;
        r = find_listener(userdata, m, path, &call, &t, &f);
        if (r != 0)
                return r;
        if (!t.process)
                return call_fail_with(call, &f);
        return call_reply(call, "u", (uint32_t)t.process->pid);
}

int method_open_process(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_(call_leave) Call *call = NULL;
        _cleanup_target_ Target t = TARGET_NONE;
        const char *path;
        Failure f;
        int r;

        r = sd_bus_message_read(m, "s", &path);
        if (r < 0)
                return r;
        r = find_listener(userdata, m, path, &call, &t, &f);
        if (r != 0)
                return r;
        if (!t.process)
                return call_fail_with(call, &f);
        return call_reply(call, "uh", (uint32_t)t.process->pid, t.process->pidfd);
}

/* machine_pid is what the caller wrote down once: it counts if it is a live VMM of his. */
static bool is_own_vmm(Call *call, pid_t pid) {
        Service *s = call->service;
        Process *p = NULL;
        Failure f;
        bool is;

        if (process_pin(s->processes, pid, -1, &p, &f) < 0)
                return false;
        is = p->uid != UID_NONE && subuid_owner(&s->subuids, p->uid) == call->user->uid &&
             (!LIST_EMPTY(&p->sockets) || process_runs(p, s->config->firecracker_bin));
        process_unref(p);
        return is;
}

int method_resolve_pid(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_(call_leave) Call *call = NULL;
        _cleanup_target_ Target t = TARGET_NONE;
        uint32_t machine_pid, found = 0;
        const char *path;
        Failure f;
        int r;

        r = sd_bus_message_read(m, "su", &path, &machine_pid);
        if (r < 0)
                return r;
        r = find_listener(userdata, m, path, &call, &t, &f);
        if (r != 0)
                return r;
        if (t.process)
                found = (uint32_t)t.process->pid;
        else if (pid_check(machine_pid, &f) == 0 && is_own_vmm(call, (pid_t)machine_pid))
                found = machine_pid;
        return call_reply(call, "u", found);
}

/* --- ListProcesses --- */

static int append_process(KnownSocket *k, bool answered, void *userdata) {
        sd_bus_message *reply = userdata;
        int r;

        r = sd_bus_message_open_container(reply, 'r', "uusa{sv}");
        if (r >= 0)
                r = sd_bus_message_append(reply, "uus", (uint32_t)k->process->pid, k->owner->uid,
                                          k->path);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "{sv}");
        if (r >= 0 && k->process->pidfd_inode != 0)
                r = sd_bus_message_append(reply, "{sv}", "pidfd-inode", "t", k->process->pidfd_inode);
        if (r >= 0 && !answered)
                r = sd_bus_message_append(reply, "{sv}", "state", "s", "unknown");
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

/* No process, but that there is more than is listed. */
static int append_cut(sd_bus_message *reply, const ScanCut *cut) {
        return sd_bus_message_append(reply, "(uusa{sv})", 0U, cut->owner, cut->path, 1, "cut", "b",
                                     1);
}

static void on_scanned(const Scanned *scanned, void *userdata) {
        _cleanup_message_ sd_bus_message *reply = NULL;
        Call *call = userdata;
        uid_t uid = call_is_root(call) ? UID_NONE : call->user->uid;
        int r;

        call->with_worker = false;
        if (scanned->failure) {
                (void)call_fail_with(call, scanned->failure);
                return;
        }
        r = sd_bus_message_new_method_return(call->message, &reply);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "(uusa{sv})");
        if (r >= 0)
                r = known_for_each_process(call->service, uid, append_process, reply);
        for (size_t i = 0; r >= 0 && i < scanned->n_cuts; i++)
                if (uid == UID_NONE || scanned->cuts[i].owner == uid)
                        r = append_cut(reply, &scanned->cuts[i]);
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        (void)call_reply_message(call, r, reply);
}

int method_list_processes(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_(call_leave) Call *call = NULL;
        Service *s = userdata;
        int r;

        r = call_begin(s, m, CALL_SHORT, &call);
        if (r != 0)
                return r;
        r = call_authorize(call, ACTION_INSPECT, &(Details){.never_prompt = true});
        if (r != 0)
                return r;
        if (discovery_scan(s, call_is_root(call) ? UID_NONE : call->user->uid, on_scanned, call) < 0)
                return call_fail_oom(call);
        call->with_worker = true;
        return call_park(call);
}

/* --- WaitForExit, WatchExit, CancelWait --- */

static int check_pid_and_path(uint32_t pid, const char *path, Failure *f) {
        if (pid == 0 && !*path)
                return failure_set(
                        f, FAILURE_INVALID_ARGS,
                        "Neither a pid nor the path of an API socket was given; give one of them");
        if (pid != 0 && pid_check(pid, f) < 0)
                return -FAILURE_INVALID_ARGS;
        return *path ? socket_path_check(path, f) : 0;
}

/* Replies to a wait for what has gone already, or whose time is over already. 1 if it did. */
static int wait_is_over(Call *call, const Target *t, uint32_t pid, const char *path,
                        uint64_t timeout_usec, bool replies) {
        Failure f;
        int r;

        if (t->gone || t->process->exited) {
                const ProcessExit *how = t->gone ? &process_exit_unknown : &t->process->exit;

                if (t->process)
                        pid = (uint32_t)t->process->pid;
                r = replies ? call_reply(call, "si", exit_cause_name(how->cause), how->status)
                            : call_reply(call, "u", pid);
                events_send_exited(call->peer, (pid_t)pid, call->user->uid, path, how,
                                   t->process ? t->process->pidfd_inode : 0);
                return r;
        }
        if (timeout_usec > 0)
                return 0;
        if (process_is_gone(t->process->pidfd))
                return 0; /* its end is about to be told */
        if (replies) {
                (void)wait_timed_out_failure(&f, t->process->pid, path);
                return call_fail_with(call, &f);
        }
        r = call_reply(call, "u", (uint32_t)t->process->pid);
        events_send_wait_timed_out(call->peer, t->process, path);
        return r;
}

static int wait_for(sd_bus_message *m, Service *s, bool replies) {
        _cleanup_(call_leave) Call *call = NULL;
        _cleanup_target_ Target t = TARGET_NONE;
        uint64_t timeout_usec;
        const char *path;
        uint32_t pid;
        Failure f;
        int r;

        r = sd_bus_message_read(m, "ust", &pid, &path, &timeout_usec);
        if (r < 0)
                return r;
        if (check_pid_and_path(pid, path, &f) < 0 || options_read(m, NULL, 0, &f) < 0)
                return errors_reply(m, &f);
        r = call_begin(s, m, CALL_WAIT, &call);
        if (r != 0)
                return r;
        call_set_process(call, path, pid);

        if (target_find_either(call, path, (pid_t)pid, &t, &f) < 0)
                return call_fail_with(call, &f);
        target_recall(call, &t);
        r = target_authorize(call, ACTION_WAIT_FOR_EXIT, path, &t);
        if (r != 0)
                return r;
        if (t.process && (t.process->exited || process_is_gone(t.process->pidfd)))
                ; /* it has ended since it was looked at: that is the answer */
        else if (!t.gone && target_check(s, path, (pid_t)pid, &t, &f) < 0)
                return call_fail_with(call, &f);
        r = wait_is_over(call, &t, pid, path, timeout_usec, replies);
        if (r != 0)
                return r;
        if (wait_arm(call, t.process, path, timeout_usec, replies, &f) < 0)
                return call_fail_with(call, &f);
        /* the reply comes before any signal */
        return replies ? 1 : call_reply(call, "u", (uint32_t)t.process->pid);
}

int method_wait_for_exit(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        return wait_for(m, userdata, true);
}

int method_watch_exit(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        return wait_for(m, userdata, false);
}

int method_cancel_wait(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_(call_leave) Call *call = NULL;
        const char *path;
        uint32_t pid;
        Failure f;
        int r;

        r = sd_bus_message_read(m, "us", &pid, &path);
        if (r < 0)
                return r;
        if ((pid != 0 && pid_check(pid, &f) < 0) || (*path && socket_path_check(path, &f) < 0))
                return errors_reply(m, &f);
        r = call_begin(userdata, m, CALL_SHORT, &call);
        if (r != 0)
                return r;
        r = call_authorize(call, ACTION_WAIT_FOR_EXIT, &(Details){});
        if (r != 0)
                return r;
        return call_reply(call, "u", wait_cancel(call->peer, (pid_t)pid, path));
}

/* --- Kill, Shutdown --- */

int method_kill(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_(call_leave) Call *call = NULL;
        _cleanup_target_ Target t = TARGET_NONE;
        Service *s = userdata;
        const char *path;
        uint32_t pid;
        Failure f;
        int r;

        r = sd_bus_message_read(m, "us", &pid, &path);
        if (r < 0)
                return r;
        if (check_pid_and_path(pid, path, &f) < 0 || options_read(m, NULL, 0, &f) < 0)
                return errors_reply(m, &f);
        r = call_begin(s, m, CALL_SHORT, &call);
        if (r != 0)
                return r;
        call_set_process(call, path, pid);

        if (target_find_either(call, path, (pid_t)pid, &t, &f) < 0)
                return call_fail_with(call, &f);
        target_recall(call, &t);
        r = target_authorize(call, ACTION_KILL, path, &t);
        if (r != 0)
                return r;
        /* somebody answers on the socket, and it is not this pid: the caller means something else */
        if (pid != 0 && !t.proven && t.socket.state == SOCKET_LISTENING)
                return call_fail(call, FAILURE_NO_SUCH_PROCESS,
                                 "Process %u is not the one behind %s (process %d is); nothing was killed",
                                 pid, path, t.socket.pid);
        /* the pid may be another process's by now, of the same owner: that one was not asked about */
        if (call->process && t.process && call->process != t.process)
                return call_fail(call, FAILURE_NO_SUCH_PROCESS,
                                 "Process %d ended while polkit was asked; nothing was killed",
                                 call->process->pid);
        if (target_check(s, path, (pid_t)pid, &t, &f) < 0 || process_kill(t.process, &f) < 0)
                return call_fail_with(call, &f);
        call->changed = true;
        return call_reply(call, NULL);
}

int method_shutdown(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_(call_leave) Call *call = NULL;
        _cleanup_target_ Target t = TARGET_NONE;
        Service *s = userdata;
        uint64_t grace_usec;
        int force = 0;
        const Option options[] = {{"force", 'b', &force, NULL}};
        const char *path;
        Failure f;
        int r;

        r = sd_bus_message_read(m, "st", &path, &grace_usec);
        if (r < 0)
                return r;
        if (socket_path_check(path, &f) < 0 || options_read(m, options, ELEMENTS(options), &f) < 0)
                return errors_reply(m, &f);
        r = call_begin(s, m, CALL_WAIT, &call);
        if (r != 0)
                return r;
        call_set_object(call, "%s", path);

        if (target_find(call, path, &t, &f) < 0)
                return call_fail_with(call, &f);
        r = target_authorize(call, ACTION_SHUTDOWN, path, &t);
        if (r != 0)
                return r;
        if (t.socket.refusal.kind)
                return call_fail_with(call, &t.socket.refusal);
        if (!t.process && t.socket.state != SOCKET_BACKLOG_FULL)
                return call_reply(call, "ssi", "already-gone", exit_cause_name(EXIT_CAUSE_UNKNOWN),
                                  -1);
        if (!t.process)
                return target_no_listener(&f, path, &t), call_fail_with(call, &f);
        if (shutdown_start(call, path, &t, grace_usec, force, &f) < 0)
                return call_fail_with(call, &f);
        return 1;
}

/* --- Subscribe, Unsubscribe, GetUsage --- */

/* Every event costs a message for each of them, and a snapshot one for each VMM. */
static int check_subscriptions(Call *call, Failure *f) {
        Service *s = call->service;
        uint64_t queued = 0;
        unsigned n = 0;

        if (call_is_root(call))
                return 0;
        for (Peer *p = peer_next(s, NULL); p; p = peer_next(s, p))
                if (p->subscribed && p->user == call->user)
                        n++;
        (void)sd_bus_get_n_queued_write(s->bus, &queued);
        if (n >= SUBSCRIPTIONS_MAX || queued > QUEUED_MAX)
                return failure_set(f, FAILURE_LIMITS_EXCEEDED,
                                   "uid %u has %u subscribed connections of %u, or the bus is behind; "
                                   "end one, or try later",
                                   call->user->uid, n, SUBSCRIPTIONS_MAX);
        return 0;
}

int method_subscribe(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_(call_leave) Call *call = NULL;
        Service *s = userdata;
        bool was_subscribed;
        Failure f;
        int r;

        if (options_read(m, NULL, 0, &f) < 0)
                return errors_reply(m, &f);
        r = call_begin(s, m, CALL_SHORT, &call);
        if (r != 0)
                return r;
        r = call_authorize(call, ACTION_WAIT_FOR_EXIT, &(Details){});
        if (r != 0)
                return r;
        was_subscribed = call->peer->subscribed;
        if (!was_subscribed && check_subscriptions(call, &f) < 0)
                return call_fail_with(call, &f);
        r = call_reply(call, NULL);
        call->peer->subscribed = true;
        if (!was_subscribed) {
                discovery_send_snapshot(call->peer);
                discovery_follow_subscribers(s);
                (void)discovery_scan(s, call_is_root(call) ? UID_NONE : call->user->uid, NULL, NULL);
        }
        return r;
}

int method_unsubscribe(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_(call_leave) Call *call = NULL;
        Service *s = userdata;
        int r;

        r = call_begin(s, m, CALL_SHORT, &call);
        if (r != 0)
                return r;
        r = call_authorize(call, ACTION_WAIT_FOR_EXIT, &(Details){});
        if (r != 0)
                return r;
        call->peer->subscribed = false;
        discovery_follow_subscribers(s);
        return call_reply(call, NULL);
}

int method_get_usage(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_(call_leave) Call *call = NULL;
        Service *s = userdata;
        const Config *c = s->config;
        bool all;
        int r;

        r = call_begin(s, m, CALL_SHORT, &call);
        if (r != 0)
                return r;
        r = call_authorize(call, ACTION_INSPECT, &(Details){});
        if (r != 0)
                return r;
        /* uid 0 has the limits that all users share, and no limit of calls */
        all = call_is_root(call);
        link_table_sync(s->links);
        return call_reply(call, "a{sv}", 5, "taps", "u",
                          tap_count(s, all ? UID_NONE : call->user->uid).taps, "taps-max", "u",
                          all ? c->max_taps : c->max_taps_per_user, "waits", "u",
                          all ? s->n_waits : call->user->waits, "waits-max", "u",
                          all ? c->max_waits : c->max_waits_per_user, "calls-max", "u",
                          all ? UINT32_MAX : c->max_calls_per_user);
}
