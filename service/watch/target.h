/* SPDX-License-Identifier: MIT */
#pragma once

/* What a caller means by a socket's path and a pid: found, pinned, and whose. */

#include "bus/authorize.h"
#include "service.h"
#include "vm/process.h"
#include "vm/sockets.h"

typedef struct Target {
        ApiSocket socket; /* fd -1 where no path was given or nothing is there */
        Process *process; /* who listens, or the process of the pid; NULL: nobody */
        bool gone;        /* the pid was no process (any more) */
        bool proven;      /* process listens on the socket */
        uid_t owner;      /* of the process where it was named by pid alone */
} Target;

#define TARGET_NONE ((Target){.socket = API_SOCKET_NONE, .owner = UID_NONE})

void target_clear(Target *target);
#define _cleanup_target_ _cleanup_(target_clear)

/* Who is behind path now: see socket_look(). A listener whose backlog is full is remembered from
 * an earlier look, if there was one. */
int target_find(struct Call *call, const char *path, Target *ret, Failure *f);
/* The same without a call: for_uid as in socket_look(). */
int target_look(Service *service, const char *path, uid_t for_uid, Target *ret, Failure *f);

/* path may be "", pid 0, but not both. A socket that answers proves the pid behind it; a pid that it
 * does not prove is looked up on its own. */
int target_find_either(struct Call *call, const char *path, pid_t pid, Target *ret, Failure *f);

/* In the second run of a handler: if the process that polkit was asked about has ended meanwhile, it
 * is still the one that is meant, and its end can be told. */
void target_recall(struct Call *call, Target *target);

/* Asks for action on it; as call_authorize(). path may be "". */
int target_authorize(struct Call *call, const char *action, const char *path, const Target *target);

/* The same for what is done to the socket and not to a process: no pid among the details, so that a
 * VMM that starts while polkit is asked is no other question. */
int target_authorize_path(struct Call *call, const char *action, const char *path,
                          const Target *target);

/* After authorization: 0 if the process may be acted upon: it is behind the socket, or it is a VMM
 * by its comm. NO_SUCH_PROCESS, NOT_A_VMM, VMM_UNREACHABLE, or the socket's refusal. */
int target_check(Service *service, const char *path, pid_t pid, const Target *target, Failure *f);

int target_no_listener(Failure *f, const char *path, const Target *target);
