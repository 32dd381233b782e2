/* SPDX-License-Identifier: MIT */
/* Nearly every verb is a batch, be it of one. A result is printed as soon as all before it are
 * there, so that the order is that of the command line and a slow one holds nobody up but those
 * behind it. */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "again.h"
#include "agent.h"
#include "batch.h"
#include "i18n.h"
#include "output.h"
#include "report.h"
#include "text.h"

/* The service lets a user have max_calls_per_user calls at a time, 64 unless it is configured; what
 * else he is doing needs some. Waiting ones do not count there, but the bus allows 128. */
#define CALLS_AT_A_TIME 32
#define WAITS_AT_A_TIME 100

void task_say(Task *task, const char *format, ...) {
        va_list args;

        free(task->line);
        va_start(args, format);
        if (vasprintf(&task->line, format, args) < 0)
                abort();
        va_end(args);
}

void task_add_string(Task *task, const char *key, const char *value) {
        (void)json_object_object_add(task->json, key, json_object_new_string(value));
}

void task_add_number(Task *task, const char *key, int64_t value) {
        (void)json_object_object_add(task->json, key, json_object_new_int64(value));
}

void task_add_bool(Task *task, const char *key, bool value) {
        (void)json_object_object_add(task->json, key, json_object_new_boolean(value));
}

static int task_build(Ctl *ctl, sd_bus_message *m, void *userdata) {
        Task *task = userdata;

        return task->job->build ? task->job->build(ctl, m, task) : 0;
}

void task_fail(Task *task, const sd_bus_error *e, int r) {
        if (e)
                (void)sd_bus_error_copy(&task->error, e);
        else
                task->error = SD_BUS_ERROR_MAKE_CONST(
                        r == -ENOMEM ? SD_BUS_ERROR_NO_MEMORY : SD_BUS_ERROR_DISCONNECTED,
                        r == -ENOMEM ? _("Out of memory") : _("The connection to the bus is gone"));
        task->code = report_code(&task->error);
        task->done = true;
}

static void task_done(Ctl *ctl, sd_bus_message *reply, const sd_bus_error *e, void *userdata) {
        Task *task = userdata;
        int r = 0;

        if (sd_bus_error_is_set(e)) {
                if (task->again && again_lost(ctl, task, e))
                        return;
                if (!task->job->excuse || !task->job->excuse(ctl, e, task)) {
                        task_fail(task, e, 0);
                        return;
                }
        } else if (task->job->take)
                r = task->job->take(ctl, reply, task);
        if (r < 0) {
                task->error = SD_BUS_ERROR_MAKE_CONST(
                        SD_BUS_ERROR_INVALID_SIGNATURE,
                        _("The service's answer cannot be read; is it of another version?"));
                task->code = CODE_FAILED;
        }
        task->done = true;
}

int task_call(Ctl *ctl, Task *task) {
        if (!task->lost_once)
                task->begun = now_usec();
        return call_start(ctl, task->job->method, task->job->timeout ?: CALL_USUAL, task_build,
                          task_done, task);
}

static void task_print(const Ctl *ctl, Task *task) {
        if (sd_bus_error_is_set(&task->error)) {
                json_object *e = NULL;

                (void)report_call(ctl, &task->error, 0, &e);
                (void)json_object_object_add(task->json, "error", e);
        } else if (task->line && task->note)
                report_note(ctl, "%s", task->line);
        else if (task->line && (task->answer || !ctl->quiet))
                output_line(ctl, "%s", task->line);
}

static void show_status(const Ctl *ctl, const Job *job, const Task *next, size_t finished, size_t n,
                        uint64_t begun) {
        uint64_t now = now_usec();
        char span[32];

        if (now - begun < USEC_PER_SEC || ctl->asking)
                return;
        if (job->show) {
                job->show(ctl, next, finished, n);
                return;
        }
        if (!job->doing)
                return;
        span_format(now - begun, span, sizeof(span));
        if (n > 1)
                (void)output_status(ctl, _("%s, %zu of %zu done, for %s …"), job->doing, finished,
                                    n, span);
        else
                (void)output_status(ctl, _("%s, for %s …"), job->doing, span);
}

static int batch_finish(Ctl *ctl, const Job *job, Task *tasks, size_t n) {
        json_object *all = job->single ? NULL : json_object_new_array();
        int code = CODE_DONE;

        for (size_t i = 0; i < n; i++) {
                if (code == CODE_DONE)
                        code = tasks[i].code;
                if (!job->single)
                        (void)json_object_array_add(all, tasks[i].json);
                else if (tasks[i].code == CODE_DONE)
                        all = tasks[i].json;
                else
                        (void)json_object_put(tasks[i].json);
                sd_bus_error_free(&tasks[i].error);
                free(tasks[i].line);
        }
        if (all && ctl->json != JSON_OFF)
                output_json(ctl, all);
        else
                (void)json_object_put(all);
        return code;
}

