/* SPDX-License-Identifier: MIT */
/* prune: what VMs left behind. Firecracker never removes its socket, and one that is in the way
 * keeps the next VM of that name from starting; taps without auto-delete stay until somebody
 * removes them. Only the caller's own is touched, root's too.
 *
 * A socket is stale if connecting to it is refused. Between bind and listen that is so as well, so
 * one younger than a few seconds is left alone; and so is a tap that goes by itself, whose VM may be
 * about to start. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "batch.h"
#include "common/text.h"
#include "i18n.h"
#include "lists.h"
#include "output.h"
#include "report.h"
#include "socket-state.h"

#define YOUNG_SEC 5

static void say(Ctl *ctl, json_object *all, const char *key, const char *raw) {
        json_object *o = json_object_new_object();
        char name[4096];

        text_make_printable(raw, name, sizeof(name)); /* a file can be called anything */
        (void)json_object_object_add(o, key, json_object_new_string(name));
        (void)json_object_object_add(o, "removed", json_object_new_boolean(!ctl->dry_run));
        (void)json_object_array_add(all, o);
        if (ctl->json == JSON_OFF && (ctl->dry_run || !ctl->quiet))
                output_line(ctl, ctl->dry_run ? _("%s: would be removed") : _("%s: removed"), name);
}

static int prune_sockets(Ctl *ctl, json_object *all) {
        _cleanup_free_ char *path = NULL;
        int code = CODE_DONE;
        DIR *d;

        if (asprintf(&path, "%s/%u", ctl->runtime_dir, ctl->uid) < 0)
                abort();
        d = opendir(path);
        if (!d)
                return errno == ENOENT ? CODE_DONE
                                       : report_failure(ctl, CODE_FAILED, SD_BUS_ERROR_FAILED,
                                                        _("Cannot look into %s: %m"), path);
        for (const struct dirent *e = readdir(d); e; e = readdir(d)) {
                char file[4096];
                time_t age = 0;

                if (socket_state(dirfd(d), e->d_name, geteuid(), &age) != SOCKET_STALE)
                        continue;
                if (age < YOUNG_SEC) {
                        report_note(ctl, _("%s: nobody listens, but it is new; try again in %d s"),
                                    e->d_name, (int)(YOUNG_SEC - age));
                        continue;
                }
                (void)snprintf(file, sizeof(file), "%s/%s", path, e->d_name);
                if (!ctl->dry_run && unlinkat(dirfd(d), e->d_name, 0) < 0 && errno != ENOENT) {
                        code = report_failure(ctl, CODE_FAILED, SD_BUS_ERROR_FAILED,
                                              _("Cannot remove %s: %m"), file);
                        continue;
                }
                say(ctl, all, "api_sock", file);
        }
        (void)closedir(d);
        return code;
}

static int delete_build(Ctl *ctl, sd_bus_message *m, void *userdata) {
        return sd_bus_message_append(m, "sa{sv}", (const char *)userdata, 0);
}

static int prune_taps(Ctl *ctl, json_object *all) {
        json_object *taps;
        int code, result = CODE_DONE;

        code = taps_fetch(ctl, &taps);
        if (code != CODE_DONE)
                return code;
        for (size_t i = 0; i < json_object_array_length(taps) && ctl->bus; i++) {
                json_object *o = json_object_array_get_idx(taps, i);
                char *name = (char *)member_string(o, "tap");
                sd_bus_message *reply = NULL;

                if (member_number(o, "uid") != ctl->uid || !member_there(o, "carrier") ||
                    member_bool(o, "carrier") || member_bool(o, "auto-delete"))
                        continue;
                code = ctl->dry_run ? CODE_DONE
                                    : call_wait(ctl, "DeleteTap", delete_build, name, &reply);
                sd_bus_message_unref(reply);
                if (code == CODE_DONE)
                        say(ctl, all, "tap", name);
                else if (result == CODE_DONE && code != CODE_NO_OBJECT)
                        result = code;
        }
        (void)json_object_put(taps);
        return result;
}

int verb_prune(Ctl *ctl, int n, char *arguments[]) {
        json_object *all = json_object_new_array();
        int code, second;

        code = ctl_connect(ctl);
        if (code == CODE_DONE)
                code = ctl_whereabouts(ctl);
        if (code == CODE_DONE) {
                if (ctl_remote(ctl))
                        report_note(ctl,
                                    _("Sockets of another host are out of reach; only taps are looked at"));
                else
                        code = prune_sockets(ctl, all);
                second = prune_taps(ctl, all);
                if (code == CODE_DONE)
                        code = second;
                if (ctl->json != JSON_OFF)
                        output_json(ctl, json_object_get(all));
                else if (json_object_array_length(all) == 0 && code == CODE_DONE)
                        report_note(ctl, _("There is nothing to remove"));
        }
        (void)json_object_put(all);
        return code;
}
