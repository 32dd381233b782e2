/* SPDX-License-Identifier: MIT */
/* The connection: to this host's system bus, or to another's through ssh or into a container, both
 * of which are sd-bus's own work. It is opened when a verb has understood its arguments, not
 * before. The loop is sd_bus_process() and sd_bus_wait(); a program that lives for one command
 * needs no more. */

#include <errno.h>
#include <string.h>
#include <time.h>

#include "agent.h"
#include "connection.h"
#include "i18n.h"
#include "report.h"

struct Call {
        Ctl *ctl;
        const char *method;
        uint64_t timeout;
        CallBuild build;
        CallDone done;
        void *userdata;
        bool asks;
        uint64_t sent;
        Call *next;            /* in the queue of those that have to ask */
        Call *before, *behind; /* among all that are under way */
};

uint64_t now_usec(void) {
        struct timespec t;

        (void)clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * USEC_PER_SEC + (uint64_t)t.tv_nsec / 1000;
}

int ctl_connect(Ctl *ctl) {
        const char *name;
        int r;

        if (ctl->bus)
                return CODE_DONE;
        if (ctl->host)
                r = sd_bus_open_system_remote(&ctl->bus, ctl->host);
        else if (ctl->machine)
                r = sd_bus_open_system_machine(&ctl->bus, ctl->machine);
        else
                r = sd_bus_open_system(&ctl->bus);
        if (r >= 0)
                r = sd_bus_get_unique_name(ctl->bus, &name); /* until then it may yet fail */
        if (r >= 0)
                return CODE_DONE;
        ctl->bus = sd_bus_unref(ctl->bus);
        if (!ctl_remote(ctl))
                return report_failure(ctl, CODE_NO_SERVICE, SD_BUS_ERROR_NO_SERVER,
                                      _("Cannot connect to the system bus: %s; see 'systemctl status dbus'"),
                                      strerror(-r));
        return report_failure(ctl, CODE_NO_SERVICE, SD_BUS_ERROR_NO_SERVER,
                              _("Cannot connect to the system bus of %s: %s"),
                              ctl->host ?: ctl->machine, strerror(-r));
}

int ctl_whereabouts(Ctl *ctl) {
        _cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
        sd_bus_message *reply = NULL;
        const char *name;
        uint32_t uid;
        int r, code = CODE_DONE;

        if (ctl->runtime_dir)
                return CODE_DONE;
        r = sd_bus_get_unique_name(ctl->bus, &name);
        if (r >= 0)
                r = sd_bus_call_method(ctl->bus, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                       "org.freedesktop.DBus", "GetConnectionUnixUser", &e, &reply,
                                       "s", name);
        if (r >= 0)
                r = sd_bus_message_read(reply, "u", &uid);
        if (r >= 0)
                r = sd_bus_get_property_string(ctl->bus, FCPROC_NAME, FCPROC_PATH, FCPROC_NAME,
                                               "RuntimeDir", &e, &ctl->runtime_dir);
        if (r >= 0)
                ctl->uid = uid;
        else
                code = report_call(ctl, &e, r, NULL);
        sd_bus_message_unref(reply);
        return code;
}

/* --- calls --- */

static int call_send(Call *call);

static void call_free(Call *call) {
        if (call->behind)
                call->behind->before = call->before;
        if (call->before)
                call->before->behind = call->behind;
        else
                call->ctl->calls = call->behind;
        free(call);
}

static void call_finish(Call *call, sd_bus_message *reply, const sd_bus_error *e) {
        Ctl *ctl = call->ctl;

        call->done(ctl, reply, e, call->userdata);
        call_free(call);
}

/* Lets whoever is next in line ask; where polkit keeps the last answer, nobody notices. */
static void call_next(Ctl *ctl) {
        while (!ctl->asking && ctl->to_ask) {
                Call *call = ctl->to_ask;
                int r;

                ctl->to_ask = call->next;
                ctl->asking = call;
                call->asks = true;
                r = call_send(call);
                if (r < 0) {
                        _cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;

                        (void)sd_bus_error_set_errno(&e, r);
                        ctl->asking = NULL;
                        call_finish(call, NULL, &e);
                }
        }
}

