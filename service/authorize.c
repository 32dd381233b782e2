/* SPDX-License-Identifier: MIT */
/* The only place that talks to polkit, and the only one that decides on its word. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "call.h"
#include "errors.h"
#include "log.h"

#define POLKIT                                                           \
  "org.freedesktop.PolicyKit1", "/org/freedesktop/PolicyKit1/Authority", \
          "org.freedesktop.PolicyKit1.Authority"
#define POLKIT_ALLOW_INTERACTION 1U

static int ask(Call *call);

static int append_detail(sd_bus_message *m, const char *key, const char *value) {
        return value ? sd_bus_message_append(m, "{ss}", key, value) : 0;
}

static const char *number(char *buffer, size_t size, unsigned long value) {
        (void)snprintf(buffer, size, "%lu", value);
        return buffer;
}

static int append_details(sd_bus_message *m, const Call *call) {
        const Details *d = &call->authorization.details;
        char pid[24], uid[24];
        int r;

        r = sd_bus_message_open_container(m, 'a', "{ss}");
        if (r >= 0)
                r = append_detail(m, "method", call_method(call));
        if (r >= 0)
                r = append_detail(m, "tap", d->tap);
        if (r >= 0)
                r = append_detail(m, "bridge", d->bridge);
        if (r >= 0)
                r = append_detail(m, "api_sock", d->api_sock);
        if (r >= 0)
                r = append_detail(m, "pid",
                                  d->pid > 0 ? number(pid, sizeof(pid), (unsigned long)d->pid)
                                             : NULL);
        if (r >= 0)
                r = append_detail(m, "owner_uid", /* a dispute's other side may be the caller: no rule must match that */
                                  d->has_owner && d->owner_uid != UID_NONE &&
                                                  !(d->disputed && d->owner_uid == call->user->uid)
                                          ? number(uid, sizeof(uid), d->owner_uid)
                                          : NULL);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

/* Two runs of a handler ask the same thing when these texts are the same. */
static char *question_of(const char *action, const Details *d) {
        char *text;

        if (asprintf(&text, "%s tap=%s bridge=%s api_sock=%s owner=%u disputed=%d", action,
                     d->tap ?: "", d->bridge ?: "", d->api_sock ?: "",
                     d->has_owner ? d->owner_uid : UID_NONE, d->disputed) < 0)
                return NULL;
        return text;
}

static void start_next(User *user, unsigned share) {
        while (user->polkit_running < share) {
                Call *call = TAILQ_FIRST(&user->polkit_queue);

                if (!call)
                        return;
                TAILQ_REMOVE(&user->polkit_queue, call, in_polkit_queue);
                call->authorization.state = AUTHORIZATION_NOT_ASKED;
                if (ask(call) < 0) {
                        call->authorization.state = AUTHORIZATION_FAILED;
                        call_resume(call);
                }
        }
}

static int on_answer(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Call *call = userdata;
        Authorization *a = &call->authorization;
        User *user = call->user;
        Service *s = call->service;
        int authorized = 0, challenge = 0;

        a->slot = sd_bus_slot_unref(a->slot);
        if (sd_bus_message_is_method_error(m, NULL)) {
                log_message(LOG_WARNING, "polkit did not answer for %s: %s", a->action,
                            sd_bus_message_get_error(m)->message ?: "no reason given");
                a->state = AUTHORIZATION_FAILED;
        } else if (sd_bus_message_enter_container(m, 'r', "bba{ss}") < 0 ||
                   sd_bus_message_read(m, "bb", &authorized, &challenge) < 0)
                a->state = AUTHORIZATION_FAILED;
        else
                a->state = authorized  ? AUTHORIZATION_ALLOWED
                           : challenge ? AUTHORIZATION_CHALLENGE
                                       : AUTHORIZATION_DENIED;
        user->polkit_running--;
        user_ref(user); /* the call may go with its failed resume */
        call_resume(call);
        start_next(user, s->config->max_polkit_per_user);
        user_unref(user);
        return 0;
}

static int ask(Call *call) {
        _cleanup_message_ sd_bus_message *m = NULL;
        static unsigned long serial;
        Authorization *a = &call->authorization;
        bool interactive = !a->details.never_prompt &&
                           sd_bus_message_get_allow_interactive_authorization(call->message) > 0;
        int r;

        (void)snprintf(a->cancellation_id, sizeof(a->cancellation_id), "fcproc-%lu", ++serial);
        r = sd_bus_message_new_method_call(call->service->bus, &m, POLKIT, "CheckAuthorization");
        if (r >= 0)
                r = sd_bus_message_append(m, "(sa{sv})s", "system-bus-name", 1, "name", "s",
                                          call->peer->name, a->action);
        if (r >= 0)
                r = append_details(m, call);
        if (r >= 0)
                r = sd_bus_message_append(m, "us", interactive ? POLKIT_ALLOW_INTERACTION : 0U,
                                          a->cancellation_id);
        if (r >= 0) /* somebody may be typing a password: no time-out of ours */
                r = sd_bus_call_async(call->service->bus, &a->slot, m, on_answer, call, UINT64_MAX);
        if (r < 0)
                return r;
        a->state = AUTHORIZATION_ASKED;
        call->user->polkit_running++;
        return 0;
}