static Task *tasks_new(const Job *job, const Target *targets, size_t n, const void *extra) {
        Task *tasks = calloc(n, sizeof(*tasks));

        if (!tasks)
                abort();
        for (size_t i = 0; i < n; i++) {
                tasks[i] = (Task){.job = job, .target = targets[i], .extra = extra};
                tasks[i].json = json_object_new_object();
                if (targets[i].pid > 0)
                        task_add_number(&tasks[i], "pid", targets[i].pid);
                else if (job->key)
                        task_add_string(&tasks[i], job->key,
                                        targets[i].path ? targets[i].path : targets[i].typed);
        }
        return tasks;
}

/* The bus is gone, or a question was interrupted: there will be no answers any more. */
static void tasks_fail(Task *tasks, size_t n, int r) {
        for (size_t i = 0; i < n; i++)
                if (!tasks[i].done) {
                        if (r == -EINTR)
                                tasks[i].error = SD_BUS_ERROR_MAKE_CONST(
                                        SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED,
                                        _("Not authorized: the question was interrupted"));
                        else
                                task_fail(&tasks[i], NULL, r);
                        tasks[i].code = report_code(&tasks[i].error);
                        tasks[i].done = true;
                }
}

int batch_run(Ctl *ctl, const Job *job, Target *targets, size_t n, const void *extra) {
        size_t sent = 0, printed = 0, finished,
               window = job->timeout == CALL_WAITING ? WAITS_AT_A_TIME : CALLS_AT_A_TIME;
        uint64_t begun = now_usec();
        Task *tasks = tasks_new(job, targets, n, extra);
        Again again = {};
        int code, r = 0;

        if (job->gone)
                r = again_start(&again, ctl, tasks, n);
        for (;;) {
                if (r >= 0)
                        r = again_look(&again);
                finished = 0;
                for (size_t i = 0; i < sent; i++)
                        finished += tasks[i].done;
                while (r >= 0 && sent < n && sent - finished < window) {
                        Task *task = &tasks[sent++];

                        r = task->again ? again_call(ctl, task) : task_call(ctl, task);
                        if (r < 0)
                                task_fail(task, NULL, r);
                }
                while (printed < n && tasks[printed].done)
                        task_print(ctl, &tasks[printed++]);
                if (printed == n)
                        break;
                if (r < 0) {
                        tasks_fail(tasks, n, r);
                        continue;
                }
                for (size_t i = 0; i < n && ctl->asking; i++)
                        tasks[i].begun = 0;
                show_status(ctl, job, &tasks[printed], finished, n, begun);
                r = ctl_iterate(ctl,
                                job->doing || job->show ? now_usec() + USEC_PER_SEC : USEC_FOREVER);
        }
        code = batch_finish(ctl, job, tasks, n);
        again_end(&again);
        if (r < 0) /* calls are still under way, and their tasks go now */
                ctl->bus = sd_bus_close_unref(ctl->bus);
        free(tasks);
        return code;
}

int batch_run_targets(Ctl *ctl, const Job *job, int n, char *arguments[], bool pid_allowed,
                      const void *extra) {
        Target *targets = calloc((size_t)n, sizeof(*targets));
        int code = CODE_DONE;

        if (!targets)
                abort();
        for (int i = 0; i < n && code == CODE_DONE; i++)
                code = target_parse(ctl, arguments[i], pid_allowed, &targets[i]);
        if (code == CODE_DONE)
                code = ctl_connect(ctl);
        for (int i = 0; i < n && code == CODE_DONE; i++)
                code = target_locate(ctl, &targets[i]);
        if (code == CODE_DONE)
                code = batch_run(ctl, job, targets, (size_t)n, extra);
        for (int i = 0; i < n; i++)
                target_done(&targets[i]);
        free(targets);
        return code;
}

int batch_run_names(Ctl *ctl, const Job *job, int n, char *arguments[], const void *extra) {
        size_t count = n > 0 ? (size_t)n : 1;
        Target *targets = calloc(count, sizeof(*targets));
        int code;

        if (!targets)
                abort();
        for (int i = 0; i < n; i++)
                targets[i].typed = arguments[i];
        code = ctl_connect(ctl);
        if (code == CODE_DONE)
                code = batch_run(ctl, job, targets, count, extra);
        free(targets);
        return code;
}
