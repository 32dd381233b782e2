/* SPDX-License-Identifier: MIT */
/* The verbs about sockets and the processes behind them, all but those that wait for an exit. */

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "batch.h"
#include "common/text.h"
#include "common/validate.h"
#include "i18n.h"
#include "output.h"
#include "report.h"
#include "text.h"

/* The call itself has to last longer than what the service may wait. */
static uint64_t patience(const Ctl *ctl) {
        if (!ctl->have_timeout)
                return 60 * USEC_PER_SEC;
        return ctl->timeout > USEC_FOREVER - 60 * USEC_PER_SEC ? CALL_WAITING
                                                               : ctl->timeout + 60 * USEC_PER_SEC;
}

static int append_timeout(Ctl *ctl, sd_bus_message *m) {
        if (!ctl->have_timeout)
                return sd_bus_message_append(m, "a{sv}", 0);
        return sd_bus_message_append(m, "a{sv}", 1, "timeout-usec", "t", ctl->timeout);
}

static int socket_only_build(Ctl *ctl, sd_bus_message *m, Task *task) {
        return sd_bus_message_append(m, "s", task->target.path);
}

/* --- sockets --- */

static int ensure_access_build(Ctl *ctl, sd_bus_message *m, Task *task) {
        int r = sd_bus_message_append(m, "ss", task->target.path, (const char *)task->extra);

        return r < 0 ? r : append_timeout(ctl, m);
}

static int ensure_access_take(Ctl *ctl, sd_bus_message *reply, Task *task) {
        task_say(task, _("%s: ready"), task->target.path);
        return 0;
}

int verb_ensure_socket_access(Ctl *ctl, int n, char *arguments[]) {
        Job job = {.method = "EnsureSocketAccess",
                   .key = "api_sock",
                   .single = true,
                   .timeout = patience(ctl),
                   .doing = _("Waiting for the socket"),
                   .build = ensure_access_build,
                   .take = ensure_access_take};
        const char *label = n > 1 ? arguments[1] : strrchr(arguments[0], '/');
        char text[65];
        Failure f;

        if (n == 1) {
                text_make_printable(label ? label + 1 : arguments[0], text, sizeof(text));
                for (char *p = text; *p; p++)
                        if (*p == '<' || *p == '>')
                                *p = '_';
                label = *text ? text : "socket";
        } else if (label_check(label, &f) < 0)
                return report_usage(ctl, "%s", f.text);
        return batch_run_targets(ctl, &job, 1, arguments, false, label);
}

static int ctrl_alt_del_build(Ctl *ctl, sd_bus_message *m, Task *task) {
        int r = sd_bus_message_append(m, "s", task->target.path);

        return r < 0 ? r : append_timeout(ctl, m);
}

static int ctrl_alt_del_take(Ctl *ctl, sd_bus_message *reply, Task *task) {
        task_say(task, _("%s: asked to shut down"), task->target.typed);
        task_add_bool(task, "sent", true);
        return 0;
}

int verb_send_ctrl_alt_del(Ctl *ctl, int n, char *arguments[]) {
        Job job = {.method = "SendCtrlAltDel",
                   .key = "api_sock",
                   .timeout = patience(ctl),
                   .doing = _("Waiting for the socket"),
                   .build = ctrl_alt_del_build,
                   .take = ctrl_alt_del_take};

        return batch_run_targets(ctl, &job, n, arguments, false, NULL);
}

/* --- who is behind a socket --- */

static void say_pid(Task *task, uint32_t pid, bool named) {
        if (named)
                task_say(task, "%s: %u", task->target.typed, pid);
        else
                task_say(task, "%u", pid);
        task->answer = true;
        task_add_number(task, "pid", pid);
}

/* For scripts: of a single socket the bare number. */
static int pid_take(Ctl *ctl, sd_bus_message *reply, Task *task) {
        uint32_t pid;
        int r = sd_bus_message_read(reply, "u", &pid);

        if (r >= 0)
                say_pid(task, pid, task->extra != NULL);
        return r;
}

static int open_take(Ctl *ctl, sd_bus_message *reply, Task *task) {
        struct pollfd p = {.events = POLLIN};
        uint32_t pid;
        int r = sd_bus_message_read(reply, "uh", &pid, &p.fd);

        if (r < 0)
                return r;
        say_pid(task, pid, task->extra != NULL);
        if (poll(&p, 1, 0) > 0) /* the message owns the descriptor */
                report_note(ctl, _("%s: it has just ended"), task->target.typed);
        return 0;
}