void authorization_cancel(Call *call) {
        Authorization *a = &call->authorization;

        if (a->state == AUTHORIZATION_QUEUED)
                TAILQ_REMOVE(&call->user->polkit_queue, call, in_polkit_queue);
        if (a->state == AUTHORIZATION_ASKED) {
                /* takes a prompt away that nobody waits for any more */
                (void)sd_bus_call_method_async(call->service->bus, NULL, POLKIT,
                                               "CancelCheckAuthorization", NULL, NULL, "s",
                                               a->cancellation_id);
                a->slot = sd_bus_slot_unref(a->slot);
                call->user->polkit_running--;
                start_next(call->user, call->service->config->max_polkit_per_user);
        }
        a->state = AUTHORIZATION_NOT_ASKED;
        free(TAKE_PTR(a->question));
}

static int conclude(Call *call, sd_bus_error *error) {
        const Authorization *a = &call->authorization;
        Failure f;

        switch (a->state) {
        case AUTHORIZATION_ALLOWED:
                return 0;
        case AUTHORIZATION_CHALLENGE:
                (void)failure_set(&f, FAILURE_INTERACTION_REQUIRED,
                                  "%s%s%s needs somebody to authenticate (%s); allow interactive authorization and have a "
                                  "polkit agent running, or ask the administrator for a rule",
                                  call_method(call), *call->object ? " " : "", call->object,
                                  a->action);
                break;
        case AUTHORIZATION_FAILED:
                (void)failure_set(&f, FAILURE_ACCESS_DENIED,
                                  "%s%s%s is not allowed: polkit, which decides on %s, gave no answer; is it running?",
                                  call_method(call), *call->object ? " " : "", call->object,
                                  a->action);
                break;
        default:
                (void)failure_set(&f, FAILURE_ACCESS_DENIED,
                                  "%s%s%s is not allowed for uid %u by polkit (%s); ask the administrator for a rule",
                                  call_method(call), *call->object ? " " : "", call->object,
                                  call->user->uid, a->action);
        }
        return call_fail(call, error, &f);
}

int call_authorize(Call *call, const char *action, const Details *details, sd_bus_error *error) {
        Authorization *a = &call->authorization;
        _cleanup_free_ char *question = NULL;
        Failure f;

        a->needed = strcmp(action, ACTION_INSPECT) != 0;
        if (call_is_root(call))
                return 0;
        if (details->disputed || (details->has_owner && details->owner_uid != call->user->uid))
                action = ACTION_MANAGE_OTHERS;
        question = question_of(action, details);
        if (!question)
                return failure_oom(&f), call_fail(call, error, &f);
        if (a->state != AUTHORIZATION_NOT_ASKED) {
                bool same = strcmp(question, a->question) == 0;

                /* a refusal says the same whatever is there now, or it would tell what is */
                if (a->state != AUTHORIZATION_ALLOWED)
                        return conclude(call, error);
                /* that the process has ended, or that who listens is known only now that it may be, is
                 * no other question */
                if (same && (details->pid == a->details.pid || details->pid == 0 ||
                             a->details.pid == 0 || strcmp(action, ACTION_INSPECT) == 0))
                        return 0;
                if (a->asked_again) {
                        (void)failure_set(&f, FAILURE_ACCESS_DENIED,
                                          "%s%s%s: what it acts upon keeps changing while polkit is asked; "
                                          "try again",
                                          call_method(call), *call->object ? " " : "", call->object);
                        return call_fail(call, error, &f);
                }
                a->asked_again = true; /* what it acts upon has changed: that is to be asked about */
                free(TAKE_PTR(a->question));
        }
        a->action = action;
        a->details = *details;
        if (details->bridge) {
                (void)snprintf(a->bridge, sizeof(a->bridge), "%s", details->bridge);
                a->details.bridge = a->bridge;
        }
        a->question = TAKE_PTR(question);
        if (call->user->polkit_running >= call->service->config->max_polkit_per_user) {
                a->state = AUTHORIZATION_QUEUED;
                TAILQ_INSERT_TAIL(&call->user->polkit_queue, call, in_polkit_queue);
                return call_park(call);
        }
        if (ask(call) < 0) {
                a->state = AUTHORIZATION_FAILED;
                return conclude(call, error);
        }
        return call_park(call);
}
