/* SPDX-License-Identifier: MIT */
/* What a service that is restarted forgets, and who waits for it remembers.
 *
 * The first try is made at once, because it starts a service that is started by being called. If
 * that fails, the next one is made when the service's name has an owner again.
 *
 * A socket may be another VM's by then: its user starts it anew as soon as the one before has ended.
 * So it is looked up who listens, before each call; only the process of the first time is meant. That
 * look asks nobody for a password, which is asked for by the call itself. Who may not look calls
 * without. */

#include "again.h"
#include "i18n.h"
#include "report.h"

/* A bus that could not start it says that it is not there, or that it took too long. */
static bool is_away(const sd_bus_error *e) {
        int code = report_code(e);

        return code == CODE_NO_SERVICE || code == CODE_TIMED_OUT;
}

static void call_now(Ctl *ctl, Task *task) {
        int r;

        if (task->lost_once && !task->again->told) {
                report_note(ctl, _("The service was restarted, and is asked again"));
                task->again->told = true;
        }
        r = task_call(ctl, task);
        if (r < 0)
                task_fail(task, NULL, r);
}

static int on_found(sd_bus_message *m, void *userdata, sd_bus_error *ret) {
        const sd_bus_error *e = sd_bus_message_get_error(m);
        Task *task = userdata;
        uint32_t pid = 0;
        Ctl *ctl = task->again->f.ctl;

        if (!e)
                (void)sd_bus_message_read(m, "u", &pid);
        if (!task->lost_once)
                task->pid = pid;
        else if (e && is_away(e) && sd_bus_is_open(ctl->bus) > 0) {
                (void)again_lost(ctl, task, e);
                return 1;
        } else if (task->pid > 0 && (pid > 0 ? pid != task->pid : report_code(e) == CODE_NO_OBJECT)) {
                task->job->gone(ctl, task);
                task->done = true;
                return 1;
        }
        call_now(ctl, task);
        return 1;
}

int again_call(Ctl *ctl, Task *task) {
        task->lost = 0;
        return sd_bus_call_method_async(ctl->bus, NULL, FCPROC_NAME, FCPROC_PATH, FCPROC_NAME,
                                        "FindPID", on_found, task, "s", task->target.path);
}

bool again_lost(Ctl *ctl, Task *task, const sd_bus_error *e) {
        bool died = sd_bus_error_has_name(e, SD_BUS_ERROR_NO_REPLY);
        int r;

        /* a service that was never there is an error, as for any call */
        if (!is_away(e) || sd_bus_is_open(ctl->bus) <= 0 ||
            !(died || task->lost_once || task->pid > 0))
                return false;
        task->lost_once = true;
        if (died) {
                r = again_call(ctl, task);
                if (r < 0)
                        task_fail(task, NULL, r);
        } else
                task->lost = now_usec();
        return true;
}

int again_look(Again *again) {
        const sd_bus_error away = SD_BUS_ERROR_MAKE_CONST(SD_BUS_ERROR_NAME_HAS_NO_OWNER, "");
        bool back = again->back;
        int r = 0;

        again->back = false;
        for (size_t i = 0; i < again->n && r >= 0; i++) {
                Task *task = &again->tasks[i];

                if (task->lost == 0 || task->done)
                        continue;
                if (back)
                        r = again_call(again->f.ctl, task);
                else if (now_usec() - task->lost >= FOLLOW_PATIENCE)
                        task_fail(task, &away, 0);
        }
        return r;
}

static void on_owner(Follower *f) {
        ((Again *)f)->back = *f->owner;
}

int again_start(Again *again, Ctl *ctl, Task *tasks, size_t n) {
        *again = (Again){.f.on_owner = on_owner, .tasks = tasks, .n = n};
        for (size_t i = 0; i < n; i++)
                tasks[i].again = again;
        return follow_owner(ctl, &again->f);
}

void again_end(Again *again) {
        follow_end(&again->f);
}
