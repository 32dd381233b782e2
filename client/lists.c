/* SPDX-License-Identifier: MIT */
/* list, taps, status, get-usage: what there is. */

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "connection.h"
#include "i18n.h"
#include "lists.h"
#include "output.h"
#include "report.h"

const char *member_string(json_object *o, const char *key) {
        json_object *v = json_object_object_get(o, key);

        return v ? json_object_get_string(v) : "";
}

int64_t member_number(json_object *o, const char *key) {
        return json_object_get_int64(json_object_object_get(o, key));
}

bool member_bool(json_object *o, const char *key) {
        return json_object_get_boolean(json_object_object_get(o, key));
}

bool member_there(json_object *o, const char *key) {
        return json_object_object_get(o, key) != NULL;
}

/* Of a type we do not know: the service is newer, and means others with it. */
static int value_read(sd_bus_message *m, json_object **ret) {
        const char *contents, *s;
        uint64_t t;
        uint32_t u;
        int32_t i;
        char type;
        int r;

        r = sd_bus_message_peek_type(m, &type, &contents);
        if (r < 0)
                return r;
        *ret = NULL;
        if (strcmp(contents, "s") == 0) {
                r = sd_bus_message_read(m, "v", "s", &s);
                if (r >= 0)
                        *ret = json_object_new_string(s);
        } else if (strcmp(contents, "b") == 0) {
                r = sd_bus_message_read(m, "v", "b", &i);
                if (r >= 0)
                        *ret = json_object_new_boolean(i);
        } else if (strcmp(contents, "u") == 0) {
                r = sd_bus_message_read(m, "v", "u", &u);
                if (r >= 0)
                        *ret = json_object_new_int64(u);
        } else if (strcmp(contents, "i") == 0) {
                r = sd_bus_message_read(m, "v", "i", &i);
                if (r >= 0)
                        *ret = json_object_new_int64(i);
        } else if (strcmp(contents, "t") == 0) {
                r = sd_bus_message_read(m, "v", "t", &t);
                if (r >= 0)
                        *ret = json_object_new_uint64(t);
        } else
                r = sd_bus_message_skip(m, "v");
        return r;
}

