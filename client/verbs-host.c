/* SPDX-License-Identifier: MIT */
/* The verbs about the host: bridge, taps, directory, binary. */

#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "batch.h"
#include "common/validate.h"
#include "follow.h"
#include "i18n.h"
#include "option.h"
#include "output.h"
#include "report.h"

static int build_options_only(Ctl *ctl, sd_bus_message *m, Task *task) {
        return sd_bus_message_append(m, "a{sv}", 0);
}

/* --- the bridge --- */

static int ensure_bridge_take(Ctl *ctl, sd_bus_message *reply, Task *task) {
        const char *bridge, *address;
        int32_t ifindex;
        int r = sd_bus_message_read(reply, "sis", &bridge, &ifindex, &address);

        if (r < 0)
                return r;
        task_say(task, "%s %s", bridge, address);
        task->answer = true;
        task_add_string(task, "bridge", bridge);
        task_add_number(task, "ifindex", ifindex);
        task_add_string(task, "address", address);
        return 0;
}

int verb_ensure_bridge(Ctl *ctl, int n, char *arguments[]) {
        static const Job job = {.method = "EnsureBridge",
                                .single = true,
                                .build = build_options_only,
                                .take = ensure_bridge_take};

        return batch_run_names(ctl, &job, 0, NULL, NULL);
}

static int remove_bridge_take(Ctl *ctl, sd_bus_message *reply, Task *task) {
        task_say(task, _("The bridge is removed"));
        task_add_bool(task, "removed", true);
        return 0;
}

static bool remove_bridge_excuse(Ctl *ctl, const sd_bus_error *e, Task *task) {
        if (!sd_bus_error_has_name(e, FCPROC_ERROR "NoSuchBridge"))
                return false;
        task_say(task, _("There was no bridge to remove"));
        task->note = true;
        task_add_bool(task, "removed", false);
        return true;
}

int verb_remove_bridge(Ctl *ctl, int n, char *arguments[]) {
        static const Job job = {.method = "RemoveBridge",
                                .single = true,
                                .build = build_options_only,
                                .take = remove_bridge_take,
                                .excuse = remove_bridge_excuse};

        return batch_run_names(ctl, &job, 0, NULL, NULL);
}

/* --- paths --- */

static int path_take(Ctl *ctl, sd_bus_message *reply, Task *task) {
        const char *path;
        int r = sd_bus_message_read(reply, "s", &path);

        if (r < 0)
                return r;
        task_say(task, "%s", path);
        task->answer = true;
        task_add_string(task, "path", path);
        return 0;
}

int verb_ensure_socket_dir(Ctl *ctl, int n, char *arguments[]) {
        static const Job job = {.method = "EnsureSocketDir",
                                .single = true,
                                .build = build_options_only,
                                .take = path_take};

        return batch_run_names(ctl, &job, 0, NULL, NULL);
}

int verb_resolve_binary(Ctl *ctl, int n, char *arguments[]) {
        static const Job job = {.method = "ResolveBinary", .single = true, .take = path_take};

        return batch_run_names(ctl, &job, 0, NULL, NULL);
}

/* --- taps --- */

static int check_tap_names(Ctl *ctl, int n, char *arguments[]) {
        for (int i = 0; i < n; i++)
                if (!link_name_valid(arguments[i]))
                        return report_usage(ctl,
                                            _("'%.40s' is no name for a tap: use 1 to %d of a-z 0-9 . _ -, starting with a "
                                              "letter or digit and not all digits"),
                                            arguments[i], TAP_NAME_MAX);
        for (int i = 0; i < n; i++)
                for (int j = 0; j < i; j++)
                        if (strcmp(arguments[i], arguments[j]) == 0)
                                return report_usage(ctl, _("'%s' is given twice"), arguments[i]);
        return CODE_DONE;
}

static int create_tap_build(Ctl *ctl, sd_bus_message *m, Task *task) {
        int r = sd_bus_message_append(m, "s", task->target.typed);

        return r < 0 ? r : option_append(ctl, OPTION_TAP, m);
}

static int create_tap_take(Ctl *ctl, sd_bus_message *reply, Task *task) {
        int32_t ifindex;
        int r = sd_bus_message_read(reply, "i", &ifindex);

        if (r < 0)
                return r;
        task_say(task, _("%s: created, index %d"), task->target.typed, ifindex);
        task_add_number(task, "ifindex", ifindex);
        return 0;
}

int verb_create_tap(Ctl *ctl, int n, char *arguments[]) {
        static const Job job = {.method = "CreateTap",
                                .key = "tap",
                                .build = create_tap_build,
                                .take = create_tap_take};
        int code;

        code = check_tap_names(ctl, n, arguments);
        if (code != CODE_DONE)
                return code;
        if (n > 1 && ctl->guest_mac)
                return report_usage(ctl,
                                    _("--guest-mac is one guest's; create one tap with it at a time"));
        code = batch_run_names(ctl, &job, n, arguments, NULL);
        if (!ctl->auto_delete || !ctl->bus || code != CODE_DONE)
                return code;
        return follow_taps(ctl, n, arguments);
}

static int delete_tap_build(Ctl *ctl, sd_bus_message *m, Task *task) {
        return sd_bus_message_append(m, "sa{sv}", task->target.typed, 0);
}

static int delete_tap_take(Ctl *ctl, sd_bus_message *reply, Task *task) {
        task_say(task, _("%s: deleted"), task->target.typed);
        task_add_bool(task, "deleted", true);
        return 0;
}

static bool delete_tap_excuse(Ctl *ctl, const sd_bus_error *e, Task *task) {
        if (!sd_bus_error_has_name(e, FCPROC_ERROR "NoSuchTap"))
                return false;
        task_say(task, _("%s: there is no such tap, nothing to do"), task->target.typed);
        task->note = true;
        task_add_bool(task, "deleted", false);
        return true;
}

int verb_delete_tap(Ctl *ctl, int n, char *arguments[]) {
        static const Job job = {.method = "DeleteTap",
                                .key = "tap",
                                .build = delete_tap_build,
                                .take = delete_tap_take,
                                .excuse = delete_tap_excuse};
        int code = check_tap_names(ctl, n, arguments);

        return code != CODE_DONE ? code : batch_run_names(ctl, &job, n, arguments, NULL);
}
