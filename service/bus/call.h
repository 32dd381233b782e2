/* SPDX-License-Identifier: MIT */
#pragma once

/* A method call that cannot be answered at once.
 *
 * A handler reads top to bottom: arguments, call_begin(), whose is it, call_authorize(), act. Each
 * of these returns 0 to go on, a negative number when the call has failed (error is set), and 1
 * when the call is parked: the handler returns that, and is run again from its first line once the
 * answer is there. So nothing that was resolved before polkit was asked is used after: everything
 * is looked at again.
 *
 *      _cleanup_(call_leave) Call *call = NULL;
 *      …read and validate the arguments…
 *      r = call_begin(service, m, CALL_SHORT, &call, error);
 *      if (r != 0)
 *              return r;
 */

#include "base/dir-watch.h"
#include "bus/authorize.h"
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
        bool counted, parked, answered;
        bool changed;     /* it did something that the log has to have */
        bool resuming;    /* it is queued to be run again */
        bool with_worker; /* a job will come back to it: it must not go before */
        Authorization authorization;
        char object[160];   /* for the log */
        const char *result; /* for the log: an error's name, or NULL */
        Failure failure;    /* … and its text */
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

/* Finds the call that m is, or makes it; who calls, and that his quota has room. */
int call_begin(Service *service, sd_bus_message *m, CallKind kind, Call **ret, sd_bus_error *error);
/* At the end of the handler: a call that is not parked is over. */
void call_leave(Call **call);

/* Marks it parked and returns 1. */
int call_park(Call *call);
/* Runs its handler again, from the loop, when those before it had their turn. */
void call_resume(Call *call);

/* Within the handler. */
int call_fail(Call *call, sd_bus_error *error, const Failure *f);
int call_reply(Call *call, const char *types, ...);
/* error: what building the reply came to; negative is answered as a failure. */
int call_reply_message(Call *call, int error, sd_bus_message *reply);
/* Replies (or fails) and ends a parked call. */
void call_finish(Call *call, const char *types, ...);
void call_finish_failed(Call *call, const Failure *f);
/* The reply was sent by other means, or is another object's to send: ends it silently. */
void call_end(Call *call);

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
