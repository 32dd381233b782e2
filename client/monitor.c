/* SPDX-License-Identifier: MIT */
/* monitor: what there is, then what happens, a line each.
 *
 * It subscribes before it looks, so that nothing falls in between, and keeps back what comes
 * meanwhile until the snapshot is printed. A restart of the service is a pair of lines and a new
 * snapshot: what came and went while it was away is known to nobody. */

#include <stdio.h>
#include <string.h>

#include "follow.h"
#include "lists.h"
#include "output.h"
#include "report.h"
#include "text.h"

typedef struct Monitor {
        Follower f; /* first: the follower is how signals find us */
        bool lost, look;
        json_object *known; /* pids of the snapshot, by number as text */
        bool keep;
        sd_bus_message **kept;
        size_t n_kept;
} Monitor;

static void event_text(json_object *o, char *ret, size_t size) {
        const char *event = member_string(o, "event");
        char ended[128];

        if (strncmp(event, "service", 7) == 0)
                (void)snprintf(ret, size, "%s", event);
        else if (strncmp(event, "tap", 3) == 0)
                (void)snprintf(ret, size, "%-16s %s index %d uid %u", event, member_string(o, "tap"),
                               (int)member_number(o, "ifindex"), (unsigned)member_number(o, "uid"));
        else {
                exit_describe(member_string(o, "cause"), (int)member_number(o, "status"), ended,
                              sizeof(ended));
                (void)snprintf(ret, size, "%-16s %s pid %u uid %u%s%s", event,
                               member_string(o, "api_sock"), (unsigned)member_number(o, "pid"),
                               (unsigned)member_number(o, "uid"),
                               member_there(o, "cause") ? ": " : "",
                               member_there(o, "cause") ? ended : "");
        }
}

/* Lets o go. */
static void event_print(Monitor *m, const char *event, json_object *o) {
        char text[4400];

        (void)json_object_object_add(o, "event", json_object_new_string(event));
        if (m->f.ctl->json != JSON_OFF) {
                output_json_line(m->f.ctl, o);
                return;
        }
        event_text(o, text, sizeof(text));
        output_line(m->f.ctl, "%s", text);
        (void)json_object_put(o);
}

static const struct {
        const char *member, *event, *types;
        const char *keys[7];
} signals[] = {
        {"ProcessAppeared", "process-appeared", "uus", {"pid", "uid", "api_sock"}},
        {"ProcessExited",
         "process-exited",
         "uussit",
         {"pid", "uid", "api_sock", "cause", "status", "exited_usec"}},
        {"TapCreated", "tap-created", "siu", {"tap", "ifindex", "uid"}},
        {"TapDeleted", "tap-deleted", "siu", {"tap", "ifindex", "uid"}},
};

static int arguments_read_as(sd_bus_message *m, const char *types, const char *const *keys,
                             json_object *o) {
        union {
                const char *s;
                uint32_t u;
                int32_t i;
                uint64_t t;
        } v;

        for (; *types; types++, keys++) {
                json_object *value;
                int r = sd_bus_message_read_basic(m, *types, &v);

                if (r < 0)
                        return r;
                value = *types == 's'   ? json_object_new_string(v.s)
                        : *types == 'u' ? json_object_new_int64(v.u)
                        : *types == 'i' ? json_object_new_int64(v.i)
                                        : json_object_new_uint64(v.t);
                (void)json_object_object_add(o, *keys, value);
        }
        return dictionary_read(m, o);
}

