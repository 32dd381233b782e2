/* SPDX-License-Identifier: MIT */
/* From words to a process. */

#include "watch/target.h"
#include "base/config.h"
#include "bus/authorize.h"
#include "bus/call.h"
#include "common/cleanup.h"
#include "common/failure.h"
#include "vm/process.h"
#include "watch/known-socket.h"

void target_clear(Target *t) {
        socket_clear(&t->socket);
        t->process = process_unref(t->process);
}

int target_find(Call *call, const char *path, Target *ret, Failure *f) {
        bool allowed = call_is_root(call) || call->authorization.state == AUTHORIZATION_ALLOWED;

        return target_look(call->service, path, allowed ? UID_NONE : call->user->uid, ret, f);
}

int target_look(Service *s, const char *path, uid_t for_uid, Target *ret, Failure *f) {
        Target t = TARGET_NONE;
        Failure gone;
        int r;

        r = socket_look(s->config, &s->features, &s->subuids, path, for_uid, &t.socket, f);
        if (r < 0)
                return r;
        if (t.socket.state == SOCKET_LISTENING) {
                r = process_pin(s->processes, t.socket.pid, TAKE_FD(t.socket.pidfd), &t.process,
                                &gone);
                if (r == -FAILURE_NO_SUCH_PROCESS)
                        t.socket.state = SOCKET_NOT_LISTENING;
                else if (r < 0) { /* a living process must never be called gone */
                        *f = gone;
                        target_clear(&t);
                        return r;
                } else if (t.socket.agrees)
                        known_remember(s, path, &t.socket, t.process);
        } else if (t.socket.state == SOCKET_BACKLOG_FULL || t.socket.state == SOCKET_NOT_ASKED) {
                t.process = known_recall(s, t.socket.device, t.socket.inode);
                if (t.process)
                        socket_agree(&t.socket, &s->subuids, t.process->uid);
        }
        t.proven = t.process != NULL;
        *ret = t;
        return 0;
}

int target_find_either(Call *call, const char *path, pid_t pid, Target *ret, Failure *f) {
        Service *s = call->service;
        _cleanup_target_ Target t = TARGET_NONE;
        int r;

        if (!*path && pid == 0)
                return failure_set(
                        f, FAILURE_INVALID_ARGS,
                        "Neither a pid nor the path of an API socket was given; give one of them");
        if (*path) {
                r = target_find(call, path, &t, f);
                if (r < 0)
                        return r;
        }
        if (pid != 0 && !(t.process && t.process->pid == pid)) {
                t.process = process_unref(t.process);
                t.proven = false;
                r = process_pin(s->processes, pid, -1, &t.process, f);
                if (r == -FAILURE_NO_SUCH_PROCESS)
                        t.gone = true;
                else if (r < 0)
                        return r;
                else
                        t.owner = t.process->uid == UID_NONE
                                          ? UID_NONE
                                          : subuid_owner(&s->subuids, t.process->uid);
        }
        *ret = t;
        t = TARGET_NONE;
        return 0;
}

void target_recall(Call *call, Target *t) {
        Process *p = call->process;

        if (!p && t->process) {
                call->process = process_ref(t->process);
                call->process_proven = t->proven;
        } else if (p && (!t->process || (!t->proven && t->process == p)) &&
                   (p->exited || process_is_gone(p->pidfd))) {
                process_unref(t->process);
                t->process = process_ref(p);
                t->proven = call->process_proven;
                t->gone = false;
                if (!t->proven)
                        t->owner = p->uid == UID_NONE
                                           ? UID_NONE
                                           : subuid_owner(&call->service->subuids, p->uid);
        }
}

int target_authorize(Call *call, const char *action, const char *path, const Target *t) {
        Details d = {.owner_uid = UID_NONE};

        if (t->process)
                d.pid = t->process->pid;
        if (*path) {
                d.api_sock = path;
                d.has_owner = true;
                d.owner_uid = t->socket.owner;
                d.disputed = !t->socket.agrees;
        }
        /* a process that the socket does not prove has to be the same owner's on its own account */
        if (t->process && !t->proven) {
                if (!d.has_owner || (d.owner_uid == call->user->uid && !d.disputed)) {
                        d.has_owner = true;
                        d.owner_uid = t->owner;
                } else if (t->owner != d.owner_uid) {
                        d.disputed = true;
                        d.owner_uid = UID_NONE;
                }
        }
        return call_authorize(call, action, &d);
}

int target_authorize_path(Call *call, const char *action, const char *path, const Target *t) {
        return call_authorize(call, action,
                              &(Details){.api_sock = path,
                                         .has_owner = true,
                                         .owner_uid = t->socket.owner,
                                         .disputed = !t->socket.agrees});
}

int target_no_listener(Failure *f, const char *path, const Target *t) {
        if (t->socket.refusal.kind)
                return *f = t->socket.refusal, -(int)f->kind;
        if (t->socket.state == SOCKET_BACKLOG_FULL)
                return failure_set(f, FAILURE_VMM_UNREACHABLE,
                                   "%s: its backlog is full, so who listens cannot be told; try again, or name the pid",
                                   path);
        return failure_set(f, FAILURE_NO_SUCH_PROCESS, "Nobody listens on %s%s", path,
                           t->socket.state == SOCKET_ABSENT ? ", which does not exist" : "");
}

int target_check(Service *s, const char *path, pid_t pid, const Target *t, Failure *f) {
        if (t->socket.refusal.kind && pid == 0)
                return *f = t->socket.refusal, -(int)f->kind;
        if (t->proven)
                return 0;
        if (t->gone)
                return failure_set(f, FAILURE_NO_SUCH_PROCESS, "There is no process %d (any more)",
                                   pid);
        if (!t->process)
                return target_no_listener(f, path, t);
        if (!process_runs(t->process, s->config->firecracker_bin))
                return failure_set(f, FAILURE_NOT_A_VMM,
                                   "Process %d is no VMM (it does not run %s, and no API socket proves it)",
                                   pid, s->config->firecracker_bin);
        return 0;
}
