/* SPDX-License-Identifier: MIT */
/* Parked calls, found again by their message when sd-bus dispatches it a second time. */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/config.h"
#include "base/dir-watch.h"
#include "base/log.h"
#include "base/loop.h"
#include "bus/call.h"
#include "bus/errors.h"
#include "common/cleanup.h"
#include "common/failure.h"
#include "common/text.h"
#include "common/validate.h"
#include "vm/process.h"

#define BUCKETS 1024
#define RESUMED_PER_TURN 16U

struct CallTable {
        CallHandlerFunction find_handler;
        Call *running_again; /* until its handler has come to call_begin() */
        sd_event_source *slices;
        TAILQ_HEAD(, Call) resumed; /* to be run again, in the order of their coming */
        LIST_HEAD(, Call) buckets[BUCKETS];
};

static size_t bucket_of(const sd_bus_message *m) {
        return ((uintptr_t)m >> 5) % BUCKETS;
}

static void call_end(Call *call);

/* As sd-bus does it when the message comes from the bus; it has no way to ask for that again which
 * would not wait behind everything else that is ready. */
static void run_again(Call *call) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_message_ sd_bus_message *m = sd_bus_message_ref(call->message);
        Service *s = call->service;
        sd_bus_message_handler_t handler = s->calls->find_handler(call_method(call));
        int r = sd_bus_message_rewind(m, true);

        call->parked = false;
        s->calls->running_again = call;
        if (r >= 0)
                r = handler(m, s, &error);
        if (s->calls->running_again) /* refused before that: a reload has changed what is allowed */
                call_end(TAKE_PTR(s->calls->running_again));
        if (r < 0)
                (void)(sd_bus_error_is_set(&error) ? sd_bus_reply_method_error(m, &error)
                                                   : sd_bus_reply_method_errno(m, r, NULL));
}

static int on_slice(sd_event_source *source, uint64_t usec, void *userdata) {
        Service *s = userdata;
        uint64_t end = loop_now() + TURN_USEC;
        Call *call;

        for (unsigned n = 0; n < RESUMED_PER_TURN && (call = TAILQ_FIRST(&s->calls->resumed)); n++) {
                TAILQ_REMOVE(&s->calls->resumed, call, in_resumed);
                call->resuming = false;
                run_again(call);
                if (loop_now() > end)
                        break;
        }
        return TAILQ_EMPTY(&s->calls->resumed) ? 0 : loop_slice_again(s->calls->slices);
}

int call_table_new(Service *s, CallHandlerFunction find_handler) {
        s->calls = calloc(1, sizeof(CallTable));
        if (!s->calls)
                return -ENOMEM;
        s->calls->find_handler = find_handler;
        TAILQ_INIT(&s->calls->resumed);
        return loop_add_slices(s->event, &s->calls->slices, on_slice, s);
}

void call_table_free(Service *s) {
        if (!s->calls)
                return;
        for (size_t i = 0; i < BUCKETS; i++)
                while (!LIST_EMPTY(&s->calls->buckets[i]))
                        call_end(LIST_FIRST(&s->calls->buckets[i]));
        sd_event_source_disable_unref(s->calls->slices);
        free(s->calls);
        s->calls = NULL;
}

const char *call_method(const Call *call) {
        return sd_bus_message_get_member(call->message);
}

bool call_is_root(const Call *call) {
        return call->user->uid == 0;
}

void call_set_object(Call *call, const char *format, ...) {
        char raw[sizeof(call->object)];
        va_list ap;

        va_start(ap, format);
        (void)vsnprintf(raw, sizeof(raw), format, ap);
        va_end(ap);
        text_make_printable(raw, call->object, sizeof(call->object));
}

void call_set_process(Call *call, const char *path, uint32_t pid) {
        if (pid == 0)
                call_set_object(call, "%s", path);
        else
                call_set_object(call, "%s%spid %u", path, *path ? " " : "", pid);
}

static int count_call(Call *call, Failure *f) {
        User *u = call->user;

        if (call->kind == CALL_WAIT)
                return user_begin_wait(call->service, u, f);
        if (u->uid != 0 && u->calls >= call->service->config->max_calls_per_user)
                return failure_set(f, FAILURE_LIMITS_EXCEEDED,
                                   "uid %u has %u calls under way, which is the limit (max_calls_per_user); wait for "
                                   "some to end",
                                   u->uid, u->calls);
        u->calls++;
        return 0;
}

/* May this uid call at all? What no user is, and what stands for somebody else, may not. */
static int check_caller(Call *call, Failure *f) {
        uid_t uid = call->user->uid;

        if (!uid_valid(uid))
                return failure_set(f, FAILURE_ACCESS_DENIED,
                                   "uid %u is no user's; call as an ordinary user", uid);
        if (uid != 0 && subuid_contains(&call->service->subuids, uid))
                return failure_set(f, FAILURE_ACCESS_DENIED,
                                   "uid %u belongs to a container (subuid(5)); call as the user who runs it",
                                   uid);
        return 0;
}

