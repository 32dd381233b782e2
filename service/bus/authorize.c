/* SPDX-License-Identifier: MIT */
/* The only place that decides on polkit's word. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "bus/authorize.h"
#include "bus/call.h"
#include "bus/errors.h"
#include "bus/polkit.h"
#include "common/cleanup.h"
#include "common/failure.h"

static int append_detail(sd_bus_message *m, const char *key, const char *value) {
        return value ? sd_bus_message_append(m, "{ss}", key, value) : 0;
}

static const char *number(char *buffer, size_t size, unsigned long value) {
        (void)snprintf(buffer, size, "%lu", value);
        return buffer;
}

static int append_details(sd_bus_message *m, void *userdata) {
        const Call *call = userdata;
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

static void on_answer(PolkitAnswer answer, void *userdata) {
        static const AuthorizationState states[] = {
                [POLKIT_YES] = AUTHORIZATION_ALLOWED,
                [POLKIT_NO] = AUTHORIZATION_DENIED,
                [POLKIT_CHALLENGE] = AUTHORIZATION_CHALLENGE,
                [POLKIT_NONE] = AUTHORIZATION_FAILED,
        };
        Call *call = userdata;

        call->authorization.pending = NULL;
        call->authorization.state = states[answer];
        call_resume(call);
}

static int conclude(Call *call) {
        const Authorization *a = &call->authorization;
        Failure f;

        switch (a->state) {
        case AUTHORIZATION_ALLOWED:
                return 0;
        case AUTHORIZATION_CHALLENGE:
                (void)failure_set(&f, FAILURE_INTERACTION_REQUIRED,
                                  "%s%s%s needs somebody to authenticate (%s)", call_method(call),
                                  *call->object ? " " : "", call->object, a->action);
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
        return call_fail_with(call, &f);
}

int call_authorize(Call *call, const char *action, const Details *details) {
        Authorization *a = &call->authorization;
        _cleanup_free_ char *question = NULL;

        if (call_is_root(call))
                return 0;
        if (details->disputed || (details->has_owner && details->owner_uid != call->user->uid))
                action = ACTION_MANAGE_OTHERS;
        question = question_of(action, details);
        if (!question)
                return call_fail_oom(call);
        if (a->state == AUTHORIZATION_ASKED) /* run again for another reason */
                return call_park(call);
        if (a->state != AUTHORIZATION_NOT_ASKED) {
                bool same = strcmp(question, a->question) == 0;

                /* a refusal says the same whatever is there now, or it would tell what is */
                if (a->state != AUTHORIZATION_ALLOWED)
                        return conclude(call);
                /* that the process has ended, or that who listens is known only now that it may be, is
                 * no other question */
                if (same && (details->pid == a->details.pid || details->pid == 0 ||
                             a->details.pid == 0 || strcmp(action, ACTION_INSPECT) == 0))
                        return 0;
                if (a->asked_again) {
                        return call_fail(call, FAILURE_ACCESS_DENIED,
                                         "%s%s%s: what it acts upon keeps changing while polkit is asked; "
                                         "try again",
                                         call_method(call), *call->object ? " " : "", call->object);
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
        a->state = AUTHORIZATION_ASKED;
        if (polkit_ask(call->service, call->user, call->peer->name, action,
                       !details->never_prompt &&
                               sd_bus_message_get_allow_interactive_authorization(call->message) > 0,
                       append_details, on_answer, call, &a->pending) < 0) {
                a->state = AUTHORIZATION_NOT_ASKED;
                return call_fail_oom(call);
        }
        return call_park(call);
}
