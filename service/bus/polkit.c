/* SPDX-License-Identifier: MIT */
/* The only place that talks to polkit. What it says is made of it in authorize.c. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/config.h"
#include "base/log.h"
#include "base/loop.h"
#include "bus/errors.h"
#include "bus/polkit.h"
#include "common/cleanup.h"

#define POLKIT                                                           \
  "org.freedesktop.PolicyKit1", "/org/freedesktop/PolicyKit1/Authority", \
          "org.freedesktop.PolicyKit1.Authority"
#define POLKIT_ALLOW_INTERACTION 1U

/* Together less than 128. */
#define QUICK_MAX 64U
#define DIALOGS_MAX 56U
#define LATER_USEC (50 * USEC_PER_MSEC)
/* Whoever hangs up takes their text agent along, which ends the dialog by itself. polkitd up to 122
 * can lock up where a cancellation meets the agent's last words (g_cancellable_cancel() in one
 * thread, g_cancellable_disconnect() in another); so it comes after them, and only if it has to. */
#define CLOSE_USEC (300 * USEC_PER_MSEC)

struct PolkitQuestion {
        Service *service;
        User *user;
        char subject[64]; /* a unique name */
        const char *action;
        bool dialog_allowed;
        PolkitKind kind;
        PolkitDetailsFunction details;
        PolkitFunction function; /* NULL: forgotten, its slot waits for the answer */
        void *userdata;
        bool asked, given_up;
        char cancellation_id[24];
        sd_bus_slot *slot;
        sd_event_source *close; /* closes its dialog, of a question that is forgotten */
        TAILQ_ENTRY(PolkitQuestion) in_user; /* queue or asked */
};

struct Polkit {
        unsigned running[_POLKIT_KINDS];
        unsigned given_up; /* dialogs that are being closed for somebody else's */
        TAILQ_HEAD(, User) turns[_POLKIT_KINDS]; /* users with something in their queue */
        sd_event_source *later;
};

static const unsigned slots[_POLKIT_KINDS] = {[POLKIT_QUICK] = QUICK_MAX, [POLKIT_DIALOG] = DIALOGS_MAX};

static void start(Service *s, PolkitKind kind);

static void question_free(PolkitQuestion *q) {
        sd_bus_slot_unref(q->slot);
        sd_event_source_disable_unref(q->close);
        user_unref(q->user);
        free(q);
}

static void enqueue(PolkitQuestion *q, bool first) {
        PolkitShare *share = &q->user->polkit[q->kind];
        Polkit *p = q->service->polkit;

        q->asked = false;
        if (TAILQ_EMPTY(&share->queue))
                TAILQ_INSERT_TAIL(&p->turns[q->kind], q->user, in_polkit_turns[q->kind]);
        if (first)
                TAILQ_INSERT_HEAD(&share->queue, q, in_user);
        else
                TAILQ_INSERT_TAIL(&share->queue, q, in_user);
}

static void dequeue(PolkitQuestion *q) {
        PolkitShare *share = &q->user->polkit[q->kind];

        TAILQ_REMOVE(&share->queue, q, in_user);
        if (TAILQ_EMPTY(&share->queue))
                TAILQ_REMOVE(&q->service->polkit->turns[q->kind], q->user, in_polkit_turns[q->kind]);
}

static void occupy(PolkitQuestion *q) {
        PolkitShare *share = &q->user->polkit[q->kind];

        q->asked = true;
        TAILQ_INSERT_TAIL(&share->asked, q, in_user);
        share->running++;
        q->service->polkit->running[q->kind]++;
}

static void vacate(PolkitQuestion *q) {
        PolkitShare *share = &q->user->polkit[q->kind];

        q->asked = false;
        TAILQ_REMOVE(&share->asked, q, in_user);
        share->running--;
        q->service->polkit->running[q->kind]--;
        if (q->given_up)
                q->service->polkit->given_up--;
        q->given_up = false;
}

static int on_later(sd_event_source *source, uint64_t usec, void *userdata) {
        Service *s = userdata;

        s->polkit->later = sd_event_source_disable_unref(s->polkit->later);
        for (PolkitKind kind = 0; kind < _POLKIT_KINDS; kind++)
                start(s, kind);
        return 0;
}