static int call_on_reply(sd_bus_message *m, void *userdata, sd_bus_error *ret) {
        const sd_bus_error *e = sd_bus_message_get_error(m);
        Call *call = userdata;
        Ctl *ctl = call->ctl;

        if (!call->asks && !ctl->no_ask_password && e &&
            sd_bus_error_has_name(e, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED)) {
                Call **last = &ctl->to_ask;

                while (*last)
                        last = &(*last)->next;
                call->next = NULL;
                *last = call;
        } else {
                static const sd_bus_error none = SD_BUS_ERROR_NULL;
                const sd_bus_error late = SD_BUS_ERROR_MAKE_CONST(
                        SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED,
                        _("Not authorized: nobody answered the question in time"));

                if (ctl->asking == call)
                        ctl->asking = NULL;
                /* the library's own answer, when the call's time is over */
                if (call->asks && e && sd_bus_error_has_name(e, SD_BUS_ERROR_NO_REPLY) &&
                    now_usec() - call->sent >= AGENT_PATIENCE)
                        e = &late;
                call_finish(call, m, e ?: &none);
        }
        call_next(ctl);
        return 1;
}

static int call_send(Call *call) {
        Ctl *ctl = call->ctl;
        sd_bus_message *m = NULL;
        uint64_t timeout = call->timeout;
        int r;

        r = sd_bus_message_new_method_call(ctl->bus, &m, FCPROC_NAME, FCPROC_PATH, FCPROC_NAME,
                                           call->method);
        if (r >= 0 && call->asks) {
                agent_open(ctl);
                if (timeout < AGENT_PATIENCE)
                        timeout = AGENT_PATIENCE;
                r = sd_bus_message_set_allow_interactive_authorization(m, true);
        }
        if (r >= 0 && call->build)
                r = call->build(ctl, m, call->userdata);
        call->sent = now_usec();
        if (r >= 0)
                r = sd_bus_call_async(ctl->bus, NULL, m, call_on_reply, call, timeout);
        sd_bus_message_unref(m);
        return r;
}

int call_start(Ctl *ctl, const char *method, uint64_t timeout, CallBuild build, CallDone done,
               void *userdata) {
        Call *call = malloc(sizeof(*call));
        int r;

        if (!call)
                return -ENOMEM;
        *call = (Call){.ctl = ctl,
                       .method = method,
                       .timeout = timeout,
                       .build = build,
                       .done = done,
                       .userdata = userdata,
                       .behind = ctl->calls};
        if (ctl->calls)
                ctl->calls->before = call;
        ctl->calls = call;
        r = call_send(call);
        if (r < 0)
                call_free(call);
        return r;
}

int call_build_options(Ctl *ctl, sd_bus_message *m, void *userdata) {
        return sd_bus_message_append(m, "a{sv}", 0);
}

typedef struct Waiting {
        CallBuild build;
        void *userdata;
        sd_bus_message *reply;
        bool done;
        int code;
} Waiting;

static int waiting_build(Ctl *ctl, sd_bus_message *m, void *userdata) {
        Waiting *w = userdata;

        return w->build ? w->build(ctl, m, w->userdata) : 0;
}

static void waiting_done(Ctl *ctl, sd_bus_message *reply, const sd_bus_error *e, void *userdata) {
        Waiting *w = userdata;

        w->done = true;
        if (sd_bus_error_is_set(e))
                w->code = report_call(ctl, e, 0, NULL);
        else
                w->reply = sd_bus_message_ref(reply);
}

int call_wait(Ctl *ctl, const char *method, CallBuild build, void *userdata, sd_bus_message **ret) {
        Waiting w = {.build = build, .userdata = userdata};
        int r;

        r = call_start(ctl, method, CALL_USUAL, waiting_build, waiting_done, &w);
        if (r < 0)
                return report_call(ctl, NULL, r, NULL);
        while (!w.done) {
                r = ctl_iterate(ctl, USEC_FOREVER);
                if (r < 0 && !w.done) {
                        /* the call is still under way, and what it would fill in goes now */
                        ctl->bus = sd_bus_close_unref(ctl->bus);
                        return report_call(ctl, NULL, r, NULL);
                }
        }
        if (w.code == CODE_DONE)
                *ret = w.reply;
        return w.code;
}

int ctl_iterate(Ctl *ctl, uint64_t until) {
        uint64_t now;
        int r;

        if (agent_interrupted())
                return -EINTR;
        r = sd_bus_process(ctl->bus, NULL);
        if (r != 0)
                return r;
        now = now_usec();
        r = sd_bus_wait(ctl->bus, until == USEC_FOREVER ? UINT64_MAX
                                  : until > now         ? until - now
                                                        : 0);
        if (agent_interrupted())
                return -EINTR;
        return r == -EINTR ? 0 : r;
}

void ctl_disconnect(Ctl *ctl) {
        agent_close();
        ctl->bus = sd_bus_flush_close_unref(ctl->bus);
        while (ctl->calls) /* given up: nobody is told any more */
                call_free(ctl->calls);
        free(ctl->runtime_dir);
}
