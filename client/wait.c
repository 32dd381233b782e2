/* SPDX-License-Identifier: MIT */
/* wait-for-exit and watch-exit.
 *
 * Both arm watches and take the signals: the bus lets a connection have 128 calls without a reply,
 * watches are not limited so. What is waited for is a process, not a socket: from the first answer
 * on its pid is known, and when the service is restarted the new one is asked to watch that pid. A
 * process that ended while there was no service is gone for it, and so it is for us. */

#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "follow.h"
#include "i18n.h"
#include "output.h"
#include "report.h"
#include "target.h"
#include "text.h"

#define CALLS_AT_A_TIME 32

typedef struct Exit {
        uint32_t pid;
        char cause[32];
        int32_t status;
} Exit;

typedef struct Wait {
        struct Waits *all;
        Target target;
        uint32_t pid;                     /* 0: not yet known */
        bool calling, armed, known, done; /* known: was armed once */
        Exit exit;
        int code;
        sd_bus_error error;
} Wait;

typedef struct Waits {
        Follower f; /* first: the follower is how signals find us */
        Ctl *ctl;
        bool stream;
        Wait *waits;
        size_t n, calling, printed;
        Exit *exits; /* seen, by pid */
        size_t n_exits;
        uint64_t begun, deadline;
        json_object *json;
        int code;
} Waits;

static json_object *wait_json(const Wait *w) {
        const char *meaning = strcmp(w->exit.cause, "exited") == 0
                                      ? exit_code_meaning(w->exit.status)
                                      : NULL;
        json_object *o = json_object_new_object();

        if (w->target.path)
                (void)json_object_object_add(o, "api_sock", json_object_new_string(w->target.path));
        if (w->pid > 0)
                (void)json_object_object_add(o, "pid", json_object_new_int64(w->pid));
        if (*w->exit.cause) {
                (void)json_object_object_add(o, "cause", json_object_new_string(w->exit.cause));
                (void)json_object_object_add(o, "status", json_object_new_int(w->exit.status));
        }
        if (meaning)
                (void)json_object_object_add(o, "meaning", json_object_new_string(meaning));
        return o;
}

static void wait_print(Waits *all, Wait *w) {
        json_object *o = wait_json(w);
        char text[128];

        if (sd_bus_error_is_set(&w->error)) {
                json_object *e = NULL;

                (void)report_call(all->ctl, &w->error, 0, &e);
                (void)json_object_object_add(o, "error", e);
        } else if (!all->ctl->quiet) {
                exit_describe(w->exit.cause, w->exit.status, text, sizeof(text));
                output_line(all->ctl, "%s: %s", w->target.typed, text);
        }
        if (all->ctl->json == JSON_OFF)
                (void)json_object_put(o);
        else if (all->stream)
                output_json_line(all->ctl, o);
        else
                (void)json_object_array_add(all->json, o);
}

static void wait_finish(Wait *w) {
        Waits *all = w->all;

        w->done = true;
        if (all->stream) {
                wait_print(all, w);
                all->printed++;
        } else
                while (all->printed < all->n && all->waits[all->printed].done)
                        wait_print(all, &all->waits[all->printed++]);
}

static void wait_exited(Wait *w, const Exit *e) {
        w->exit = *e;
        wait_finish(w);
}

static void wait_failed(Wait *w, const sd_bus_error *e) {
        (void)sd_bus_error_copy(&w->error, e);
        w->code = report_code(e);
        wait_finish(w);
}

static void wait_timed_out(Wait *w) {
        char span[32], text[256];
        sd_bus_error e = SD_BUS_ERROR_MAKE_CONST(FCPROC_ERROR "WaitForExitTimeout", text);

        span_format(now_usec() - w->all->begun, span, sizeof(span));
        if (w->all->ctl->timeout > 0)
                (void)snprintf(text, sizeof(text), _("%.100s is still running after %s"),
                               w->target.typed, span);
        else
                (void)snprintf(text, sizeof(text), _("%.100s is still running"), w->target.typed);
        wait_failed(w, &e);
}

/* --- arming --- */