/* The bus takes no more at present. */
static void ask_later(PolkitQuestion *q) {
        Service *s = q->service;

        enqueue(q, true);
        if (!s->polkit->later)
                (void)loop_add_timer(s->event, &s->polkit->later, LATER_USEC, on_later, s);
}

static PolkitAnswer read_answer(sd_bus_message *m, const char *action) {
        int authorized = 0, challenge = 0;

        if (sd_bus_message_is_method_error(m, NULL)) {
                log_message(LOG_WARNING, "polkit did not answer for %s: %s", action,
                            sd_bus_message_get_error(m)->message ?: "no reason given");
                return POLKIT_NONE;
        }
        if (sd_bus_message_enter_container(m, 'r', "bba{ss}") < 0 ||
            sd_bus_message_read(m, "bb", &authorized, &challenge) < 0)
                return POLKIT_NONE;
        return authorized ? POLKIT_YES : challenge ? POLKIT_CHALLENGE : POLKIT_NO;
}

static void conclude(PolkitQuestion *q, PolkitAnswer answer) {
        PolkitFunction function = q->function;
        void *userdata = q->userdata;

        question_free(q);
        if (function)
                function(answer, userdata);
}

static int on_answer(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        PolkitQuestion *q = userdata;
        bool given_up = q->given_up;
        PolkitKind kind = q->kind;
        Service *s = q->service;
        PolkitAnswer answer;

        q->slot = sd_bus_slot_unref(q->slot);
        vacate(q);
        if (!q->function)
                question_free(q);
        else if (sd_bus_message_is_method_error(m, SD_BUS_ERROR_LIMITS_EXCEEDED) ||
                 sd_bus_message_is_method_error(m, SD_BUS_ERROR_NO_MEMORY))
                ask_later(q);
        else {
                answer = read_answer(m, q->action);
                if (given_up && answer == POLKIT_NO) /* it is ours: polkit says so of a closed dialog */
                        enqueue(q, false);
                else if (answer == POLKIT_CHALLENGE && q->dialog_allowed && kind == POLKIT_QUICK) {
                        q->kind = POLKIT_DIALOG;
                        enqueue(q, false);
                        start(s, POLKIT_DIALOG);
                } else
                        conclude(q, answer);
        }
        start(s, kind);
        return 0;
}

static int send_question(PolkitQuestion *q) {
        _cleanup_message_ sd_bus_message *m = NULL;
        static unsigned long serial;
        int r;

        (void)snprintf(q->cancellation_id, sizeof(q->cancellation_id), "fcproc-%lu", ++serial);
        r = sd_bus_message_new_method_call(q->service->bus, &m, POLKIT, "CheckAuthorization");
        if (r >= 0)
                r = sd_bus_message_append(m, "(sa{sv})s", "system-bus-name", 1, "name", "s",
                                          q->subject, q->action);
        if (r >= 0)
                r = q->details(m, q->userdata);
        if (r >= 0)
                r = sd_bus_message_append(m, "us",
                                          q->kind == POLKIT_DIALOG ? POLKIT_ALLOW_INTERACTION : 0U,
                                          q->cancellation_id);
        /* somebody may be typing a password: no time-out of ours */
        return r < 0 ? r : sd_bus_call_async(q->service->bus, &q->slot, m, on_answer, q, UINT64_MAX);
}

static void cancel(PolkitQuestion *q) {
        (void)sd_bus_call_method_async(q->service->bus, NULL, POLKIT, "CancelCheckAuthorization",
                                       NULL, NULL, "s", q->cancellation_id);
}

static int on_close(sd_event_source *source, uint64_t usec, void *userdata) {
        PolkitQuestion *q = userdata;

        q->close = sd_event_source_disable_unref(q->close);
        cancel(q);
        return 0;
}

