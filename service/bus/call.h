/* SPDX-License-Identifier: MIT */
#pragma once

/* A method call.
 *
 * A handler reads top to bottom: arguments, call_begin(), ownership, call_authorize(), act. Each of
 * these returns 0 to go on, and 1 when the handler has to return: the call is answered, or it is
 * parked. A parked call's handler is run again from its first line once what it waits for is there.
 * So nothing that was resolved before polkit was asked is used after: everything is looked at again.
 *
 *      _cleanup_(call_leave) Call *call = NULL;
 *      …read and validate the arguments…
 *      r = call_begin(service, m, CALL_SHORT, &call);
 *      if (r != 0)
 *              return r;
 *
 * There are two ways to answer a call, from inside its handler and from outside: call_reply() and
 * call_fail(). They send, log, and return 1. From outside they end the call as well: it is gone. */

#include "base/dir-watch.h"
#include "bus/authorization.h"
#include "bus/peer.h"
#include "common/failure.h"
#include "link/bridge.h"
#include "vm/vmm.h"

typedef enum CallKind {
        CALL_SHORT, /* counts as a call */
        CALL_WAIT,  /* counts as a wait, from the beginning */
} CallKind;

typedef struct Call {
        Service *service;
        Peer *peer;
        User *user; /* NULL until known */
        sd_bus_message *message;
        CallKind kind;
        bool counted, parked;
        bool running;     /* its handler is */
        bool changed;     /* it did something that the log has to have */
        bool resuming;    /* it is queued to be run again */
        bool with_worker; /* a job will come back to it: it must not go before */
        Authorization authorization;
        char object[160]; /* for the log */
        /* what some methods keep from one run of their handler to the next */
        BridgeState bridge;
        bool bridge_known;
        uint64_t socket_deadline; /* CLOCK_MONOTONIC, 0: not set yet */
        unsigned socket_looks;
        bool socket_hurried;
        DirWatch *socket_appears;
        sd_event_source *socket_retry;
        char *socket_name; /* the part of its path that has to appear */
        ino_t socket_directory;
        VmmRequest *vmm;
        Process *process; /* what was asked about: it may have ended meanwhile */
        bool process_proven;
        bool waits_for_reaper;
        bool gateways_mac; /* the tap that is to be made would have a gateway's */
        LIST_ENTRY(Call) in_bucket;
        TAILQ_ENTRY(Call) in_peer, in_resumed;
} Call;

/* Finds a method's handler, for calls that are run again. */
typedef sd_bus_message_handler_t (*CallHandlerFunction)(const char *method);
int call_table_new(Service *service, CallHandlerFunction find_handler);
void call_table_free(Service *service);

/* Finds the call that m is, or makes it; who calls, and that their quota has room. */
int call_begin(Service *service, sd_bus_message *m, CallKind kind, Call **ret);
/* At the end of the handler: a call that is not parked is over. */
void call_leave(Call **call);

/* Marks it parked and returns 1. */
int call_park(Call *call);
/* Runs its handler again, from the loop, when those before it had their turn. */
void call_resume(Call *call);

/* Answers: the out arguments, or why not. All return 1. */
int call_reply(Call *call, const char *types, ...);
int call_fail(Call *call, FailureKind kind, const char *format, ...) _printf_(3, 4);
/* The same, with what there is already: a message (error: what building it came to; negative is
 * answered as a failure), a failure, memory that is short. */
int call_reply_message(Call *call, int error, sd_bus_message *reply);
int call_fail_with(Call *call, const Failure *f);
int call_fail_oom(Call *call);

/* What the log calls the object. */
void call_set_object(Call *call, const char *format, ...) _printf_(2, 3);
/* A socket, a pid (0: none), or both. */
void call_set_process(Call *call, const char *path, uint32_t pid);
const char *call_method(const Call *call);
bool call_is_root(const Call *call);

void calls_of_peer_gone(Peer *peer);
void calls_of_peer_resume(Peer *peer);
/* Every call that waits for its user's displaced taps. */
void calls_resume_after_reap(Service *service);
/* Calls wait until the first reading of /etc/subuid. */
void calls_resume_all_unknown(Service *service);