int verb_find_pid(Ctl *ctl, int n, char *arguments[]) {
        static const Job job = {.method = "FindPID",
                                .key = "api_sock",
                                .build = socket_only_build,
                                .take = pid_take};

        return batch_run_targets(ctl, &job, n, arguments, false, n > 1 ? "" : NULL);
}

int verb_open_process(Ctl *ctl, int n, char *arguments[]) {
        static const Job job = {.method = "OpenProcess",
                                .key = "api_sock",
                                .build = socket_only_build,
                                .take = open_take};

        /* a descriptor cannot travel through ssh; the call would never be answered */
        if (ctl_remote(ctl))
                return verb_find_pid(ctl, n, arguments);
        return batch_run_targets(ctl, &job, n, arguments, false, n > 1 ? "" : NULL);
}

static int resolve_build(Ctl *ctl, sd_bus_message *m, Task *task) {
        return sd_bus_message_append(m, "su", task->target.path, *(const uint32_t *)task->extra);
}

static int resolve_take(Ctl *ctl, sd_bus_message *reply, Task *task) {
        uint32_t pid;
        int r = sd_bus_message_read(reply, "u", &pid);

        if (r >= 0)
                say_pid(task, pid, false);
        return r;
}

int verb_resolve_pid(Ctl *ctl, int n, char *arguments[]) {
        static const Job job = {.method = "ResolvePID",
                                .key = "api_sock",
                                .single = true,
                                .build = resolve_build,
                                .take = resolve_take};
        uint64_t number;
        uint32_t pid;

        if (!number_parse(arguments[1], INT32_MAX, &number))
                return report_usage(ctl, _("'%.40s' is no process ID; give one, or 0 for none"),
                                    arguments[1]);
        pid = (uint32_t)number;
        return batch_run_targets(ctl, &job, 1, arguments, false, &pid);
}

/* --- ends --- */

static int kill_build(Ctl *ctl, sd_bus_message *m, Task *task) {
        return sd_bus_message_append(m, "usa{sv}", task->target.pid, task->target.path ?: "", 0);
}

static int kill_take(Ctl *ctl, sd_bus_message *reply, Task *task) {
        task_say(task, _("%s: killed"), task->target.typed);
        task_add_bool(task, "sent", true);
        return 0;
}

int verb_kill(Ctl *ctl, int n, char *arguments[]) {
        static const Job job = {.method = "Kill",
                                .key = "api_sock",
                                .build = kill_build,
                                .take = kill_take};

        return batch_run_targets(ctl, &job, n, arguments, true, NULL);
}

static uint64_t grace(const Ctl *ctl) {
        return ctl->have_grace ? ctl->grace : GRACE_DEFAULT;
}

/* For a service that is asked again what is left of it. Where somebody was asked for a password it is
 * not known when the first began; then the guest rather gets too much. */
static uint64_t grace_left(const Ctl *ctl, const Task *task) {
        uint64_t gone = now_usec() - task->begun;

        if (!task->lost_once || task->begun == 0 || grace(ctl) == USEC_FOREVER)
                return grace(ctl);
        return grace(ctl) > gone ? grace(ctl) - gone : 0;
}

static int shutdown_build(Ctl *ctl, sd_bus_message *m, Task *task) {
        int r = sd_bus_message_append(m, "st", task->target.path, grace_left(ctl, task));

        if (r < 0)
                return r;
        if (!ctl->force)
                return sd_bus_message_append(m, "a{sv}", 0);
        return sd_bus_message_append(m, "a{sv}", 1, "force", "b", 1);
}

/* The service says nothing before all is over, but what it does is a matter of time alone: it asks
 * at once, and kills when the grace is over. */