int call_begin(Service *s, sd_bus_message *m, CallKind kind, Call **ret) {
        const char *sender = sd_bus_message_get_sender(m);
        Failure f;
        Call *call;

        LIST_FOREACH(call, &s->calls->buckets[bucket_of(m)], in_bucket)
                if (call->message == m)
                        break;
        if (!call) {
                Peer *peer;

                if (!sender || sender[0] != ':')
                        return failure_set(&f, FAILURE_ACCESS_DENIED, "A call needs a sender"),
                               errors_reply(m, &f);
                if (peer_get(s, sender, &peer) < 0)
                        return failure_oom(&f), errors_reply(m, &f);
                call = calloc(1, sizeof(*call));
                if (!call)
                        return failure_oom(&f), errors_reply(m, &f);
                call->service = s;
                call->message = sd_bus_message_ref(m);
                call->peer = peer_ref(peer);
                call->kind = kind;
                LIST_INSERT_HEAD(&s->calls->buckets[bucket_of(m)], call, in_bucket);
                TAILQ_INSERT_TAIL(&peer->calls, call, in_peer);
        }
        *ret = call;
        if (s->calls->running_again == call)
                s->calls->running_again = NULL;
        call->parked = false;
        call->running = true;
        if (call->peer->gone)
                return call_end(TAKE_PTR(*ret)), 1;
        if (!call->peer->user || !s->subuids_read)
                return call_park(call);
        if (!call->user) {
                call->user = user_ref(call->peer->user);
                if (check_caller(call, &f) < 0)
                        return call_fail_with(call, &f);
        }
        if (!call->counted) {
                if (count_call(call, &f) < 0)
                        return call_fail_with(call, &f);
                call->counted = true;
        }
        return 0;
}

static void call_end(Call *call) {
        authorization_clear(&call->authorization);
        if (call->counted) {
                if (call->kind == CALL_WAIT)
                        user_end_wait(call->service, call->user);
                else
                        call->user->calls--;
        }
        vmm_request_cancel(call->vmm);
        process_unref(call->process);
        dir_watch_free(call->socket_appears);
        sd_event_source_disable_unref(call->socket_retry);
        free(call->socket_name);
        if (call->resuming)
                TAILQ_REMOVE(&call->service->calls->resumed, call, in_resumed);
        LIST_REMOVE(call, in_bucket);
        TAILQ_REMOVE(&call->peer->calls, call, in_peer);
        user_unref(call->user);
        peer_unref(call->peer);
        sd_bus_message_unref(call->message);
        free(call);
}

void call_leave(Call **call) {
        if (!*call)
                return;
        (*call)->running = false;
        if (!(*call)->parked)
                call_end(*call);
}

int call_park(Call *call) {
        call->parked = true;
        return 1;
}

void call_resume(Call *call) {
        Service *s = call->service;

        if (call->resuming)
                return;
        call->resuming = true;
        TAILQ_INSERT_TAIL(&s->calls->resumed, call, in_resumed);
        (void)loop_slice_again(s->calls->slices);
}

/* The answer is sent, and goes before the log. From outside of its handler that was the end. */
static int answered(Call *call, const char *error, const char *text) {
        if (call->user && (error || call->changed))
                log_action(error ? LOG_OTHER : LOG_DEED, call_method(call), call->user->uid,
                           call->object, error ?: "done", text);
        if (!call->running)
                call_end(call);
        return 1;
}

int call_fail_with(Call *call, const Failure *f) {
        (void)errors_reply(call->message, f);
        return answered(call, errors_name(f->kind), f->text);
}

int call_fail(Call *call, FailureKind kind, const char *format, ...) {
        char text[sizeof(((Failure *)NULL)->text)];
        Failure f;
        va_list ap;

        va_start(ap, format);
        (void)vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        (void)failure_set(&f, kind, "%s", text);
        return call_fail_with(call, &f);
}

int call_fail_oom(Call *call) {
        Failure f;

        (void)failure_oom(&f);
        return call_fail_with(call, &f);
}

int call_reply_message(Call *call, int error, sd_bus_message *reply) {
        int r = error < 0 ? error : sd_bus_send(NULL, reply, NULL);
        Failure f;

        if (r >= 0)
                return answered(call, NULL, NULL);
        /* answered with a reason of its own, never a bare errno */
        (void)failure_kernel(&f, r, NULL, "%s %s: replying", call_method(call), call->object);
        return call_fail_with(call, &f);
}

int call_reply(Call *call, const char *types, ...) {
        _cleanup_message_ sd_bus_message *reply = NULL;
        va_list ap;
        int r;

        r = sd_bus_message_new_method_return(call->message, &reply);
        if (r >= 0 && types && *types) {
                va_start(ap, types);
                r = sd_bus_message_appendv(reply, types, ap);
                va_end(ap);
        }
        return call_reply_message(call, r, reply);
}

void calls_of_peer_gone(Peer *peer) {
        Call *call, *next;

        for (call = TAILQ_FIRST(&peer->calls); call; call = next) {
                next = TAILQ_NEXT(call, in_peer);
                authorization_clear(&call->authorization);
                if (call->with_worker)
                        continue;
                if (peer->unknown)
                        (void)call_fail_oom(call);
                else
                        call_end(call);
        }
}

void calls_of_peer_resume(Peer *peer) {
        Call *call, *next;

        for (call = TAILQ_FIRST(&peer->calls); call; call = next) {
                next = TAILQ_NEXT(call, in_peer);
                if (!call->user && peer->service->subuids_read)
                        call_resume(call);
        }
}

void calls_resume_all_unknown(Service *s) {
        for (Peer *p = peer_next(s, NULL); p; p = peer_next(s, p))
                if (p->user)
                        calls_of_peer_resume(p);
}

void calls_resume_after_reap(Service *s) {
        for (size_t i = 0; i < BUCKETS; i++) {
                Call *call, *next;

                for (call = LIST_FIRST(&s->calls->buckets[i]); call; call = next) {
                        next = LIST_NEXT(call, in_bucket);
                        if (call->waits_for_reaper) {
                                call->waits_for_reaper = false;
                                call_resume(call);
                        }
                }
        }
}