static int watch_build(Ctl *ctl, sd_bus_message *m, void *userdata) {
        Wait *w = userdata;
        uint64_t now = now_usec(), left = w->all->deadline;

        if (left != USEC_FOREVER)
                left = left > now ? left - now : 0;
        return sd_bus_message_append(m, "usta{sv}", w->pid, w->target.path ?: "", left, 0);
}

static bool service_went(const sd_bus_error *e) {
        return report_code(e) == CODE_NO_SERVICE;
}

static void watch_done(Ctl *ctl, sd_bus_message *reply, const sd_bus_error *e, void *userdata) {
        Wait *w = userdata;
        Waits *all = w->all;
        uint32_t pid;

        w->calling = false;
        all->calling--;
        if (w->done)
                return;
        if (sd_bus_error_is_set(e)) {
                if (service_went(e)) /* it is armed again when there is another, or given up */
                        return;
                if (w->known && report_code(e) == CODE_NO_OBJECT) {
                        Exit gone = {w->pid, "unknown", -1};

                        wait_exited(w, &gone);
                } else
                        wait_failed(w, e);
                return;
        }
        if (sd_bus_message_read(reply, "u", &pid) < 0)
                return;
        w->pid = pid;
        w->armed = w->known = true;
        for (size_t i = 0; i < all->n_exits; i++) /* one signal per process and connection */
                if (all->exits[i].pid == pid) {
                        wait_exited(w, &all->exits[i]);
                        break;
                }
}

static int arm(Waits *all) {
        int r = 0;

        for (size_t i = 0; r >= 0 && i < all->n && all->calling < CALLS_AT_A_TIME; i++) {
                Wait *w = &all->waits[i];

                if (w->done || w->armed || w->calling)
                        continue;
                r = call_start(all->ctl, "WatchExit", CALL_USUAL, watch_build, watch_done, w);
                if (r >= 0) {
                        w->calling = true;
                        all->calling++;
                }
        }
        return r;
}

static void on_owner(Follower *f) {
        Waits *all = (Waits *)f;

        for (size_t i = 0; i < all->n; i++)
                all->waits[i].armed = false;
        /* pids may be reused while nobody watches */
        all->n_exits = 0;
}

static void on_signal(Follower *f, sd_bus_message *m, const char *member) {
        Waits *all = (Waits *)f;
        const char *path, *cause;
        Exit e = {}, *exits;

        if (strcmp(member, "ProcessExited") == 0) {
                if (sd_bus_message_read(m, "uussi", &e.pid, NULL, NULL, &cause, &e.status) < 0)
                        return;
                (void)snprintf(e.cause, sizeof(e.cause), "%s", cause);
                exits = reallocarray(all->exits, all->n_exits + 1, sizeof(*exits));
                if (!exits)
                        abort();
                all->exits = exits;
                all->exits[all->n_exits++] = e;
                for (size_t i = 0; i < all->n; i++)
                        if (!all->waits[i].done && all->waits[i].armed && all->waits[i].pid == e.pid)
                                wait_exited(&all->waits[i], &e);
        } else if (strcmp(member, "WaitTimedOut") == 0) {
                if (sd_bus_message_read(m, "us", &e.pid, &path) < 0)
                        return;
                for (size_t i = 0; i < all->n; i++) {
                        Wait *w = &all->waits[i];

                        if (!w->done && w->armed && w->pid == e.pid &&
                            strcmp(w->target.path ?: "", path) == 0)
                                wait_timed_out(w);
                }
        }
}

/* --- the loop --- */

static void show_status(const Waits *all, uint64_t now) {
        const Wait *first = NULL;
        char span[32];

        for (size_t i = 0; i < all->n && !first; i++)
                if (!all->waits[i].done)
                        first = &all->waits[i];
        if (!first || all->ctl->asking)
                return;
        span_format((now - all->begun) / USEC_PER_SEC * USEC_PER_SEC, span, sizeof(span));
        if (!*all->f.owner)
                (void)output_status(all->ctl, _("Waiting for the service to come back, for %s …"),
                                    span);
        else if (all->n > 1)
                (void)output_status(all->ctl, _("Waiting for %zu of %zu VMs, for %s …"),
                                    all->n - all->printed, all->n, span);
        else
                (void)output_status(all->ctl, _("Waiting for %s (pid %u), for %s …"),
                                    first->target.typed, first->pid, span);
}