static void shutdown_show(const Ctl *ctl, const Task *task, size_t finished, size_t n) {
        uint64_t elapsed = now_usec() - task->begun;
        const char *name = task->target.typed;
        char stage[192], span[32], limit[32];

        span_format(elapsed - elapsed % USEC_PER_SEC, span, sizeof(span));
        span_format(grace(ctl), limit, sizeof(limit));
        if (task->lost > 0) {
                span_format((now_usec() - task->lost) / USEC_PER_SEC * USEC_PER_SEC, span,
                            sizeof(span));
                (void)output_status(ctl, _("Waiting for the service to come back, for %s …"), span);
                return;
        }
        if (task->begun == 0)
                (void)snprintf(stage, sizeof(stage), _("%.64s: shutting down"), name);
        else if (grace(ctl) == USEC_FOREVER)
                (void)snprintf(stage, sizeof(stage), _("%.64s: shutting down, for %s"), name, span);
        else if (elapsed < grace(ctl))
                (void)snprintf(stage, sizeof(stage), _("%.64s: shutting down, %s of %s"), name,
                               span, limit);
        else
                (void)snprintf(stage, sizeof(stage),
                               _("%.64s: killed after %s, waiting until it is gone"), name, limit);
        if (n > 1)
                (void)output_status(ctl, _("%zu of %zu done; %s …"), finished, n, stage);
        else
                (void)output_status(ctl, "%s …", stage);
}

/* A VMM that refuses the request, or is not started, is killed before its time. */
static void shutdown_say(const Ctl *ctl, Task *task, const char *how) {
        const char *name = task->target.typed;
        char limit[32];

        span_format(grace(ctl), limit, sizeof(limit));
        if (strcmp(how, "already-gone") == 0 && task->lost_once)
                task_say(task, _("%s: ended while the service was restarted, how is not known"),
                         name);
        else if (strcmp(how, "already-gone") == 0) {
                task_say(task, _("%s: was not running, nothing to do"), name);
                task->note = true;
        } else if (strcmp(how, "ctrl-alt-del") == 0)
                task_say(task, _("%s: shut down by its guest"), name);
        else if (strcmp(how, "killed") != 0)
                task_say(task, "%s: %s", name, how);
        else if (task->begun == 0 || grace(ctl) == 0)
                task_say(task, _("%s: killed"), name);
        else if (now_usec() - task->begun < grace(ctl))
                task_say(task, _("%s: killed at once, as it takes no request to shut down"), name);
        else
                task_say(task, _("%s: killed after %s, as it had not shut down"), name, limit);
}

/* How it ended says nothing that is not said yet. */
static bool as_expected(const char *how, const char *cause, int status) {
        if (strcmp(how, "ctrl-alt-del") == 0 && strcmp(cause, "exited") == 0)
                return status == 0;
        if (strcmp(how, "killed") == 0 && strcmp(cause, "signaled") == 0)
                return status == SIGKILL;
        return strcmp(cause, "unknown") == 0;
}

static void shutdown_ended(const Ctl *ctl, Task *task, const char *how, const char *cause,
                           int32_t status) {
        const char *meaning;

        shutdown_say(ctl, task, how);
        if (!as_expected(how, cause, status)) {
                _cleanup_free_ char *line = task->line;
                char ended[128];

                task->line = NULL;
                exit_describe(cause, status, ended, sizeof(ended));
                if (task->lost_once && strcmp(how, "already-gone") == 0)
                        task_say(task, "%s: %s", task->target.typed, ended);
                else
                        task_say(task, "%s (%s)", line, ended);
        }
        task_add_string(task, "how", how);
        task_add_string(task, "cause", cause);
        task_add_number(task, "status", status);
        meaning = strcmp(cause, "exited") == 0 ? exit_code_meaning(status) : NULL;
        if (meaning)
                task_add_string(task, "meaning", meaning);
}

static int shutdown_take(Ctl *ctl, sd_bus_message *reply, Task *task) {
        const char *how, *cause;
        int32_t status;
        int r = sd_bus_message_read(reply, "ssi", &how, &cause, &status);

        if (r >= 0)
                shutdown_ended(ctl, task, how, cause, status);
        return r;
}

/* It was asked, and nobody saw how it ended: no other word would be true. */
static void shutdown_gone(Ctl *ctl, Task *task) {
        shutdown_ended(ctl, task, "already-gone", "unknown", -1);
}

int verb_shutdown(Ctl *ctl, int n, char *arguments[]) {
        static const Job job = {.method = "Shutdown",
                                .key = "api_sock",
                                .timeout = CALL_WAITING,
                                .show = shutdown_show,
                                .build = shutdown_build,
                                .take = shutdown_take,
                                .gone = shutdown_gone};

        return batch_run_targets(ctl, &job, n, arguments, false, NULL);
}