/* All dialogs are open, and user has none or few: closes one of whoever has most. */
static void make_room(Service *s, const User *user) {
        Polkit *p = s->polkit;
        User *most = NULL;
        PolkitQuestion *q;

        if (p->given_up > 0)
                return;
        for (User *u = user_next(s, NULL); u; u = user_next(s, u))
                if (!most || u->polkit[POLKIT_DIALOG].running > most->polkit[POLKIT_DIALOG].running)
                        most = u;
        if (!most || most->polkit[POLKIT_DIALOG].running < user->polkit[POLKIT_DIALOG].running + 2)
                return;
        TAILQ_FOREACH_REVERSE(q, &most->polkit[POLKIT_DIALOG].asked, PolkitQuestions, in_user)
        if (q->function)
                break;
        if (!q)
                return;
        q->given_up = true;
        p->given_up++;
        cancel(q);
}

/* Of those who wait and have a slot left: who has the fewest, and among them whose turn it is. */
static User *next_user(Service *s, PolkitKind kind) {
        unsigned fewest = s->config->max_polkit_per_user;
        User *u, *next = NULL;

        TAILQ_FOREACH(u, &s->polkit->turns[kind], in_polkit_turns[kind])
                if (u->polkit[kind].running < fewest) {
                        fewest = u->polkit[kind].running;
                        next = u;
                }
        return next;
}

static void start(Service *s, PolkitKind kind) {
        Polkit *p = s->polkit;
        User *u;

        while (!s->stopping && !p->later && (u = next_user(s, kind))) {
                PolkitQuestion *q = TAILQ_FIRST(&u->polkit[kind].queue);
                int r;

                if (p->running[kind] >= slots[kind]) {
                        if (kind == POLKIT_DIALOG)
                                make_room(s, u);
                        return;
                }
                dequeue(q);
                if (!TAILQ_EMPTY(&u->polkit[kind].queue)) { /* the others first */
                        TAILQ_REMOVE(&p->turns[kind], u, in_polkit_turns[kind]);
                        TAILQ_INSERT_TAIL(&p->turns[kind], u, in_polkit_turns[kind]);
                }
                r = send_question(q);
                if (r >= 0)
                        occupy(q);
                else if (r == -ENOBUFS)
                        ask_later(q);
                else
                        conclude(q, POLKIT_NONE);
        }
}

int polkit_ask(Service *s, User *user, const char *subject, const char *action, bool dialog,
               PolkitDetailsFunction details, PolkitFunction function, void *userdata,
               PolkitQuestion **ret) {
        PolkitQuestion *q = calloc(1, sizeof(*q));

        if (!q)
                return -ENOMEM;
        *q = (PolkitQuestion){.service = s,
                              .user = user_ref(user),
                              .action = action,
                              .dialog_allowed = dialog,
                              .kind = POLKIT_QUICK,
                              .details = details,
                              .function = function,
                              .userdata = userdata};
        (void)snprintf(q->subject, sizeof(q->subject), "%s", subject);
        *ret = q;
        enqueue(q, false);
        start(s, POLKIT_QUICK);
        return 0;
}

void polkit_forget(PolkitQuestion *q) {
        if (!q->asked) {
                dequeue(q);
                question_free(q);
                return;
        }
        q->function = NULL;
        if (q->kind == POLKIT_DIALOG && !q->given_up &&
            loop_add_timer(q->service->event, &q->close, CLOSE_USEC, on_close, q) < 0)
                cancel(q);
}

int polkit_new(Service *s) {
        s->polkit = calloc(1, sizeof(Polkit));
        if (!s->polkit)
                return -ENOMEM;
        for (PolkitKind kind = 0; kind < _POLKIT_KINDS; kind++)
                TAILQ_INIT(&s->polkit->turns[kind]);
        return 0;
}

/* After the calls: what is left was forgotten, and waits for an answer. */
void polkit_free(Service *s) {
        if (!s->polkit)
                return;
        for (User *u = user_next(s, NULL), *next; u; u = next) {
                (void)user_ref(u);
                for (PolkitKind kind = 0; kind < _POLKIT_KINDS; kind++)
                        while (!TAILQ_EMPTY(&u->polkit[kind].asked)) {
                                PolkitQuestion *q = TAILQ_FIRST(&u->polkit[kind].asked);

                                vacate(q);
                                question_free(q);
                        }
                next = user_next(s, u);
                user_unref(u);
        }
        sd_event_source_disable_unref(s->polkit->later);
        free(s->polkit);
        s->polkit = NULL;
}