/* What will not be decided by the service any more. */
static void give_up(Waits *all, int r) {
        sd_bus_error gone = SD_BUS_ERROR_MAKE_CONST(
                r == -EINTR ? SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED
                : r < 0     ? SD_BUS_ERROR_DISCONNECTED
                            : SD_BUS_ERROR_NAME_HAS_NO_OWNER,
                r == -EINTR ? _("Not authorized: the question was interrupted") : "");

        for (size_t i = 0; i < all->n; i++)
                if (!all->waits[i].done)
                        wait_failed(&all->waits[i], &gone);
}

static int wait_loop(Waits *all) {
        bool terminal = isatty(STDERR_FILENO);
        uint64_t now, until;
        int r;

        for (;;) {
                now = now_usec();
                if (all->deadline != USEC_FOREVER && now > all->deadline + 2 * USEC_PER_SEC)
                        for (size_t i = 0; i < all->n; i++)
                                if (!all->waits[i].done && !all->waits[i].calling)
                                        wait_timed_out(&all->waits[i]);
                if (all->printed == all->n || output_broken())
                        return 0;
                until = terminal ? now + USEC_PER_SEC : USEC_FOREVER;
                if (*all->f.owner) {
                        r = arm(all);
                        if (r < 0)
                                return r;
                } else if (now - all->f.lost >= FOLLOW_PATIENCE)
                        return 1;
                else
                        until = MIN_OF(until, all->f.lost + FOLLOW_PATIENCE);
                if (all->deadline != USEC_FOREVER)
                        until = MIN_OF(until, all->deadline + 2 * USEC_PER_SEC + 1000);
                show_status(all, now);
                r = ctl_iterate(all->ctl, until);
                if (r < 0)
                        return r;
        }
}

static int wait_for(Ctl *ctl, int n, char *arguments[], bool stream) {
        Waits all = {.f = {.on_signal = on_signal, .on_owner = on_owner},
                     .ctl = ctl,
                     .stream = stream,
                     .n = (size_t)n,
                     .deadline = USEC_FOREVER};
        int code = CODE_DONE, r;

        all.waits = calloc(all.n, sizeof(*all.waits));
        if (!all.waits)
                abort();
        for (int i = 0; i < n && code == CODE_DONE; i++) {
                all.waits[i].all = &all;
                code = target_parse(ctl, arguments[i], true, &all.waits[i].target);
                all.waits[i].pid = all.waits[i].target.pid;
        }
        if (code == CODE_DONE)
                code = ctl_connect(ctl);
        for (int i = 0; i < n && code == CODE_DONE; i++)
                code = target_locate(ctl, &all.waits[i].target);
        if (code == CODE_DONE)
                code = follow_start(ctl, &all.f);
        if (code == CODE_DONE) {
                all.begun = now_usec();
                if (ctl->have_timeout && ctl->timeout < USEC_FOREVER - all.begun - 2 * USEC_PER_SEC)
                        all.deadline = all.begun + ctl->timeout;
                all.json = json_object_new_array();
                r = wait_loop(&all);
                if (r != 0)
                        give_up(&all, r);
                for (size_t i = 0; i < all.n && code == CODE_DONE; i++)
                        code = all.waits[i].code;
                if (ctl->json != JSON_OFF && !stream)
                        output_json(ctl, json_object_get(all.json));
                (void)json_object_put(all.json);
        }
        follow_end(&all.f);
        if (ctl->bus && all.calling > 0) /* no reply may find what goes now */
                ctl->bus = sd_bus_close_unref(ctl->bus);
        for (int i = 0; i < n; i++) {
                target_done(&all.waits[i].target);
                sd_bus_error_free(&all.waits[i].error);
        }
        free(all.waits);
        free(all.exits);
        return code;
}

int verb_wait_for_exit(Ctl *ctl, int n, char *arguments[]) {
        return wait_for(ctl, n, arguments, false);
}

int verb_watch_exit(Ctl *ctl, int n, char *arguments[]) {
        return wait_for(ctl, n, arguments, true);
}