int dictionary_read(sd_bus_message *m, json_object *o) {
        json_object *value;
        const char *key;
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                r = sd_bus_message_read(m, "s", &key);
                if (r >= 0)
                        r = value_read(m, &value);
                if (r >= 0 && value)
                        (void)json_object_object_add(o, key, value);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int process_read(sd_bus_message *m, json_object *o) {
        uint32_t pid, uid;
        const char *path;
        int r = sd_bus_message_read(m, "uus", &pid, &uid, &path);

        if (r < 0)
                return r;
        (void)json_object_object_add(o, "pid", json_object_new_int64(pid));
        (void)json_object_object_add(o, "uid", json_object_new_int64(uid));
        (void)json_object_object_add(o, "api_sock", json_object_new_string(path));
        return 0;
}

static int tap_read(sd_bus_message *m, json_object *o) {
        const char *name;
        int32_t ifindex;
        uint32_t uid;
        int r = sd_bus_message_read(m, "siu", &name, &ifindex, &uid);

        if (r < 0)
                return r;
        (void)json_object_object_add(o, "tap", json_object_new_string(name));
        (void)json_object_object_add(o, "ifindex", json_object_new_int64(ifindex));
        (void)json_object_object_add(o, "uid", json_object_new_int64(uid));
        return 0;
}

static int list_fetch(Ctl *ctl, const char *method, const char *type,
                      int (*read)(sd_bus_message *m, json_object *o), json_object **ret) {
        json_object *list = json_object_new_array();
        sd_bus_message *reply = NULL;
        char array[32];
        int code, r;

        code = call_wait(ctl, method, NULL, NULL, &reply);
        if (code == CODE_DONE) {
                (void)snprintf(array, sizeof(array), "(%s)", type);
                r = sd_bus_message_enter_container(reply, 'a', array);
                while (r >= 0 && (r = sd_bus_message_enter_container(reply, 'r', type)) > 0) {
                        json_object *o = json_object_new_object();

                        (void)json_object_array_add(list, o);
                        r = read(reply, o);
                        if (r >= 0)
                                r = dictionary_read(reply, o);
                        if (r >= 0)
                                r = sd_bus_message_exit_container(reply);
                }
                if (r < 0)
                        code = report_unreadable(ctl);
                sd_bus_message_unref(reply);
        }
        if (code == CODE_DONE)
                *ret = list;
        else
                (void)json_object_put(list);
        return code;
}

/* Takes out what is no process, but says that there is more below a directory. */
static bool cuts_take(Ctl *ctl, json_object *list) {
        bool whole = true;

        for (size_t i = json_object_array_length(list); i-- > 0;) {
                json_object *o = json_object_array_get_idx(list, i);

                if (!member_bool(o, "cut"))
                        continue;
                whole = false;
                report_note(ctl,
                            _("%s has more sockets than the service looks at: not every VM of uid %u is listed"),
                            member_string(o, "api_sock"), (unsigned)member_number(o, "uid"));
                (void)json_object_array_del_idx(list, i, 1);
        }
        return whole;
}

int processes_fetch(Ctl *ctl, json_object **ret, bool *ret_whole) {
        int code = list_fetch(ctl, "ListProcesses", "uusa{sv}", process_read, ret);

        if (code == CODE_DONE)
                *ret_whole = cuts_take(ctl, *ret);
        return code;
}

int taps_fetch(Ctl *ctl, json_object **ret) {
        return list_fetch(ctl, "ListTaps", "siua{sv}", tap_read, ret);
}

int usage_fetch(Ctl *ctl, json_object **ret) {
        json_object *usage = json_object_new_object();
        sd_bus_message *reply = NULL;
        int code;

        code = call_wait(ctl, "GetUsage", NULL, NULL, &reply);
        if (code == CODE_DONE && dictionary_read(reply, usage) < 0)
                code = report_unreadable(ctl);
        sd_bus_message_unref(reply);
        if (code == CODE_DONE)
                *ret = usage;
        else
                (void)json_object_put(usage);
        return code;
}

/* --- the verbs --- */

int verb_list(Ctl *ctl, int n, char *arguments[]) {
        json_object *list;
        size_t n_rows;
        bool whole;
        Table *t;
        int code;

        code = ctl_connect(ctl);
        if (code == CODE_DONE)
                code = processes_fetch(ctl, &list, &whole);
        if (code != CODE_DONE)
                return code;
        if (ctl->json != JSON_OFF) {
                output_json(ctl, list);
                return whole ? CODE_DONE : CODE_FAILED;
        }
        t = table_new(4);
        table_add(t, _("VM"));
        table_add(t, _("PID"));
        table_add(t, _("UID"));
        table_add(t, _("SOCKET"));
        for (size_t i = 0; i < json_object_array_length(list); i++) {
                json_object *o = json_object_array_get_idx(list, i);
                const char *path = member_string(o, "api_sock"), *name = strrchr(path, '/');
                size_t length;

                name = name ? name + 1 : path;
                length = strlen(name);
                if (length > 5 && strcmp(name + length - 5, ".sock") == 0)
                        length -= 5;
                table_add(t, "%.*s", (int)length, name);
                table_add(t, "%u", (unsigned)member_number(o, "pid"));
                table_add(t, "%u", (unsigned)member_number(o, "uid"));
                table_add(t, member_there(o, "state") ? _("%s (does not answer)") : "%s", path);
        }
        output_page(ctl);
        n_rows = json_object_array_length(list);
        table_print(ctl, t, ngettext("%zu VM", "%zu VMs", n_rows), n_rows);
        table_free(t);
        (void)json_object_put(list);
        return whole ? CODE_DONE : CODE_FAILED;
}

static const char *yes_no(json_object *o, const char *key) {
        return !member_there(o, key) ? "" : member_bool(o, key) ? _("yes") : _("no");
}

int verb_taps(Ctl *ctl, int n, char *arguments[]) {
        static const char *const legend[] = {N_("TAP"),  N_("INDEX"),    N_("UID"),
                                             N_("HELD"), N_("ISOLATED"), N_("GONE-WITH-VM"),
                                             N_("MTU"),  N_("GUEST-MAC")};
        json_object *list;
        size_t n_rows;
        Table *t;
        int code;

        code = ctl_connect(ctl);
        if (code == CODE_DONE)
                code = taps_fetch(ctl, &list);
        if (code != CODE_DONE)
                return code;
        if (ctl->json != JSON_OFF) {
                output_json(ctl, list);
                return CODE_DONE;
        }
        t = table_new(ELEMENTS(legend));
        for (size_t i = 0; i < ELEMENTS(legend); i++)
                table_add(t, "%s", _(legend[i]));
        for (size_t i = 0; i < json_object_array_length(list); i++) {
                json_object *o = json_object_array_get_idx(list, i);

                table_add(t, "%s", member_string(o, "tap"));
                table_add(t, "%d", (int)member_number(o, "ifindex"));
                table_add(t, "%u", (unsigned)member_number(o, "uid"));
                table_add(t, "%s", yes_no(o, "carrier"));
                table_add(t, "%s", yes_no(o, "isolated"));
                table_add(t, "%s", yes_no(o, "auto-delete"));
                table_add(t, "%s", member_string(o, "mtu"));
                table_add(t, "%s", member_string(o, "guest-mac"));
        }
        output_page(ctl);
        n_rows = json_object_array_length(list);
        table_print(ctl, t, ngettext("%zu tap", "%zu taps", n_rows), n_rows);
        table_free(t);
        (void)json_object_put(list);
        return CODE_DONE;
}

static void label_print(const char *text) {
        int blank = 20 - output_width(text);

        (void)printf("%*s%s", blank > 0 ? blank : 0, "", text);
}

static void used_print(const char *text, json_object *usage, const char *used, const char *max) {
        label_print(text);
        (void)putchar(' ');
        (void)printf(_("%u of %u"), (unsigned)member_number(usage, used),
                     (unsigned)member_number(usage, max));
        (void)putchar('\n');
}

static void usage_print(json_object *usage) {
        used_print(_("Taps:"), usage, "taps", "taps-max");
        used_print(_("Waits:"), usage, "waits", "waits-max");
        label_print(_("Calls at a time:"));
        (void)printf(" %u\n", (unsigned)member_number(usage, "calls-max"));
}

int verb_get_usage(Ctl *ctl, int n, char *arguments[]) {
        json_object *usage;
        int code;

        code = ctl_connect(ctl);
        if (code == CODE_DONE)
                code = usage_fetch(ctl, &usage);
        if (code != CODE_DONE)
                return code;
        if (ctl->json != JSON_OFF) {
                output_json(ctl, usage);
                return CODE_DONE;
        }
        usage_print(usage);
        (void)json_object_put(usage);
        return CODE_DONE;
}

/* The bridge itself is not the service's to tell, but on this host anybody can look. */
static void bridge_look(json_object *bridge, const char *name) {
        _cleanup_free_ char *directory = NULL, *ports = NULL, *flags = NULL;
        struct stat st;
        unsigned value = 0;
        int count = 0;
        DIR *d;
        FILE *f;

        if (asprintf(&directory, "/sys/class/net/%s/bridge", name) < 0 ||
            asprintf(&ports, "/sys/class/net/%s/brif", name) < 0 ||
            asprintf(&flags, "/sys/class/net/%s/flags", name) < 0)
                abort();
        (void)json_object_object_add(bridge, "exists",
                                     json_object_new_boolean(stat(directory, &st) == 0));
        if (!member_bool(bridge, "exists"))
                return;
        f = fopen(flags, "re");
        if (f) {
                if (fscanf(f, "%x", &value) != 1)
                        value = 0;
                (void)fclose(f);
        }
        d = opendir(ports);
        if (d) {
                for (const struct dirent *e = readdir(d); e; e = readdir(d))
                        count += e->d_name[0] != '.';
                (void)closedir(d);
        }
        (void)json_object_object_add(bridge, "up", json_object_new_boolean(value & 1));
        (void)json_object_object_add(bridge, "ports", json_object_new_int(count));
}

static int properties_fetch(Ctl *ctl, json_object *o) {
        static const char *const names[][2] = {{"Version", "version"},
                                               {"RuntimeDir", "runtime_dir"},
                                               {"FirecrackerBin", "firecracker_bin"},
                                               {"BridgeName", "name"},
                                               {"BridgeAddress", "address"}};
        _cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
        json_object *bridge = json_object_new_object(), *features = json_object_new_array();
        char **list = NULL;
        int r;

        (void)json_object_object_add(o, "bridge", bridge);
        (void)json_object_object_add(o, "features", features);
        for (size_t i = 0; i < ELEMENTS(names); i++) {
                _cleanup_free_ char *value = NULL;

                r = sd_bus_get_property_string(ctl->bus, FCPROC_NAME, FCPROC_PATH, FCPROC_NAME,
                                               names[i][0], &e, &value);
                if (r < 0)
                        return report_call(ctl, &e, r, NULL);
                (void)json_object_object_add(i < 3 ? o : bridge, names[i][1],
                                             json_object_new_string(value));
        }
        r = sd_bus_get_property_strv(ctl->bus, FCPROC_NAME, FCPROC_PATH, FCPROC_NAME, "Features",
                                     &e, &list);
        if (r < 0)
                return report_call(ctl, &e, r, NULL);
        for (char **p = list; p && *p; p++) {
                (void)json_object_array_add(features, json_object_new_string(*p));
                free(*p);
        }
        free(list);
        if (!ctl_remote(ctl))
                bridge_look(bridge, member_string(bridge, "name"));
        return CODE_DONE;
}

static void status_print(json_object *o) {
        json_object *bridge = json_object_object_get(o, "bridge"),
                    *features = json_object_object_get(o, "features");
        const char *good = output_colour(stdout, COLOUR_GOOD),
                   *bad = output_colour(stdout, COLOUR_WARN),
                   *none = output_colour(stdout, COLOUR_NONE);
        unsigned ports = (unsigned)member_number(bridge, "ports");
        bool up = member_bool(bridge, "up");

        label_print(_("Version:"));
        (void)printf(" %s\n", member_string(o, "version"));
        label_print(_("Features:"));
        for (size_t i = 0; i < json_object_array_length(features); i++)
                (void)printf(" %s", json_object_get_string(json_object_array_get_idx(features, i)));
        (void)putchar('\n');
        label_print(_("Bridge:"));
        (void)printf(" %s %s", member_string(bridge, "name"), member_string(bridge, "address"));
        if (!member_there(bridge, "exists"))
                (void)putchar('\n');
        else if (!member_bool(bridge, "exists"))
                (void)printf(" %s(%s)%s\n", bad, _("not there"), none);
        else {
                (void)printf(" %s(%s)%s, ", up ? good : bad, up ? _("up") : _("down"), none);
                (void)printf(ngettext("%u port", "%u ports", ports), ports);
                (void)putchar('\n');
        }
        label_print(_("Runtime directory:"));
        (void)printf(" %s\n", member_string(o, "runtime_dir"));
        label_print(_("Firecracker:"));
        (void)printf(" %s\n", member_string(o, "firecracker_bin"));
        label_print(_("User ID:"));
        (void)printf(" %u\n", (unsigned)member_number(o, "uid"));
        label_print(_("VMs:"));
        (void)printf(" %u\n", (unsigned)member_number(o, "processes"));
        usage_print(json_object_object_get(o, "usage"));
}

int verb_status(Ctl *ctl, int n, char *arguments[]) {
        json_object *o = json_object_new_object(), *list = NULL;
        bool whole;
        int code;

        code = ctl_connect(ctl);
        if (code == CODE_DONE)
                code = ctl_whereabouts(ctl);
        if (code == CODE_DONE)
                code = properties_fetch(ctl, o);
        (void)json_object_object_add(o, "uid", json_object_new_int64(ctl->uid));
        if (code == CODE_DONE)
                code = processes_fetch(ctl, &list, &whole);
        if (code == CODE_DONE) {
                (void)json_object_object_add(o, "processes",
                                             json_object_new_int64(
                                                     (int64_t)json_object_array_length(list)));
                (void)json_object_put(list);
                code = taps_fetch(ctl, &list);
        }
        if (code == CODE_DONE) {
                (void)json_object_object_add(o, "taps",
                                             json_object_new_int64(
                                                     (int64_t)json_object_array_length(list)));
                (void)json_object_put(list);
                code = usage_fetch(ctl, &list);
        }
        if (code == CODE_DONE) {
                (void)json_object_object_add(o, "usage", list);
                if (ctl->json != JSON_OFF) {
                        output_json(ctl, json_object_get(o));
                } else
                        status_print(o);
        }
        (void)json_object_put(o);
        return code;
}