static void signal_print(Monitor *monitor, sd_bus_message *m) {
        const char *member = sd_bus_message_get_member(m), *meaning;
        json_object *o;

        for (size_t i = 0; i < ELEMENTS(signals); i++) {
                if (strcmp(signals[i].member, member) != 0)
                        continue;
                o = json_object_new_object();
                if (arguments_read_as(m, signals[i].types, signals[i].keys, o) < 0) {
                        (void)json_object_put(o);
                        return;
                }
                if (i == 0 && member_there(monitor->known, member_string(o, "pid"))) {
                        (void)json_object_put(o); /* the snapshot had it */
                        return;
                }
                if (i == 1) {
                        json_object_object_del(monitor->known, member_string(o, "pid"));
                        meaning = strcmp(member_string(o, "cause"), "exited") == 0
                                          ? exit_code_meaning((int)member_number(o, "status"))
                                          : NULL;
                        if (meaning)
                                (void)json_object_object_add(o, "meaning",
                                                             json_object_new_string(meaning));
                }
                event_print(monitor, signals[i].event, o);
                return;
        }
}

static void on_signal(Follower *f, sd_bus_message *m, const char *member) {
        Monitor *monitor = (Monitor *)f;
        sd_bus_message **kept;

        if (!monitor->keep) {
                signal_print(monitor, m);
                return;
        }
        kept = reallocarray(monitor->kept, monitor->n_kept + 1, sizeof(sd_bus_message *));
        if (!kept)
                abort();
        monitor->kept = kept;
        kept[monitor->n_kept++] = sd_bus_message_ref(m);
}

static void on_owner(Follower *f) {
        Monitor *monitor = (Monitor *)f;

        if (!monitor->lost)
                event_print(monitor, "service-lost", json_object_new_object());
        monitor->lost = !*f->owner;
        if (*f->owner)
                event_print(monitor, "service-restarted", json_object_new_object());
        monitor->look = true;
}

static void list_print(Monitor *m, json_object *list, const char *event, bool processes) {
        for (size_t i = 0; i < json_object_array_length(list); i++) {
                json_object *o = json_object_get(json_object_array_get_idx(list, i));

                if (processes)
                        (void)json_object_object_add(m->known, member_string(o, "pid"),
                                                     json_object_new_boolean(true));
                event_print(m, event, o);
        }
        (void)json_object_put(list);
}

static int snapshot(Monitor *m) {
        json_object *processes = NULL, *taps = NULL;
        sd_bus_message *reply = NULL;
        Ctl *ctl = m->f.ctl;
        bool whole;
        int code;

        m->look = false;
        m->keep = true;
        (void)json_object_put(m->known);
        m->known = json_object_new_object();
        code = call_wait(ctl, "Subscribe", call_build_options, NULL, &reply);
        sd_bus_message_unref(reply);
        if (code == CODE_DONE)
                code = processes_fetch(ctl, &processes, &whole);
        if (code == CODE_DONE)
                code = taps_fetch(ctl, &taps);
        if (code == CODE_DONE) {
                list_print(m, processes, "process", true);
                list_print(m, taps, "tap", false);
        } else
                (void)json_object_put(processes);
        m->keep = false;
        for (size_t i = 0; i < m->n_kept; i++) {
                if (code == CODE_DONE)
                        signal_print(m, m->kept[i]);
                sd_bus_message_unref(m->kept[i]);
        }
        m->n_kept = 0;
        return code;
}

int verb_monitor(Ctl *ctl, int n, char *arguments[]) {
        Monitor m = {.f = {.on_signal = on_signal, .on_owner = on_owner}, .look = true};
        int code, r = 0;

        code = ctl_connect(ctl);
        if (code == CODE_DONE)
                code = follow_start(ctl, &m.f);
        while (code == CODE_DONE && r >= 0 && !output_broken()) {
                if (m.look && *m.f.owner) {
                        code = snapshot(&m);
                        if (code == CODE_NO_SERVICE && ctl->bus) {
                                /* it went again meanwhile: its next start is the next look */
                                m.look = true;
                                code = CODE_DONE;
                                r = ctl_iterate(ctl, now_usec() + USEC_PER_SEC);
                        }
                        continue;
                }
                r = ctl_iterate(ctl, USEC_FOREVER);
        }
        follow_end(&m.f);
        free(m.kept);
        (void)json_object_put(m.known);
        if (code == CODE_DONE && r < 0)
                code = report_call(ctl, NULL, r, NULL);
        return code;
}
